//! The record store on fjall, a log-structured merge tree.
//!
//! Problem: an fsync takes as long for one record as for a hundred, and fjall does not group them by
//! itself. And on opening it cuts its journal, without a word, at the first record that it cannot
//! parse: what followed is gone, be it one torn write or a thousand acknowledged ones.
//!
//! Flow: one thread per open store takes all operations that wait, executes them over one batch
//! (`core::records::store`), commits that with one fsync, and then hands out all answers. Before fjall may open
//! the directory, `journals` reads its journals: a torn end is cut off, anything else that fjall would drop is
//! copied aside, what is left is put into a new store, and that is opened as one that may lack something.
//!
//! Two keyspaces: large values, in files of their own, and the index.
//!
//! Invariants:
//! 1. An answer leaves only after the fsync that covers everything that it shows.
//! 2. One thread reads and writes the store, so no read sees a half of a batch.
//! 3. A store that may lack something says so at every opening, until it was made whole from others.
//! 4. After a failed commit nothing is written any more by this process: what the disk holds is
//!    not known.
//! 5. Writes are refused while there is little room, before fjall meets a full disk, which it takes
//!    for a failure.

mod journals;
mod table;
mod writer;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use crate::ports::records::{
    Batch, Done, OpenedRecords, RecordStore, RecordStores, StoreFault, StoreOp, TableError,
    execute, salvage,
};
use crate::types::journal::DiskState;
use journals::Found;
use table::FjallTable;
use writer::{Group, Writer};

/// What the writer of the store has done so far.
#[derive(Debug, Default)]
pub struct RecordStats {
    /// Groups of operations that were handed over.
    pub groups: AtomicU64,
    /// Batches that were committed.
    pub commits: AtomicU64,
    /// True while writes are refused because there is little room.
    pub full: AtomicBool,
    /// True once a commit failed.
    pub failed: AtomicBool,
}

/// The record store in one directory.
pub struct FjallStores {
    dir: PathBuf,
    expected: AtomicBool,
    stats: Arc<RecordStats>,
    last: Mutex<Last>,
}

/// The store that was opened last, and its thread.
#[derive(Default)]
struct Last {
    store: Weak<FjallStore>,
    thread: Option<JoinHandle<()>>,
}

impl Last {
    /// It takes nothing more, finishes what waits and lets go of the directory.
    fn close(&mut self) {
        if let Some(store) = self.store.upgrade() {
            drop(store.requests.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        if let Some(thread) = self.thread.take() {
            // A panic in it has told itself.
            drop(thread.join());
        }
    }
}

impl FjallStores {
    /// The store in this directory, which nobody else may use. It is made when it is opened first; if
    /// `expected`, one that is not there has been lost.
    pub fn new(dir: &Path, expected: bool) -> Self {
        let expected = AtomicBool::new(expected);
        Self { dir: dir.to_owned(), expected, stats: Arc::default(), last: Mutex::default() }
    }

    /// Counters, also across reopening it.
    pub fn stats(&self) -> Arc<RecordStats> {
        self.stats.clone()
    }

    /// Stands beside the store from when it was found to lack something until it is whole.
    fn marker(&self) -> PathBuf {
        self.dir.with_extension("incomplete")
    }
}

fn failed(what: &str, error: impl std::fmt::Display) -> StoreFault {
    StoreFault::Failed(format!("{what}: {error}"))
}

/// What the marker says of a store whose journals were cut and that is as it was otherwise.
const DAMAGED: &[u8] = b"damaged\n";
/// What it says of one that contradicts itself nowhere.
const INCOMPLETE: &[u8] = b"incomplete\n";

/// Makes a marker that survives a power cut.
fn put_marker(path: &Path, says: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(says)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Records that are saved with one commit, and about how many bytes of them.
const SALVAGED_TOGETHER: usize = 1_024;
const SALVAGED_BYTES: usize = 8 * 1024 * 1024;

fn put_all(table: &FjallTable, ops: &[StoreOp]) -> Result<(), TableError> {
    let mut batch = Batch::new(table);
    ops.iter().try_for_each(|op| execute(&mut batch, op).map(drop))?;
    table.commit(batch.into_writes()).map_err(|error| TableError(error.to_string()))
}

/// Puts what is left of a damaged store into a new one in its place: what the old one derived from
/// what it has lost would hide that it is gone.
fn salvage_into_new(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (fresh, old) = (dir.with_extension("new"), dir.with_extension("damaged"));
    for left_over in [&fresh, &old] {
        if left_over.exists() {
            fs::remove_dir_all(left_over)?;
        }
    }
    let damaged = FjallTable::open(dir)?;
    let table = FjallTable::open(&fresh)?;
    let (mut saved, mut waiting, mut bytes) = (0_u64, Vec::new(), 0);
    salvage(&damaged, &mut |op| {
        saved += 1;
        bytes += op.size();
        waiting.push(op);
        // The node waits for this: an fsync for each record would take too long.
        if waiting.len() < SALVAGED_TOGETHER && bytes < SALVAGED_BYTES {
            return Ok(());
        }
        bytes = 0;
        put_all(&table, &std::mem::take(&mut waiting))
    })?;
    put_all(&table, &waiting)?;
    table.close()?;
    damaged.close()?;
    fs::rename(dir, &old)?;
    fs::rename(&fresh, dir)?;
    dir.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())?;
    tracing::warn!(records = saved, "saved what is left of the record store into a new one");
    Ok(())
}

impl Drop for FjallStores {
    fn drop(&mut self) {
        self.last.get_mut().unwrap_or_else(PoisonError::into_inner).close();
    }
}

impl RecordStores for FjallStores {
    fn open(&self) -> Result<OpenedRecords, StoreFault> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.close();
        let (requests, received) = mpsc::channel();
        let marker = self.marker();
        if self.stats.failed.load(Relaxed) {
            // Whatever is asked is answered with "busy".
            let store = Arc::new(FjallStore { requests: Mutex::new(None), marker });
            return Ok(OpenedRecords { store, whole: false });
        }
        fs::create_dir_all(&self.dir)
            .map_err(|error| failed("cannot make the directory of the record store", error))?;
        let found = journals::prepare(&self.dir, || put_marker(&marker, DAMAGED))
            .map_err(|error| failed("cannot read the journals of the record store", error))?;
        let lost = found == Found::Nothing && self.expected.swap(true, Relaxed);
        if lost {
            tracing::error!("the record store is gone; what was in it is copied from other nodes");
        }
        // An earlier opening may have got as far as cutting the journals, and no further.
        let damaged = found == Found::Damage || fs::read(&marker).is_ok_and(|says| says == DAMAGED);
        if damaged && found != Found::Nothing {
            salvage_into_new(&self.dir)
                .map_err(|error| failed("cannot save what is left of the record store", error))?;
        }
        if lost || damaged {
            put_marker(&marker, INCOMPLETE)
                .map_err(|error| failed("cannot mark the record store as incomplete", error))?;
        }
        let whole = !marker.exists();
        let table = FjallTable::open(&self.dir)
            .map_err(|error| failed("cannot open the record store", error))?;
        let writer = Writer::new(table, received, self.stats.clone(), &self.dir);
        let started = thread::Builder::new().name("records".into()).spawn(move || writer.run());
        last.thread = Some(started.map_err(|error| failed("cannot start a thread", error))?);
        let store = Arc::new(FjallStore { requests: Mutex::new(Some(requests)), marker });
        last.store = Arc::downgrade(&store);
        Ok(OpenedRecords { store, whole })
    }

    fn disk(&self) -> DiskState {
        if self.stats.failed.load(Relaxed) {
            return DiskState::Failed;
        }
        // While writes are refused none comes that would find out.
        if self.stats.full.load(Relaxed) && writer::has_room(&self.dir) {
            self.stats.full.store(false, Relaxed);
        }
        if self.stats.full.load(Relaxed) { DiskState::Full } else { DiskState::Writable }
    }
}

/// One open store.
struct FjallStore {
    /// None once it was closed.
    requests: Mutex<Option<Sender<Group>>>,
    marker: PathBuf,
}

impl RecordStore for FjallStore {
    fn run(&self, ops: Vec<StoreOp>, done: Done) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = match &*requests {
            Some(requests) => requests.send((ops, done)),
            None => Err(mpsc::SendError((ops, done))),
        };
        drop(requests);
        if let Err(mpsc::SendError((_, done))) = sent {
            done(Err(StoreFault::Busy));
        }
    }

    fn restored(&self) {
        match fs::remove_file(&self.marker) {
            Ok(()) => tracing::info!("the record store is whole again"),
            // It is copied once more after the next start, which does no harm.
            Err(error) => tracing::warn!(%error, "cannot take the mark off the record store"),
        }
    }
}

#[cfg(test)]
mod tests;
