//! The directory that a development cluster lives in.
//!
//! A directory of its own for each run, readable by its owner alone, removed at the end unless it
//! is to be kept. An existing one with something in it is refused: what is in there is somebody's.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cli::error::CliError;

/// Names that are tried for a temporary directory.
const ATTEMPTS: u32 = 16;

/// The directory of one run.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    keep: bool,
}

impl WorkDir {
    /// Makes the directory `keep`, which stays, or a temporary one below `base`.
    pub fn make(keep: Option<&Path>, base: Option<&Path>) -> Result<Self, CliError> {
        let fail = |path: &Path, error: io::Error| {
            CliError::failure(format!("cannot make the directory {}: {error}", path.display()))
        };
        if let Some(path) = keep {
            make(path, true).map_err(|error| fail(path, error))?;
            let path = path.canonicalize().map_err(|error| fail(path, error))?;
            let mut entries = path.read_dir().map_err(|error| fail(&path, error))?;
            if entries.next().is_some() {
                let shown = path.display();
                return Err(CliError::usage(format!("the directory {shown} is not empty"))
                    .hint("name a new directory with --keep, or remove what is in this one"));
            }
            return Ok(Self { path, keep: true });
        }
        let base = base.map_or_else(std::env::temp_dir, Path::to_owned);
        let base = base.canonicalize().map_err(|error| fail(&base, error))?;
        for attempt in 0..ATTEMPTS {
            let path = base.join(temporary_name(attempt));
            match make(&path, false) {
                Ok(()) => return Ok(Self { path, keep: false }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(fail(&path, error)),
            }
        }
        Err(CliError::failure(format!("found no free name for a directory in {}", base.display())))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the directory, because there is something to look at in it.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// True if the directory will stay.
    pub fn is_kept(&self) -> bool {
        self.keep
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is in a temporary directory, which the system clears.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn make(path: &Path, parents: bool) -> io::Result<()> {
    DirBuilder::new().recursive(parents).mode(0o700).create(path)
}

/// A name that no other run has, or is very unlikely to have.
fn temporary_name(attempt: u32) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("bzzz-dev-{}-{:08x}", std::process::id(), now.subsec_nanos() ^ attempt)
}

/// Makes a directory that only its owner can look into.
pub fn private_dir(path: &Path) -> Result<(), CliError> {
    make(path, true).map_err(|error| {
        CliError::failure(format!("cannot make the directory {}: {error}", path.display()))
    })
}

/// Writes a new file that only its owner can read.
pub fn private_file(path: &Path, content: &str) -> Result<(), CliError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|error| CliError::failure(format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_temporary_directory_goes_and_a_kept_one_stays() {
        let base = tempfile::tempdir().unwrap();
        let work = WorkDir::make(None, Some(base.path())).unwrap();
        let path = work.path().to_owned();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        private_file(&path.join("secret"), "x").unwrap();
        let mode = path.join("secret").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(work);
        assert!(!path.exists());

        let kept = base.path().join("kept");
        drop(WorkDir::make(Some(&kept), None).unwrap());
        assert!(kept.exists());
    }

    #[test]
    fn a_directory_with_something_in_it_is_refused() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("thing"), "x").unwrap();
        let error = WorkDir::make(Some(base.path()), None).unwrap_err();
        assert!(error.message.contains("not empty") && error.hint.is_some());
        assert!(base.path().join("thing").exists());
    }
}
