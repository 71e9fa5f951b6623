//! What can be wrong with a record store, in words.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Stores that were found damaged and are kept beside the one in use, at most.
pub(super) const ASIDE_MAX: usize = 3;

/// What is wrong with a record store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// There is none where there was one.
    #[error("it is gone")]
    Gone,
    /// A file that leads to others has changed.
    #[error("its file {0} has changed since it was written")]
    Directory(String),
    /// A file that others lead to is not there.
    #[error("its file {0} is missing")]
    Missing(String),
    /// A file with records has changed.
    #[error("its file {0} has changed since it was written")]
    Changed(String),
    /// Writes at its end are missing.
    #[error("it ends with batch {found} of writes, and {acknowledged} were acknowledged")]
    Behind {
        /// Number of the last batch that is there.
        found: u64,
        /// Number of the last one that was acknowledged.
        acknowledged: u64,
    },
    /// Somebody took its journals away.
    #[error("its journals are missing")]
    Journals,
    /// Writes before its end are missing.
    #[error("writes before its end are missing")]
    Gap,
    /// It can't be opened.
    #[error("it can't be opened: {0}")]
    Unopenable(String),
    /// An earlier start found it damaged, and did not get to the end of mending it.
    #[error(
        "an earlier start found it damaged and was cut short, as the file beside it whose name \
         ends with .incomplete says"
    )]
    Unfinished,
}

/// True if files that are damaged or missing can be the reason for this. Places that a damaged file
/// names may be invalid, too.
pub(super) fn is_of_files(error: &io::Error) -> bool {
    let reasons = [Errno::NOENT, Errno::IO, Errno::INVAL, Errno::OVERFLOW];
    error.raw_os_error().is_none_or(|code| reasons.iter().any(|it| it.raw_os_error() == code))
}

/// Why the record store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// It is damaged, and nobody else has a copy.
    #[error(
        "the record store {dir} is damaged: {damage}; this node is the only member, so there is \
         no other copy: put the files back if you have them, or start the node once with \
         --accept-lost-records, which keeps what can still be read, gives the rest up, and leaves \
         what was found beside it"
    )]
    Lost {
        /// Its directory.
        dir: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// It is damaged, and there is no place to keep it.
    #[error(
        "the record store {dir} is damaged: {damage}; {ASIDE_MAX} that were found damaged before \
         are kept beside it: look into {dir}.damaged-*, delete those that nobody needs, and start \
         the node again"
    )]
    TooMany {
        /// Its directory.
        dir: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// It is damaged, and can't be moved aside.
    #[error(
        "the record store {dir} is damaged: {damage}; what is found damaged is kept beside it, and \
         this one can't be moved as it is a mount point or a symbolic link: put what it holds into \
         a plain directory of this name, or mount the whole data directory instead, and start the \
         node again"
    )]
    Mounted {
        /// Its directory.
        dir: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// The operating system refused something.
    #[error(
        "cannot {action} {path}: {error}; look into the disk and the data directory, then start \
         the node again"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// A new store can't be made.
    #[error(
        "cannot make the record store {dir}: {reason}; look into the disk and the data directory, \
         then start the node again"
    )]
    Make {
        /// Its directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Something that the library would stumble over, and that somebody else has put there.
pub(super) fn foreign(path: &Path) -> io::Error {
    let path = path.display();
    io::Error::other(format!("{path} does not belong to the record store; move it away"))
}

/// Names what was refused.
pub(super) fn refused(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordsError {
    let path = path.to_owned();
    move |error| RecordsError::Io { action, path, error }
}
