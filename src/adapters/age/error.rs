//! Why something was not encrypted or decrypted, in the words of whoever asked for it.

use std::io;

use super::RECIPIENTS_PER_FILE_MAX;
use super::armor::ArmorFault;
use super::foreign::Foreign;
use super::header::HeaderFault;
use super::kinds::Kinds;
use crate::crypto::Recipient;

/// Why something was not encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// There is nobody to encrypt to.
    #[error("there is no recipient; name at least one")]
    NoRecipient,
    /// More recipients than a file may have.
    #[error("{0} recipients are more than the {RECIPIENTS_PER_FILE_MAX} that a file may have")]
    TooManyRecipients(usize),
    /// A recipient that nothing can be encrypted to.
    #[error("nothing can be encrypted to {0}: it is no valid public key")]
    UnusableRecipient(Recipient),
    /// The file is for keys of the kind that the identities have, and for none of them.
    #[error("none of the identities fits: the file was encrypted to others ({0})")]
    NoMatchingIdentity(Kinds),
    /// The file is for no key of the kind that is read here.
    #[error("no identity here opens the file: it was encrypted to {0} only")]
    OtherKinds(Kinds),
    /// There is no file.
    #[error("there is nothing to decrypt: the input is empty")]
    Empty,
    /// The file is another one than an age file.
    #[error("this is not an age file: {0}")]
    Foreign(Foreign),
    /// An age file of a version that is not read here.
    #[error("this age file is of another version of the format than v1, the only one read here")]
    Version,
    /// The file is not what it was when it was written.
    #[error("the age file is damaged: {0}")]
    Damaged(Damage),
    /// It is longer than whoever asked would take.
    #[error("what is in the file is longer than the {0} bytes allowed")]
    TooLong(usize),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where a file is damaged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The lines around it, or their encoding.
    #[error("{0}")]
    Armor(ArmorFault),
    /// The header is none.
    #[error("{0}")]
    Header(HeaderFault),
    /// The header is one, and not the one that was written.
    #[error("its header was altered")]
    Altered,
    /// What follows the header.
    #[error("its contents were altered or cut short after the first {0} bytes")]
    Payload(u64),
}

impl From<HeaderFault> for AgeError {
    fn from(fault: HeaderFault) -> Self {
        match fault {
            HeaderFault::Version => Self::Version,
            fault => Self::Damaged(Damage::Header(fault)),
        }
    }
}

impl From<age::EncryptError> for AgeError {
    fn from(error: age::EncryptError) -> Self {
        match error {
            age::EncryptError::Io(error) => Self::Io(error),
            other => Self::Io(io::Error::other(other.to_string())),
        }
    }
}

/// What an error of reading a file says. The library and the armour report what is wrong with a
/// file as such; `damage` is what it is if it is not the armour.
pub(super) fn unreadable(error: io::Error, damage: Damage) -> AgeError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ArmorFault>());
    if let Some(fault) = inner {
        return AgeError::Damaged(Damage::Armor(*fault));
    }
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => AgeError::Damaged(damage),
        _ => AgeError::Io(error),
    }
}

/// Why the library did not open a file with this header.
pub(super) fn refused(error: age::DecryptError, header: &[u8]) -> AgeError {
    match error {
        age::DecryptError::NoMatchingKeys => {
            let kinds = Kinds::of(header);
            match kinds.has_ours() {
                true => AgeError::NoMatchingIdentity(kinds),
                false => AgeError::OtherKinds(kinds),
            }
        }
        age::DecryptError::InvalidMac => AgeError::Damaged(Damage::Altered),
        // All that it reads beyond the header is a nonce.
        age::DecryptError::Io(error) => unreadable(error, Damage::Header(HeaderFault::NoContents)),
        // Its grammar was checked, so it is about what the lines mean.
        _ => AgeError::Damaged(Damage::Header(HeaderFault::Recipient)),
    }
}
