//! Signatures for tests: a hash under the name of the signer, so that another signer, purpose or text gives another one.

use super::{Signature, Vault};
use crate::types::PeerId;

/// Signs in the name of this peer.
pub(crate) struct KeyedVault(pub(crate) PeerId);

fn signature(signer: PeerId, domain: &str, bytes: &[u8]) -> Signature {
    let mut signature = [0; 64];
    let mut hasher = blake3::Hasher::new_keyed(&signer.0);
    hasher.update(domain.as_bytes()).update(bytes).finalize_xof().fill(&mut signature);
    signature
}

impl Vault for KeyedVault {
    fn sign(&self, domain: &'static str, bytes: &[u8]) -> Signature {
        signature(self.0, domain, bytes)
    }

    fn verify(&self, by: PeerId, domain: &'static str, bytes: &[u8], given: &Signature) -> bool {
        signature(by, domain, bytes) == *given
    }
}
