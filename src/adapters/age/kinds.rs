//! The kinds of the recipients of a file.
//!
//! Problem: whoever cannot open a file has to learn which key or passphrase would. A header does
//! not name recipients, but says of each what kind it is.
//!
//! Invariant: what is shown of a header is bounded, in tags and in their length, and printable.

use std::collections::BTreeSet;
use std::fmt;

/// The kind that is read here.
pub(super) const OURS: &str = "X25519";
/// The kind of a passphrase.
pub(super) const PASSPHRASE: &str = "scrypt";
/// Kinds that are shown.
const SHOWN_MAX: usize = 6;
/// Characters of a kind that are shown.
const TAG_SHOWN_MAX: usize = 32;

/// What people call the kinds that there are.
const NAMES: [(&str, &str); 10] = [
    (OURS, "age keys"),
    (PASSPHRASE, "a passphrase"),
    ("ssh-ed25519", "an SSH key"),
    ("ssh-rsa", "an SSH key"),
    ("mlkem768x25519", "a hybrid (post-quantum) age key"),
    ("piv-p256", "a YubiKey or another PIV token"),
    ("p256tag", "a hardware key"),
    ("mlkem768p256tag", "a hybrid (post-quantum) hardware key"),
    ("tpm-ecc", "a TPM"),
    ("fido2-hmac", "a FIDO2 token"),
];

/// The kinds of the recipients of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds(BTreeSet<String>);

impl Kinds {
    /// Those that a header names, which was found well formed. Kinds that end in `-grease` mean
    /// nothing: libraries add them so that readers get used to what they do not know.
    pub(super) fn of(header: &[u8]) -> Self {
        let lines = header.split(|byte| *byte == b'\n');
        let tags = lines.filter_map(|line| line.strip_prefix(b"-> ")).filter_map(|arguments| {
            let tag = arguments.split(|byte| *byte == b' ').next()?;
            let tag = String::from_utf8_lossy(tag);
            (!tag.ends_with("-grease")).then(|| tag.chars().take(TAG_SHOWN_MAX).collect())
        });
        Self(tags.collect())
    }

    /// True if there are recipients of the kind that is read here.
    pub(super) fn has_ours(&self) -> bool {
        self.0.contains(OURS)
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nobody of a kind that means anything");
        }
        let name = |tag: &str| {
            let named = NAMES.iter().find(|(known, _)| *known == tag);
            named.map_or("something unknown here", |(_, name)| name)
        };
        for (at, tag) in self.0.iter().take(SHOWN_MAX).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{} ({tag})", name(tag))?;
        }
        match self.0.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, ", and {more} more kinds"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_called_by_their_names() {
        for (header, shown) in [
            (
                "v\n-> ssh-rsa abc\nA\n-> ssh-ed25519 a b\n",
                "an SSH key (ssh-ed25519), an SSH key (ssh-rsa)",
            ),
            ("v\n-> scrypt a 18\nA\n", "a passphrase (scrypt)"),
            (
                "v\n-> X25519 a\n-> piv-p256 a\n",
                "age keys (X25519), a YubiKey or another PIV token (piv-p256)",
            ),
            (
                "v\n-> mlkem768x25519 a\n-> q-grease\n\n",
                "a hybrid (post-quantum) age key (mlkem768x25519)",
            ),
            ("v\n-> new\n\n", "something unknown here (new)"),
            ("v\n-> a-grease\n\n", "nobody of a kind that means anything"),
        ] {
            assert_eq!(Kinds::of(header.as_bytes()).to_string(), shown);
        }
        assert!(Kinds::of(b"-> X25519 a\n").has_ours());
        assert!(!Kinds::of(b"-> x25519 a\n").has_ours());
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let header: String = (0..250).map(|at| format!("-> {at}{}\n\n", "x".repeat(90))).collect();
        let shown = Kinds::of(header.as_bytes()).to_string();
        assert!(shown.len() < 500 && shown.ends_with("and 244 more kinds"), "{shown}");
    }
}
