//! Consensus, as actors see it: operations go in, events come out (`core::consensus`).

pub use crate::core::consensus::{ConsensusEvent, Op};

/// Consensus has more to do than it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("consensus is busy")]
pub struct Busy;

/// The way in.
pub trait Consensus: Send + Sync + 'static {
    /// Hands over an operation without waiting. A refused one has not happened.
    fn submit(&self, op: Op) -> Result<(), Busy>;
}
