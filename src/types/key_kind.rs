//! What a text is that should be a key of ours and is another one.
//!
//! Problem: "not a key" helps nobody who has named an SSH key, or the other half of a pair. Keys
//! say what they are by how they begin.
//!
//! Invariants:
//! 1. None of a text is repeated, as it may be a secret, but for the name of a plugin.
//! 2. Nothing is copied out of a text that may be a secret.

use std::fmt;

/// Bytes of a text that are looked at for a recipient of a plugin. The longest that there are take
/// about 2,000.
const RECIPIENT_LEN_MAX: usize = 4_096;
/// Bytes of the name of a plugin.
const PLUGIN_NAME_MAX: usize = 64;

/// A kind of key, and which half of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyKind {
    /// The public half of an age key.
    Recipient,
    /// The private half of an age key.
    Identity,
    /// The public half of a hybrid key of age.
    HybridRecipient,
    /// The private half of a hybrid key of age.
    HybridIdentity,
    /// A public key of a plugin of age, with the plugin's name.
    PluginRecipient(String),
    /// A private key of a plugin of age, with the plugin's name.
    PluginIdentity(String),
    /// The public half of an SSH key.
    SshPublic,
    /// The private half of an SSH key.
    SshPrivate,
    /// A private key in the form of older SSH keys, and those of TLS.
    PemPrivate,
    /// An OpenPGP key.
    Pgp,
    /// A certificate or another thing between lines that mark it.
    Pem,
}

/// How texts of each kind begin, in either case. The first that fits counts.
static BEGINNINGS: [(&str, KeyKind); 19] = [
    ("age-secret-key-pq-1", KeyKind::HybridIdentity),
    ("age-secret-key-1", KeyKind::Identity),
    ("age1pq1", KeyKind::HybridRecipient),
    ("ssh-ed25519", KeyKind::SshPublic),
    ("ssh-rsa", KeyKind::SshPublic),
    ("ssh-dss", KeyKind::SshPublic),
    ("ecdsa-sha2-", KeyKind::SshPublic),
    ("sk-ssh-", KeyKind::SshPublic),
    ("sk-ecdsa-", KeyKind::SshPublic),
    ("---- BEGIN SSH2 PUBLIC KEY", KeyKind::SshPublic),
    ("-----BEGIN OPENSSH PRIVATE KEY", KeyKind::SshPrivate),
    ("PuTTY-User-Key-File-", KeyKind::SshPrivate),
    ("-----BEGIN RSA PRIVATE KEY", KeyKind::PemPrivate),
    ("-----BEGIN DSA PRIVATE KEY", KeyKind::PemPrivate),
    ("-----BEGIN EC PRIVATE KEY", KeyKind::PemPrivate),
    ("-----BEGIN PRIVATE KEY", KeyKind::PemPrivate),
    ("-----BEGIN ENCRYPTED PRIVATE KEY", KeyKind::PemPrivate),
    ("-----BEGIN PGP ", KeyKind::Pgp),
    ("-----BEGIN ", KeyKind::Pem),
];

/// What follows a beginning, in either case.
fn after<'a>(text: &'a str, beginning: &str) -> Option<&'a str> {
    let begin = text.get(..beginning.len())?;
    begin.eq_ignore_ascii_case(beginning).then(|| &text[beginning.len()..])
}

/// The name of a plugin, if it can be one.
fn name(text: &str) -> Option<String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    let fits = !text.is_empty() && text.len() <= PLUGIN_NAME_MAX && text.bytes().all(is_name);
    fits.then(|| text.to_ascii_lowercase())
}

impl KeyKind {
    /// What the text is by its beginning, whether or not the rest of it is right. None if it begins
    /// like none of them.
    pub fn of(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(rest) = after(text, "age-plugin-") {
            // AGE-PLUGIN-NAME-1 and the key, in which there is no other 1.
            let end = rest.rfind('1')?;
            return name(rest[..end].trim_end_matches('-')).map(Self::PluginIdentity);
        }
        let fits = |(beginning, _): &&(&str, Self)| after(text, beginning).is_some();
        if let Some((_, kind)) = BEGINNINGS.iter().find(fits) {
            return Some(kind.clone());
        }
        let rest = after(text, "age1").filter(|rest| rest.bytes().all(|b| b.is_ascii_graphic()))?;
        // age1NAME1 and the key. A slip of the pen puts a 1 into any key, so the sum has to fit.
        let named = rest.rfind('1').and_then(|end| name(&rest[..end]));
        let is_whole = text.len() <= RECIPIENT_LEN_MAX && bech32::decode(text).is_ok();
        match named {
            Some(name) if is_whole => Some(Self::PluginRecipient(name)),
            _ if rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Some(Self::Recipient),
            _ => None,
        }
    }

    /// True for what nobody but its owner may see.
    pub fn is_private(&self) -> bool {
        match self {
            Self::Identity | Self::HybridIdentity | Self::PluginIdentity(_) => true,
            Self::SshPrivate | Self::PemPrivate => true,
            Self::Recipient | Self::HybridRecipient | Self::PluginRecipient(_) => false,
            Self::SshPublic | Self::Pgp | Self::Pem => false,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recipient => "an age public key",
            Self::Identity => "an age private key",
            Self::HybridRecipient => "a hybrid (post-quantum) public key of age",
            Self::HybridIdentity => "a hybrid (post-quantum) private key of age",
            Self::PluginRecipient(name) => {
                return write!(f, "a public key of the age plugin {name}");
            }
            Self::PluginIdentity(name) => {
                return write!(f, "a private key of the age plugin {name}");
            }
            Self::SshPublic => "an SSH public key",
            Self::SshPrivate => "an SSH private key",
            Self::PemPrivate => "a private key in PEM form, as SSH and TLS use it",
            Self::Pgp => "an OpenPGP key or message",
            Self::Pem => "a certificate or something else in PEM form",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_what_they_are() {
        let plugin = |name: &str| KeyKind::PluginIdentity(name.into());
        for (text, kind) in [
            ("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZ", KeyKind::Identity),
            ("age-secret-key-1gfpyysjzgfpyysjz", KeyKind::Identity),
            ("AGE-SECRET-KEY-PQ-1HZLGZUPT4ETPK", KeyKind::HybridIdentity),
            ("AGE-PLUGIN-YUBIKEY-1QQPQGQYZ", plugin("yubikey")),
            ("AGE-PLUGIN-FIDO2-HMAC-1QQPQGQYZ", plugin("fido2-hmac")),
            ("  age1qqqqqqqq  ", KeyKind::Recipient),
            ("age1qqq1qqqq", KeyKind::Recipient),
            ("age1pq1qqqqqqqq", KeyKind::HybridRecipient),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@here", KeyKind::SshPublic),
            ("ssh-rsa AAAAB3NzaC1yc2E", KeyKind::SshPublic),
            ("sk-ssh-ed25519@openssh.com AAAA", KeyKind::SshPublic),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk", KeyKind::SshPrivate),
            ("-----BEGIN RSA PRIVATE KEY-----", KeyKind::PemPrivate),
            ("-----BEGIN PGP PUBLIC KEY BLOCK-----", KeyKind::Pgp),
            ("-----BEGIN CERTIFICATE-----", KeyKind::Pem),
        ] {
            assert_eq!(KeyKind::of(text), Some(kind), "{text}");
        }
        for text in
            ["", "age", "age1.txt", "age1 is a format", "AGE-PLUGIN-", "AGE-PLUGIN-\u{1b}-1A"]
        {
            assert_eq!(KeyKind::of(text), None, "{text}");
        }
    }

    #[test]
    fn a_plugin_is_named_where_its_key_is_whole() {
        use bech32::ToBase32 as _;
        let key = bech32::encode("age1yubikey", [3; 33].to_base32(), bech32::Variant::Bech32);
        let key = key.unwrap();
        let kind = KeyKind::of(&key).unwrap();
        assert_eq!(kind, KeyKind::PluginRecipient("yubikey".into()));
        assert_eq!(kind.to_string(), "a public key of the age plugin yubikey");
        assert_eq!(KeyKind::of(&key[..key.len() - 1]), Some(KeyKind::Recipient));
    }

    #[test]
    fn private_ones_are_known_as_such() {
        for text in ["AGE-SECRET-KEY-1Q", "AGE-SECRET-KEY-PQ-1Q", "AGE-PLUGIN-X-1Q"] {
            assert!(KeyKind::of(text).unwrap().is_private(), "{text}");
        }
        assert!(KeyKind::of("-----BEGIN OPENSSH PRIVATE KEY-----").unwrap().is_private());
        for text in ["age1qqqq", "age1pq1qqqq", "ssh-rsa AAAA", "-----BEGIN CERTIFICATE-----"] {
            assert!(!KeyKind::of(text).unwrap().is_private(), "{text}");
        }
    }
}
