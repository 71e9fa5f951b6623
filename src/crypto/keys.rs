//! X25519 keys of the age format (age-encryption.org/v1), as values and as texts.

use std::fmt;
use std::str::FromStr;

use bech32::{FromBase32, ToBase32, Variant};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const RECIPIENT_PREFIX: &str = "age";
const IDENTITY_PREFIX: &str = "age-secret-key-";

/// Why a text is not a key. Never repeats the text, which may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is no recipient.
    #[error("not an age recipient: {0}; one begins with age1 and has 62 characters")]
    Recipient(&'static str),
    /// The text is no identity.
    #[error("not an age identity: {0}; one begins with AGE-SECRET-KEY-1 and has 74 characters")]
    Identity(&'static str),
}

/// The public half of a key: whom something is encrypted to. Written `age1...`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Recipient(#[serde(with = "crate::types::bytes::fixed")] pub [u8; 32]);

/// The private half of a key. Its bytes are wiped when it is dropped.
#[derive(Clone)]
pub struct Identity(Zeroizing<[u8; 32]>);

impl Identity {
    /// A key of these bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as text: `AGE-SECRET-KEY-1...`.
    pub fn reveal(&self) -> Zeroizing<String> {
        let text = bech32::encode(IDENTITY_PREFIX, self.0.to_base32(), Variant::Bech32);
        let lower = Zeroizing::new(text.expect("the prefix is one that bech32 takes"));
        Zeroizing::new(lower.to_ascii_uppercase())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// The 32 bytes behind a prefix.
fn decode(text: &str, prefix: &str) -> Result<Zeroizing<[u8; 32]>, &'static str> {
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
        decode(text, RECIPIENT_PREFIX).map(|bytes| Self(*bytes)).map_err(KeyError::Recipient)
    }
}

impl FromStr for Identity {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text, IDENTITY_PREFIX).map(Self).map_err(KeyError::Identity)
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

#[cfg(test)]
mod tests {
    use super::*;

    // Of age's own documentation of the format.
    const IDENTITY: &str =
        "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

    #[test]
    fn keys_survive_their_texts() {
        let identity: Identity = IDENTITY.parse().unwrap();
        assert_eq!(identity.expose(), &[0x42; 32]);
        assert_eq!(identity.reveal().as_str(), IDENTITY);
        assert_eq!(format!("{identity:?}"), "Identity(..)");
        let recipient = Recipient([7; 32]);
        assert_eq!(recipient.to_string().parse(), Ok(recipient));
        assert_eq!(recipient.to_string().len(), 62);
    }

    #[test]
    fn damaged_keys_say_what_is_wrong_without_repeating_it() {
        let secret = IDENTITY.replace("4EGAEX", "4EGAEY");
        for text in ["", "age1", &secret, &"x".repeat(500), IDENTITY] {
            let error = text.parse::<Recipient>().unwrap_err().to_string();
            assert!(!error.contains("GFPYY"), "{error}");
        }
        let error = secret.parse::<Identity>().unwrap_err().to_string();
        assert!(error.contains("missing or wrong") && !error.contains("GFPYY"), "{error}");
        let error = Recipient([7; 32]).to_string().parse::<Identity>().unwrap_err().to_string();
        assert!(error.contains("another kind"), "{error}");
    }
}
