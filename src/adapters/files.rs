//! Files that are there whole or not at all, also after a power cut.
//!
//! A file is written under another name, synced, renamed to its own, and then the directory is
//! synced: until that is done, a power cut may bring back what was there before.
//!
//! Invariants:
//!
//! 1. Whoever reads the file sees the old bytes or the new ones.
//! 2. Nobody but the owner can read it, from its first byte on.
//! 3. What was left behind by a write that was cut short is in nobody's way, and nothing is written
//!    through a link that somebody laid there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Puts these bytes in the place of a file, which need not be there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let temporary = temporary(path);
    let written = write_new(&temporary, bytes);
    let renamed = written.and_then(|file| fs::rename(&temporary, path).map(|()| file));
    let file = renamed.inspect_err(|_| {
        // Frees the room on a full disk; the next one that writes would do it as well.
        let _ = fs::remove_file(&temporary);
    })?;
    sync_parent(path)?;
    Ok(file)
}

/// Writes a file that has this name from the start, and syncs it; its directory is left to the
/// caller. It can be read through the handle.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Makes what has happened in a directory survive a power cut.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The same of the directory that a file is in.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_dir(parent.unwrap_or(Path::new(".")))
}

/// The name under which a file is written.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_for_its_owner_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for bytes in [&b"one"[..], b"", b"another one"] {
            replace(&path, bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_left_behind_is_in_nobodys_way_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("file"), dir.path().join("elsewhere"));
        fs::write(temporary(&path), "half").unwrap();
        replace(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        fs::write(&elsewhere, "of somebody").unwrap();
        symlink(&elsewhere, temporary(&path)).unwrap();
        replace(&path, b"secret").unwrap();
        assert_eq!(fs::read(&elsewhere).unwrap(), b"of somebody");
        assert_eq!(fs::read(&path).unwrap(), b"secret");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[test]
    fn what_fails_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        // A directory that holds something can't be replaced by a file.
        fs::create_dir_all(path.join("inside")).unwrap();
        assert!(replace(&path, b"new").is_err());
        assert!(path.join("inside").is_dir() && !temporary(&path).exists());
        assert!(replace(&dir.path().join("no/such/place"), b"new").is_err());
    }
}
