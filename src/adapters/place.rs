//! Whether a file that is open is still the one at its path.
//!
//! Problem: a file that was deleted, or that another one took the place of, is written and synced
//! as if nothing had happened. What is acknowledged then is gone with the process, and a lock on
//! such a file keeps nobody out.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Fails unless the file at `path` is the one that is open here.
pub(super) fn check(path: &Path, open: &File) -> io::Result<()> {
    let ours = open.metadata()?;
    match fs::metadata(path) {
        Ok(found) if (found.dev(), found.ino()) == (ours.dev(), ours.ino()) => Ok(()),
        Ok(_) => Err(io::Error::other("another file took its place while the node was running")),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(io::Error::other("it was deleted or moved away while the node was running"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_deleted_moved_or_replaced_is_missed() {
        let parent = tempfile::tempdir().unwrap();
        let (dir, path) = (parent.path().join("a"), parent.path().join("a/file"));
        fs::create_dir(&dir).unwrap();
        let file = File::create(&path).unwrap();
        check(&path, &file).unwrap();
        fs::write(&path, "more").unwrap();
        check(&path, &file).unwrap();

        fs::rename(&dir, parent.path().join("b")).unwrap();
        assert!(check(&path, &file).unwrap_err().to_string().contains("moved away"));
        fs::create_dir(&dir).unwrap();
        fs::copy(parent.path().join("b/file"), &path).unwrap();
        assert!(check(&path, &file).unwrap_err().to_string().contains("took its place"));
        fs::remove_dir_all(&dir).unwrap();
        fs::write(&dir, "").unwrap();
        assert!(check(&path, &file).unwrap_err().to_string().contains("deleted"));
    }
}
