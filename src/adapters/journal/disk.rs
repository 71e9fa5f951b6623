//! The few file operations behind a journal, and how their errors read.
//!
//! They stand behind a trait because a full or a broken disk can't be had for a test. Whatever
//! makes or replaces a file goes through a second file that is complete and synced before it is
//! renamed, so that a crash leaves the one or the other and never a part.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use crate::adapters::files::{sync_dir, write_new};
use crate::adapters::place::Watch;
use crate::types::journal::JournalError;

/// Why a file was not replaced.
pub(super) enum Replace {
    /// The old file is in place and can be written on.
    Kept(io::Error),
    /// Which of the two files a power cut would leave is not known.
    Unclear(io::Error),
}

/// The file of one journal.
pub(super) trait Disk: Send {
    /// Writes all bytes, or fails having written some.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything written and the length of the file survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
    /// Takes room for bytes behind the end without changing the length.
    fn allocate(&mut self, offset: u64, len: u64) -> io::Result<()>;
    /// Cuts the file and gives back the room behind it.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Puts another file in the place of this one and goes on with that.
    fn replace(&mut self, image: &[u8]) -> Result<(), Replace>;
    /// Fails if the file is not the one that a restart would find, or nobody can tell for too long.
    fn in_place(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A journal's file in a directory.
pub(super) struct FileDisk {
    file: File,
    dir: PathBuf,
    name: String,
    can_allocate: bool,
    watch: Watch,
}

impl FileDisk {
    /// Opens the file of the journal `name` and reads it, if it is there.
    pub(super) fn open(dir: &Path, name: &str) -> Result<Option<(Self, Vec<u8>)>, JournalError> {
        let (path, new_path) = (path(dir, name), new_path(dir, name));
        match fs::remove_file(&new_path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(refused(&new_path, &error));
            }
            _ => {}
        }
        let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| refused(&path, &error))?,
        };
        let metadata = file.metadata().map_err(|error| refused(&path, &error))?;
        if !metadata.is_file() {
            let reason = format!("{} is no regular file", path.display());
            return Err(JournalError::NotAJournal { name: name.into(), reason });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| refused(&path, &error))?;
        // The process that put the file here may not have got as far as this.
        sync_dir(dir).map_err(|error| refused(dir, &error))?;
        Ok(Some((Self::new(file, dir, name), bytes)))
    }

    /// Makes the file of the journal `name`.
    pub(super) fn create(dir: &Path, name: &str, image: &[u8]) -> Result<Self, JournalError> {
        let file = install(dir, name, image).map_err(|error| match error {
            Replace::Kept(error) | Replace::Unclear(error) => refused(&path(dir, name), &error),
        })?;
        Ok(Self::new(file, dir, name))
    }

    fn new(file: File, dir: &Path, name: &str) -> Self {
        let (dir, name, watch) = (dir.to_owned(), name.to_owned(), Watch::default());
        Self { file, dir, name, can_allocate: true, watch }
    }
}

impl Disk for FileDisk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&mut self, offset: u64, len: u64) -> io::Result<()> {
        if !self.can_allocate {
            return Ok(());
        }
        let allocate = || rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, offset, len);
        match rustix::io::retry_on_intr(allocate) {
            // Not every file system can. It only saves trouble, so do without.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.can_allocate = false,
            other => other?,
        }
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn replace(&mut self, image: &[u8]) -> Result<(), Replace> {
        self.file = install(&self.dir, &self.name, image)?;
        Ok(())
    }

    fn in_place(&self) -> io::Result<()> {
        self.watch.check(&path(&self.dir, &self.name), &self.file)
    }
}

/// Writes a complete file beside the journal's and renames it over that.
fn install(dir: &Path, name: &str, image: &[u8]) -> Result<File, Replace> {
    let (path, new_path) = (path(dir, name), new_path(dir, name));
    let file = write_new(&new_path, image).map_err(|error| {
        // Frees the room; what stays is removed when the journal is opened again.
        let _ = fs::remove_file(&new_path);
        Replace::Kept(error)
    })?;
    fs::rename(&new_path, &path).map_err(|error| {
        if is_full(&error) { Replace::Kept(error) } else { Replace::Unclear(error) }
    })?;
    sync_dir(dir).map_err(Replace::Unclear)?;
    Ok(file)
}

/// The file of the journal `name`.
pub(super) fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.journal"))
}

/// The file that takes its place next.
fn new_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.journal.new"))
}

/// Makes a directory, and those above it, so that they survive a power cut.
pub(super) fn create_dir(dir: &Path) -> Result<(), JournalError> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    create_dir(parent)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(refused(dir, &error)),
        _ => {}
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    sync_dir(parent).map_err(|error| refused(parent, &error))
}

/// The file that keeps other processes out.
pub(super) fn lock_path(dir: &Path) -> PathBuf {
    dir.join("lock")
}

/// Keeps other processes out of `dir` as long as the file that it returns is open.
pub(super) fn lock_dir(dir: &Path) -> Result<File, JournalError> {
    let path = lock_path(dir);
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| refused(&path, &error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = (&mut file).take(20).read_to_string(&mut pid);
            let pid = pid.trim().parse().ok();
            return Err(JournalError::Locked { path: dir.display().to_string(), pid });
        }
        other => other.map_err(|error| refused(&path, &error.into()))?,
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| refused(&path, &error))?;
    Ok(file)
}

/// An id that no other file has.
pub(super) fn random_id() -> Result<[u8; 16], JournalError> {
    let path = Path::new("/dev/urandom");
    let mut id = [0; 16];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut id))
        .map_err(|error| refused(path, &error))?;
    Ok(id)
}

/// True if an operation failed for lack of room, which may come back.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The error for an operation on `path` that the operating system refused.
pub(super) fn refused(path: &Path, error: &io::Error) -> JournalError {
    let (path, message) = (path.display().to_string(), error.to_string());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => JournalError::Full { what: path },
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            JournalError::ReadOnly { path, message }
        }
        _ => JournalError::Io { what: path, message },
    }
}
