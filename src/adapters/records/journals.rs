//! Looks at fjall's journals before fjall does.
//!
//! A journal is a file of batches: `01` items u32 sequence u64, then for each item `02` type
//! compression keyspace u64 key length u16 value length u32 length on disk u32, key and value, or
//! `04` keyspace u64; then `03` xxh3-64 over all items, `FJL` 3; all little-endian. Behind the last
//! batch there are zeros. Read off fjall 3.1; its crate is pinned, and a test here reads what it
//! writes.
//!
//! Every batch of ours was synced before the next one was begun. So whatever follows the first
//! unreadable place in the newest journal is one torn batch, which nobody was told of, unless there
//! is another whole batch behind it, or the marks (`marks`) say that more was acknowledged. In an
//! older journal there is nothing torn: it was synced as a whole. Batches carry numbers, which have
//! no gap from the first journal to the last.
//!
//! Invariants:
//! 1. What is cut off is copied aside first.
//! 2. A journal that this lets pass opens without a further cut.
//! 3. Nothing is changed before somebody has decided that it may be (`Scanned::cut`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::damage::{Damage, foreign, is_of_files};
use super::marks::{NUMBERS_KEY, Numbers};
use crate::types::limits::FRAME_LEN_MAX;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = *b"FJL\x03";
/// Bytes of a key and a value: more than any of ours.
const ITEM_MAX: usize = 2 * FRAME_LEN_MAX;

fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn number<const N: usize>(bytes: &[u8]) -> u64 {
    bytes[..N].iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// A whole batch.
struct Whole {
    length: u64,
    numbers: Option<Numbers>,
}

/// The numbers of a batch, if this item has them.
fn numbers_in(item: &[u8], key_length: usize) -> Option<Numbers> {
    let (key, value) = item.split_at_checked(key_length)?;
    if key == NUMBERS_KEY { Numbers::decode(value) } else { None }
}

/// Reads one whole batch.
fn batch(reader: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Whole> {
    let (mut head, mut hash) = ([0; 21], Xxh3::new());
    let mut whole = Whole { length: 26, numbers: None };
    reader.read_exact(&mut head[..13])?;
    if head[0] != START {
        return Err(malformed());
    }
    for _ in 0..number::<4>(&head[1..]) {
        reader.read_exact(&mut head[..1])?;
        match head[0] {
            ITEM => {
                reader.read_exact(&mut head[1..])?;
                let key_length = number::<2>(&head[11..]);
                let bytes = key_length + number::<4>(&head[17..]);
                let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= ITEM_MAX);
                buffer.resize(bytes.ok_or_else(malformed)?, 0);
                reader.read_exact(buffer)?;
                hash.update(&head);
                hash.update(buffer);
                whole.length += 21 + buffer.len() as u64;
                whole.numbers = whole.numbers.or_else(|| numbers_in(buffer, key_length as usize));
            }
            CLEAR => {
                reader.read_exact(&mut head[1..9])?;
                hash.update(&head[..9]);
                whole.length += 9;
            }
            _ => return Err(malformed()),
        }
    }
    reader.read_exact(&mut head[..13])?;
    let fits = head[0] == END && number::<8>(&head[1..]) == hash.digest() && head[9..13] == TRAILER;
    if fits { Ok(whole) } else { Err(malformed()) }
}

/// Bytes of the batch that stands at the beginning of these.
#[cfg(test)]
pub(super) fn length_of(bytes: &[u8]) -> Option<usize> {
    batch(&mut &bytes[..], &mut Vec::new()).ok().map(|whole| whole.length as usize)
}

fn is_no_batch(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// What stands behind the whole batches, without the zeros at its end.
fn rest(file: &File, from: u64) -> io::Result<Vec<u8>> {
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    reader.seek(SeekFrom::Start(from))?;
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest)?;
    let length = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    rest.truncate(length);
    Ok(rest)
}

/// True if a whole batch begins anywhere in there.
fn holds_a_batch(rest: &[u8]) -> bool {
    let mut buffer = Vec::new();
    let starts = rest.iter().enumerate().filter(|(_, byte)| **byte == START).map(|(at, _)| at);
    starts.into_iter().any(|at| batch(&mut &rest[at..], &mut buffer).is_ok())
}

/// All whole batches of a store that can still be read, in order, as they would stand in one
/// journal.
pub(super) fn whole_batches(dir: &Path) -> io::Result<Vec<u8>> {
    let (mut whole, mut buffer) = (Vec::new(), Vec::new());
    for path in journals(dir)? {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if is_of_files(&error) => continue,
            Err(error) => return Err(error),
        };
        let mut at = 0;
        while let Some(skipped) = bytes[at..].iter().position(|byte| *byte == START) {
            at += skipped;
            let length = batch(&mut &bytes[at..], &mut buffer).map(|batch| batch.length);
            // A place that can't be read has no end that is known.
            let length = length.ok().and_then(|length| usize::try_from(length).ok());
            whole.extend_from_slice(&bytes[at..at + length.unwrap_or(0)]);
            at += length.unwrap_or(1);
        }
    }
    Ok(whole)
}

/// The journals of a database, oldest first.
fn journals(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        // The library gives up at a name that it can't read.
        let Some(name) = name.to_str() else { return Err(foreign(&path)) };
        if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jnl")) {
            continue;
        }
        let number = name.strip_suffix(".jnl").and_then(|stem| stem.parse::<u64>().ok());
        match number {
            Some(number) if entry.file_type()?.is_file() => found.push((number, path)),
            _ => return Err(foreign(&path)),
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Puts what is cut off where somebody may look at it.
fn keep_aside(dir: &Path, journal: &Path, from: u64, rest: &[u8]) -> io::Result<()> {
    let aside = dir.with_extension("cut");
    fs::create_dir_all(&aside)?;
    let name = journal.file_stem().unwrap_or_default().to_string_lossy();
    let mut file = File::create(aside.join(format!("{name}-{from}")))?;
    file.write_all(rest)?;
    file.sync_all()
}

/// A journal, where its whole batches end, and how many bytes behind them are not zero.
struct Journal {
    path: PathBuf,
    end: u64,
    torn: u64,
}

/// What is in the journals of a store.
#[derive(Default)]
pub(super) struct Scanned {
    journals: Vec<Journal>,
    /// True if there is any batch.
    pub(super) has_batches: bool,
    /// Numbers of the first batch that has some.
    pub(super) first: Option<Numbers>,
    /// And of the last one.
    pub(super) last: Option<Numbers>,
    damage: Option<Damage>,
}

/// Reads the journals of a store, and changes nothing.
pub(super) fn scan(dir: &Path) -> io::Result<Scanned> {
    let (paths, mut scanned) = (journals(dir)?, Scanned::default());
    let newest = paths.len();
    for (at, path) in paths.into_iter().enumerate() {
        let file = File::open(&path)?;
        let end = scanned.read(&file)?;
        let rest = rest(&file, end)?;
        if !rest.is_empty() && (at + 1 < newest || holds_a_batch(&rest)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            scanned.damage.get_or_insert(Damage::Changed(name));
        }
        scanned.journals.push(Journal { path, end, torn: rest.len() as u64 });
    }
    Ok(scanned)
}

impl Scanned {
    /// Reads the whole batches at the beginning of a journal, and returns where they end.
    fn read(&mut self, file: &File) -> io::Result<u64> {
        let mut reader = BufReader::with_capacity(256 * 1024, file);
        reader.seek(SeekFrom::Start(0))?;
        let (mut end, mut buffer) = (0, Vec::new());
        loop {
            match batch(&mut reader, &mut buffer) {
                Ok(Whole { length, numbers }) => {
                    end += length;
                    self.has_batches = true;
                    self.note(numbers);
                }
                Err(error) if is_no_batch(&error) => return Ok(end),
                Err(error) => return Err(error),
            }
        }
    }

    fn note(&mut self, numbers: Option<Numbers>) {
        let Some(numbers) = numbers else { return };
        if self.last.is_some_and(|last| last.number.checked_add(1) != Some(numbers.number)) {
            self.damage.get_or_insert(Damage::Gap);
        }
        self.first = self.first.or(Some(numbers));
        self.last = Some(numbers);
    }

    /// True if there is more than one: what the older ones say is written to tables on opening.
    pub(super) fn are_several(&self) -> bool {
        self.journals.len() > 1
    }

    /// What is wrong with them, if everything up to this batch was acknowledged.
    pub(super) fn damage(&self, acknowledged: u64) -> Option<Damage> {
        if self.journals.is_empty() {
            return Some(Damage::Journals);
        }
        let behind = self.last.filter(|last| last.number < acknowledged);
        let behind = behind.map(|last| Damage::Behind { found: last.number, acknowledged });
        self.damage.clone().or(behind)
    }

    /// Cuts off what the library would cut off, and keeps that beside the store.
    pub(super) fn cut(&self, dir: &Path) -> io::Result<()> {
        for Journal { path, end, torn } in self.journals.iter().filter(|journal| journal.torn > 0) {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            keep_aside(dir, path, *end, &rest(&file, *end)?)?;
            let journal = path.display();
            tracing::info!(%journal, at = end, bytes = torn, "cut off the torn end of a journal");
            file.set_len(*end)?;
            file.sync_all()?;
        }
        Ok(())
    }
}
