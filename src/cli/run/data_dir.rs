//! The data directory: whose it is, which version wrote it, and who may look into it.
//!
//! Invariants:
//! 1. Nothing is written into a directory that holds something and is not ours.
//! 2. A directory of a newer version is not touched.
//! 3. Only its owner can look into it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use serde::{Deserialize, Serialize};

use crate::types::Wall;

/// File that says whose the directory is.
const VERSION_FILE: &str = "VERSION";
/// What stands in it, before the number.
const VERSION_TEXT: &str = "bzzz data ";
/// Version of the directory that this program reads and writes.
const VERSION: u32 = 1;
/// File with what a node says about itself.
const ABOUT_FILE: &str = "node.json";
/// Bytes of the small files here.
const LEN_MAX: usize = 4 * 1024;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Something in it cannot be read or written.
    #[error(
        "cannot {action} {path}: {error}; choose a directory that this user may write with \
         --data-dir"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// It holds something else.
    #[error(
        "the directory {0} is not empty and holds no data of bzzz; choose another one with \
         --data-dir, such as an empty directory"
    )]
    NotOurs(PathBuf),
    /// It is from a newer version.
    #[error(
        "the data directory {path} was written by a newer bzzz (data version {found}, this one \
         knows {VERSION}); run the newer version"
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A file in it makes no sense.
    #[error("the file {0} is damaged; restore it from a backup")]
    Damaged(PathBuf),
}

/// What a node says about itself, kept so that it says the same after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Display name.
    pub name: String,
    /// First start with this directory.
    pub since: Wall,
}

/// A data directory that can be used.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Makes the directory, or checks that it is ours.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let fail = |action| io_error(action, path);
        if !path.try_exists().map_err(fail("look into the data directory"))? {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(path).map_err(fail("create the data directory"))?;
        }
        let dir = Self(path.to_owned());
        let known = dir.version()?;
        if known.is_none() && !dir.is_unused()? {
            return Err(DataDirError::NotOurs(path.to_owned()));
        }
        let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::access(path, wanted)
            .map_err(|error| fail("write to the data directory")(error.into()))?;
        let metadata = fs::metadata(path).map_err(fail("look into the data directory"))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                .map_err(fail("keep others out of the data directory"))?;
        }
        if known.is_none() {
            let text = format!("{VERSION_TEXT}{VERSION}\n");
            dir.write(VERSION_FILE, text.as_bytes())?;
        }
        Ok(dir)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn version(&self) -> Result<Option<u32>, DataDirError> {
        let Some(text) = self.read(VERSION_FILE)? else { return Ok(None) };
        let number = text.trim().strip_prefix(VERSION_TEXT).and_then(|n| n.parse::<u32>().ok());
        match number {
            Some(found) if found > VERSION => {
                Err(DataDirError::Newer { path: self.0.clone(), found })
            }
            Some(found) if found > 0 => Ok(Some(found)),
            _ => Err(DataDirError::Damaged(self.0.join(VERSION_FILE))),
        }
    }

    /// True if nothing is in it but what file systems and a start that was cut short leave behind.
    fn is_unused(&self) -> Result<bool, DataDirError> {
        let fail = || io_error("look into the data directory", &self.0);
        let harmless = ["lost+found", "VERSION.new"];
        for entry in fs::read_dir(&self.0).map_err(fail())? {
            let name = entry.map_err(fail())?.file_name();
            if !harmless.iter().any(|harmless| name == *harmless) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the node says about itself; at the first start that is `fresh`.
    pub fn about(&self, fresh: About) -> Result<About, DataDirError> {
        if let Some(text) = self.read(ABOUT_FILE)? {
            let about = serde_json::from_str(&text);
            return about.map_err(|_| DataDirError::Damaged(self.0.join(ABOUT_FILE)));
        }
        let text = serde_json::to_vec(&fresh)
            .map_err(|error| io_error("write", &self.0.join(ABOUT_FILE))(error.into()))?;
        self.write(ABOUT_FILE, &text)?;
        Ok(fresh)
    }

    fn read(&self, name: &str) -> Result<Option<String>, DataDirError> {
        let path = self.0.join(name);
        match fs::read(&path) {
            Ok(bytes) if bytes.len() <= LEN_MAX => match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(DataDirError::Damaged(path)),
            },
            Ok(_) => Err(DataDirError::Damaged(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        let path = self.0.join(name);
        write_whole(&path, bytes).map_err(io_error("write", &path))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |error| DataDirError::Io { action, path, error }
}

/// Writes a file whole or not at all, also across a power cut.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(error: DataDirError) -> String {
        error.to_string()
    }

    #[test]
    fn a_fresh_directory_is_made_and_known_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(path.join("VERSION")).unwrap(), "bzzz data 1\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let dir = DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let first = About { name: "n".into(), since: Wall(1) };
        assert_eq!(dir.about(first.clone()).unwrap(), first);
        assert_eq!(dir.about(About { name: "m".into(), since: Wall(2) }).unwrap(), first);
    }

    #[test]
    fn directories_of_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let error = text(DataDir::open(dir.path()).unwrap_err());
        assert!(error.contains("not empty"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_versions_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (version, expected) in
            [("bzzz data 2\n", "newer"), ("bzzz data 0\n", "damaged"), ("hello", "damaged")]
        {
            fs::write(dir.path().join("VERSION"), version).unwrap();
            let error = text(DataDir::open(dir.path()).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
