//! The public test vectors of the format (tests/age-vectors).
//!
//! Those that are for X25519 keys alone end as they say. Those for passphrases and hybrid keys open
//! for nobody here, and nothing of them comes out.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::super::{AgeError, Damage, HeaderFault, Opener, generate};
use super::inflate::inflate;
use crate::crypto::Identity;

/// Bytes of the longest plain text.
const PLAIN_MAX: usize = 32 * 1024 * 1024;

struct Vector {
    name: String,
    expect: String,
    payload: Option<String>,
    identities: Vec<Identity>,
    armored: bool,
    /// For X25519 keys alone.
    ours: bool,
    file: Vec<u8>,
}

impl Vector {
    fn parse(name: String, bytes: &[u8]) -> Self {
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let fields: Vec<(&str, &str)> = std::str::from_utf8(&bytes[..end])
            .unwrap()
            .lines()
            .map(|line| line.split_once(": ").unwrap())
            .collect();
        let known = [
            "expect",
            "payload",
            "identity",
            "passphrase",
            "armored",
            "compressed",
            "file key",
            "comment",
        ];
        assert!(fields.iter().all(|(field, _)| known.contains(field)), "{name}: {fields:?}");
        let values = |wanted: &'static str| {
            fields.iter().filter(move |(field, _)| *field == wanted).map(|(_, value)| *value)
        };
        let identities = values("identity").filter_map(|text| text.parse().ok()).collect();
        let are_x25519 = values("identity").all(|text| text.parse::<Identity>().is_ok());
        let file = match values("compressed").next() {
            Some(format) => {
                assert_eq!(format, "zlib", "{name}");
                inflate(&bytes[end + 2..])
            }
            None => bytes[end + 2..].to_vec(),
        };
        Self {
            expect: values("expect").next().unwrap().to_owned(),
            payload: values("payload").next().map(str::to_owned),
            identities,
            armored: values("armored").next() == Some("yes"),
            ours: are_x25519 && values("passphrase").next().is_none(),
            file,
            name,
        }
    }

    fn opener(&self) -> Opener {
        // Those for passphrases have no identity at all.
        let any = generate();
        let identities =
            if self.identities.is_empty() { vec![any] } else { self.identities.clone() };
        Opener::new(&identities)
    }

    /// How a file ended, in the words of the vectors.
    fn ending(&self, result: &Result<(), AgeError>) -> &'static str {
        let error = match result {
            Ok(()) => return "success",
            Err(error) => error,
        };
        match error {
            AgeError::NoMatchingIdentity(_) | AgeError::OtherKinds(_) => "no match",
            AgeError::Empty | AgeError::Version => "header failure",
            AgeError::Damaged(Damage::Header(_)) => "header failure",
            AgeError::Damaged(Damage::Altered) => "HMAC failure",
            AgeError::Damaged(Damage::Armor(_)) => "armor failure",
            AgeError::Damaged(Damage::Payload(_)) => "payload failure",
            other => panic!("{}: {other}", self.name),
        }
    }
}

fn vectors() -> Vec<Vector> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/age-vectors/testdata");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let parse = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Vector::parse(name, &std::fs::read(path).unwrap())
    };
    paths.into_iter().map(parse).collect()
}

fn hash(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

#[test]
fn all_vectors_end_as_they_say() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 143);
    assert_eq!(vectors.iter().filter(|vector| vector.ours).count(), 98);
    for vector in &vectors {
        let name = &vector.name;
        let opener = vector.opener();
        let mut released = Vec::new();
        let streamed = opener.decrypt_stream(vector.file.as_slice(), &mut released);
        let opened = opener.open(&vector.file, PLAIN_MAX);
        assert!(!vector.armored || opened.is_err(), "{name}: it takes files in binary form only");
        if !vector.ours {
            assert!(streamed.is_err() && released.is_empty() && opened.is_err(), "{name}");
            continue;
        }
        assert_eq!(vector.ending(&streamed), vector.expect, "{name}: {streamed:?}");
        match &vector.payload {
            Some(payload) => assert_eq!(hash(&released), *payload, "{name}"),
            None => assert!(released.is_empty(), "{name}"),
        }
        if !vector.armored {
            let expect = vector.expect.as_str();
            let plain = opened.as_ref().map(Vec::as_slice).unwrap_or_default();
            assert_eq!(plain, if expect == "success" { &released[..] } else { b"" }, "{name}");
            assert_eq!(vector.ending(&opened.map(drop)), expect, "{name}");
        }
    }
}

#[test]
fn a_header_that_lacks_a_line_is_refused_for_that() {
    for vector in vectors() {
        let line = match vector.name.as_str() {
            "stanza_missing_body" | "stanza_missing_final_line" => "should have its last line",
            "header_crlf" | "armor_header_crlf" | "stanza_spurious_cr" => "a carriage return",
            "stanza_not_canonical" | "stanza_base64_padding" => "canonical base64",
            "stanza_empty_argument" => "an argument that is empty",
            "hmac_not_canonical" | "hmac_truncated" => "not the end",
            _ => continue,
        };
        let error = vector.opener().decrypt_stream(vector.file.as_slice(), &mut Vec::new());
        let error = error.unwrap_err();
        let is_line = matches!(error, AgeError::Damaged(Damage::Header(HeaderFault::Line { .. })));
        assert!(is_line && error.to_string().contains(line), "{}: {error}", vector.name);
    }
}
