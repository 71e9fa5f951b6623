//! Whether the files of a store that is open are still those in its directory.
//!
//! The library goes on writing to files that were deleted. Two things are looked at before anything
//! is acknowledged: the file `version`, which shows that the directory is the same, and, once a
//! second, the journals, of which the library says how many there are.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adapters::place::Watch;

/// How often the journals are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often they are looked for again before one is missed: the library may just be changing them.
const LOOKS: usize = 5;

/// The directory of an open store.
#[derive(Clone)]
pub(super) struct Home {
    path: PathBuf,
    version: Arc<File>,
    watch: Arc<Watch>,
}

impl Home {
    /// Of the store in this directory.
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let path = dir.join("version");
        let version = Arc::new(File::open(&path)?);
        Ok(Self { path, version, watch: Arc::default() })
    }

    /// Fails if the directory was deleted or replaced, or could not be looked at for too long.
    pub(super) fn check(&self) -> io::Result<()> {
        self.watch.check(&self.path, &self.version)
    }
}

/// The number of a journal.
fn number(name: &OsStr) -> Option<u64> {
    Path::new(name).file_stem()?.to_str()?.parse().ok()
}

/// The journals of an open store.
pub(super) struct Journals {
    dir: PathBuf,
    /// Names and inodes of those that were seen last.
    known: BTreeMap<OsString, u64>,
    looked_at: Option<Instant>,
    watch: Watch,
}

impl Journals {
    /// Of the store in this directory.
    pub(super) fn of(dir: &Path) -> Self {
        let (known, watch) = (BTreeMap::new(), Watch::default());
        Self { dir: dir.to_owned(), known, looked_at: None, watch }
    }

    /// Fails if one was deleted or replaced, or they could not be looked for for too long. The
    /// library says how many there have to be.
    pub(super) fn check(&mut self, count: impl Fn() -> usize) -> io::Result<()> {
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        let now = Instant::now();
        self.looked_at = Some(now);
        for _ in 0..LOOKS {
            let before = count();
            let found = match self.find() {
                Ok(found) => found,
                // Not at once for good, as with descriptors that are all in use: the next commit
                // looks.
                Err(error) => {
                    self.looked_at = None;
                    return self.watch.judge(Err(error), &self.dir, now);
                }
            };
            self.watch.judge(Ok(()), &self.dir, now)?;
            // The others are not written to any more.
            let newest = found.iter().max_by_key(|(name, _)| number(name));
            let is_other = |(name, inode): (&OsString, &u64)| {
                self.known.get(name).is_some_and(|known| known != inode)
            };
            if newest.is_some_and(is_other) {
                return Err(io::Error::other("another file took the place of one of its journals"));
            }
            if found.len() >= before.min(count()) {
                self.known = found;
                return Ok(());
            }
        }
        Err(io::Error::other("one of its journals was deleted or moved away"))
    }

    fn find(&self) -> io::Result<BTreeMap<OsString, u64>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if Path::new(&name).extension().is_none_or(|extension| extension != "jnl") {
                continue;
            }
            match entry.metadata() {
                Ok(metadata) => {
                    found.insert(name, metadata.ino());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(journals: &mut Journals, count: usize) -> io::Result<()> {
        journals.looked_at = None;
        journals.check(|| count)
    }

    #[test]
    fn journals_come_and_go_but_none_is_missing_or_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("0.jnl"), "").unwrap();
        fs::write(path("version"), "").unwrap();
        let mut journals = Journals::of(dir.path());
        look(&mut journals, 1).unwrap();
        fs::write(path("1.jnl"), "").unwrap();
        look(&mut journals, 2).unwrap();
        fs::remove_file(path("0.jnl")).unwrap();
        look(&mut journals, 1).unwrap();
        assert!(look(&mut journals, 2).unwrap_err().to_string().contains("deleted"));
        fs::rename(path("1.jnl"), path("kept")).unwrap();
        fs::copy(path("kept"), path("1.jnl")).unwrap();
        assert!(look(&mut journals, 1).unwrap_err().to_string().contains("another file"));
    }

    #[test]
    fn journals_that_cannot_be_looked_for_are_looked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than any name may be.
        let mut journals = Journals::of(&dir.path().join("x".repeat(300)));
        look(&mut journals, 1).unwrap();
        assert!(journals.looked_at.is_none(), "the next commit does");
        let mut journals = Journals::of(&dir.path().join("gone"));
        assert!(look(&mut journals, 1).is_err());
    }

    #[test]
    fn only_the_newest_journal_has_to_be_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["9.jnl", "10.jnl"] {
            fs::write(path(name), "").unwrap();
        }
        let mut journals = Journals::of(dir.path());
        look(&mut journals, 2).unwrap();
        for (name, is_missed) in [("9.jnl", false), ("10.jnl", true)] {
            fs::rename(path(name), path("kept")).unwrap();
            fs::copy(path("kept"), path(name)).unwrap();
            assert_eq!(look(&mut journals, 2).is_err(), is_missed, "{name}");
        }
    }

    #[test]
    fn a_directory_that_was_replaced_is_another_one() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("records");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("version"), "").unwrap();
        let home = Home::of(&dir).unwrap();
        home.check().unwrap();
        fs::rename(&dir, parent.path().join("kept")).unwrap();
        assert!(home.check().is_err());
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("version"), "").unwrap();
        assert!(home.check().is_err());
    }
}
