//! Opens a record store, and finds out first whether it has everything that was acknowledged.
//!
//! Problem: fjall drops what it can't parse, makes anew what is gone, or fails in its own words,
//! and an empty store answers "there is none" to everything.
//!
//! Flow: the mark beside the store is read (`marks`), then the journals (`journals`) and the way to
//! the tables (`manifest`), and nothing is changed by that. If all of it fits together the store is
//! opened, and its numbers have to reach as far as the mark and leave no gap between tables and
//! journals. If anything is missing or damaged, what can still be read (`pieces`) is put into a new
//! store, which takes the place of the old one; that is kept beside it as `records.damaged-<time>`.
//! The new one is marked as having lost something: it vouches for nothing until everything was
//! copied from others, and never where no other has it, before the operator gives that up.
//!
//! Where there are no others, what is lost is lost. Then nothing is changed before the operator has
//! said that it is given up.
//!
//! What the operating system refuses for the moment is no damage: nothing is set aside, and the
//! start fails. So it does if there is no room for what can be saved.
//!
//! Invariants:
//! 1. A store that is called whole has every batch up to the mark, in files that lead to each
//!    other.
//! 2. What was found damaged is never deleted or changed here. At most three of them are kept, then
//!    the node does not start.
//! 3. A start that is cut short at any point leaves something that the next start finds damaged, or
//!    incomplete, or whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fjall::LsmError;

use super::damage::{ASIDE_MAX, Damage, RecordsError, is_of_files, refused};
use super::journals::{self, Scanned};
use super::manifest;
use super::marks::{Marked, Marks, Numbers};
use super::pieces::{Saved, save, workplace};
use super::table::{FjallTable, words};
use super::writer::{ROOM_MIN, has_room};
use crate::adapters::files;
use crate::ports::records::{Digests, Kept};
use crate::types::Wall;

/// What the file that says the version of a database consists of.
const VERSION: &[u8] = b"FJL\x03";

/// What the marker says of a store that was found damaged and is being replaced.
const DAMAGED: &[u8] = b"damaged\n";
/// What it says of one that contradicts itself nowhere, or of which the rest is given up.
const INCOMPLETE: &[u8] = b"incomplete\n";
/// What it says of one that took the place of another one that had more.
const LOST: &[u8] = b"lost\n";

/// Where what a store has lost can be had again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    /// Other members have it.
    Elsewhere,
    /// Nobody has it.
    Nowhere,
}

/// A store that was opened.
pub(super) struct Opened {
    pub(super) table: FjallTable,
    pub(super) digests: Digests,
    pub(super) marks: Marks,
    /// How much it has of what it once had.
    pub(super) kept: Kept,
}

/// What is known of a store before it is opened.
pub(super) struct Opening<'a> {
    pub(super) dir: &'a Path,
    /// True if there was a store: one that is not there has been lost.
    pub(super) expected: bool,
    pub(super) copies: Copies,
    /// True if the operator gives up what is lost.
    pub(super) given_up: bool,
}

/// Stands beside the store from when it was found to lack something until it is whole.
pub(super) fn marker(dir: &Path) -> PathBuf {
    dir.with_extension("incomplete")
}

/// Stands beside the store after it has failed, so that the next start looks at all of it.
fn suspicion(dir: &Path) -> PathBuf {
    dir.with_extension("suspect")
}

/// Has the next start look at all of the store.
pub(super) fn suspect(dir: &Path) {
    if let Err(error) = put_file(&suspicion(dir), b"failed\n") {
        tracing::warn!(%error, "cannot have the next start look at all of the record store");
    }
}

/// Makes a file that survives a power cut.
fn put_file(path: &Path, says: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(says)?;
    file.sync_all()?;
    files::sync_parent(path)
}

fn is_empty(dir: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(dir)?.next().is_none())
}

/// A database whose making was interrupted holds nothing, and can't be opened.
fn is_half_made(dir: &Path) -> io::Result<bool> {
    if dir.join("version").metadata().is_ok_and(|metadata| metadata.len() > 0) {
        return Ok(false);
    }
    let keyspaces = manifest::keyspaces(dir)?;
    Ok(!is_empty(dir)? && keyspaces.iter().all(|path| path.ends_with("0")))
}

/// What a failure of the library says of the files, unless it is the operating system that refuses
/// something for the moment, such as a descriptor or a permission.
fn judged(error: fjall::Error) -> io::Result<Damage> {
    match error {
        fjall::Error::Locked => Err(io::Error::other(words(&error))),
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error))
            if !is_of_files(&error) =>
        {
            Err(error)
        }
        error => Ok(Damage::Unopenable(words(&error))),
    }
}

/// What the library makes of damage may also be a panic.
pub(super) fn attempt<T>(work: impl FnOnce() -> fjall::Result<T>) -> io::Result<Result<T, Damage>> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(Ok(done)),
        Ok(Err(error)) => judged(error).map(Err),
        Err(_) => Ok(Err(Damage::Unopenable("a part of a file is damaged or missing".to_owned()))),
    }
}

/// Opens a database.
fn open_table(dir: &Path, floor: u64) -> io::Result<Result<FjallTable, Damage>> {
    attempt(|| FjallTable::open(dir, floor))
}

fn not_made(dir: &Path, error: &fjall::Error) -> RecordsError {
    RecordsError::Make { dir: dir.to_owned(), reason: words(error) }
}

/// Opens one in which nothing can be damaged.
pub(super) fn make_table(dir: &Path, floor: u64) -> Result<FjallTable, RecordsError> {
    let reason = match open_table(dir, floor) {
        Ok(Ok(table)) => return Ok(table),
        Ok(Err(damage)) => damage.to_string(),
        Err(error) => error.to_string(),
    };
    Err(RecordsError::Make { dir: dir.to_owned(), reason })
}

/// What the numbers of an open store say to its journals and to its mark.
fn missing(
    table: &FjallTable,
    scanned: &Scanned,
    acknowledged: u64,
) -> io::Result<Result<(), Damage>> {
    let numbers = table.numbers();
    let acknowledged = acknowledged.max(numbers.number);
    let found = scanned.last.map_or(numbers.number, |last| last.number);
    if found < acknowledged {
        return Ok(Err(Damage::Behind { found, acknowledged }));
    }
    let (index, contents) = match attempt(|| table.flushed())? {
        Ok(flushed) => flushed,
        Err(damage) => return Ok(Err(damage)),
    };
    let (before, contents_before) = match scanned.first {
        Some(Numbers { first, number, .. }) if first == number => (0, 0),
        Some(first) => (first.number.saturating_sub(1), first.contents_before),
        None => (numbers.number, numbers.contents),
    };
    let is_new = numbers.number < numbers.first;
    let has_gap = !is_new && (index < before || contents < contents_before);
    Ok(if has_gap { Err(Damage::Gap) } else { Ok(()) })
}

impl Opening<'_> {
    /// Opens the store, or a new one in its place.
    pub(super) fn open(&self) -> Result<Opened, RecordsError> {
        self.go_on_replacing().map_err(refused("replace", self.dir))?;
        fs::create_dir_all(self.dir).map_err(refused("make", self.dir))?;
        let marks = self.beside("mark");
        let marked = Marked::read(&marks).map_err(refused("read", &marks))?;
        match self.look(marked).map_err(refused("look into", self.dir))? {
            Ok((table, digests)) => self.take(table, digests, marked),
            Err(damage) => self.replace(&damage, marked.number()),
        }
    }

    /// Opens the store if it has everything, and its digests can be read.
    fn look(&self, marked: Marked) -> io::Result<Result<(FjallTable, Digests), Damage>> {
        let table = match self.examine(marked)? {
            Ok(table) => table,
            Err(damage) => return Ok(Err(damage)),
        };
        let digests = attempt(|| table.digests())?;
        Ok(digests.map(|digests| (table, digests)))
    }

    fn beside(&self, what: &str) -> PathBuf {
        self.dir.with_extension(what)
    }

    /// An earlier start may have moved a damaged store away, and got no further.
    fn go_on_replacing(&self) -> io::Result<()> {
        let fresh = self.beside("new");
        if !self.dir.exists() && fresh.exists() && self.says(DAMAGED) {
            fs::rename(&fresh, self.dir)?;
            put_file(&marker(self.dir), LOST)?;
        }
        Ok(())
    }

    fn says(&self, what: &[u8]) -> bool {
        fs::read(marker(self.dir)).is_ok_and(|says| says == what)
    }

    /// Opens the store if it has everything up to the mark.
    fn examine(&self, marked: Marked) -> io::Result<Result<FjallTable, Damage>> {
        let acknowledged = marked.number();
        // Every store has a mark from its beginning on, but for those of earlier versions.
        let was_used = acknowledged > 0 || self.expected && !matches!(marked, Marked::UpTo(_));
        if is_half_made(self.dir)? {
            if was_used {
                return Ok(Err(Damage::Missing("keyspaces".to_owned())));
            }
            fs::remove_dir_all(self.dir)?;
            fs::create_dir_all(self.dir)?;
        }
        if is_empty(self.dir)? {
            if self.expected || was_used {
                return Ok(Err(Damage::Gone));
            }
            return open_table(self.dir, 0);
        }
        self.mend_small_files()?;
        let scanned = journals::scan(self.dir)?;
        let is_unfinished = self.says(DAMAGED);
        if self.expected || was_used || scanned.has_batches {
            let everything = is_unfinished || suspicion(self.dir).exists();
            if let Some(damage) = manifest::check(self.dir, everything)? {
                return Ok(Err(damage));
            }
        }
        // Without a mark nothing tells what the start that was cut short has cut off.
        let unfinished = (is_unfinished && acknowledged == 0).then_some(Damage::Unfinished);
        if let Some(damage) = scanned.damage(acknowledged).or(unfinished) {
            return Ok(Err(damage));
        }
        scanned.cut(self.dir)?;
        self.open_without_gap(&scanned, acknowledged)
    }

    /// While several journals are open, work in the background closes a gap between them and the
    /// tables, and a later start would not see it any more. So nothing works before the verdict.
    fn open_without_gap(
        &self,
        scanned: &Scanned,
        acknowledged: u64,
    ) -> io::Result<Result<FjallTable, Damage>> {
        let has_several = scanned.are_several();
        let opened = match has_several {
            true => attempt(|| FjallTable::look(self.dir))?,
            false => open_table(self.dir, 0)?,
        };
        let table = match opened {
            Ok(table) => table,
            Err(damage) => return Ok(Err(damage)),
        };
        if let Err(damage) = missing(&table, scanned, acknowledged)? {
            return Ok(Err(damage));
        }
        if !has_several {
            return Ok(Ok(table));
        }
        drop(table);
        open_table(self.dir, 0)
    }

    /// Two files of the library hold nothing that is not known: they are made anew.
    fn mend_small_files(&self) -> io::Result<()> {
        let (version, lock) = (self.dir.join("version"), self.dir.join("lock"));
        if !fs::read(&version).is_ok_and(|found| found == VERSION) {
            tracing::warn!(file = %version.display(), "made a damaged or missing file anew");
            put_file(&version, VERSION)?;
        }
        if !lock.exists() {
            tracing::warn!(file = %lock.display(), "made a missing file anew");
            put_file(&lock, b"")?;
        }
        Ok(())
    }

    /// The store as it is.
    fn take(
        &self,
        table: FjallTable,
        digests: Digests,
        marked: Marked,
    ) -> Result<Opened, RecordsError> {
        let (number, path) = (table.numbers().number, self.beside("mark"));
        let has_mark = matches!(marked, Marked::UpTo(_)) || number == 0 && marked == Marked::No;
        if !has_mark {
            tracing::error!(
                file = %path.display(),
                "the mark that says how far the record store has to reach is missing or damaged, \
                 so nothing tells whether its last writes are there; it is compared with those of \
                 other members, if there are any"
            );
            let marker = marker(self.dir);
            if !self.says(LOST) {
                put_file(&marker, INCOMPLETE).map_err(refused("write", &marker))?;
            }
        }
        if self.says(DAMAGED) {
            let marker = marker(self.dir);
            tracing::warn!(
                file = %marker.display(),
                "the record store that an earlier start found damaged fits together again; it is \
                 compared with those of other members, if there are any"
            );
            put_file(&marker, INCOMPLETE).map_err(refused("write", &marker))?;
        }
        if number == 0 && self.expected {
            // One of an earlier version: from now on a loss at its end is noticed.
            let made = table.commit(BTreeMap::new());
            made.map_err(|error| not_made(self.dir, &error))?;
        }
        self.opened(table, digests)
    }

    fn opened(&self, table: FjallTable, digests: Digests) -> Result<Opened, RecordsError> {
        let (path, suspicion) = (self.beside("mark"), suspicion(self.dir));
        let marks = Marks::make(&path, table.numbers().number).map_err(refused("write", &path))?;
        // An earlier start may have been cut short.
        let work = workplace(self.dir);
        clear(&work).map_err(refused("delete", &work))?;
        if suspicion.exists() {
            fs::remove_file(&suspicion).map_err(refused("delete", &suspicion))?;
        }
        let kept = self.kept().map_err(refused("read", &marker(self.dir)))?;
        Ok(Opened { table, digests, marks, kept })
    }

    /// What the marker says. What it says of a loss is forgotten if that is given up.
    fn kept(&self) -> io::Result<Kept> {
        let marker = marker(self.dir);
        match fs::read(&marker) {
            Ok(says) if says == INCOMPLETE => Ok(Kept::Unsure),
            Ok(_) if self.given_up => {
                tracing::warn!(
                    "what the record store has lost and no other member has is given up"
                );
                put_file(&marker, INCOMPLETE)?;
                Ok(Kept::Unsure)
            }
            Ok(_) => Ok(Kept::Lost),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kept::Whole),
            Err(error) => Err(error),
        }
    }

    /// Puts what can still be read into a new store, and that in the place of the old one.
    fn replace(&self, damage: &Damage, acknowledged: u64) -> Result<Opened, RecordsError> {
        let (dir, damage) = (self.dir, damage.clone());
        let was_used = self.expected || acknowledged > 0;
        if was_used && self.copies == Copies::Nowhere && !self.given_up {
            return Err(RecordsError::Lost { dir: dir.to_owned(), damage });
        }
        if self.is_mounted().map_err(refused("look at", dir))? {
            return Err(RecordsError::Mounted { dir: dir.to_owned(), damage });
        }
        let Some(aside) = self.aside().map_err(refused("look beside", dir))? else {
            return Err(RecordsError::TooMany { dir: dir.to_owned(), damage });
        };
        let (marker, fresh) = (marker(dir), self.beside("new"));
        put_file(&marker, DAMAGED).map_err(refused("write", &marker))?;
        let saved = match is_empty(dir).map_err(refused("look into", dir))? {
            true => self.make_empty(&fresh, acknowledged)?,
            false => self.save_into(&fresh, acknowledged)?,
        };
        self.exchange(&fresh, &aside).map_err(refused("replace", dir))?;
        let says = if was_used { LOST } else { INCOMPLETE };
        put_file(&marker, says).map_err(refused("write", &marker))?;
        self.tell(&damage, &aside, saved);
        let table = make_table(dir, 0)?;
        let digests = table.digests().map_err(|error| not_made(dir, &error))?;
        self.opened(table, digests)
    }

    /// True if it can't be moved.
    fn is_mounted(&self) -> io::Result<bool> {
        let (found, dir) = (fs::symlink_metadata(self.dir)?, self.dir.parent());
        let parent = fs::metadata(dir.unwrap_or(Path::new(".")))?;
        Ok(found.is_symlink() || found.dev() != parent.dev())
    }

    fn tell(&self, damage: &Damage, aside: &Path, saved: Saved) {
        let dir = self.dir.display();
        let others = match self.copies {
            Copies::Elsewhere => "copied from other members",
            Copies::Nowhere => "given up",
        };
        let kept = match aside.exists() {
            true => format!("; what was found is kept in {}", aside.display()),
            false => String::new(),
        };
        let Saved { records, unreadable } = saved;
        let places = match unreadable {
            0 => String::new(),
            places => format!(", files or parts of files that could not: {places}"),
        };
        tracing::error!(
            "the record store {dir} is damaged: {damage}; {records} records and contents of it \
             could be read{places}, and what else it had is {others}{kept}"
        );
    }

    /// Where this store can be kept; none if too many are kept already.
    fn aside(&self) -> io::Result<Option<PathBuf>> {
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let prefix = format!("{name}.damaged-");
        let mut kept = 0;
        for entry in fs::read_dir(self.dir.parent().unwrap_or(Path::new(".")))? {
            kept += usize::from(entry?.file_name().to_string_lossy().starts_with(&prefix));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Wall(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)).stamp();
        let first = self.dir.with_file_name(format!("{prefix}{now}"));
        let more = (2..=ASIDE_MAX + 1).map(|n| first.with_file_name(format!("{prefix}{now}-{n}")));
        let free = std::iter::once(first.clone()).chain(more).find(|path| !path.exists());
        let is_nothing = is_empty(self.dir)?;
        Ok(free.filter(|_| is_nothing || kept < ASIDE_MAX))
    }

    /// Moves the old store aside, unless there is nothing of it, and the new one to its place.
    fn exchange(&self, fresh: &Path, aside: &Path) -> io::Result<()> {
        if is_empty(self.dir)? {
            fs::remove_dir(self.dir)?;
        } else {
            fs::rename(self.dir, aside)?;
        }
        fs::rename(fresh, self.dir)?;
        files::sync_parent(self.dir)
    }

    /// Makes a store without records that goes on with the numbers of the old one.
    fn make_empty(&self, fresh: &Path, floor: u64) -> Result<Saved, RecordsError> {
        clear(fresh).map_err(refused("delete", fresh))?;
        let table = make_table(fresh, floor)?;
        let made = table.commit(BTreeMap::new()).and_then(|_| table.close());
        made.map_err(|error| not_made(fresh, &error))?;
        Ok(Saved::default())
    }

    /// Puts what can still be read into a new store.
    fn save_into(&self, fresh: &Path, floor: u64) -> Result<Saved, RecordsError> {
        clear(fresh).map_err(refused("delete", fresh))?;
        let needed = bytes_in(self.dir).map_err(refused("look into", self.dir))?;
        let with_room = needed.saturating_add(ROOM_MIN);
        if !has_room(self.dir, with_room) {
            let mebibytes = with_room >> 20;
            let reason = format!("to save what can be read, {mebibytes} MiB have to be free");
            return Err(RecordsError::Make { dir: fresh.to_owned(), reason });
        }
        let (dir, mebibytes) = (self.dir.display(), needed >> 20);
        tracing::warn!(
            %dir, mebibytes, "saving what can be read of a damaged record store, which takes a while"
        );
        save(self.dir, fresh, floor)
    }
}

pub(super) fn clear(fresh: &Path) -> io::Result<()> {
    if fresh.exists() { fs::remove_dir_all(fresh) } else { Ok(()) }
}

/// Bytes on the disk that the files in there take.
fn bytes_in(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0_u64;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let more = match metadata.is_dir() {
            true => bytes_in(&entry.path())?,
            false => metadata.blocks().saturating_mul(512),
        };
        bytes = bytes.saturating_add(more);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_the_system_refuses_for_the_moment_is_no_damage() {
        let of = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for errno in [Errno::MFILE, Errno::ACCESS, Errno::NOMEM, Errno::NOSPC] {
            assert!(judged(fjall::Error::Io(of(errno))).is_err(), "{errno}");
            assert!(judged(fjall::Error::Storage(LsmError::Io(of(errno)))).is_err(), "{errno}");
        }
        assert!(judged(fjall::Error::Locked).is_err());
        for errno in [Errno::NOENT, Errno::IO, Errno::INVAL] {
            assert!(judged(fjall::Error::Io(of(errno))).is_ok(), "{errno}");
        }
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData] {
            assert!(judged(fjall::Error::Io(kind.into())).is_ok(), "{kind}");
        }
        assert!(judged(fjall::Error::Storage(LsmError::Unrecoverable)).is_ok());
    }

    #[test]
    fn a_new_store_that_takes_nothing_says_nothing_of_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let damaged = directory.path().join("records");
        drop(FjallTable::open(&damaged, 0).unwrap());
        let fresh = directory.path().join("records.new");
        fs::write(&fresh, "").unwrap();
        let saved = save(&damaged, &fresh, 0);
        assert!(matches!(saved, Err(RecordsError::Make { .. })), "{saved:?}");
    }
}
