//! A node's disk: journals in memory, in the very bytes that a real disk would hold.
//!
//! An append is in the page cache at once and on disk when the next fsync ends. A crash keeps what
//! was synced and tears the rest at a random byte. On a full disk appends wait. An fsync that fails
//! leaves as much as a crash would, and its journal takes nothing more until it is opened again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bzzz::ports::journal::{Completion, Journal, Journals, Opened};
use bzzz::types::Lock;
use bzzz::types::journal::{DiskState, JournalError, Tail, new_image, scan};

use crate::heap::Heap;
use crate::records::RecordTable;
use crate::rng::Stream;
use crate::trace::Trace;

enum Write {
    Append(Vec<Vec<u8>>),
    Rewrite(Vec<Vec<u8>>),
}

struct File {
    /// What survives a crash.
    bytes: Vec<u8>,
    tail: Tail,
    waiting: Vec<(Write, Completion)>,
    syncing: bool,
    /// Counts openings: completions of an earlier one are dropped.
    opening: u64,
    /// True from a failed fsync until it is opened again.
    failed: bool,
}

#[derive(Default)]
pub(crate) struct Inner {
    files: BTreeMap<&'static str, File>,
    pub(crate) records: RecordTable,
    /// True while there is no room.
    pub(crate) full: bool,
    /// True if the next fsync fails.
    pub(crate) breaks: bool,
    /// True from a failed fsync until the machine is switched off.
    pub(crate) failed: bool,
}

/// A disk, which outlives the node's incarnations.
#[derive(Clone)]
pub struct SimDisk {
    pub(crate) heap: Heap,
    pub(crate) rng: Stream,
    pub(crate) trace: Trace,
    pub(crate) node: usize,
    /// Longest fsync while the disk is slow, in microseconds; 0 while it is not.
    slow_us: Arc<AtomicU64>,
    inner: Arc<Mutex<Inner>>,
}

impl SimDisk {
    /// An empty disk of a node.
    pub fn new(heap: Heap, rng: Stream, trace: Trace, node: usize) -> Self {
        Self { heap, rng, trace, node, slow_us: Arc::default(), inner: Arc::default() }
    }

    /// From now on an fsync takes up to this long; 0 for a good disk.
    pub fn slow_down(&self, slow_us: u64) {
        self.slow_us.store(slow_us, Ordering::Relaxed);
    }

    /// The files as they would be found after a power cut; the record store is not among them.
    pub fn files(&self) -> BTreeMap<&'static str, Vec<u8>> {
        self.lock().files.iter().map(|(name, file)| (*name, file.bytes.clone())).collect()
    }

    /// Takes a file away from a machine that is off.
    pub fn remove_file(&self, name: &str) {
        self.lock().files.remove(name);
    }

    /// Replaces what is in the files of a machine that is off.
    pub fn put_files(&self, files: BTreeMap<&'static str, Vec<u8>>) {
        let mut inner = self.lock();
        for (name, bytes) in files {
            if let Some(file) = inner.files.get_mut(name) {
                file.bytes = bytes;
            }
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// How long an fsync takes: mostly a fraction of a millisecond, sometimes many.
    pub(crate) fn sync_time(&self) -> Duration {
        let slow_us = self.slow_us.load(Ordering::Relaxed);
        if slow_us > 0 {
            self.rng.micros(slow_us / 4, slow_us)
        } else if self.rng.chance(5) {
            self.rng.micros(5_000, 60_000)
        } else {
            Duration::from_micros(150) + self.rng.exponential(250)
        }
    }

    /// The machine loses power: what was not synced is gone, the last write torn.
    pub fn crash(&self) {
        let mut inner = self.lock();
        (inner.breaks, inner.failed) = (false, false);
        inner.records.crash(&self.rng);
        for file in inner.files.values_mut() {
            file.opening += 1;
            file.syncing = false;
            drop(file.tear(&self.rng));
        }
    }

    /// From now on there is no room, or there is again.
    pub fn fill(&self, full: bool) {
        let mut inner = self.lock();
        inner.full = full;
        let names: Vec<&'static str> = inner.files.keys().copied().collect();
        drop(inner);
        for name in names {
            self.sync(name);
        }
    }

    /// The next fsync fails.
    pub fn break_sync(&self) {
        self.lock().breaks = true;
    }

    /// An fsync failed: whoever waits for this file hears so.
    fn fail(&self, mut inner: MutexGuard<'_, Inner>, name: &'static str) {
        (inner.breaks, inner.failed) = (false, true);
        let Some(file) = inner.files.get_mut(name) else { return };
        file.failed = true;
        let completions = file.tear(&self.rng);
        drop(inner);
        self.trace.note(&format!("an fsync of {name} fails on node {}", self.node));
        for completion in completions {
            completion(Err(refusal()));
        }
    }

    /// Begins an fsync if something waits and none is under way.
    fn sync(&self, name: &'static str) {
        let mut inner = self.lock();
        let full = inner.full;
        let Some(file) = inner.files.get_mut(name) else { return };
        if file.syncing || file.waiting.is_empty() || full {
            return;
        }
        file.syncing = true;
        let batch = file.waiting.len();
        let opening = file.opening;
        drop(inner);
        let disk = self.clone();
        self.heap.schedule(self.sync_time(), move || disk.synced(name, opening, batch));
    }

    fn synced(&self, name: &'static str, opening: u64, batch: usize) {
        let mut inner = self.lock();
        let Some(file) = inner.files.get_mut(name).filter(|file| file.opening == opening) else {
            return;
        };
        file.syncing = false;
        if inner.breaks {
            return self.fail(inner, name);
        }
        let Some(file) = inner.files.get_mut(name) else { return };
        let done: Vec<(Write, Completion)> = file.waiting.drain(..batch).collect();
        let mut completions = Vec::new();
        for (write, completion) in done {
            file.perform(name, &write);
            completions.push(completion);
        }
        let (at, mark) = file.tail.encode_mark();
        file.bytes[at as usize..at as usize + mark.len()].copy_from_slice(&mark);
        let length = file.bytes.len() as u64;
        drop(inner);
        self.trace.step("fsync", self.node, batch, length);
        for completion in completions {
            completion(Ok(()));
        }
        self.sync(name);
    }
}

fn refusal() -> JournalError {
    JournalError::Io { what: "fsync".into(), message: "input/output error".into() }
}

impl File {
    /// What waits gets to disk up to some byte, and nobody knows how far.
    fn tear(&mut self, rng: &Stream) -> Vec<Completion> {
        let mut torn = Vec::new();
        let mut tail = self.tail;
        let mut completions = Vec::new();
        for (write, completion) in self.waiting.drain(..) {
            if let Write::Append(records) = write {
                for record in records {
                    tail.encode_record(&record, &mut torn).expect("records are bounded");
                }
            }
            completions.push(completion);
        }
        let kept = if torn.is_empty() { 0 } else { rng.pick(torn.len() + 1) };
        self.bytes.extend_from_slice(&torn[..kept]);
        completions
    }

    fn perform(&mut self, name: &'static str, write: &Write) {
        match write {
            Write::Append(records) => {
                for record in records {
                    self.tail.encode_record(record, &mut self.bytes).expect("records are bounded");
                }
            }
            Write::Rewrite(records) => {
                let id = *blake3::hash(&self.bytes).as_bytes();
                let id = id[..16].try_into().expect("a hash is longer than a file id");
                (self.bytes, self.tail) =
                    new_image(name, id, records).expect("records are bounded");
            }
        }
    }
}

/// A handle to one journal of a disk.
struct SimJournal {
    disk: SimDisk,
    name: &'static str,
    opening: u64,
}

impl SimJournal {
    fn queue(&self, write: Write, done: Completion) {
        let mut inner = self.disk.lock();
        match inner.files.get_mut(self.name).filter(|file| file.opening == self.opening) {
            Some(file) if file.failed => {
                drop(inner);
                return self.disk.heap.schedule(Duration::ZERO, || done(Err(refusal())));
            }
            Some(file) => file.waiting.push((write, done)),
            // A dead incarnation writes nothing and is answered nothing.
            None => return,
        }
        drop(inner);
        self.disk.sync(self.name);
    }
}

impl Journal for SimJournal {
    fn append(&self, records: Vec<Vec<u8>>, done: Completion) {
        self.queue(Write::Append(records), done);
    }

    fn rewrite(&self, records: Vec<Vec<u8>>, done: Completion) {
        self.queue(Write::Rewrite(records), done);
    }

    fn len_bytes(&self) -> u64 {
        self.disk.lock().files.get(self.name).map_or(0, |file| file.bytes.len() as u64)
    }
}

impl Journals for SimDisk {
    fn open(&self, name: &'static str) -> Result<Opened, JournalError> {
        let mut inner = self.lock();
        let file = match inner.files.get_mut(name) {
            Some(file) => file,
            None => {
                let (bytes, tail) = new_image(name, self.rng.bytes(), &[])?;
                let fresh = File {
                    bytes,
                    tail,
                    waiting: Vec::new(),
                    syncing: false,
                    opening: 0,
                    failed: false,
                };
                inner.files.entry(name).or_insert(fresh)
            }
        };
        let found = scan(name, &file.bytes)?;
        file.bytes.truncate(usize::try_from(found.tail.length()).unwrap_or(usize::MAX));
        file.tail = found.tail;
        // As the real adapter does: what is read now is marked, so it can't be lost later.
        let (at, mark) = file.tail.encode_mark();
        file.bytes[at as usize..at as usize + mark.len()].copy_from_slice(&mark);
        file.opening += 1;
        file.waiting.clear();
        (file.syncing, file.failed) = (false, false);
        let opening = file.opening;
        let records = found.records;
        drop(inner);
        Ok((Arc::new(SimJournal { disk: self.clone(), name, opening }), records))
    }

    fn disk(&self) -> DiskState {
        let inner = self.lock();
        let waits = inner.files.values().any(|file| !file.waiting.is_empty());
        match (inner.failed, inner.full && waits) {
            (true, _) => DiskState::Failed,
            (false, true) => DiskState::Full,
            (false, false) => DiskState::Writable,
        }
    }
}
