//! The record store on fjall, a log-structured merge tree.
//!
//! Problem: an fsync takes as long for one record as for a hundred, and fjall does not group them
//! by itself. And on opening it cuts its journal, without a word, at the first record that it
//! cannot parse: what followed is gone, be it one torn write or a thousand acknowledged ones.
//!
//! Flow: one thread per open store takes all operations that wait, executes them over one batch
//! (`core::records::store`), commits that with one fsync, and then hands out all answers. Before
//! fjall may open the directory, `opening` finds out whether everything that was acknowledged is
//! there, in undamaged files; what is not is said, kept aside, and copied from others.
//!
//! Two keyspaces: large values, in files of their own, and the index.
//!
//! Invariants:
//! 1. An answer leaves only after the fsync that covers everything that it shows, and only if the
//!    files are in the directory then: the directory at every commit, journals at most a second
//!    ago.
//! 2. One thread reads and writes the store, so no read sees a half of a batch.
//! 3. A store that may lack something says so at every opening, until it was made whole from
//!    others.
//! 4. After a failed commit or read nothing is written or read any more by this process: what the
//!    disk holds is not known. The next start looks at all of it.
//! 5. Writes are refused while there is little room, before fjall meets a full disk, which it takes
//!    for a failure.

mod damage;
mod files;
mod journals;
mod manifest;
mod marks;
mod opening;
mod pieces;
mod table;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

pub use damage::{Damage, RecordsError};

use super::meter::Timing;
use crate::ports::records::{
    Done, Kept, OpenedRecords, RecordStore, RecordStores, StoreFault, StoreOp,
};
use crate::types::Lock;
use crate::types::journal::DiskState;
use files::Home;
use opening::{Copies, Opened, Opening, marker};
use writer::{Group, Writer};

/// What the writer of the store has done so far.
#[derive(Debug, Default)]
pub struct RecordStats {
    /// Groups of operations that were handed over.
    pub groups: AtomicU64,
    /// Batches that were committed.
    pub commits: AtomicU64,
    /// How long commits take.
    pub fsync_took: Timing,
    /// How long it takes until a write is durable.
    pub write_took: Timing,
    /// True while writes are refused because there is little room.
    pub full: AtomicBool,
    /// True once a commit or a read failed, or the files were not in their directory any more.
    pub failed: AtomicBool,
}

/// The record store in one directory.
pub struct FjallStores {
    dir: PathBuf,
    expected: AtomicBool,
    copies: Copies,
    /// True if the operator gives up what is lost.
    given_up: bool,
    /// True once it was opened: what was given up by then is all that is.
    was_opened: AtomicBool,
    /// Bytes that have to be left on the disk for a write to be taken.
    room_min: u64,
    stats: Arc<RecordStats>,
    /// Of the store that was opened last.
    home: Mutex<Option<Home>>,
    last: Mutex<Last>,
}

/// The store that was opened last, and its thread.
#[derive(Default)]
struct Last {
    /// One that was opened and has no thread yet.
    prepared: Option<Opened>,
    store: Weak<FjallStore>,
    thread: Option<JoinHandle<()>>,
}

impl Last {
    /// It takes nothing more, finishes what waits and lets go of the directory.
    fn close(&mut self) {
        if let Some(store) = self.store.upgrade() {
            drop(store.requests.locked().take());
        }
        if let Some(thread) = self.thread.take() {
            // A panic in it has told itself.
            drop(thread.join());
        }
    }
}

impl FjallStores {
    /// The store in this directory, which nobody else may use. It is made when it is opened first;
    /// if `expected`, one that is not there has been lost.
    pub fn new(dir: &Path, expected: bool) -> Self {
        Self {
            dir: dir.to_owned(),
            expected: AtomicBool::new(expected),
            copies: Copies::Elsewhere,
            given_up: false,
            was_opened: AtomicBool::new(false),
            room_min: writer::ROOM_MIN,
            stats: Arc::default(),
            home: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// No other member has a copy: what is lost is lost, and given up only if the operator says so.
    pub fn without_copies(mut self, given_up: bool) -> Self {
        (self.copies, self.given_up) = (Copies::Nowhere, given_up);
        self
    }

    /// What is lost and no other member has is given up, if the operator says so.
    pub fn giving_up(mut self, given_up: bool) -> Self {
        self.given_up = given_up;
        self
    }

    /// Opens the store for the first `open`, with an error that says what to do.
    pub fn prepare(&self) -> Result<(), RecordsError> {
        let mut last = self.last.locked();
        last.prepared = Some(self.opened()?);
        Ok(())
    }

    fn opened(&self) -> Result<Opened, RecordsError> {
        let expected = self.expected.load(Relaxed);
        let given_up = self.given_up && !self.was_opened.load(Relaxed);
        let opened = Opening { dir: &self.dir, expected, copies: self.copies, given_up }.open()?;
        self.expected.store(true, Relaxed);
        self.was_opened.store(true, Relaxed);
        Ok(opened)
    }

    /// Looks whether the store that was opened last is still in its directory; if not, that is for
    /// good.
    fn is_in_place(&self) -> bool {
        let home = self.home.locked().clone();
        let Some(Err(error)) = home.map(|home| home.check()) else { return true };
        let dir = self.dir.display();
        tracing::error!(%dir, %error, "the record store is not in its directory any more");
        self.stats.failed.store(true, Relaxed);
        false
    }

    /// Counters, also across reopening it.
    pub fn stats(&self) -> Arc<RecordStats> {
        self.stats.clone()
    }
}

fn failed(what: &str, error: impl std::fmt::Display) -> StoreFault {
    StoreFault::Failed(format!("{what}: {error}"))
}

impl Drop for FjallStores {
    fn drop(&mut self) {
        self.last.get_mut().unwrap_or_else(PoisonError::into_inner).close();
    }
}

impl RecordStores for FjallStores {
    fn open(&self) -> Result<OpenedRecords, StoreFault> {
        let mut last = self.last.locked();
        last.close();
        let (requests, received) = mpsc::channel();
        // Nothing is made anew where something was taken away.
        if self.stats.failed.load(Relaxed) || !self.is_in_place() {
            // Whatever is asked is answered with "busy".
            let store = Arc::new(FjallStore { requests: Mutex::new(None), marker: None });
            return Ok(OpenedRecords { store, kept: Kept::Unsure });
        }
        let opened = match last.prepared.take() {
            Some(opened) => opened,
            None => self.opened().map_err(|error| StoreFault::Failed(error.to_string()))?,
        };
        let home = Home::of(&self.dir).map_err(|error| failed("cannot find its files", error))?;
        *self.home.locked() = Some(home.clone());
        let kept = opened.kept;
        let writer =
            Writer::new(opened, home, received, self.stats.clone(), (&self.dir, self.room_min));
        let started = thread::Builder::new().name("records".into()).spawn(move || writer.run());
        last.thread = Some(started.map_err(|error| failed("cannot start a thread", error))?);
        let marker = Some(marker(&self.dir));
        let store = Arc::new(FjallStore { requests: Mutex::new(Some(requests)), marker });
        last.store = Arc::downgrade(&store);
        Ok(OpenedRecords { store, kept })
    }

    fn disk(&self) -> DiskState {
        if self.stats.failed.load(Relaxed) || !self.is_in_place() {
            return DiskState::Failed;
        }
        // While writes are refused none comes that would find out.
        if self.stats.full.load(Relaxed) && writer::has_room(&self.dir, self.room_min) {
            self.stats.full.store(false, Relaxed);
        }
        if self.stats.full.load(Relaxed) { DiskState::Full } else { DiskState::Writable }
    }
}

/// One open store.
struct FjallStore {
    /// None once it was closed.
    requests: Mutex<Option<Sender<Group>>>,
    /// None of one that is not opened: what others gave it is not on disk.
    marker: Option<PathBuf>,
}

impl RecordStore for FjallStore {
    fn run(&self, ops: Vec<StoreOp>, done: Done) {
        let requests = self.requests.locked();
        let sent = match &*requests {
            Some(requests) => requests.send((ops, done, Instant::now())),
            None => Err(mpsc::SendError((ops, done, Instant::now()))),
        };
        drop(requests);
        if let Err(mpsc::SendError((_, done, _))) = sent {
            done(Err(StoreFault::Busy));
        }
    }

    fn restored(&self) {
        let Some(marker) = &self.marker else { return };
        match fs::remove_file(marker) {
            Ok(()) => tracing::info!("the record store is whole again"),
            // It is copied once more after the next start, which does no harm.
            Err(error) => tracing::warn!(%error, "cannot take the mark off the record store"),
        }
    }
}

#[cfg(test)]
mod tests;
