//! The node's own store: a few small values that belong to this node alone (who it is, which
//! starts of its peers it has seen), in one journal.
//!
//! Invariants:
//! 1. A write's completion is called after the journal has it, in the order of the writes.
//! 2. The values in memory never run ahead of what a restart would read by more than the writes
//!    whose completion is still to come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::core::ctx::Write;
use crate::ports::Journals;
use crate::ports::journal::{Completion, Journal};
use crate::types::Bytes;
use crate::types::codec::{CodecError, Durable, decode_durable, encode_durable};
use crate::types::journal::JournalError;
use crate::types::limits::JOURNAL_REWRITE_ABOVE;

/// Why the store can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The journal can't be opened or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record in it can't be read.
    #[error("the node's store holds a record that can't be read: {0}")]
    Record(#[from] CodecError),
}

#[derive(Serialize, Deserialize)]
struct StoreRecord {
    writes: Vec<(String, Option<Bytes>)>,
}

impl Durable for StoreRecord {
    const NAME: &'static str = "store";
    const KIND: u8 = 7;
    const VERSION: u8 = 1;
}

#[derive(Default)]
struct Values {
    by_key: BTreeMap<String, Vec<u8>>,
    rewritten_at: u64,
}

impl Values {
    fn put(&mut self, key: String, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.by_key.insert(key, value),
            None => self.by_key.remove(&key),
        };
    }
}

/// The store of one node.
pub struct Store {
    journal: Arc<dyn Journal>,
    values: Mutex<Values>,
}

impl Store {
    /// Opens the store and reads everything in it.
    pub fn open(journals: &dyn Journals) -> Result<Self, StoreError> {
        let (journal, records) = journals.open("store")?;
        let mut values = Values::default();
        for record in records {
            for (key, value) in decode_durable::<StoreRecord>(&record)?.writes {
                values.put(key, value.map(|value| value.0));
            }
        }
        Ok(Self { journal, values: Mutex::new(values) })
    }

    fn lock(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.lock().by_key.get(key).cloned()
    }

    /// A value of a known type, none if it is not there.
    pub fn read<T: Durable>(&self, key: &str) -> Result<Option<T>, StoreError> {
        self.get(key).map(|bytes| decode_durable(&bytes).map_err(StoreError::Record)).transpose()
    }

    /// Keys with a prefix, and their values.
    pub fn scan(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let values = self.lock();
        let from = values.by_key.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    /// Writes values together, and calls `done` when they are on disk.
    pub fn write(&self, writes: Vec<Write>, done: Completion) {
        let mut values = self.lock();
        let mut record = StoreRecord { writes: Vec::with_capacity(writes.len()) };
        for Write { key, value } in writes {
            record.writes.push((key.clone(), value.clone().map(Bytes)));
            values.put(key, value);
        }
        // Under the lock, so that records come in the order of the values.
        self.journal.append(vec![encode_durable(&record)], done);
        let len = self.journal.len_bytes();
        if len > JOURNAL_REWRITE_ABOVE && len > values.rewritten_at * 2 {
            let all =
                values.by_key.iter().map(|(k, v)| (k.clone(), Some(Bytes(v.clone())))).collect();
            values.rewritten_at = len / 2;
            self.journal
                .rewrite(vec![encode_durable(&StoreRecord { writes: all })], Box::new(|_| {}));
        }
    }

    /// True while the disk has no room.
    pub fn is_full(&self) -> bool {
        self.journal.is_full()
    }
}
