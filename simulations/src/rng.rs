//! Randomness of the world: streams split from the seed, so that one part drawing more does not
//! change what another draws.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bzzz::core::ctx::Rng;
use bzzz::types::Lock;

/// A stream that the parts of the world share.
#[derive(Clone)]
pub struct Stream(Arc<Mutex<Rng>>);

impl Stream {
    /// The stream called `name` of this seed.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self(Arc::new(Mutex::new(Rng::split(&key, name))))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.0.locked())
    }

    /// A number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.with(|rng| rng.below(bound))
    }

    /// True with a probability of `permille` in a thousand.
    pub fn chance(&self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    /// A position in a list of this length.
    pub fn pick(&self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Random bits.
    pub fn next_u64(&self) -> u64 {
        self.with(Rng::next_u64)
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        self.with(Rng::bytes)
    }

    /// A duration between two bounds in microseconds.
    pub fn micros(&self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from + self.below(to - from + 1))
    }

    /// A duration that is mostly short and sometimes long: exponential around `mean_us`.
    pub fn exponential(&self, mean_us: u64) -> Duration {
        let uniform = (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        Duration::from_micros((-(1.0 - uniform).ln() * mean_us as f64) as u64)
    }
}
