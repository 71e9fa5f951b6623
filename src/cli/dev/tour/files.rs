//! The files that the tour stores.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::cli::error::CliError;
use crate::types::limits::{CONTENT_LEN_MAX, DRAFT_LEN_MAX, HEAD_VALUE_MAX, UCXL_SEGMENT_MAX};

/// Where the files go.
const PREFIX: &str = "user_projects/tour/";
/// Bytes of the name of a file that go into its key; with a number they are a segment of an address.
const NAME_LEN_MAX: usize = UCXL_SEGMENT_MAX - 10;
/// Bytes of a text that fits into a decision.
const TEXT_MAX: usize = CONTENT_LEN_MAX - 4_096;
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// A file as it will be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TourFile {
    /// Key of its value.
    pub key: String,
    /// Address of its decision.
    pub address: String,
    /// What the decision says: the content, or its SHA-256 and length where it is too long or no text.
    pub text: String,
    /// The content, or its SHA-256 and length where it is too long for a value.
    pub value: Vec<u8>,
}

/// Reads the files, before anything is started for them.
pub fn read_files(paths: &[PathBuf]) -> Result<Vec<TourFile>, CliError> {
    let mut names = BTreeSet::new();
    let mut files = Vec::new();
    for path in paths {
        let (value, text) = read(path).map_err(|error| {
            CliError::usage(format!("cannot read {}: {error}", path.display()))
                .hint("name files that exist, such as README.md")
        })?;
        let name = sanitised(path);
        let mut own = name.clone();
        // Files of one name from several directories are all kept.
        for number in 2.. {
            if names.insert(own.clone()) {
                break;
            }
            own = format!("{name}-{number}");
        }
        let (key, address) = (format!("{PREFIX}{own}"), format!("tour/observer/bzzz/{own}/dev"));
        files.push(TourFile { key, value, address, text });
    }
    Ok(files)
}

/// The value and the text that stand for a file.
fn read(path: &Path) -> std::io::Result<(Vec<u8>, String)> {
    let mut file = File::open(path)?;
    let (mut hash, mut length, mut content) = (Sha256::new(), 0_u64, Vec::new());
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read(&mut chunk)?;
        let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else { break };
        hash.update(read);
        length += read.len() as u64;
        if content.len() <= TEXT_MAX {
            content.extend_from_slice(read);
        }
    }
    let hash = HEXLOWER.encode(&hash.finalize());
    let stand_in = format!("sha256:{hash} bytes:{length}");
    let fits = content.len() <= TEXT_MAX;
    let text = std::str::from_utf8(&content).ok().filter(|text| fits && !text.trim().is_empty());
    // Escapes make a text longer on its way.
    let sendable = |text: &&str| {
        serde_json::to_string(text).is_ok_and(|json| json.len() < DRAFT_LEN_MAX - 4_096)
    };
    let text = text.filter(sendable);
    let text = text.map_or_else(|| stand_in.clone(), str::to_owned);
    let value = if content.len() <= HEAD_VALUE_MAX { content } else { stand_in.into_bytes() };
    Ok((value, text))
}

/// The name of the file in characters that a key may have.
fn sanitised(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String =
        name.chars().map(|c| if fits(c) { c } else { '_' }).take(NAME_LEN_MAX).collect();
    match name.as_str() {
        "" | "." | ".." => "file".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ucxl::{DecisionAddress, check_config_key};

    #[test]
    fn short_files_are_stored_whole_and_long_ones_by_their_hash() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            path
        };
        let paths = [
            file("READ me.md", b"abc"),
            file("other/READ me.md", &[b'x'; HEAD_VALUE_MAX]),
            file("long", &vec![b'a'; 1_000_000]),
        ];
        let files = read_files(&paths).unwrap();
        assert_eq!(files[0].key, "user_projects/tour/READ_me.md");
        assert_eq!(files[0].value, b"abc");
        assert_eq!(files[1].key, "user_projects/tour/READ_me.md-2");
        assert_eq!(files[1].value.len(), HEAD_VALUE_MAX);
        assert_eq!(files[1].address, "tour/observer/bzzz/READ_me.md-2/dev");
        assert_eq!(files[0].text, "abc");
        assert_eq!(files[2].text.len(), 1_000_000, "it fits into a decision");
        // The third test vector of FIPS 180-2.
        let hash = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(files[2].value, format!("sha256:{hash} bytes:1000000").into_bytes());
        assert!(files.iter().all(|file| check_config_key(&file.key).is_ok()));
        let odd =
            [file("empty", b""), file("bytes", &[0xff, 0]), file("huge", &vec![b'a'; 1 << 20])];
        let odd = read_files(&odd).unwrap();
        assert!(odd.iter().all(|file| file.text.starts_with("sha256:")));
    }

    #[test]
    fn a_file_that_is_not_there_is_named_before_anything_starts() {
        let error = read_files(&[PathBuf::from("/nonexistent/file")]).unwrap_err();
        assert!(error.message.contains("/nonexistent/file"));
    }

    #[test]
    fn every_name_becomes_a_key() {
        for name in ["..", "ä/ö ü", "x".repeat(200).as_str(), ""] {
            let name = format!("{}-100", sanitised(Path::new(name)));
            assert!(check_config_key(&format!("{PREFIX}{name}")).is_ok());
            assert!(DecisionAddress::new(["tour", "observer", "bzzz", &name, "dev"]).is_ok());
        }
    }
}
