//! Whether a file that is open is still the one at its path.
//!
//! Problem: a file that was deleted, or that another one took the place of, is written and synced
//! as if nothing had happened. What is acknowledged then is gone with the process, and a lock on
//! such a file keeps nobody out.
//!
//! What the operating system answers for lack of descriptors, of permission or of a connection says
//! nothing about that. It is no reason to give a file up, and the next look asks again.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// True if this says that something is not there, and not that it could not be looked at.
pub(super) fn says_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Fails if the file at `path` is not there, or not the one that is open here.
pub(super) fn check(path: &Path, open: &File) -> io::Result<()> {
    let ours = match open.metadata() {
        Ok(ours) => ours,
        Err(error) => {
            note_unknown(path, &error);
            return Ok(());
        }
    };
    match fs::metadata(path) {
        Ok(found) if (found.dev(), found.ino()) == (ours.dev(), ours.ino()) => Ok(()),
        Ok(_) => Err(io::Error::other("another file took its place while the node was running")),
        Err(error) if says_gone(&error) => {
            Err(io::Error::other("it was deleted or moved away while the node was running"))
        }
        Err(error) => {
            note_unknown(path, &error);
            Ok(())
        }
    }
}

fn note_unknown(path: &Path, error: &io::Error) {
    tracing::debug!(path = %path.display(), %error, "cannot look whether a file is in its place");
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

    #[test]
    fn a_file_that_cannot_be_looked_at_is_not_given_up() {
        let parent = tempfile::tempdir().unwrap();
        let file = File::create(parent.path().join("file")).unwrap();
        // Longer than any name may be.
        check(&parent.path().join("x".repeat(300)), &file).unwrap();
        assert!(check(&parent.path().join("other"), &file).is_err());
    }
}
