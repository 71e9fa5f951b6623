//! age files (age-encryption.org/v1): what is encrypted for many, each with a key of their own.
//!
//! Problem: an age file wraps a fresh file key for each recipient by an X25519 exchange with a key
//! made for the occasion. The two scalar multiplications cost more than everything else about a
//! small file. Neither depends on the file, so they are done beforehand.
//!
//! Flow: a `Pool` keeps *pairs* for each recipient that it was told of (the public half made for
//! the occasion, and the key that wraps); a thread of its own fills it up. `Sealer` takes one pair
//! for each recipient of a file, and makes one on the spot where there is none. The files are
//! standard ones: any implementation of age reads them, and this one reads theirs.
//!
//! What is to be decrypted is looked at first (`foreign`: it may be no age file at all), taken out
//! of its armour (`armor`), and its header read by the letter (`header`), before the library sees
//! it.
//!
//! Invariants:
//! 1. A pair wraps one file key and is gone: age wraps with a fixed nonce, so a second use would
//!    give both keys away.
//! 2. Private keys, shared secrets and wrapping keys are wiped when they are dropped.
//! 3. The pool is bounded, in recipients and in pairs for each; whatever it lacks is made on the
//!    spot.
//! 4. Nothing that was decrypted is passed on before the chunk that it is in was authenticated.
//! 5. No message of the library comes out: errors say what the file is and what is wrong with it.

mod armor;
mod error;
mod exchange;
mod foreign;
mod header;
mod kinds;
mod pool;
mod seal;

pub use armor::ArmorFault;
pub use error::{AgeError, Damage};
pub use exchange::generate;
pub use foreign::Foreign;
pub use header::HeaderFault;
pub use kinds::Kinds;
pub use pool::Pool;
pub use seal::{Opener, Sealer, encrypt_stream};

/// Recipients of one file at most.
pub const RECIPIENTS_PER_FILE_MAX: usize = 256;

#[cfg(test)]
mod tests;
