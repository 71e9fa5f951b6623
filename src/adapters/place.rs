//! Whether a file that is open is still the one at its path.
//!
//! Problem: a file that was deleted, or that another one took the place of, is written and synced
//! as if nothing had happened. What is acknowledged then is gone with the process, and a lock on
//! such a file keeps nobody out.
//!
//! What the operating system answers for lack of descriptors, of permission or of a connection says
//! nothing about that. It is no reason to give a file up at once, and the next look asks again. But
//! what is acknowledged meanwhile may be nowhere, so there is an end to it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::types::Lock;

/// How long looks may find out nothing before a file is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fails if the file at `path` is not there, or not the one that is open here. An error of the
/// operating system is passed on as it is.
fn look(path: &Path, open: &File) -> io::Result<()> {
    let (ours, found) = (open.metadata()?, fs::metadata(path)?);
    if (found.dev(), found.ino()) == (ours.dev(), ours.ino()) {
        return Ok(());
    }
    Err(io::Error::other("another file took its place while the node was running"))
}

/// What looks for something have found out so far.
#[derive(Default)]
pub(super) struct Watch {
    /// When a look first found out nothing, if none has found out anything since.
    blind_since: Mutex<Option<Instant>>,
}

impl Watch {
    /// Fails if the file at `path` is not there, or not the one that is open here, or if that could
    /// not be found out for too long.
    pub(super) fn check(&self, path: &Path, open: &File) -> io::Result<()> {
        self.judge(look(path, open), path, Instant::now())
    }

    /// What is to be made of a look at `path`.
    pub(super) fn judge(
        &self,
        looked: io::Result<()>,
        path: &Path,
        now: Instant,
    ) -> io::Result<()> {
        let mut blind_since = self.blind_since.locked();
        let Err(error) = looked else {
            *blind_since = None;
            return Ok(());
        };
        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
            let message = "it was deleted or moved away while the node was running";
            return Err(io::Error::other(message));
        }
        if error.raw_os_error().is_none() {
            return Err(error);
        }
        let since = *blind_since.get_or_insert(now);
        if now.saturating_duration_since(since) < PATIENCE {
            let path = path.display();
            tracing::debug!(%path, %error, "cannot look whether a file is in its place");
            return Ok(());
        }
        let seconds = PATIENCE.as_secs();
        let message = format!("nothing could be found out about it for {seconds} s: {error}");
        Err(io::Error::other(message))
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
        let watch = Watch::default();
        let check = |path: &Path, file: &File| watch.check(path, file);
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
    fn a_file_that_cannot_be_looked_at_is_given_up_after_a_while() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        let file = File::create(&path).unwrap();
        // Longer than any name may be.
        let nowhere = parent.path().join("x".repeat(300));
        let (watch, start) = (Watch::default(), Instant::now());
        watch.check(&nowhere, &file).unwrap();
        let judge = |path: &Path, at: Duration| watch.judge(look(path, &file), path, start + at);
        let second = Duration::from_secs(1);
        judge(&nowhere, PATIENCE - second).unwrap();
        judge(&path, PATIENCE).unwrap();
        judge(&nowhere, PATIENCE + second).unwrap();
        judge(&nowhere, PATIENCE * 2).unwrap();
        let error = judge(&nowhere, PATIENCE * 2 + second).unwrap_err().to_string();
        assert!(error.contains("found out about it for 10 s: File name too long"), "{error}");
        assert!(watch.check(&parent.path().join("other"), &file).is_err(), "it is not there");
    }
}
