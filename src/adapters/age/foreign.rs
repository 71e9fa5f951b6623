//! What an input is that should be an age file.
//!
//! Problem: whoever names the wrong file learns most from being told what it is. Formats say what
//! they are by how they begin.
//!
//! Invariant: none of what is found is repeated, as it may be a secret; only formats are named.

use std::fmt;

use super::armor::BEGIN;
use super::error::AgeError;
use super::header::MAGIC;
use crate::crypto::KeyKind;

/// Bytes of an input that are looked at. White space, and something that does not belong there, may
/// come before armour.
pub(super) const BEGIN_LEN: usize = 1_024;

/// The forms of an age file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Binary,
    Armored,
}

/// Something else than an age file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// Compressed, by a program or into an archive of this name.
    Compressed(&'static str),
    /// Encrypted with OpenPGP.
    Pgp,
    /// Encrypted with openssl.
    OpenSsl,
    /// Converted to another encoding of text.
    Utf16,
    /// An age file as base64, but without the lines around it.
    Base64,
    /// A key.
    Key(KeyKind),
    /// Text.
    Text,
    /// White space.
    Blank,
    /// Who knows.
    Unknown,
}

/// How each begins.
const BEGINNINGS: [(&[u8], Foreign); 11] = [
    (b"\x1f\x8b", Foreign::Compressed("gzip")),
    (b"\x28\xb5\x2f\xfd", Foreign::Compressed("zstd")),
    (b"\xfd7zXZ\0", Foreign::Compressed("xz")),
    (b"BZh", Foreign::Compressed("bzip2")),
    (b"PK\x03\x04", Foreign::Compressed("zip")),
    (b"-----BEGIN PGP MESSAGE", Foreign::Pgp),
    (b"Salted__", Foreign::OpenSsl),
    (b"\xff\xfe", Foreign::Utf16),
    (b"\xfe\xff", Foreign::Utf16),
    // The first bytes of an age file, and of its armour, in base64.
    (b"YWdlLWVuY3J5cHRpb24ub3JnL", Foreign::Base64),
    (b"LS0tLS1CRUdJTiBBR0UgRU5DUllQVEVEIEZJTEUtLS0tL", Foreign::Base64),
];

/// The form of an age file by its first bytes, or what else it is. Anything that was meant to be
/// armour is told by the reader of armour what it is not.
pub(super) fn form(begin: &[u8]) -> Result<Form, AgeError> {
    if begin.is_empty() {
        return Err(AgeError::Empty);
    }
    if begin.starts_with(MAGIC) || MAGIC.starts_with(begin) {
        return Ok(Form::Binary);
    }
    if is_armor(begin) {
        return Ok(Form::Armored);
    }
    Err(AgeError::Foreign(Foreign::of(begin)))
}

/// True if the line that begins armour is there, or one that was meant to be it comes first.
fn is_armor(begin: &[u8]) -> bool {
    let first = begin.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = first.split(|byte| !byte.is_ascii_alphanumeric());
    let is_marked =
        first.starts_with(b"-----") && words.any(|word| word.eq_ignore_ascii_case(b"AGE"));
    is_marked || begin.windows(BEGIN.len()).any(|window| window == BEGIN)
}

impl Foreign {
    fn of(begin: &[u8]) -> Self {
        if begin.trim_ascii().is_empty() {
            return Self::Blank;
        }
        let found = BEGINNINGS.iter().find(|(beginning, _)| begin.starts_with(beginning));
        if let Some((_, foreign)) = found {
            return foreign.clone();
        }
        let Some(text) = text(begin) else { return Self::Unknown };
        // A file with a key begins with comments.
        let mut lines = text.lines().map(str::trim);
        let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
        first.and_then(KeyKind::of).map_or(Self::Text, Self::Key)
    }
}

/// The bytes as text. The last character may be cut, as only the beginning is looked at.
fn text(begin: &[u8]) -> Option<&str> {
    let whole = match std::str::from_utf8(begin) {
        Err(error) if error.error_len().is_none() => &begin[..error.valid_up_to()],
        _ => begin,
    };
    let text = std::str::from_utf8(whole).ok()?;
    let is_text = text.chars().all(|c| !c.is_control() || c.is_whitespace());
    is_text.then_some(text)
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compressed(name) => return write!(f, "it is compressed with {name}"),
            Self::Pgp => "it is an OpenPGP message",
            Self::OpenSsl => "it was encrypted with openssl",
            Self::Utf16 => "it was converted to UTF-16, as some shells do with what they redirect",
            Self::Base64 => "it is base64 without the lines that mark an age file",
            Self::Key(kind) => return write!(f, "it is {kind}"),
            Self::Text => "it is plain text",
            Self::Blank => "there is nothing in it but white space",
            Self::Unknown => "it begins with other bytes than one",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_files_are_known_by_how_they_begin() {
        let armor = "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl";
        for (begin, expected) in [
            ("age-encryption.org/v1\n", Form::Binary),
            ("age-encryption.org/v2\r\n", Form::Binary),
            ("age-encr", Form::Binary),
            (armor, Form::Armored),
            (&format!("\n \r\n{armor}"), Form::Armored),
            (&format!("hello,\n{armor}"), Form::Armored),
            ("----- BEGIN AGE ENCRYPTED FILE -----\n", Form::Armored),
            ("-----begin age encrypted file-----\n", Form::Armored),
        ] {
            assert_eq!(form(begin.as_bytes()).unwrap(), expected, "{begin}");
        }
    }

    #[test]
    fn other_files_are_called_what_they_are() {
        let key = "# created: now\n# public key: age1qqqq\n\nAGE-SECRET-KEY-1QQQQQQQQ\n";
        let cut = "é".repeat(600);
        for (begin, says) in [
            (&b""[..], "the input is empty"),
            (b"\x1f\x8b\x08\0", "this is not an age file: it is compressed with gzip"),
            (b"\x28\xb5\x2f\xfd\0", "compressed with zstd"),
            (b"PK\x03\x04", "compressed with zip"),
            (b"-----BEGIN PGP MESSAGE-----\n", "an OpenPGP message"),
            (b"Salted__abc", "openssl"),
            (b"\xff\xfea\0g\0e\0", "UTF-16"),
            (b"YWdlLWVuY3J5cHRpb24ub3JnL3YxCg==", "base64 without the lines"),
            (key.as_bytes(), "it is an age private key"),
            (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "it is an SSH private key"),
            (b"-----BEGIN CERTIFICATE-----\n", "it is a certificate"),
            (b"ssh-ed25519 AAAA me@here\n", "it is an SSH public key"),
            (b"hello\n", "this is not an age file: it is plain text"),
            (&cut.as_bytes()[..BEGIN_LEN - 1], "it is plain text"),
            (b" \n\t", "nothing in it but white space"),
            (b"\x7fELF\x02\x01\x01\0", "it begins with other bytes"),
        ] {
            let error = form(begin).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("QQQQ"), "{error}");
        }
    }
}
