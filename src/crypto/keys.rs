//! X25519 keys of the age format (age-encryption.org/v1): their private halves.

use std::fmt;
use std::str::FromStr;

use bech32::{ToBase32, Variant};
use zeroize::Zeroizing;

use crate::types::recipient::decode_key;
pub use crate::types::{KeyError, KeyKind, Recipient};

const IDENTITY_PREFIX: &str = "age-secret-key-";

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

impl FromStr for Identity {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = decode_key(text, IDENTITY_PREFIX);
        bytes.map(Self).map_err(|reason| KeyError::of_identity(text, reason))
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
        let error = "".parse::<Identity>().unwrap_err().to_string();
        assert!(error.contains("it is empty"), "{error}");
    }

    #[test]
    fn keys_of_other_kinds_are_called_what_they_are() {
        let recipient = Recipient([7; 32]).to_string();
        for (text, says) in [
            (recipient.as_str(), "not an age identity but an age public key"),
            ("AGE-SECRET-KEY-PQ-1HZLGZUPT4ETPK", "but a hybrid (post-quantum) private key of age"),
            ("AGE-PLUGIN-YUBIKEY-1QQPQ", "but a private key of the age plugin yubikey"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "but an SSH private key"),
            ("-----BEGIN RSA PRIVATE KEY-----", "but a private key in PEM form"),
            ("ssh-ed25519 AAAA", "but an SSH public key"),
        ] {
            let error = text.parse::<Identity>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        for (text, says) in [
            (IDENTITY, "not an age recipient but an age private key"),
            ("age1pq1qqqq", "but a hybrid (post-quantum) public key of age"),
            ("ssh-rsa AAAA", "but an SSH public key"),
            ("-----BEGIN CERTIFICATE-----", "but a certificate"),
        ] {
            let error = text.parse::<Recipient>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let other = bech32::encode("npub", [7; 32].to_base32(), Variant::Bech32).unwrap();
        let error = other.parse::<Recipient>().unwrap_err().to_string();
        assert!(error.contains("a key of another kind"), "{error}");
    }
}
