//! The record store of one node: an ordered table, and the pure functions that work on it.

use std::sync::Arc;

pub use crate::core::records::store::{
    Batch, CONTENT_KEYS, Digests, Emit, HOT_KEY, Kept, Rows, StoreAnswer, StoreFault, StoreOp,
    Table, TableError, execute, salvage, salvage_contents, salvage_versions,
};
pub use crate::core::records::{Content, Envelope};

use crate::types::journal::DiskState;

/// What the store calls when operations are done, or failed.
pub type Done = Box<dyn FnOnce(Result<Vec<StoreAnswer>, StoreFault>) + Send>;

/// One open record store.
pub trait RecordStore: Send + Sync + 'static {
    /// Executes operations in order, after those that were handed over before, and calls `done` when
    /// everything that the answers show survives a power cut. Those that wait at the same time share
    /// one fsync.
    fn run(&self, ops: Vec<StoreOp>, done: Done);

    /// Everything that the store may have lost was copied from others: it is whole again.
    fn restored(&self);
}

/// A store that was opened.
pub struct OpenedRecords {
    /// It.
    pub store: Arc<dyn RecordStore>,
    /// Unless this is all that it had on disk once, it vouches for nothing until `restored` is
    /// called.
    pub kept: Kept,
}

impl OpenedRecords {
    /// True if it has all that it ever had.
    pub fn is_whole(&self) -> bool {
        self.kept == Kept::Whole
    }
}

/// Opens the record store of a node.
pub trait RecordStores: Send + Sync + 'static {
    /// Opens it, making it if it is not there. Whatever was opened before takes nothing more.
    fn open(&self) -> Result<OpenedRecords, StoreFault>;

    /// What the disk has met: a refusal is never taken back.
    fn disk(&self) -> DiskState;
}
