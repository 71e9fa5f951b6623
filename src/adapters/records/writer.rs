//! The thread that works on the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::RecordStats;
use super::files::{Home, Journals};
use super::marks::Marks;
use super::opening::{Opened, suspect};
use super::table::{FjallTable, words};
use crate::ports::records::{
    Batch, Digests, Done, StoreAnswer, StoreFault, StoreOp, TableError, execute,
};

/// Groups that share one commit at most, so that no answer waits for all of a flood.
const GROUPS_MAX: usize = 512;
/// Bytes of operations that do, unless a single group is larger.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Room that has to be left on the disk for a write to be taken: journals, tables and what compaction needs
/// for a while.
pub(super) const ROOM_MIN: u64 = 96 * 1024 * 1024;

/// True if a write can be taken where so many bytes have to be left.
pub(super) fn has_room(dir: &Path, room_min: u64) -> bool {
    let Ok(stat) = rustix::fs::statvfs(dir) else { return true };
    stat.f_bavail.saturating_mul(stat.f_frsize) >= room_min
}

/// Operations that belong together, who hears of them, and when they were asked for.
pub(super) type Group = (Vec<StoreOp>, Done, Instant);

/// Works on one open store until nobody holds it any more.
pub(super) struct Writer {
    table: FjallTable,
    digests: Digests,
    marks: Marks,
    home: Home,
    journals: Journals,
    received: Receiver<Group>,
    stats: Arc<RecordStats>,
    dir: PathBuf,
    /// Bytes that have to be left on the disk.
    room_min: u64,
}

/// A thread that is gone must not look like one that has nothing to do.
struct FailedByPanic(Arc<RecordStats>, PathBuf);

impl Drop for FailedByPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Relaxed);
            suspect(&self.1);
        }
    }
}

/// Why the store takes nothing more.
struct Failure {
    reason: String,
    /// True if its files have to be looked at.
    is_suspect: bool,
}

impl Failure {
    fn of_files(reason: String) -> Self {
        Self { reason, is_suspect: true }
    }
}

fn is_write(group: &Group) -> bool {
    group.0.iter().any(StoreOp::is_write)
}

fn size(group: &Group) -> usize {
    group.0.iter().map(StoreOp::size).sum()
}

impl Writer {
    pub(super) fn new(
        opened: Opened,
        home: Home,
        received: Receiver<Group>,
        stats: Arc<RecordStats>,
        (dir, room_min): (&Path, u64),
    ) -> Self {
        let (Opened { table, digests, marks, .. }, journals) = (opened, Journals::of(dir));
        let dir = dir.to_owned();
        Self { table, digests, marks, home, journals, received, stats, dir, room_min }
    }

    pub(super) fn run(mut self) {
        let _guard = FailedByPanic(self.stats.clone(), self.dir.clone());
        while let Ok(first) = self.received.recv() {
            let mut bytes = size(&first);
            let mut groups = vec![first];
            while groups.len() < GROUPS_MAX && bytes < BYTES_MAX {
                let Ok(group) = self.received.try_recv() else { break };
                bytes += size(&group);
                groups.push(group);
            }
            self.stats.groups.fetch_add(groups.len() as u64, Relaxed);
            self.work(groups);
            self.marks.sync_now_and_then();
        }
        self.marks.sync();
        if let Err(error) = self.table.close() {
            tracing::warn!(error = %words(&error), "the record store was not closed in order");
        }
    }

    fn work(&mut self, groups: Vec<Group>) {
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        let full = groups.iter().any(is_write) && !has_room(&self.dir, self.room_min);
        if groups.iter().any(is_write) {
            self.stats.full.store(full, Relaxed);
        }
        let mut batch = Batch::new(&self.table, &mut self.digests);
        let mut failure = None;
        for (ops, completion, asked_at) in groups {
            let written = ops.iter().any(StoreOp::is_write).then_some(asked_at);
            if self.stats.failed.load(Relaxed) {
                refused.push((completion, StoreFault::Busy));
            } else if full && written.is_some() {
                refused.push((completion, StoreFault::Full));
            } else {
                let answers: Result<Vec<StoreAnswer>, TableError> =
                    ops.iter().map(|op| execute(&mut batch, op)).collect();
                match answers {
                    Ok(answers) => done.push((completion, answers, written)),
                    Err(TableError(reason)) => {
                        refused.push((completion, StoreFault::Failed(reason.clone())));
                        failure.get_or_insert(Failure::of_files(reason));
                    }
                }
            }
        }
        let writes = batch.into_writes();
        if failure.is_none() && !writes.is_empty() {
            self.stats.commits.fetch_add(1, Relaxed);
            let began = Instant::now();
            failure = self.commit(writes).err();
            self.stats.fsync_took.took(began.elapsed());
        }
        for (completion, fault) in refused {
            completion(Err(fault));
        }
        if let Some(failure) = &failure {
            self.fail(failure);
        }
        for (completion, answers, written) in done {
            if let Some(asked_at) = written.filter(|_| failure.is_none()) {
                self.stats.write_took.took(asked_at.elapsed());
            }
            completion(match &failure {
                Some(failure) => Err(StoreFault::Failed(failure.reason.clone())),
                None => Ok(answers),
            });
        }
    }

    /// Writes all of it, and marks it once it is where the next start finds it.
    fn commit(&mut self, writes: BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), Failure> {
        let number = self.table.commit(writes);
        let number = number.map_err(|error| Failure::of_files(words(&error)))?;
        let found = self.home.check().and_then(|()| self.journals.check(|| self.table.journals()));
        found.map_err(|error| Failure { reason: error.to_string(), is_suspect: false })?;
        self.marks.put(number);
        Ok(())
    }

    fn fail(&self, Failure { reason, is_suspect }: &Failure) {
        tracing::error!(
            dir = %self.dir.display(),
            %reason,
            "the record store failed; until the node is started again nothing more is read from \
             it or written to it"
        );
        self.stats.failed.store(true, Relaxed);
        if *is_suspect {
            suspect(&self.dir);
        }
    }
}
