//! Saves what can be read of a damaged store, piece by piece.
//!
//! Problem: the library opens a store as a whole or not at all. If one table is missing or can't be
//! read, all others would be lost with it.
//!
//! Flow: beside the store a database of the same form is made, in `records.pieces`. One table after
//! the other is linked into it, with a manifest that leads to that one alone and to all files of
//! large values; at last the whole batches of the journals. Each time it is opened, and what it
//! holds is put into the new store: contents first, then those versions that have theirs. What
//! stands in several pieces is the same or, of a content, older: it is kept once.
//!
//! A file of large values that is missing is replaced by one that holds none of them, as the library
//! panics where there is none.
//!
//! Invariants:
//! 1. Nothing in the damaged store is changed.
//! 2. What fails is the operating system or the new store: what can't be read is passed over.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::damage::{RecordsError, is_of_files, refused};
use super::journals::whole_batches;
use super::manifest::lead_to;
use super::opening::{attempt, clear, make_table};
use super::table::{FjallTable, words};
use crate::ports::records::{
    Batch, CONTENT_KEYS, Digests, Rows, StoreOp, Table, TableError, execute, salvage_contents,
    salvage_versions,
};

/// The directories of the keyspaces, by the order in which they are made.
const INDEX: &str = "keyspaces/1";
const CONTENTS: &str = "keyspaces/2";
/// The journal of the database that pieces are put into.
const JOURNAL: &str = "0.jnl";
/// Bytes of a value that comes to stand in a file of large values.
const LARGE: usize = 4096;

/// Records that are saved with one commit, and about how many bytes of them.
const SAVED_TOGETHER: usize = 1_024;
const SAVED_BYTES: usize = 8 * 1024 * 1024;

/// What was saved, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    /// Contents and versions that are in the new store.
    pub(super) records: u64,
    /// Files, and places in files, that could not be read.
    pub(super) unreadable: u64,
}

/// Where pieces of the store in this directory are looked at.
pub(super) fn workplace(dir: &Path) -> PathBuf {
    dir.with_extension("pieces")
}

/// Copies what is left of a damaged store into a new one: what that derived from what it has lost
/// would hide that it is gone.
pub(super) fn save(damaged: &Path, fresh: &Path, floor: u64) -> Result<Saved, RecordsError> {
    let work = workplace(damaged);
    let table = make_table(fresh, floor)?;
    let failed = refused("read the pieces of", damaged);
    let digests = table.digests();
    let digests =
        digests.map_err(|error| refused("read", fresh)(io::Error::other(words(&error))))?;
    let (waiting, saved) = (Vec::new(), Saved::default());
    let mut saver = Saver { table: &table, digests, waiting, bytes: 0, saved };
    let pieces = match Pieces::make(damaged, &work) {
        Ok(pieces) => pieces,
        Err(error) => return Err(failed(error)),
    };
    let made = pieces.each(CONTENTS, &mut saver, |piece, saver| {
        salvage_contents(piece, &mut |op| saver.keep(op))
    });
    let made = made.and_then(|()| {
        pieces.each(INDEX, &mut saver, |piece, saver| {
            salvage_versions(piece, &table, &mut |op| saver.keep(op))
        })
    });
    made.map_err(|failure| match failure {
        Failure::System(error) => failed(error),
        Failure::Store(TableError(reason)) => RecordsError::Make { dir: fresh.to_owned(), reason },
    })?;
    let saved = saver.saved;
    let closed = table.close();
    closed.map_err(|error| RecordsError::Make { dir: fresh.to_owned(), reason: words(&error) })?;
    clear(&work).map_err(refused("delete", &work))?;
    Ok(saved)
}

/// Why saving failed.
enum Failure {
    System(io::Error),
    /// The new store.
    Store(TableError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Self::Store(error)
    }
}

/// Puts records into the new store.
struct Saver<'a> {
    table: &'a FjallTable,
    digests: Digests,
    waiting: Vec<StoreOp>,
    bytes: usize,
    saved: Saved,
}

impl Saver<'_> {
    /// The node waits for this: an fsync for each record would take too long.
    fn keep(&mut self, op: StoreOp) -> Result<(), TableError> {
        self.bytes += op.size();
        self.waiting.push(op);
        if self.waiting.len() < SAVED_TOGETHER && self.bytes < SAVED_BYTES {
            return Ok(());
        }
        self.put_all()
    }

    /// Also without records: numbers have to go on.
    fn put_all(&mut self) -> Result<(), TableError> {
        let mut batch = Batch::new(self.table, &mut self.digests);
        self.bytes = 0;
        for op in std::mem::take(&mut self.waiting) {
            execute(&mut batch, &op)?;
        }
        let writes = batch.into_writes();
        let is_record = |key: &&Vec<u8>| matches!(key.first(), Some(&CONTENT_KEYS | b'v'));
        self.saved.records += writes.keys().filter(is_record).count() as u64;
        self.table.commit(writes).map(drop).map_err(|error| TableError(words(&error)))
    }
}

/// A database that pieces of a damaged store are looked at in.
struct Pieces<'a> {
    damaged: &'a Path,
    database: PathBuf,
    /// A file of large values that holds none of those that matter.
    hole: PathBuf,
    /// Files of large values that can be read.
    blobs: BTreeSet<u64>,
}

/// The files in a directory whose names are numbers.
fn numbers(dir: &Path) -> io::Result<BTreeSet<u64>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_of_files(&error) => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(found)
}

/// Has a file stand at another place, too.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        // Not every file system can.
        Err(_) => fs::copy(from, to).map(drop),
    }
}

impl<'a> Pieces<'a> {
    fn make(damaged: &'a Path, work: &Path) -> io::Result<Self> {
        clear(work)?;
        fs::create_dir(work)?;
        let (database, hole) = (work.join("database"), work.join("hole"));
        let made = attempt(|| {
            let table = FjallTable::open(&database, 0)?;
            table.commit([(vec![CONTENT_KEYS], vec![0; LARGE])].into())?;
            table.flush()?;
            table.close()
        });
        made?.map_err(|damage| io::Error::other(damage.to_string()))?;
        let blobs = database.join(CONTENTS).join("blobs");
        let number = numbers(&blobs)?.pop_first();
        let number = number.ok_or_else(|| io::Error::other("the library keeps no large values"))?;
        fs::rename(blobs.join(number.to_string()), &hole)?;
        let mut pieces = Self { damaged, database, hole, blobs: BTreeSet::new() };
        fs::write(pieces.database.join(JOURNAL), "")?;
        for keyspace in [INDEX, CONTENTS] {
            pieces.put(keyspace, None, &BTreeSet::new())?;
        }
        pieces.find_blobs()?;
        Ok(pieces)
    }

    /// Finds the files of large values that the library opens.
    fn find_blobs(&mut self) -> io::Result<()> {
        let all = numbers(&self.damaged.join(CONTENTS).join("blobs"))?;
        let opens = |pieces: &Self, blobs: &BTreeSet<u64>| {
            pieces.put(CONTENTS, None, blobs)?;
            Ok::<bool, io::Error>(pieces.open()?.is_some())
        };
        self.blobs.clone_from(&all);
        if !opens(self, &all)? {
            self.blobs.clear();
            for number in all {
                let one = BTreeSet::from([number]);
                self.blobs.insert(number);
                if !opens(self, &one)? {
                    self.blobs.remove(&number);
                }
            }
        }
        self.put(CONTENTS, None, &BTreeSet::new())
    }

    /// Has a keyspace hold one table, or none, and these files of large values: those that can't be
    /// read are replaced.
    fn put(&self, keyspace: &str, table: Option<u64>, blobs: &BTreeSet<u64>) -> io::Result<()> {
        let (from, to) = (self.damaged.join(keyspace), self.database.join(keyspace));
        for kind in ["tables", "blobs"] {
            clear(&to.join(kind))?;
            fs::create_dir(to.join(kind))?;
        }
        if let Some(number) = table {
            let name = Path::new("tables").join(number.to_string());
            link(&from.join(&name), &to.join(&name))?;
        }
        for number in blobs {
            let name = Path::new("blobs").join(number.to_string());
            let found = if self.blobs.contains(number) { &from.join(&name) } else { &self.hole };
            link(found, &to.join(&name))?;
        }
        lead_to(&to, table, blobs)
    }

    /// None if it can't be opened.
    fn open(&self) -> io::Result<Option<FjallTable>> {
        Ok(attempt(|| FjallTable::look(&self.database))?.ok())
    }

    /// Puts a table into its place, with all files of large values that it refers to.
    fn open_with(&self, keyspace: &str, number: u64) -> io::Result<Option<FjallTable>> {
        let blobs = if keyspace == CONTENTS { &self.blobs } else { &BTreeSet::new() };
        match self.put(keyspace, Some(number), blobs) {
            Err(error) if is_of_files(&error) => return Ok(None),
            put => put?,
        }
        let Some(table) = self.open()? else { return Ok(None) };
        let Ok(wanted) = attempt(|| table.blobs())? else { return Ok(None) };
        if wanted.is_subset(blobs) {
            return Ok(Some(table));
        }
        drop(table);
        self.put(keyspace, Some(number), &(blobs | &wanted))?;
        self.open()
    }

    /// Reads all tables of a keyspace, and the journals.
    fn each(
        &self,
        keyspace: &str,
        saver: &mut Saver<'_>,
        read: impl Fn(&Piece, &mut Saver<'_>) -> Result<u64, TableError>,
    ) -> Result<(), Failure> {
        for number in numbers(&self.damaged.join(keyspace).join("tables"))? {
            match self.open_with(keyspace, number)? {
                Some(table) => Self::read(table, saver, &read)?,
                None => saver.saved.unreadable += 1,
            }
        }
        self.put(keyspace, None, &BTreeSet::new())?;
        let journal = self.database.join(JOURNAL);
        fs::write(&journal, whole_batches(self.damaged)?)?;
        if let Some(table) = self.open()? {
            Self::read(table, saver, &read)?;
        }
        fs::write(&journal, "")?;
        Ok(saver.put_all()?)
    }

    fn read(
        table: FjallTable,
        saver: &mut Saver<'_>,
        read: impl Fn(&Piece, &mut Saver<'_>) -> Result<u64, TableError>,
    ) -> Result<(), Failure> {
        let piece = Piece { table, lost: Cell::new(0) };
        saver.saved.unreadable += read(&piece, saver)? + piece.lost.get();
        Ok(())
    }
}

/// A part of a damaged store. A value that can't be read is an empty one, which is no record.
struct Piece {
    table: FjallTable,
    /// How many of them there were.
    lost: Cell<u64>,
}

fn passed_over<T>(work: impl FnOnce() -> Result<T, TableError>) -> Result<T, TableError> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(TableError("a part of a file is damaged or missing".to_owned())))
}

impl Table for Piece {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        passed_over(|| self.table.get(key))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        let keys = || self.table.keys(from, to, limit).map_err(|error| TableError(words(&error)));
        let value = |key: &[u8]| {
            let found = self.get(key).ok().flatten();
            self.lost.set(self.lost.get() + u64::from(found.is_none()));
            found.unwrap_or_default()
        };
        let rows = passed_over(keys)?.into_iter().map(|key| {
            let value = value(&key);
            (key, value)
        });
        Ok(rows.collect())
    }
}
