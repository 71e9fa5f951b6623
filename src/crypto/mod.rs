//! Cryptography as pure functions: the same input gives the same output, no I/O.

#[cfg(test)]
pub(crate) mod keyed;
pub mod keyring;
pub mod keys;

pub use keyring::{Keyring, OpenError, SealError};
pub use keys::{Identity, KeyError, KeyKind, Recipient};

use crate::types::PeerId;

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// Signs with the node's key and checks the signatures of others. The key itself stays with the
/// implementation.
pub trait Vault: Send + Sync + 'static {
    /// Signs `domain` and `bytes` together; the domain keeps a signature made for one purpose
    /// from being used for another.
    fn sign(&self, domain: &'static str, bytes: &[u8]) -> Signature;

    /// True if `signer` made `signature` over exactly this domain and these bytes.
    fn verify(
        &self,
        signer: PeerId,
        domain: &'static str,
        bytes: &[u8],
        signature: &Signature,
    ) -> bool;
}
