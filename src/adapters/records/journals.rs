//! Looks at fjall's journals before fjall does.
//!
//! A journal is a file of batches: `01` items u32 sequence u64, then for each item `02` type compression
//! keyspace u64 key length u16 value length u32 length on disk u32, key and value, or `04` keyspace u64; then
//! `03` xxh3-64 over all items, `FJL` 3; all little-endian. Behind the last batch there are zeros. Read off
//! fjall 3.1; its crate is pinned, and a test here reads what it writes.
//!
//! Every batch of ours was synced before the next one was begun. So whatever follows the first
//! unreadable place in the newest journal is one torn batch, which nobody was told of, unless there is another whole
//! batch behind it. In an older journal there is nothing torn: it was synced as a whole.
//!
//! Invariants:
//! 1. What is cut off is copied aside first.
//! 2. A journal that this lets pass opens without a further cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

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

/// Reads one whole batch and returns its length.
fn batch(reader: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<u64> {
    let (mut head, mut hash, mut length) = ([0; 21], Xxh3::new(), 26);
    reader.read_exact(&mut head[..13])?;
    if head[0] != START {
        return Err(malformed());
    }
    for _ in 0..number::<4>(&head[1..]) {
        reader.read_exact(&mut head[..1])?;
        match head[0] {
            ITEM => {
                reader.read_exact(&mut head[1..])?;
                let bytes = number::<2>(&head[11..]) + number::<4>(&head[17..]);
                let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= ITEM_MAX);
                buffer.resize(bytes.ok_or_else(malformed)?, 0);
                reader.read_exact(buffer)?;
                hash.update(&head);
                hash.update(buffer);
                length += 21 + buffer.len() as u64;
            }
            CLEAR => {
                reader.read_exact(&mut head[1..9])?;
                hash.update(&head[..9]);
                length += 9;
            }
            _ => return Err(malformed()),
        }
    }
    reader.read_exact(&mut head[..13])?;
    let fits = head[0] == END && number::<8>(&head[1..]) == hash.digest() && head[9..13] == TRAILER;
    if fits { Ok(length) } else { Err(malformed()) }
}

fn is_no_batch(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Where the whole batches at the beginning of a journal end.
fn end_of_batches(file: &File) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    reader.seek(SeekFrom::Start(0))?;
    let (mut end, mut buffer) = (0, Vec::new());
    loop {
        match batch(&mut reader, &mut buffer) {
            Ok(length) => end += length,
            Err(error) if is_no_batch(&error) => return Ok(end),
            Err(error) => return Err(error),
        }
    }
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

/// The journals of a database, oldest first.
fn journals(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if path.extension().is_some_and(|extension| extension == "jnl")
            && let Some(number) = stem
        {
            found.push((number, path));
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

/// A database whose making was interrupted holds nothing, and can't be opened.
fn is_half_made(dir: &Path) -> io::Result<bool> {
    let version = dir.join("version");
    if version.metadata().is_ok_and(|metadata| metadata.len() > 0) {
        return Ok(false);
    }
    let keyspaces = match fs::read_dir(dir.join("keyspaces")) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let empty = fs::read_dir(dir)?.next().is_none();
    Ok(!empty && keyspaces.iter().all(|entry| entry.file_name() == "0"))
}

/// What is in the directory of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No database.
    Nothing,
    /// One that has everything that was acknowledged.
    Whole,
    /// One that may lack something.
    Damage,
}

/// Looks at a store, and cuts off what fjall would cut off. `mark` is called before anything is cut
/// that may have been acknowledged.
pub(super) fn prepare(dir: &Path, mark: impl Fn() -> io::Result<()>) -> io::Result<Found> {
    if is_half_made(dir)? {
        fs::remove_dir_all(dir)?;
        fs::create_dir_all(dir)?;
    }
    let journals = journals(dir)?;
    if !dir.join("version").exists() {
        return Ok(Found::Nothing);
    }
    // With tables and no journal at all, somebody took the journals away.
    let mut damage = journals.is_empty();
    for (number, path) in journals.iter().enumerate() {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let end = end_of_batches(&file)?;
        let rest = rest(&file, end)?;
        if rest.is_empty() {
            continue;
        }
        let newest = number + 1 == journals.len();
        let lost = !newest || holds_a_batch(&rest);
        damage |= lost;
        if lost {
            mark()?;
        }
        keep_aside(dir, path, end, &rest)?;
        let (journal, bytes) = (path.display().to_string(), rest.len());
        if lost {
            tracing::error!(
                journal,
                at = end,
                bytes,
                "a journal of the record store is damaged; what it lost is copied from other nodes"
            );
        } else {
            tracing::info!(journal, at = end, bytes, "cut off a batch that was never acknowledged");
        }
        file.set_len(end)?;
        file.sync_all()?;
    }
    Ok(if damage { Found::Damage } else { Found::Whole })
}
