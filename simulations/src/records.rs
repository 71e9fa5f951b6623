//! A node's record store: a table in memory with the durability of a disk.
//!
//! Operations that wait at the same time are executed together when the next fsync ends. A crash keeps
//! some of those that wait, from the front, and nobody is told which. On a full disk writes are
//! refused. An fsync that fails leaves as much as a crash would.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bzzz::ports::records::{
    Batch, Digests, Done, Kept, OpenedRecords, RecordStore, RecordStores, Rows, StoreAnswer,
    StoreFault, StoreOp, Table, TableError, execute, salvage,
};
use bzzz::types::journal::DiskState;

use crate::disk::SimDisk;
use crate::rng::Stream;

/// What is on the disk.
#[derive(Default)]
struct OnDisk(BTreeMap<Vec<u8>, Vec<u8>>);

/// It, and what waits.
#[derive(Default)]
pub(crate) struct RecordTable {
    rows: OnDisk,
    /// Of the rows; none until they are read.
    digests: Option<Digests>,
    waiting: Vec<(Vec<StoreOp>, Done)>,
    syncing: bool,
    /// Counts openings: what an earlier one has begun is answered to nobody.
    opening: u64,
    /// True from a failed fsync until it is opened again.
    failed: bool,
    /// True from a loss that opening notices until everything was copied back.
    rotten: bool,
}

impl Table for OnDisk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        Ok(self.0.get(key).cloned())
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        let range = (Bound::Included(from), Bound::Excluded(to));
        let rows = self.0.range::<[u8], _>(range).take(limit);
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

fn is_write(ops: &[StoreOp]) -> bool {
    ops.iter().any(StoreOp::is_write)
}

impl RecordTable {
    /// Keeps some of what waits, from the front; nobody is answered.
    pub(crate) fn crash(&mut self, rng: &Stream) {
        let waiting = std::mem::take(&mut self.waiting);
        (self.syncing, self.failed) = (false, false);
        self.opening += 1;
        if waiting.iter().any(|(ops, _)| is_write(ops)) {
            let kept = rng.pick(waiting.len() + 1);
            for (ops, _) in &waiting[..kept] {
                drop(self.perform(ops));
            }
        }
    }

    fn perform(&mut self, ops: &[StoreOp]) -> Result<Vec<StoreAnswer>, TableError> {
        let digests = match &mut self.digests {
            Some(digests) => digests,
            none => none.insert(Digests::load(&self.rows)?),
        };
        let mut batch = Batch::new(&self.rows, digests);
        let answers = ops.iter().map(|op| execute(&mut batch, op)).collect::<Result<_, _>>()?;
        let writes = batch.into_writes();
        self.rows.0.extend(writes);
        Ok(answers)
    }
}

impl SimDisk {
    /// The digests of all partitions as they are on disk.
    pub fn record_digests(&self) -> Vec<u64> {
        let records = &self.lock().records;
        let of_keys = Digests::of_keys(&records.rows).expect("a table in memory can be read");
        let loaded = Digests::load(&records.rows).expect("a table in memory can be read");
        assert!(of_keys.values() == loaded.values(), "the digests are not those of the records");
        if let Some(digests) = &records.digests {
            assert!(*digests == loaded, "the digests in memory are not those on disk");
        }
        of_keys.values().to_vec()
    }

    /// Begins to work if something waits and no work is under way.
    fn work(&self) {
        let mut inner = self.lock();
        let records = &mut inner.records;
        if records.syncing || records.waiting.is_empty() {
            return;
        }
        records.syncing = true;
        let (count, opening) = (records.waiting.len(), records.opening);
        let writes = records.waiting.iter().any(|(ops, _)| is_write(ops));
        drop(inner);
        let time = if writes { self.sync_time() } else { self.rng.micros(10, 120) };
        let disk = self.clone();
        self.heap.schedule(time, move || disk.worked(opening, count, writes));
    }

    fn worked(&self, opening: u64, count: usize, writes: bool) {
        let mut inner = self.lock();
        if inner.records.opening != opening {
            return;
        }
        let fails = writes && inner.breaks;
        let full = inner.full;
        if fails {
            (inner.breaks, inner.failed) = (false, true);
        }
        let records = &mut inner.records;
        records.syncing = false;
        let group: Vec<(Vec<StoreOp>, Done)> = records.waiting.drain(..count).collect();
        let mut done = Vec::new();
        if fails {
            records.failed = true;
            let kept = self.rng.pick(group.len() + 1);
            for (number, (ops, completion)) in group.into_iter().enumerate() {
                if number < kept {
                    drop(records.perform(&ops));
                }
                done.push((completion, Err(StoreFault::Failed("an fsync failed".into()))));
            }
        } else {
            for (ops, completion) in group {
                let result = match full && is_write(&ops) {
                    true => Err(StoreFault::Full),
                    false => {
                        records.perform(&ops).map_err(|error| StoreFault::Failed(error.to_string()))
                    }
                };
                done.push((completion, result));
            }
        }
        let rows = records.rows.0.len();
        drop(inner);
        self.trace.step("store", self.node, count, rows as u64);
        for (completion, result) in done {
            completion(result);
        }
        self.work();
    }
}

/// A handle to the record store of a disk.
struct SimStore {
    disk: SimDisk,
    opening: u64,
}

impl RecordStore for SimStore {
    fn restored(&self) {
        let mut inner = self.disk.lock();
        if inner.records.opening == self.opening {
            inner.records.rotten = false;
        }
    }

    fn run(&self, ops: Vec<StoreOp>, done: Done) {
        let mut inner = self.disk.lock();
        let records = &mut inner.records;
        if records.opening != self.opening {
            // A dead incarnation is answered nothing.
            return;
        }
        if records.failed {
            drop(inner);
            let failed = || done(Err(StoreFault::Failed("an fsync failed".into())));
            return self.disk.heap.schedule(std::time::Duration::ZERO, failed);
        }
        records.waiting.push((ops, done));
        drop(inner);
        self.disk.work();
    }
}

impl SimDisk {
    /// A part of what is on the disk of a machine that is off is gone, and opening will notice.
    pub fn rot_records(&self) {
        let mut inner = self.lock();
        let records = &mut inner.records;
        let mut damaged = std::mem::take(&mut records.rows);
        damaged.0.retain(|_, _| !self.rng.chance(40));
        records.digests = None;
        let salvaged = salvage(&damaged, &mut |op| records.perform(&[op]).map(drop));
        salvaged.expect("a table in memory can be read");
        records.rotten = true;
    }

    /// True from such a loss until everything was copied back.
    pub fn is_rotten(&self) -> bool {
        self.lock().records.rotten
    }
}

impl RecordStores for SimDisk {
    fn disk(&self) -> DiskState {
        // Told with that of the journals: it is one disk.
        DiskState::Writable
    }

    fn open(&self) -> Result<OpenedRecords, StoreFault> {
        let mut inner = self.lock();
        let records = &mut inner.records;
        // What waits was begun by one that is gone: it is done, and nobody hears of it.
        let waiting = std::mem::take(&mut records.waiting);
        records.opening += 1;
        (records.syncing, records.failed) = (false, false);
        for (ops, _) in &waiting {
            drop(records.perform(ops));
        }
        // As after a restart, which finds them on disk.
        records.digests = None;
        let opening = records.opening;
        let kept = if records.rotten { Kept::Lost } else { Kept::Whole };
        drop(inner);
        let store = Arc::new(SimStore { disk: self.clone(), opening });
        Ok(OpenedRecords { store, kept })
    }
}
