//! Randomness from the operating system.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::ports::Entropy;

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// Waits, early after boot, until the kernel has gathered enough.
    ///
    /// # Panics
    ///
    /// Where the kernel gives no randomness at all: a node whose ids can be guessed must not run.
    fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        let mut filled = 0;
        while filled < seed.len() {
            match getrandom(&mut seed[filled..], GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => panic!("the operating system gives no randomness: {error}"),
            }
        }
        seed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_seeds_are_alike() {
        let seeds: BTreeSet<[u8; 32]> = (0..1_000).map(|_| SystemEntropy.seed()).collect();
        assert_eq!(seeds.len(), 1_000);
    }

    #[test]
    fn every_byte_of_a_seed_is_filled() {
        let mut seen = [0_u8; 32];
        for _ in 0..64 {
            for (all, byte) in seen.iter_mut().zip(SystemEntropy.seed()) {
                *all |= byte;
            }
        }
        assert!(seen.iter().all(|byte| *byte != 0), "{seen:?}");
    }
}
