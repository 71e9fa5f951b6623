//! Journals on files: group commit, and what happens when the disk is full or broken.
//!
//! An fsync takes milliseconds, and several actors wait for the same disk. Each journal therefore
//! has one writer thread that takes all requests that wait, writes them with one call, syncs once
//! and then runs their completions. The format is `types::journal`.
//!
//! Invariants:
//! 1. A completion runs exactly once, in the order of the requests, and with `Ok` only after the
//!    sync that covers its records. A request that is dropped anywhere completes with an error.
//! 2. After a failed sync nothing is written any more: the kernel may have dropped the bytes and
//!    a second sync would report success.
//! 3. Without room the same bytes are tried again until there is room; requests only come late.
//! 4. What opening returns is on disk by then, as the node acts on it. An earlier process may
//!    have left it in the page cache, or even there only, so its unmarked end is written again.
//! 5. One process per directory, and one writer per journal, also while an old one still ends.
//! 6. A completion with `Ok` also means that the file was in the directory after the sync. A
//!    directory that was deleted or replaced is given up for good: nothing is made anew in it.

mod disk;
mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::meter::Timing;
use crate::adapters::place::Watch;
use crate::ports::journal::{Completion, Journal, Journals};
use crate::types::Lock;
use crate::types::journal::{DiskState, JournalError, Scan, Tail, check_name, new_image, scan};
use disk::{Disk, FileDisk, refused};
use writer::{Done, Request, Shared, Writer};

/// How long closing a journal, and opening one that is still closing, waits for its writer.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// What the writer of one journal has done so far, also across reopening it.
#[derive(Debug, Default)]
pub struct JournalStats {
    /// Requests that have not completed yet.
    pub queued: AtomicU64,
    /// Batches that were written.
    pub batches: AtomicU64,
    /// Syncs of record data.
    pub fsyncs: AtomicU64,
    /// Bytes of records and of rewritten files.
    pub bytes: AtomicU64,
    /// Rewrites that succeeded.
    pub rewrites: AtomicU64,
    /// Tries that failed because the disk was full.
    pub full_retries: AtomicU64,
    /// Marks that could not be written; the one before serves.
    pub marks_missed: AtomicU64,
    /// How long fsyncs take.
    pub fsync_took: Timing,
    /// How long it takes until a write is durable.
    pub write_took: Timing,
    /// True while a write waits for room.
    pub full: AtomicBool,
    /// True once a write or a sync was refused.
    pub failed: AtomicBool,
}

/// The journals in one directory, which no other process can use meanwhile.
pub struct FileJournals {
    dir: PathBuf,
    lock: Arc<File>,
    watch: Watch,
    registry: Arc<Registry>,
    /// True once the directory was found to be another one, or could not be looked at for too long.
    moved: AtomicBool,
}

impl FileJournals {
    /// Takes the directory, creating it if it is not there. It is free again when this and every
    /// journal that was opened from it are dropped.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        disk::create_dir(dir)?;
        let lock = Arc::new(disk::lock_dir(dir)?);
        let (watch, registry, moved) = (Watch::default(), Arc::default(), AtomicBool::new(false));
        Ok(Self { dir: dir.to_owned(), lock, watch, registry, moved })
    }

    /// Fails once the directory is not the one that this process has locked.
    fn in_place(&self) -> Result<(), JournalError> {
        let path = disk::lock_path(&self.dir);
        if !self.moved.load(Relaxed) {
            let Err(error) = self.watch.check(&path, &self.lock) else { return Ok(()) };
            self.moved.store(true, Relaxed);
            tracing::error!(
                lock = %path.display(),
                %error,
                "the data directory was deleted or replaced under this node, or can't be looked \
                 at; the node takes no more writes; copy out what it can still read before it is \
                 stopped"
            );
        }
        let message = "the data directory was deleted, replaced or closed to the node while that \
                       was running";
        Err(JournalError::Io { what: path.display().to_string(), message: message.into() })
    }

    /// Counters of the journal `name`, once it was opened.
    pub fn stats(&self, name: &str) -> Option<Arc<JournalStats>> {
        self.registry.entries().get(name).map(|entry| entry.stats.clone())
    }
}

impl Journals for FileJournals {
    fn open(&self, name: &'static str) -> Result<(Arc<dyn Journal>, Vec<Vec<u8>>), JournalError> {
        check_name(name)?;
        self.in_place()?;
        let claim = Claim::take(name, &self.registry, Some(self.lock.clone()))?;
        let (disk, tail, records) = load(&self.dir, name, self.registry.is_known(name))?;
        self.registry.note_known(name);
        Ok((FileJournal::start(Box::new(disk), tail, claim)?, records))
    }

    fn disk(&self) -> DiskState {
        if self.in_place().is_err() {
            return DiskState::Failed;
        }
        let entries = self.registry.entries();
        let state = |entry: &Entry| match &entry.stats {
            stats if stats.failed.load(Relaxed) => DiskState::Failed,
            stats if entry.open && stats.full.load(Relaxed) => DiskState::Full,
            _ => DiskState::Writable,
        };
        entries.values().map(state).max().unwrap_or_default()
    }
}

/// Opens or creates the file of a journal and makes sure that all that was read is on disk. One
/// that is known was there before.
fn load(
    dir: &Path,
    name: &str,
    known: bool,
) -> Result<(FileDisk, Tail, Vec<Vec<u8>>), JournalError> {
    let Some((mut disk, bytes)) = FileDisk::open(dir, name)? else {
        if known {
            let what = disk::path(dir, name).display().to_string();
            let message = "it was deleted or moved away while the node was running".into();
            return Err(JournalError::Io { what, message });
        }
        let (image, tail) = new_image(name, disk::random_id()?, &[])?;
        return Ok((FileDisk::create(dir, name, &image)?, tail, Vec::new()));
    };
    let Scan { records, mut tail, marked, torn_bytes } = scan(name, &bytes)?;
    if torn_bytes > 0 {
        tracing::info!(journal = name, torn_bytes, "cut off an append that was never acknowledged");
    }
    let (mark_offset, mark) = tail.encode_mark();
    let unmarked = &bytes[marked as usize..tail.length() as usize];
    disk.truncate(tail.length())
        .and_then(|()| disk.write_at(marked, unmarked))
        .and_then(|()| disk.sync())
        .and_then(|()| disk.write_at(mark_offset, &mark))
        .map_err(|error| refused(&disk::path(dir, name), &error))?;
    Ok((disk, tail, records))
}

/// Which journals are open. It outlives them, so that their counters go on.
#[derive(Default)]
struct Registry {
    entries: Mutex<HashMap<&'static str, Entry>>,
    released: Condvar,
}

#[derive(Default)]
struct Entry {
    stats: Arc<JournalStats>,
    open: bool,
    /// True once it was opened.
    known: bool,
}

impl Registry {
    fn entries(&self) -> MutexGuard<'_, HashMap<&'static str, Entry>> {
        self.entries.locked()
    }

    fn is_known(&self, name: &str) -> bool {
        self.entries().get(name).is_some_and(|entry| entry.known)
    }

    fn note_known(&self, name: &'static str) {
        self.entries().entry(name).or_default().known = true;
    }

    /// Waits until `name` is not open. The answer still says whether it is.
    fn wait(&self, name: &'static str) -> MutexGuard<'_, HashMap<&'static str, Entry>> {
        let is_open = |entries: &mut HashMap<&'static str, Entry>| {
            entries.get(name).is_some_and(|entry| entry.open)
        };
        let (entries, _) = self
            .released
            .wait_timeout_while(self.entries(), CLOSE_WAIT, is_open)
            .unwrap_or_else(PoisonError::into_inner);
        entries
    }
}

/// The right to write one journal. Whoever waits for its end finds the directory free as well.
struct Claim {
    name: &'static str,
    stats: Arc<JournalStats>,
    registry: Arc<Registry>,
    lock: Option<Arc<File>>,
    /// Its receiver learns of the end.
    alive: Option<Sender<()>>,
}

impl Claim {
    fn take(
        name: &'static str,
        registry: &Arc<Registry>,
        lock: Option<Arc<File>>,
    ) -> Result<Self, JournalError> {
        let mut entries = registry.wait(name);
        let entry = entries.entry(name).or_default();
        if entry.open {
            return Err(JournalError::InUse { name: name.into() });
        }
        entry.open = true;
        entry.stats.full.store(false, Relaxed);
        Ok(Self { name, stats: entry.stats.clone(), registry: registry.clone(), lock, alive: None })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        drop(self.lock.take());
        if let Some(entry) = self.registry.entries().get_mut(self.name) {
            entry.open = false;
        }
        self.registry.released.notify_all();
    }
}

/// One open journal. Dropping it finishes what waits and ends the writer.
struct FileJournal {
    requests: Option<Sender<Request>>,
    shared: Arc<Shared>,
    stats: Arc<JournalStats>,
    writer: ThreadId,
    /// Hangs up when the writer has given up its claim.
    ended: Mutex<Receiver<()>>,
}

impl FileJournal {
    fn start(disk: Box<dyn Disk>, tail: Tail, mut claim: Claim) -> Result<Arc<Self>, JournalError> {
        let (name, stats) = (claim.name, claim.stats.clone());
        let (sender, requests) = mpsc::channel();
        let (alive, ended) = mpsc::channel();
        claim.alive = Some(alive);
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(disk, tail, requests, shared.clone(), claim);
        let thread = thread::Builder::new()
            .name(format!("journal-{name}"))
            .spawn(move || writer.run())
            .map_err(|error| refused(Path::new("the writer thread"), &error))?;
        let writer = thread.thread().id();
        let ended = Mutex::new(ended);
        Ok(Arc::new(Self { requests: Some(sender), shared, stats, writer, ended }))
    }

    fn send(&self, request: Request) {
        // If the writer is gone, the request comes back, is dropped and so completes as closed.
        if let Some(requests) = &self.requests {
            let _ = requests.send(request);
        }
    }
}

impl Journal for FileJournal {
    fn append(&self, records: Vec<Vec<u8>>, done: Completion) {
        self.send(Request::Append(records, Done::new(done, &self.stats)));
    }

    fn rewrite(&self, records: Vec<Vec<u8>>, done: Completion) {
        self.send(Request::Rewrite(records, Done::new(done, &self.stats)));
    }

    fn len_bytes(&self) -> u64 {
        self.shared.length.load(Relaxed)
    }
}

impl Drop for FileJournal {
    fn drop(&mut self) {
        self.requests = None;
        // A completion may hold the last reference, and a thread can't wait for itself. The wait
        // is bounded, as a disk that hangs must not take the caller along.
        if thread::current().id() != self.writer {
            let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = ended.recv_timeout(CLOSE_WAIT);
        }
    }
}

#[cfg(test)]
mod tests;
