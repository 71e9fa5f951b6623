//! The two keyspaces as one ordered table.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
};

use crate::ports::records::{CONTENT_KEYS, HOT_KEYS, Rows, Table, TableError};

/// Bytes of the cache of blocks; the kernel's cache holds the rest.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of the index that are kept in memory before they are written to a table.
const INDEX_MEMTABLE: u64 = 2 * 1024 * 1024;
/// Bytes of contents that are.
const CONTENT_MEMTABLE: u64 = 8 * 1024 * 1024;
/// Least that fjall takes: the size of one journal.
const JOURNALS_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes from which on a content stands in a file of large values.
const SEPARATE_FROM: u32 = 1024;

/// An open database. Its journal is compressed by nothing: verifying compressed records would
/// depend on the version of a library.
pub(super) struct FjallTable {
    // Dropped in this order: a keyspace keeps the database's lock.
    index: Keyspace,
    contents: Keyspace,
    database: Database,
    /// Values of hot keys, as they were read or committed last.
    hot: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
}

fn is_hot(key: &[u8]) -> bool {
    key.first().is_some_and(|first| HOT_KEYS.contains(first))
}

fn index_options() -> KeyspaceCreateOptions {
    let filter = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0));
    KeyspaceCreateOptions::default()
        .max_memtable_size(INDEX_MEMTABLE)
        .filter_policy(FilterPolicy::all(filter))
        .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(16 * 1024 * 1024)))
}

fn content_options() -> KeyspaceCreateOptions {
    let separation = KvSeparationOptions::default()
        .separation_threshold(SEPARATE_FROM)
        .compression(CompressionType::None)
        // Otherwise nothing is collected below four candidates.
        .age_cutoff(1.0);
    KeyspaceCreateOptions::default()
        .max_memtable_size(CONTENT_MEMTABLE)
        .with_kv_separation(Some(separation))
}

impl FjallTable {
    pub(super) fn open(dir: &Path) -> fjall::Result<Self> {
        let database = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNALS_BYTES)
            // With one, a full queue of work can wait for itself.
            .worker_threads(2)
            .journal_compression(CompressionType::None)
            .open()?;
        let index = database.keyspace("index", index_options)?;
        let contents = database.keyspace("contents", content_options)?;
        Ok(Self { index, contents, database, hot: RefCell::default() })
    }

    fn keyspace(&self, key: &[u8]) -> &Keyspace {
        if key.first() == Some(&CONTENT_KEYS) { &self.contents } else { &self.index }
    }

    /// Writes all of it or nothing, and returns when it is on disk.
    pub(super) fn commit(&self, writes: BTreeMap<Vec<u8>, Vec<u8>>) -> fjall::Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        let mut hot = Vec::new();
        for (key, value) in writes {
            if is_hot(&key) {
                hot.push((key.clone(), value.clone()));
            }
            let keyspace = self.keyspace(&key);
            batch.insert(keyspace, key, value);
        }
        batch.commit()?;
        self.hot.borrow_mut().extend(hot);
        Ok(())
    }

    /// Makes sure that closing leaves nothing to be done.
    pub(super) fn close(self) -> fjall::Result<()> {
        self.database.persist(PersistMode::SyncAll)
    }
}

fn unreadable(error: fjall::Error) -> TableError {
    TableError(error.to_string())
}

impl Table for FjallTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        if let Some(value) = self.hot.borrow().get(key) {
            return Ok(Some(value.clone()));
        }
        let value = self.keyspace(key).get(key).map_err(unreadable)?.map(|value| value.to_vec());
        if let Some(value) = value.as_ref().filter(|_| is_hot(key)) {
            self.hot.borrow_mut().insert(key.to_vec(), value.clone());
        }
        Ok(value)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        let rows = self.keyspace(from).range(from..to).take(limit);
        rows.map(|row| {
            let (key, value) = row.into_inner().map_err(unreadable)?;
            Ok((key.to_vec(), value.to_vec()))
        })
        .collect()
    }
}
