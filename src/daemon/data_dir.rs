//! The data directory: whose it is, which version wrote it, and who may look into it.
//!
//! Invariants:
//! 1. Nothing is written into a directory that holds something and is not ours.
//! 2. A directory of a newer version is not touched.
//! 3. Only its owner can look into it.
//! 4. What can be made anew (whose it is, what the node is called) is, with a word; nothing else.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use serde::{Deserialize, Serialize};

use crate::adapters::files;
use crate::adapters::vault::KEY_FILE;
use crate::http::api::TOKEN_FILE;
use crate::types::Wall;
use crate::types::journal::MAGIC;

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
/// Journal of a node's own values: it tells whose a directory is, too.
const STORE_FILE: &str = "store.journal";
/// What the directories of former members are called, before the time.
const FORMER: &str = "former-";

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
         knows {VERSION}); run the newer version, or if there never was one, correct the file \
         VERSION in it, which has to say `{VERSION_TEXT}{VERSION}`"
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

/// What the file says that says whose a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// It is not there.
    Nothing,
    /// It makes no sense.
    Nonsense,
    /// It is of this version, or an older one.
    Known,
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
        let written = dir.version()?;
        let is_unused = written == Written::Nothing && dir.is_unused()?;
        // A journal is as good a witness.
        let is_ours = written == Written::Known || is_unused || dir.holds_a_node()?;
        match written {
            _ if is_ours => {}
            Written::Nonsense => return Err(DataDirError::Damaged(path.join(VERSION_FILE))),
            _ => return Err(DataDirError::NotOurs(path.to_owned())),
        }
        let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::access(path, wanted)
            .map_err(|error| fail("write to the data directory")(error.into()))?;
        let metadata = fs::metadata(path).map_err(fail("look into the data directory"))?;
        if metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                .map_err(fail("keep others out of the data directory"))?;
        }
        if written != Written::Known {
            if !is_unused {
                let file = path.join(VERSION_FILE);
                tracing::warn!(file = %file.display(), "made a damaged or missing file anew");
            }
            let text = format!("{VERSION_TEXT}{VERSION}\n");
            dir.write(VERSION_FILE, text.as_bytes())?;
        }
        Ok(dir)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn version(&self) -> Result<Written, DataDirError> {
        let text = match self.read(VERSION_FILE) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(Written::Nothing),
            Err(DataDirError::Damaged(_)) => return Ok(Written::Nonsense),
            Err(error) => return Err(error),
        };
        let number = text.trim().strip_prefix(VERSION_TEXT).and_then(|n| n.parse::<u32>().ok());
        match number {
            Some(found) if found > VERSION => {
                Err(DataDirError::Newer { path: self.0.clone(), found })
            }
            Some(found) if found > 0 => Ok(Written::Known),
            _ => Ok(Written::Nonsense),
        }
    }

    /// True if a node has kept its values here.
    fn holds_a_node(&self) -> Result<bool, DataDirError> {
        let path = self.0.join(STORE_FILE);
        let mut begins = [0; MAGIC.len()];
        match File::open(&path).and_then(|mut file| file.read_exact(&mut begins)) {
            Ok(()) => Ok(begins == *MAGIC),
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::UnexpectedEof => Ok(false),
                _ => Err(io_error("read", &path)(error)),
            },
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

    /// What the node says about itself; at the first start that is `fresh`, and if what it has said
    /// is gone (`expected`) or damaged.
    pub fn about(&self, fresh: About, expected: bool) -> Result<About, DataDirError> {
        let (text, is_damaged) = match self.read(ABOUT_FILE) {
            Err(DataDirError::Damaged(_)) => (None, true),
            read => (read?, false),
        };
        let known = text.as_deref().map(serde_json::from_str::<About>);
        let is_damaged = is_damaged || matches!(known, Some(Err(_)));
        if let Some(Ok(about)) = known {
            return Ok(about);
        }
        if expected || is_damaged {
            let (file, name) = (self.0.join(ABOUT_FILE), &fresh.name);
            tracing::warn!(file = %file.display(), name, "made a damaged or missing file anew");
        }
        let text = serde_json::to_vec(&fresh)
            .map_err(|error| io_error("write", &self.0.join(ABOUT_FILE))(error.into()))?;
        self.write(ABOUT_FILE, &text)?;
        Ok(fresh)
    }

    /// Moves whatever belongs to a member that the node is not any more into a directory of its
    /// own, which it returns. No journal may be open.
    pub fn set_aside(&self, now: Wall) -> Result<PathBuf, DataDirError> {
        let stays = [VERSION_FILE, "lock", TOKEN_FILE, "lost+found"];
        let former = self.0.join(format!("{FORMER}{}", now.stamp()));
        DirBuilder::new().mode(0o700).create(&former).map_err(io_error("create", &former))?;
        let fail = || io_error("look into the data directory", &self.0);
        for entry in fs::read_dir(&self.0).map_err(fail())? {
            let name = entry.map_err(fail())?.file_name();
            let is_former = name.to_str().is_some_and(|name| name.starts_with(FORMER));
            if is_former || stays.iter().any(|stays| name == *stays) {
                continue;
            }
            let path = self.0.join(&name);
            fs::rename(&path, former.join(&name)).map_err(io_error("move away", &path))?;
        }
        files::sync_dir(&former).map_err(io_error("sync", &former))?;
        files::sync_dir(&self.0).map_err(io_error("sync", &self.0))?;
        Ok(former)
    }

    /// Where the node's key is.
    pub fn key(&self) -> PathBuf {
        self.0.join(KEY_FILE)
    }

    fn read(&self, name: &str) -> Result<Option<String>, DataDirError> {
        let path = self.0.join(name);
        match fs::read(&path) {
            Ok(bytes) if bytes.len() <= LEN_MAX => match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(DataDirError::Damaged(path)),
            },
            Ok(_) => Err(DataDirError::Damaged(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        let path = self.0.join(name);
        files::replace(&path, bytes).map(drop).map_err(io_error("write", &path))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |error| DataDirError::Io { action, path, error }
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
        assert_eq!(dir.about(first.clone(), false).unwrap(), first);
        let other = About { name: "m".into(), since: Wall(2) };
        assert_eq!(dir.about(other.clone(), true).unwrap(), first);

        // A name can be made anew.
        let file = path.join("node.json");
        let whole = fs::read(&file).unwrap();
        for damage in [&b""[..], &whole[..whole.len() / 2], b"something else", &[0xff; 9]] {
            fs::write(&file, damage).unwrap();
            assert_eq!(dir.about(other.clone(), true).unwrap(), other);
            fs::write(&file, &whole).unwrap();
            assert_eq!(dir.about(other.clone(), true).unwrap(), first);
        }
        fs::remove_file(&file).unwrap();
        assert_eq!(dir.about(other.clone(), true).unwrap(), other);
    }

    #[test]
    fn a_journal_tells_whose_the_directory_is_if_the_file_that_says_so_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let version = dir.path().join("VERSION");
        fs::write(dir.path().join("store.journal"), b"BZZZjrn\n and more").unwrap();
        for damage in [&b""[..], b"bzzz ", b"bzzz data 0\n", &[0xff; 9]] {
            DataDir::open(dir.path()).unwrap();
            assert_eq!(fs::read_to_string(&version).unwrap(), "bzzz data 1\n");
            fs::write(&version, damage).unwrap();
            DataDir::open(dir.path()).unwrap();
            assert_eq!(fs::read_to_string(&version).unwrap(), "bzzz data 1\n");
        }
        fs::write(&version, "bzzz data 3\n").unwrap();
        let error = text(DataDir::open(dir.path()).unwrap_err());
        assert!(error.contains("newer") && error.contains("`bzzz data 1`"), "{error}");

        fs::remove_file(&version).unwrap();
        fs::write(dir.path().join("store.journal"), "BZZZ").unwrap();
        let error = text(DataDir::open(dir.path()).unwrap_err());
        assert!(error.contains("holds no data of bzzz"), "{error}");
    }

    #[test]
    fn what_a_former_member_had_is_moved_away_whole() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        let path = |name: &str| parent.path().join(name);
        for name in ["store.journal", "api.token", "lock", "records.mark"] {
            fs::write(path(name), name).unwrap();
        }
        fs::create_dir_all(path("records/keyspaces")).unwrap();
        let former = dir.set_aside(Wall(1_754_842_940_007)).unwrap();
        assert_eq!(former, path("former-20250810T162220Z"));
        let names = |dir: &Path| -> Vec<String> {
            let entries = fs::read_dir(dir).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        assert_eq!(names(&former), ["records", "records.mark", "store.journal"]);
        assert!(former.join("records/keyspaces").exists());
        let stays = ["VERSION", "api.token", "former-20250810T162220Z", "lock"];
        assert_eq!(names(parent.path()), stays);
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
