//! The socket in the data directory: the way in for the operator of this machine.
//!
//! Whoever may open it is the user that the node runs as, or root, and both can read the token
//! anyway; so none is asked for. It has places of its own: commands get in whatever goes on at
//! the port.
//!
//! Invariants:
//! 1. Only its owner can open it, and who opens it is looked at once more.
//! 2. Nothing that is no socket is removed or followed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use crate::http::api::{SOCKET_FILE, SOCKET_PATH_LEN_MAX};

/// Why there is no socket. The node goes on without it, as the port does the same.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The system has no room for such a path.
    #[error(
        "its path {0} has more than {SOCKET_PATH_LEN_MAX} bytes; commands on this machine go \
         through the port, or choose a shorter --data-dir"
    )]
    PathTooLong(PathBuf),
    /// Something else stands there.
    #[error("{0} is no socket; move it away and restart the node")]
    InTheWay(PathBuf),
    /// The system refuses.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

/// The socket, bound and not served yet.
pub struct LocalSocket {
    /// Where connections come in.
    pub listener: UnixListener,
    /// Its file.
    pub file: SocketFile,
}

impl LocalSocket {
    /// Makes the socket in the data directory `dir`, which has to be locked: one of an earlier
    /// process is removed.
    pub fn bind(dir: &Path) -> Result<Self, LocalError> {
        let path = dir.join(SOCKET_FILE);
        let fail = |action| {
            let path = path.clone();
            move |error| LocalError::Io { action, path, error }
        };
        if path.as_os_str().len() > SOCKET_PATH_LEN_MAX {
            return Err(LocalError::PathTooLong(path));
        }
        match fs::symlink_metadata(&path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(LocalError::InTheWay(path));
            }
            Ok(_) => fs::remove_file(&path).map_err(fail("remove"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail("look at")(error)),
        }
        let listener = UnixListener::bind(&path).map_err(fail("make"))?;
        let file = SocketFile(path.clone());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .map_err(fail("keep others out of"))?;
        listener.set_nonblocking(true).map_err(fail("make"))?;
        Ok(Self { listener, file })
    }
}

/// The file of the socket, which goes when this is dropped.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_socket = |found: fs::Metadata| found.file_type().is_socket();
        if fs::symlink_metadata(&self.0).is_ok_and(is_socket) {
            // One that stays is removed by the next start.
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// True if the other end is the user of this process, or root.
pub fn is_operator(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|other| other.uid() == own || other.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_for_its_owner_alone_and_goes_with_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET_FILE);
        let socket = LocalSocket::bind(dir.path()).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // One that a process left that was killed.
        std::mem::forget(socket.file);
        drop(socket.listener);
        assert!(path.exists());
        let socket = LocalSocket::bind(dir.path()).unwrap();
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET_FILE);
        let target = dir.path().join("target");
        let target_socket = UnixListener::bind(&target).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(matches!(LocalSocket::bind(dir.path()), Err(LocalError::InTheWay(_))));
        assert!(target.exists() && fs::symlink_metadata(&path).unwrap().is_symlink());
        drop(target_socket);

        fs::remove_file(&path).unwrap();
        fs::write(&path, "kept").unwrap();
        let error = LocalSocket::bind(dir.path()).err().unwrap().to_string();
        assert!(error.contains("move it away"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    }

    #[test]
    fn a_path_that_is_too_long_is_no_reason_to_fail() {
        let dir = tempfile::tempdir().unwrap();
        let room = SOCKET_PATH_LEN_MAX - dir.path().as_os_str().len() - SOCKET_FILE.len() - 2;
        let fits = dir.path().join("x".repeat(room));
        fs::create_dir(&fits).unwrap();
        LocalSocket::bind(&fits).unwrap();
        let long = dir.path().join("x".repeat(room + 1));
        fs::create_dir(&long).unwrap();
        assert!(matches!(LocalSocket::bind(&long), Err(LocalError::PathTooLong(_))));
    }
}
