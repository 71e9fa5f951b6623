//! The token of the API: a secret in a file of the data directory.
//!
//! Whoever can read the file may use the API; that is the same user, or root. The token is made
//! at the first start, or when the file is gone or holds none, and never printed.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::api::TOKEN_FILE;
use crate::adapters::files;
use crate::types::Lock;

/// Bytes of a token file at most; a token takes 43 and a line end.
const LEN_MAX: u64 = 256;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The file cannot be read or written.
    #[error("cannot {action} the API token {path}: {error}; check the data directory")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// Others than the owner can read the file.
    #[error(
        "others can read the API token {path} (mode {mode:04o}); delete the file, and the next \
         start makes a new token"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// The token, of which the server keeps a hash only.
#[derive(Clone)]
pub struct ApiToken {
    /// Shared by all clones, so that a token that is read again holds everywhere.
    hash: Arc<Mutex<blake3::Hash>>,
    path: PathBuf,
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiToken({})", self.path.display())
    }
}

impl ApiToken {
    /// Reads the token in the data directory `dir`, or makes one out of `fresh` if there is none.
    pub fn load_or_create(dir: &Path, fresh: [u8; 32]) -> Result<Self, TokenFileError> {
        let path = dir.join(TOKEN_FILE);
        let fail = |action| {
            let path = path.clone();
            move |error| TokenFileError::Io { action, path, error }
        };
        let text = match fs::File::open(&path) {
            Ok(file) => {
                let metadata = file.metadata().map_err(fail("read"))?;
                let mode = metadata.permissions().mode() & 0o7777;
                if mode & 0o077 != 0 {
                    return Err(TokenFileError::Permissions { path, mode });
                }
                let mut bytes = Vec::new();
                file.take(LEN_MAX).read_to_end(&mut bytes).map_err(fail("read"))?;
                let text = String::from_utf8_lossy(&bytes).trim().to_owned();
                if is_token(&text) {
                    text
                } else {
                    let token = path.display();
                    tracing::warn!(%token, "the API token was damaged; a new one was made");
                    let text = data_encoding::BASE64URL_NOPAD.encode(&fresh);
                    files::replace(&path, format!("{text}\n").as_bytes())
                        .map_err(fail("create"))?;
                    text
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = data_encoding::BASE64URL_NOPAD.encode(&fresh);
                files::replace(&path, format!("{text}\n").as_bytes()).map_err(fail("create"))?;
                text
            }
            Err(error) => return Err(fail("open")(error)),
        };
        Ok(Self { hash: Arc::new(Mutex::new(blake3::hash(text.as_bytes()))), path })
    }

    /// Where the token is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again, or makes one out of `fresh` where it is gone. After an error the old
    /// token goes on.
    pub fn reload(&self, fresh: [u8; 32]) -> Result<(), TokenFileError> {
        let read = Self::load_or_create(self.path.parent().unwrap_or(Path::new(".")), fresh)?;
        *self.lock() = *read.lock();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, blake3::Hash> {
        self.hash.locked()
    }

    /// True if `text` is the token. Takes the same time wherever the two differ: hashes are
    /// compared, and their comparison is constant in time.
    pub fn is(&self, text: &[u8]) -> bool {
        blake3::hash(text) == *self.lock()
    }
}

fn is_token(text: &str) -> bool {
    let decoded = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes());
    decoded.is_ok_and(|bytes| bytes.len() == 32)
}

#[cfg(test)]
impl ApiToken {
    /// A token that nobody knows.
    pub fn for_test() -> Self {
        Self { hash: Arc::new(Mutex::new(blake3::hash(b"test"))), path: PathBuf::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_survives_a_restart_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = ApiToken::load_or_create(dir.path(), [7; 32]).unwrap();
        let text = fs::read_to_string(first.path()).unwrap();
        assert!(first.is(text.trim().as_bytes()));
        assert!(!first.is(b"") && !first.is(text.as_bytes()));
        let second = ApiToken::load_or_create(dir.path(), [8; 32]).unwrap();
        assert!(second.is(text.trim().as_bytes()));
        assert!(!format!("{second:?}").contains(text.trim()));

        fs::set_permissions(first.path(), fs::Permissions::from_mode(0o640)).unwrap();
        let error = ApiToken::load_or_create(dir.path(), [8; 32]).unwrap_err();
        assert!(error.to_string().contains("0640"), "{error}");
    }

    #[test]
    fn a_damaged_token_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TOKEN_FILE);
        let first = ApiToken::load_or_create(dir.path(), [7; 32]).unwrap();
        let whole = fs::read(&path).unwrap();
        for damage in [&b"not-a-token"[..], b"", &whole[..20], &[0xff; 44]] {
            fs::write(&path, damage).unwrap();
            let made = ApiToken::load_or_create(dir.path(), [8; 32]).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            assert!(made.is(text.trim().as_bytes()) && !first.is(text.trim().as_bytes()));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
