//! Public keys that contents are encrypted to, and the texts of age's keys.

use std::fmt;
use std::str::FromStr;

use bech32::{FromBase32, ToBase32, Variant};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::KeyKind;

const RECIPIENT_PREFIX: &str = "age";

/// Why a text is not a key. Never repeats the text, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is no recipient.
    #[error("not an age recipient: {0}; one begins with age1 and has 62 characters")]
    Recipient(&'static str),
    /// The text is no identity.
    #[error("not an age identity: {0}; one begins with AGE-SECRET-KEY-1 and has 74 characters")]
    Identity(&'static str),
    /// The text is another kind of key than a recipient.
    #[error("not an age recipient but {0}")]
    OtherThanRecipient(KeyKind),
    /// The text is another kind of key than an identity.
    #[error("not an age identity but {0}")]
    OtherThanIdentity(KeyKind),
}

impl KeyError {
    /// Why this text is no recipient.
    fn of_recipient(text: &str, reason: &'static str) -> Self {
        let other = KeyKind::of(text).filter(|kind| *kind != KeyKind::Recipient);
        other.map_or(Self::Recipient(reason), Self::OtherThanRecipient)
    }

    /// Why this text is no identity.
    pub fn of_identity(text: &str, reason: &'static str) -> Self {
        let other = KeyKind::of(text).filter(|kind| *kind != KeyKind::Identity);
        other.map_or(Self::Identity(reason), Self::OtherThanIdentity)
    }
}

/// The public half of an X25519 key: whom something is encrypted to. Written `age1...`
/// (age-encryption.org/v1).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Recipient(#[serde(with = "crate::types::bytes::fixed")] pub [u8; 32]);

/// The 32 bytes behind a prefix, in the encoding of age's keys (BIP 173).
pub fn decode_key(text: &str, prefix: &str) -> Result<Zeroizing<[u8; 32]>, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > 128 {
        return Err("it is too long");
    }
    let (found, digits, variant) =
        bech32::decode(text).map_err(|_| "a character of it is missing or wrong")?;
    if variant != Variant::Bech32 || found != prefix {
        return Err("it is a key of another kind");
    }
    let bytes = Vec::<u8>::from_base32(&digits).map(Zeroizing::new);
    let bytes = bytes.map_err(|_| "a character of it is missing or wrong")?;
    let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| "it has the wrong length")?;
    Ok(Zeroizing::new(*bytes))
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = decode_key(text, RECIPIENT_PREFIX);
        bytes.map(|bytes| Self(*bytes)).map_err(|reason| KeyError::of_recipient(text, reason))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = bech32::encode(RECIPIENT_PREFIX, self.0.to_base32(), Variant::Bech32);
        f.write_str(&text.expect("the prefix is one that bech32 takes"))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
