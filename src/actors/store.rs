//! The node's own store: a few small values that belong to this node alone (who it is, which
//! starts of its peers it has seen), in one journal.
//!
//! Invariants:
//! 1. A write's completion is called after the journal has it, in the order of the writes.
//! 2. The values in memory never run ahead of what a restart would read by more than the writes
//!    whose completion is still to come.
//! 3. After a write failed, none is taken until the store has been read from disk again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::core::ctx::Write;
use crate::core::init;
use crate::ports::journal::{Completion, Journal};
use crate::ports::{Journals, Sink};
use crate::types::Bytes;
use crate::types::Lock;
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
    opened: Mutex<Opened>,
    failed: Mutex<Option<Sink<String>>>,
}

struct Opened {
    /// None only while it is being opened again.
    journal: Option<Arc<dyn Journal>>,
    values: Values,
}

impl Store {
    /// Opens the store and reads everything in it.
    pub fn open(journals: &dyn Journals) -> Result<Self, StoreError> {
        Ok(Self { opened: Mutex::new(Opened::read(journals)?), failed: Mutex::default() })
    }

    /// Forgets all values and reads them again, for when a write failed or somebody who writes did.
    pub fn reopen(&self, journals: &dyn Journals) -> Result<(), StoreError> {
        let mut opened = self.lock();
        // Closed first: a journal has one writer.
        opened.journal = None;
        *opened = Opened::read(journals)?;
        Ok(())
    }

    /// From now on `failed` hears of a write that failed.
    pub fn on_failure(&self, failed: Sink<String>) {
        *self.failed.locked() = Some(failed);
    }
}

impl Opened {
    fn read(journals: &dyn Journals) -> Result<Self, StoreError> {
        let (journal, records) = journals.open("store")?;
        let mut values = Values::default();
        for record in records {
            for (key, value) in decode_durable::<StoreRecord>(&record)?.writes {
                values.put(key, value.map(|value| value.0));
            }
        }
        Ok(Self { journal: Some(journal), values })
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.opened.locked()
    }

    /// A value of a known type, none if it is not there.
    pub fn read<T: Durable>(&self, key: &str) -> Result<Option<T>, StoreError> {
        Ok(init::read(self, key)?)
    }

    /// Writes values together, and calls `done` when they are on disk.
    pub fn write(&self, writes: Vec<Write>, done: Completion) {
        let mut opened = self.lock();
        let Opened { journal, values } = &mut *opened;
        let Some(journal) = journal.clone() else {
            drop(opened);
            return done(Err(JournalError::Closed));
        };
        let mut record = StoreRecord { writes: Vec::with_capacity(writes.len()) };
        for Write { key, value } in writes {
            record.writes.push((key.clone(), value.clone().map(Bytes)));
            values.put(key, value);
        }
        // Under the lock, so that records come in the order of the values.
        journal.append(vec![encode_durable(&record)], self.watched(done));
        let len = journal.len_bytes();
        if len > JOURNAL_REWRITE_ABOVE && len > values.rewritten_at * 2 {
            let all =
                values.by_key.iter().map(|(k, v)| (k.clone(), Some(Bytes(v.clone())))).collect();
            values.rewritten_at = len / 2;
            journal.rewrite(vec![encode_durable(&StoreRecord { writes: all })], Box::new(|_| {}));
        }
    }

    fn watched(&self, done: Completion) -> Completion {
        let failed = self.failed.locked().clone();
        Box::new(move |result| {
            if let (Err(error), Some(failed)) = (&result, failed) {
                failed(error.to_string());
            }
            done(result);
        })
    }
}

impl init::Values for Store {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.lock().values.by_key.get(key).cloned()
    }

    fn scan(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let opened = self.lock();
        let from = opened.values.by_key.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::golden;

    #[test]
    fn golden_bytes() {
        let writes = vec![("kept".to_owned(), Some(Bytes(vec![1, 2]))), ("gone".to_owned(), None)];
        let record = StoreRecord { writes };
        golden::durable::<StoreRecord>(include_str!("../types/golden/store"), &[record]);
    }
}
