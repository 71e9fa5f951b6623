//! The keyring: private keys for contents, which never leave its implementation in the clear.

use zeroize::Zeroizing;

use crate::types::Recipient;

/// Nothing can be encrypted to one of the keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it could not be encrypted: {0}")]
pub struct SealError(pub String);

/// Why something was not decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The private half is not on this node.
    #[error("this node does not hold the key {0}")]
    NotHeld(Recipient),
    /// It was encrypted to others.
    #[error("it was encrypted to others")]
    ForOthers,
    /// It is longer than allowed.
    #[error("what is in it is longer than the {0} bytes allowed")]
    TooLong(usize),
    /// It is no age file, or was altered, or holds something else than expected.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// Holds the node's own key for contents and those of roles; encrypts and decrypts with them. The
/// files are age files (age-encryption.org/v1).
pub trait Keyring: Send + Sync + 'static {
    /// Public half of the node's own key.
    fn own(&self) -> Recipient;

    /// Makes a key and holds it.
    fn make(&self) -> Recipient;

    /// True if the private half of this key is held.
    fn holds(&self, key: Recipient) -> bool;

    /// A file for `to` with the private halves of these keys. None if one of them is not held.
    fn share(&self, keys: &[Recipient], to: Recipient) -> Option<Vec<u8>>;

    /// Takes a file that `share` made for this node, and holds what is in it: the private halves of
    /// just these keys, or nothing at all.
    fn accept(&self, file: &[u8], keys: &[Recipient]) -> Result<(), OpenError>;

    /// A file that each of the recipients can read.
    fn seal(&self, to: &[Recipient], plain: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Decrypts a file with the key whose public half is `key`.
    fn open(
        &self,
        key: Recipient,
        file: &[u8],
        limit: usize,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError>;
}
