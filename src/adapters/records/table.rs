//! The two keyspaces as one ordered table, every commit of which is numbered (`marks`).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{
    AbstractTree as _, CompressionType, Database, Keyspace, KeyspaceCreateOptions,
    KvSeparationOptions, LsmError, PersistMode, SeqNo,
};
use xxhash_rust::xxh3::xxh3_64;

use super::marks::{NUMBERS_KEY, Numbers};
use crate::ports::records::{CONTENT_KEYS, Digests, HOT_KEY, Rows, Table, TableError};

/// Bytes of the cache of blocks; the kernel's cache holds the rest.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of the index that are kept in memory before they are written to a table.
const INDEX_MEMTABLE: u64 = 8 * 1024 * 1024;
/// Bytes of contents that are.
const CONTENT_MEMTABLE: u64 = 8 * 1024 * 1024;
/// Least that fjall takes: the size of one journal.
const JOURNALS_BYTES: u64 = 64 * 1024 * 1024;
/// Threads that write tables and compact them. With one, a full queue of work can wait for itself. Of several, the first
/// one never merges: it puts such work back for the others, again and again for as long as none of them takes it, so with
/// two it spins whenever the other one merges.
const WORKERS: usize = 4;
/// Bytes from which on a content stands in a file of large values.
const SEPARATE_FROM: u32 = 1024;

/// An open database. Its journal is compressed by nothing: verifying compressed records would
/// depend on the version of a library.
pub(super) struct FjallTable {
    // Dropped in this order: a keyspace keeps the database's lock.
    index: Keyspace,
    contents: Keyspace,
    database: Database,
    /// Value of the hot key, as it was read or committed last.
    hot: RefCell<Option<Vec<u8>>>,
    /// Of the last commit.
    numbers: Cell<Numbers>,
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

/// The highest number in the tables of a keyspace: no journal is needed for what came before.
fn flushed(keyspace: &Keyspace) -> fjall::Result<u64> {
    let (version, hash) = (keyspace.tree.current_version(), xxh3_64(NUMBERS_KEY));
    let mut highest = 0;
    for table in version.iter_tables() {
        let found = table.get(NUMBERS_KEY, SeqNo::MAX, hash)?;
        let numbers = found.and_then(|found| Numbers::decode(&found.value));
        highest = highest.max(numbers.map_or(0, |numbers| numbers.number));
    }
    Ok(highest)
}

impl FjallTable {
    /// Opens a database, making it if it is not there. A new one goes on with the numbers of one
    /// that had come as far as `floor`.
    pub(super) fn open(dir: &Path, floor: u64) -> fjall::Result<Self> {
        Self::open_with(dir, floor, WORKERS)
    }

    /// Opens a database to read it: nothing works on it, so that what its journals say is not
    /// written to tables, nor are journals deleted.
    pub(super) fn look(dir: &Path) -> fjall::Result<Self> {
        Self::open_with(dir, 0, 0)
    }

    fn open_with(dir: &Path, floor: u64, workers: usize) -> fjall::Result<Self> {
        let database = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNALS_BYTES)
            // The other function of this name refuses to take none.
            .worker_threads_unchecked(workers)
            .journal_compression(CompressionType::None)
            .open()?;
        let index = database.keyspace("index", index_options)?;
        let contents = database.keyspace("contents", content_options)?;
        let numbers = index.get(NUMBERS_KEY)?.and_then(|bytes| Numbers::decode(&bytes));
        let numbers = Cell::new(numbers.unwrap_or_else(|| Numbers::above(floor)));
        Ok(Self { index, contents, database, hot: RefCell::default(), numbers })
    }

    fn keyspace(&self, key: &[u8]) -> &Keyspace {
        if key.first() == Some(&CONTENT_KEYS) { &self.contents } else { &self.index }
    }

    fn read(&self, key: &[u8]) -> fjall::Result<Option<Vec<u8>>> {
        Ok(self.keyspace(key).get(key)?.map(|value| value.to_vec()))
    }

    fn rows(&self, from: &[u8], to: &[u8], limit: usize) -> fjall::Result<Rows> {
        let rows = self.keyspace(from).range(from..to).take(limit);
        rows.map(|row| {
            let (key, value) = row.into_inner()?;
            Ok((key.to_vec(), value.to_vec()))
        })
        .collect()
    }

    /// Of the last commit.
    pub(super) fn numbers(&self) -> Numbers {
        self.numbers.get()
    }

    /// Those of all partitions.
    pub(super) fn digests(&self) -> fjall::Result<Digests> {
        let reading = Reading { table: self, failed: Cell::new(None) };
        Digests::load(&reading).map_err(|TableError(reason)| {
            let failed = reading.failed.take();
            failed.unwrap_or_else(|| io::Error::other(reason).into())
        })
    }

    /// Up to which commit the tables of the index and of the contents have everything. Asked right
    /// after opening: what was in the journals only is on its way there.
    pub(super) fn flushed(&self) -> fjall::Result<(u64, u64)> {
        Ok((flushed(&self.index)?, flushed(&self.contents)?))
    }

    /// The files of large values that the tables of the contents refer to.
    pub(super) fn blobs(&self) -> fjall::Result<BTreeSet<u64>> {
        let mut found = BTreeSet::new();
        for table in self.contents.tree.current_version().iter_tables() {
            let files = table.list_blob_file_references()?.unwrap_or_default();
            found.extend(files.iter().map(|file| file.blob_file_id));
        }
        Ok(found)
    }

    /// Keys in a range, whatever became of their values.
    pub(super) fn keys(&self, from: &[u8], to: &[u8], limit: usize) -> fjall::Result<Vec<Vec<u8>>> {
        let rows = self.keyspace(from).range(from..to).take(limit);
        rows.map(|row| row.key().map(|key| key.to_vec())).collect()
    }

    /// How many journals there have to be.
    pub(super) fn journals(&self) -> usize {
        self.database.journal_count()
    }

    /// Writes all of it or nothing, and returns the number of the commit when it is on disk.
    pub(super) fn commit(&self, writes: BTreeMap<Vec<u8>, Vec<u8>>) -> fjall::Result<u64> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        let hot = writes.get(HOT_KEY).cloned();
        let writes_contents = writes.keys().any(|key| key.first() == Some(&CONTENT_KEYS));
        let numbers = self.numbers.get().following(writes_contents);
        batch.insert(&self.index, NUMBERS_KEY.to_vec(), numbers.encode());
        if writes_contents {
            batch.insert(&self.contents, NUMBERS_KEY.to_vec(), numbers.encode());
        }
        for (key, value) in writes {
            let keyspace = self.keyspace(&key);
            batch.insert(keyspace, key, value);
        }
        batch.commit()?;
        if hot.is_some() {
            self.hot.replace(hot);
        }
        self.numbers.set(numbers);
        Ok(numbers.number)
    }

    /// Makes sure that closing leaves nothing to be done.
    pub(super) fn close(self) -> fjall::Result<()> {
        self.database.persist(PersistMode::SyncAll)
    }

    /// Writes everything to tables.
    pub(super) fn flush(&self) -> fjall::Result<()> {
        self.index.rotate_memtable_and_wait()?;
        self.contents.rotate_memtable_and_wait()
    }
}

/// What a failure of the library means for people; how it puts it itself is for the log of
/// debugging.
pub(super) fn words(error: &fjall::Error) -> String {
    tracing::debug!(%error, "the library of the record store failed");
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => error.to_string(),
        fjall::Error::Storage(LsmError::ChecksumMismatch { .. }) => {
            "a part of a file does not match its checksum".to_owned()
        }
        fjall::Error::Poisoned => "an earlier write, or work in the background, failed".to_owned(),
        fjall::Error::Locked => "another process uses it".to_owned(),
        _ => "a part of a file is damaged or missing".to_owned(),
    }
}

/// A table that keeps the reason why it could not be read.
struct Reading<'a> {
    table: &'a FjallTable,
    failed: Cell<Option<fjall::Error>>,
}

impl Reading<'_> {
    fn keep<T>(&self, read: fjall::Result<T>) -> Result<T, TableError> {
        read.map_err(|error| {
            let reason = words(&error);
            self.failed.set(Some(error));
            TableError(reason)
        })
    }
}

impl Table for Reading<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.keep(self.table.read(key))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        self.keep(self.table.rows(from, to, limit))
    }
}

fn unreadable(error: fjall::Error) -> TableError {
    TableError(words(&error))
}

impl Table for FjallTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        if key == HOT_KEY
            && let Some(value) = &*self.hot.borrow()
        {
            return Ok(Some(value.clone()));
        }
        let value = self.read(key).map_err(unreadable)?;
        if key == HOT_KEY {
            self.hot.replace(value.clone());
        }
        Ok(value)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        self.rows(from, to, limit).map_err(unreadable)
    }
}
