//! Durable record files: the one primitive that all durable state of a node is built on.
//!
//! A journal is an ordered list of records that only grows at its end, or is replaced as a whole.
//! The format, with its checksum chain, is `types::journal`.

use std::sync::Arc;

use crate::types::journal::{DiskState, JournalError};

/// What a journal calls when a write is on disk, or failed.
pub type Completion = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// One open journal.
pub trait Journal: Send + Sync + 'static {
    /// Appends records in order and calls `done` when they survive a power cut. Appends that wait
    /// at the same time share one fsync; completions come in the order of the appends.
    fn append(&self, records: Vec<Vec<u8>>, done: Completion);

    /// Replaces the whole journal atomically: after a crash either all old records are there or
    /// all new ones. Ordered with the appends around it.
    fn rewrite(&self, records: Vec<Vec<u8>>, done: Completion);

    /// Bytes that the journal takes up, for deciding on a rewrite.
    fn len_bytes(&self) -> u64;
}

/// A journal that was opened, and the records that were in it.
pub type Opened = (Arc<dyn Journal>, Vec<Vec<u8>>);

/// Opens the journals of a node.
pub trait Journals: Send + Sync + 'static {
    /// Opens the journal `name`, creating it if it is not there, and returns the records in it.
    /// A torn end that no completion ever covered is cut off; any other damage is an error.
    fn open(&self, name: &'static str) -> Result<Opened, JournalError>;

    /// The worst that any of these journals has met: no room, for as long as that lasts, or a
    /// refusal, which is never taken back.
    fn disk(&self) -> DiskState;
}
