//! The one source of randomness.

/// Seeds for the generators of a node: from the operating system, or from the simulator's seed.
pub trait Entropy: Send + Sync + 'static {
    /// Thirty-two fresh bytes.
    fn seed(&self) -> [u8; 32];
}
