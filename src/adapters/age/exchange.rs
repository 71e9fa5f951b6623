//! X25519 on aws-lc, and the stanza that carries a wrapped file key.

use std::collections::HashSet;

use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::primitives::{aead_decrypt, aead_encrypt, hkdf};
use age_core::secrecy::ExposeSecret;
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use data_encoding::BASE64_NOPAD;
use zeroize::{Zeroize, Zeroizing};

use super::kinds::OURS;
use crate::crypto::{Identity, Recipient};

const WRAP_LABEL: &[u8] = b"age-encryption.org/v1/X25519";
/// A file key and its authentication tag.
const WRAPPED_LEN: usize = FILE_KEY_BYTES + 16;

fn public_half(key: &PrivateKey) -> [u8; 32] {
    let public = key.compute_public_key().expect("an x25519 private key has a public half");
    public.as_ref().try_into().expect("an x25519 public key has 32 bytes")
}

/// A new key.
pub fn generate() -> Identity {
    let mut bytes = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).expect("the operating system gives random bytes");
    Identity::new(bytes)
}

/// The key that wraps, out of a private key and somebody else's public one. None if the public
/// key is one of the few that give everybody the same secret.
fn wrapping_key(
    private: &PrivateKey,
    theirs: &[u8; 32],
    occasional: &[u8; 32],
    recipient: &[u8; 32],
) -> Option<Zeroizing<[u8; 32]>> {
    let mut salt = [0; 64];
    salt[..32].copy_from_slice(occasional);
    salt[32..].copy_from_slice(recipient);
    let theirs = UnparsedPublicKey::new(&X25519, theirs);
    agree(private, theirs, (), |secret| Ok(Zeroizing::new(hkdf(&salt, WRAP_LABEL, secret)))).ok()
}

/// What it takes to wrap one file key for one recipient. Wiped when it is dropped.
pub(super) struct Pair {
    occasional: [u8; 32],
    key: Zeroizing<[u8; 32]>,
}

impl Pair {
    /// Makes a pair. None for a public key that nothing can be encrypted to.
    pub(super) fn make(recipient: Recipient) -> Option<Self> {
        let private = PrivateKey::generate(&X25519).ok()?;
        let occasional = public_half(&private);
        let key = wrapping_key(&private, &recipient.0, &occasional, &recipient.0)?;
        Some(Self { occasional, key })
    }

    /// Wraps a file key, and is used up.
    pub(super) fn wrap(self, file_key: &FileKey) -> (Vec<Stanza>, HashSet<String>) {
        let stanza = Stanza {
            tag: OURS.to_owned(),
            args: vec![BASE64_NOPAD.encode(&self.occasional)],
            body: aead_encrypt(&self.key, file_key.expose_secret()),
        };
        (vec![stanza], HashSet::new())
    }
}

/// An identity with what can be computed once.
pub(super) struct Unwrapper {
    private: PrivateKey,
    public: [u8; 32],
}

impl Unwrapper {
    pub(super) fn new(identity: &Identity) -> Self {
        let private = PrivateKey::from_private_key(&X25519, identity.expose());
        let private = private.expect("any 32 bytes are an x25519 private key");
        let public = public_half(&private);
        Self { private, public }
    }

    pub(super) fn recipient(&self) -> Recipient {
        Recipient(self.public)
    }
}

impl age::Identity for Unwrapper {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        if stanza.tag != OURS {
            return None;
        }
        let malformed = || Some(Err(age::DecryptError::InvalidHeader));
        let [argument] = stanza.args.as_slice() else { return malformed() };
        let occasional = BASE64_NOPAD.decode(argument.as_bytes()).ok();
        let Some(occasional) = occasional.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) else {
            return malformed();
        };
        if stanza.body.len() != WRAPPED_LEN {
            return malformed();
        }
        let Some(key) = wrapping_key(&self.private, &occasional, &occasional, &self.public) else {
            return malformed();
        };
        // That it does not open says only that the stanza is for somebody else.
        let mut opened = aead_decrypt(&key, FILE_KEY_BYTES, &stanza.body).ok()?;
        let file_key = FileKey::init_with_mut(|bytes| bytes.copy_from_slice(&opened));
        opened.zeroize();
        Some(Ok(file_key))
    }
}
