//! The thread that works on the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;

use super::RecordStats;
use super::table::FjallTable;
use crate::ports::records::{Batch, Done, StoreAnswer, StoreFault, StoreOp, TableError, execute};

/// Groups that share one commit at most, so that no answer waits for all of a flood.
const GROUPS_MAX: usize = 512;
/// Bytes of operations that do, unless a single group is larger.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Room that has to be left on the disk for a write to be taken: journals, tables and what compaction needs
/// for a while.
const ROOM_MIN: u64 = 96 * 1024 * 1024;

/// True if a write can be taken.
pub(super) fn has_room(dir: &Path) -> bool {
    let Ok(stat) = rustix::fs::statvfs(dir) else { return true };
    stat.f_bavail.saturating_mul(stat.f_frsize) >= ROOM_MIN
}

/// Operations that belong together, and who hears of them.
pub(super) type Group = (Vec<StoreOp>, Done);

/// Works on one open store until nobody holds it any more.
pub(super) struct Writer {
    table: FjallTable,
    received: Receiver<Group>,
    stats: Arc<RecordStats>,
    dir: PathBuf,
}

/// A thread that is gone must not look like one that has nothing to do.
struct FailedByPanic(Arc<RecordStats>);

impl Drop for FailedByPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Relaxed);
        }
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
        table: FjallTable,
        received: Receiver<Group>,
        stats: Arc<RecordStats>,
        dir: &Path,
    ) -> Self {
        Self { table, received, stats, dir: dir.to_owned() }
    }

    pub(super) fn run(self) {
        let _guard = FailedByPanic(self.stats.clone());
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
        }
        if let Err(error) = self.table.close() {
            tracing::warn!(%error, "the record store was not closed in order");
        }
    }

    fn work(&self, groups: Vec<Group>) {
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        let full = groups.iter().any(is_write) && !has_room(&self.dir);
        if groups.iter().any(is_write) {
            self.stats.full.store(full, Relaxed);
        }
        let mut batch = Batch::new(&self.table);
        let mut failure = None;
        for (ops, completion) in groups {
            if self.stats.failed.load(Relaxed) {
                refused.push((completion, StoreFault::Busy));
            } else if full && ops.iter().any(StoreOp::is_write) {
                refused.push((completion, StoreFault::Full));
            } else {
                let answers: Result<Vec<StoreAnswer>, TableError> =
                    ops.iter().map(|op| execute(&mut batch, op)).collect();
                match answers {
                    Ok(answers) => done.push((completion, answers)),
                    Err(error) => {
                        failure.get_or_insert(error.to_string());
                        refused.push((completion, StoreFault::Failed(error.to_string())));
                    }
                }
            }
        }
        let writes = batch.into_writes();
        if failure.is_none() && !writes.is_empty() {
            self.stats.commits.fetch_add(1, Relaxed);
            failure = self.table.commit(writes).err().map(|error| error.to_string());
        }
        for (completion, fault) in refused {
            completion(Err(fault));
        }
        if let Some(reason) = &failure {
            tracing::error!(%reason, "the record store failed; nothing more is written to it");
            self.stats.failed.store(true, Relaxed);
        }
        for (completion, answers) in done {
            completion(match &failure {
                Some(reason) => Err(StoreFault::Failed(reason.clone())),
                None => Ok(answers),
            });
        }
    }
}
