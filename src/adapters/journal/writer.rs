//! The thread behind a journal: it collects, writes, syncs, and then completes.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::disk::{self, Disk, Replace, is_full, refused};
use super::{Claim, JournalStats};
use crate::ports::journal::Completion;
use crate::types::journal::{JournalError, Tail, check_record, new_image};

/// Space is asked for in steps of this many bytes.
const ALLOCATE_STEP: u64 = 1024 * 1024;
/// Bytes after which a batch takes in no further requests.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a full disk is left alone before the next try.
pub(super) const FULL_RETRY: Duration = Duration::from_millis(250);

/// A completion that can't be forgotten.
pub(super) struct Done {
    completion: Option<Completion>,
    stats: Arc<JournalStats>,
    asked_at: Instant,
}

impl Done {
    pub(super) fn new(completion: Completion, stats: &Arc<JournalStats>) -> Self {
        stats.queued.fetch_add(1, Relaxed);
        Self { completion: Some(completion), stats: stats.clone(), asked_at: Instant::now() }
    }

    fn call(mut self, result: Result<(), JournalError>) {
        self.finish(result);
    }

    fn finish(&mut self, result: Result<(), JournalError>) {
        if let Some(completion) = self.completion.take() {
            self.stats.queued.fetch_sub(1, Relaxed);
            if result.is_ok() {
                self.stats.write_took.took(self.asked_at.elapsed());
            }
            completion(result);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        self.finish(Err(JournalError::Closed));
    }
}

/// What a writer is asked for.
pub(super) enum Request {
    Append(Vec<Vec<u8>>, Done),
    Rewrite(Vec<Vec<u8>>, Done),
}

/// What a journal tells without asking its writer.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) length: AtomicU64,
}

/// Appends that share one sync.
struct Batch {
    tail: Tail,
    bytes: Vec<u8>,
    done: Vec<(Done, Result<(), JournalError>)>,
}

impl Batch {
    /// Takes in all records of an append, or none and the reason.
    fn add(&mut self, records: &[Vec<u8>], done: Done) {
        let checked = records.iter().try_for_each(|body| check_record(body)).and_then(|()| {
            records.iter().try_for_each(|body| self.tail.encode_record(body, &mut self.bytes))
        });
        self.done.push((done, checked));
    }
}

/// All that the thread has. The claim comes last: it is given up after all else is dropped.
pub(super) struct Writer {
    disk: Box<dyn Disk>,
    tail: Tail,
    allocated: u64,
    requests: Receiver<Request>,
    waiting: VecDeque<Request>,
    failure: Option<JournalError>,
    shared: Arc<Shared>,
    claim: Claim,
}

impl Writer {
    pub(super) fn new(
        disk: Box<dyn Disk>,
        tail: Tail,
        requests: Receiver<Request>,
        shared: Arc<Shared>,
        claim: Claim,
    ) -> Self {
        let (allocated, waiting) = (tail.length(), VecDeque::new());
        shared.length.store(tail.length(), Relaxed);
        Self { disk, tail, allocated, requests, waiting, failure: None, shared, claim }
    }

    /// Works until the journal is dropped and nothing waits any more.
    pub(super) fn run(mut self) {
        while let Some(request) = self.waiting.pop_front().or_else(|| self.requests.recv().ok()) {
            match request {
                Request::Append(records, done) => {
                    let batch = self.collect(&records, done);
                    let outcome = self.commit(&batch);
                    for (done, checked) in batch.done {
                        done.call(checked.and_then(|()| outcome.clone()));
                    }
                }
                Request::Rewrite(records, done) => {
                    let outcome = self.replace(&records);
                    drop(records);
                    done.call(outcome);
                }
            }
        }
    }

    /// All appends that wait, up to the next rewrite.
    fn collect(&mut self, records: &[Vec<u8>], done: Done) -> Batch {
        let mut batch = Batch { tail: self.tail, bytes: Vec::new(), done: Vec::new() };
        batch.add(records, done);
        while batch.bytes.len() < BATCH_BYTES_MAX {
            match self.waiting.pop_front().or_else(|| self.requests.try_recv().ok()) {
                Some(Request::Append(records, done)) => batch.add(&records, done),
                Some(rewrite) => {
                    self.waiting.push_front(rewrite);
                    break;
                }
                None => break,
            }
        }
        batch
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), JournalError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if batch.bytes.is_empty() {
            return Ok(());
        }
        self.write(&batch.bytes)?;
        let began = Instant::now();
        self.disk.sync().map_err(|error| self.fail("sync", &error))?;
        self.claim.stats.fsync_took.took(began.elapsed());
        self.disk.in_place().map_err(|error| self.fail("find", &error))?;
        self.settle(batch.tail, batch.bytes.len());
        self.claim.stats.batches.fetch_add(1, Relaxed);
        self.mark();
        Ok(())
    }

    /// Goes on behind `tail`, which is on disk.
    fn settle(&mut self, tail: Tail, written: usize) {
        self.tail = tail;
        self.shared.length.store(tail.length(), Relaxed);
        self.claim.stats.fsyncs.fetch_add(1, Relaxed);
        self.claim.stats.bytes.fetch_add(written as u64, Relaxed);
    }

    /// Marks everything so far as acknowledged. The mark is not synced: it outlives this process
    /// in the page cache and gets to disk with the next batch.
    fn mark(&mut self) {
        let mut tail = self.tail;
        let (offset, mark) = tail.encode_mark();
        match self.disk.write_at(offset, &mark) {
            Ok(()) => self.tail = tail,
            Err(error) => {
                self.claim.stats.marks_missed.fetch_add(1, Relaxed);
                tracing::warn!(journal = self.claim.name, %error, "could not mark a batch");
            }
        }
    }

    /// Writes behind the end, however long that takes, unless the journal is closed meanwhile.
    fn write(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        loop {
            let written = self
                .reserve(bytes.len())
                .and_then(|()| self.disk.write_at(self.tail.length(), bytes));
            let Err(error) = written else {
                self.set_full(false);
                return Ok(());
            };
            self.cut_back();
            if !is_full(&error) {
                return Err(self.fail("write", &error));
            }
            self.claim.stats.full_retries.fetch_add(1, Relaxed);
            self.set_full(true);
            if !self.wait_for_room() {
                // Nobody waits for it any more, and the disk has refused nothing but room.
                let closed = refused(&self.path(), &error);
                self.failure = Some(closed.clone());
                return Err(closed);
            }
        }
    }

    fn reserve(&mut self, len: usize) -> io::Result<()> {
        let end = self.tail.length() + len as u64;
        if end <= self.allocated {
            return Ok(());
        }
        let wanted = end.next_multiple_of(ALLOCATE_STEP);
        match self.disk.allocate(self.allocated, wanted - self.allocated) {
            // The last room on a disk goes to the records themselves.
            Err(error) if is_full(&error) => {
                self.disk.allocate(self.allocated, end - self.allocated)?;
                self.allocated = end;
            }
            other => {
                other?;
                self.allocated = wanted;
            }
        }
        Ok(())
    }

    /// Gives back what a failed write took. If that fails too, a torn end stays, which the next
    /// try writes over and the next opening cuts off.
    fn cut_back(&mut self) {
        self.allocated = self.tail.length();
        if let Err(error) = self.disk.truncate(self.tail.length()) {
            tracing::warn!(journal = self.claim.name, %error, "could not cut off a failed write");
        }
    }

    fn set_full(&self, full: bool) {
        if self.claim.stats.full.swap(full, Relaxed) == full {
            return;
        }
        if full {
            tracing::error!(journal = self.claim.name, "the disk is full, writes wait for room");
        } else {
            tracing::info!(journal = self.claim.name, "the disk has room again");
        }
    }

    /// Lets some time pass while requests queue up. False if the journal was closed.
    fn wait_for_room(&mut self) -> bool {
        let until = Instant::now() + FULL_RETRY;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            match self.requests.recv_timeout(left) {
                Ok(request) => self.waiting.push_back(request),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn replace(&mut self, records: &[Vec<u8>]) -> Result<(), JournalError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.disk.in_place().map_err(|error| self.fail("find", &error))?;
        let (image, tail) = new_image(self.claim.name, disk::random_id()?, records)?;
        match self.disk.replace(&image) {
            Ok(()) => {}
            Err(Replace::Kept(error)) => return Err(refused(&self.path(), &error)),
            Err(Replace::Unclear(error)) => return Err(self.fail("rewrite", &error)),
        }
        self.allocated = tail.length();
        self.settle(tail, image.len());
        self.claim.stats.rewrites.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Ends all writing: this request and all later ones get the same error.
    fn fail(&mut self, what: &str, error: &io::Error) -> JournalError {
        let failure = refused(&self.path(), error);
        tracing::error!(journal = self.claim.name, what, %failure, "no more writes are taken");
        self.claim.stats.failed.store(true, Relaxed);
        self.failure = Some(failure.clone());
        failure
    }

    fn path(&self) -> PathBuf {
        format!("journal {}", self.claim.name).into()
    }
}
