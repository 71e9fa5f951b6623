//! How far a record store has to reach.
//!
//! Problem: a journal that was emptied, zeroed or cut looks like one that nothing was written to.
//! The store alone can't tell, so something beside it has to say what was acknowledged.
//!
//! Every commit of ours carries `Numbers` under one key: one batch, one number, no gap. The file
//! beside the store, `records.mark`, has the number of the last batch that was synced, twice, in
//! blocks of 4 KiB that are written in turn: `BZZZrec\n`, number u64 little-endian, the first 16
//! bytes of the BLAKE3 hash of both. It is written after every sync and synced itself now and then,
//! when a store is opened, and when it is closed.
//!
//! What is noticed: any loss at the end of the store, after the process ended in whatever way, as
//! the kernel keeps what was written. After a power cut or a crash of the kernel the mark may be
//! that of some seconds earlier; then a loss of less than that is not noticed. Loss in the middle
//! is noticed by the numbers alone (`opening`).
//!
//! Invariants:
//! 1. The mark is never ahead of what is on disk.
//! 2. Numbers never fall: a store that takes the place of another one goes on with its numbers.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::adapters::files;

/// Under this key every commit leaves its numbers, in both keyspaces. No key of a record begins
/// like this.
pub(super) const NUMBERS_KEY: &[u8] = b"n";

const BLOCK: usize = 4096;
const MAGIC: &[u8; 8] = b"BZZZrec\n";
/// Bytes of a block that say something.
const MARK_LEN: usize = 32;
/// How long a mark may stay in the kernel's memory.
const SYNC_EVERY: Duration = Duration::from_secs(10);

/// What a commit says of itself and of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    /// The first batch of this store.
    pub first: u64,
    /// This batch.
    pub number: u64,
    /// The last batch before this one that wrote contents, 0 if there is none.
    pub contents_before: u64,
    /// The last one that did, this one included.
    pub contents: u64,
}

impl Numbers {
    /// Of a store that has nothing yet, in the place of one that had come this far.
    pub(super) fn above(floor: u64) -> Self {
        Self { first: floor.saturating_add(1), number: floor, contents_before: 0, contents: 0 }
    }

    /// Of the next batch.
    pub(super) fn following(self, writes_contents: bool) -> Self {
        let number = self.number.saturating_add(1);
        let contents = if writes_contents { number } else { self.contents };
        Self { first: self.first, number, contents_before: self.contents, contents }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = [self.first, self.number, self.contents_before, self.contents];
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, []) = bytes.as_chunks::<8>() else { return None };
        let [first, number, contents_before, contents] = *numbers else { return None };
        let [first, number, contents_before, contents] =
            [first, number, contents_before, contents].map(u64::from_le_bytes);
        Some(Self { first, number, contents_before, contents })
    }
}

/// What the file beside a store says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marked {
    /// There is none.
    No,
    /// It makes no sense.
    Unreadable,
    /// Everything up to this batch was acknowledged.
    UpTo(u64),
}

impl Marked {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::No),
            Err(error) => return Err(error),
        };
        let number = bytes.chunks(BLOCK).take(2).filter_map(decode).max();
        Ok(number.map_or(Self::Unreadable, Self::UpTo))
    }

    /// The last batch that has to be there.
    pub(super) fn number(self) -> u64 {
        if let Self::UpTo(number) = self { number } else { 0 }
    }
}

fn encode(number: u64) -> [u8; MARK_LEN] {
    let mut mark = [0; MARK_LEN];
    mark[..8].copy_from_slice(MAGIC);
    mark[8..16].copy_from_slice(&number.to_le_bytes());
    let check = blake3::hash(&mark[..16]);
    mark[16..].copy_from_slice(&check.as_bytes()[..16]);
    mark
}

fn decode(block: &[u8]) -> Option<u64> {
    let mark = block.first_chunk::<MARK_LEN>()?;
    let number = u64::from_le_bytes(*mark[8..].first_chunk()?);
    (*mark == encode(number)).then_some(number)
}

/// Writes both blocks of the file that is there, none if it has another length. The block that
/// says more is written last, so that one of them can be read at any time.
fn overwrite(path: &Path, number: u64) -> io::Result<Option<File>> {
    let bytes = fs::read(path)?;
    if bytes.len() != 2 * BLOCK {
        return Ok(None);
    }
    let (first, second) = bytes.split_at(BLOCK);
    let order = if decode(first) > decode(second) { [1, 0] } else { [0, 1] };
    let file = OpenOptions::new().write(true).open(path)?;
    for block in order {
        file.write_all_at(&encode(number), block * BLOCK as u64)?;
        file.sync_data()?;
    }
    Ok(Some(file))
}

/// The file beside a store that is open.
pub(super) struct Marks {
    file: File,
    /// Which block is written next.
    place: u64,
    missed: bool,
    synced_at: Instant,
}

impl Marks {
    /// Has the file at `path` say that all up to this batch is on disk. It is made anew only if
    /// there is none that can be read: on a full disk there is no room for another one.
    pub(super) fn make(path: &Path, number: u64) -> io::Result<Self> {
        if let Marked::UpTo(_) = Marked::read(path)?
            && let Some(file) = overwrite(path, number)?
        {
            return Ok(Self { file, place: 0, missed: false, synced_at: Instant::now() });
        }
        let mut image = vec![0; 2 * BLOCK];
        for block in image.chunks_mut(BLOCK) {
            block[..MARK_LEN].copy_from_slice(&encode(number));
        }
        let file = files::replace(path, &image)?;
        Ok(Self { file, place: 0, missed: false, synced_at: Instant::now() })
    }

    /// All up to this batch was synced just now.
    pub(super) fn put(&mut self, number: u64) {
        let at = self.place * BLOCK as u64;
        match self.file.write_all_at(&encode(number), at) {
            // A write that failed may have left half of itself behind: the next takes the same
            // place.
            Ok(()) => self.place = 1 - self.place,
            Err(error) if !self.missed => {
                self.missed = true;
                tracing::warn!(%error, "cannot mark how far the record store reaches");
            }
            Err(_) => {}
        }
    }

    /// Syncs what was marked, if that was not done for a while.
    pub(super) fn sync_now_and_then(&mut self) {
        if self.synced_at.elapsed() >= SYNC_EVERY {
            self.sync();
        }
    }

    /// Syncs what was marked.
    pub(super) fn sync(&mut self) {
        self.synced_at = Instant::now();
        if let Err(error) = self.file.sync_data() {
            tracing::warn!(%error, "cannot sync the marks of the record store");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_batches_and_those_with_contents() {
        let first = Numbers::above(7).following(false);
        assert_eq!(first, Numbers { first: 8, number: 8, contents_before: 0, contents: 0 });
        let third = first.following(true).following(false);
        assert_eq!(third, Numbers { first: 8, number: 10, contents_before: 9, contents: 9 });
        assert_eq!(Numbers::decode(&third.encode()), Some(third));
        assert_eq!(Numbers::decode(&third.encode()[1..]), None);
        assert_eq!(Numbers::decode(&[third.encode(), vec![0; 8]].concat()), None);
    }

    #[test]
    fn a_file_that_can_be_read_is_written_in_place() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.mark");
        let inode = || fs::metadata(&path).unwrap().ino();
        let mut marks = Marks::make(&path, 4).unwrap();
        let first = inode();
        for number in 5..=8 {
            marks.put(number);
            let mut again = Marks::make(&path, number).unwrap();
            assert_eq!(inode(), first);
            let bytes = fs::read(&path).unwrap();
            let marked: Vec<_> = bytes.chunks(BLOCK).map(decode).collect();
            assert_eq!(marked, [Some(number), Some(number)]);
            again.put(number);
        }
        fs::write(&path, "something else").unwrap();
        Marks::make(&path, 9).unwrap();
        assert_eq!(Marked::read(&path).unwrap(), Marked::UpTo(9));
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 * BLOCK as u64);
    }

    #[test]
    fn the_last_mark_that_was_written_whole_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records.mark");
        assert_eq!(Marked::read(&path).unwrap(), Marked::No);
        let mut marks = Marks::make(&path, 4).unwrap();
        assert_eq!(Marked::read(&path).unwrap(), Marked::UpTo(4));
        for number in 5..=8 {
            marks.put(number);
            assert_eq!(Marked::read(&path).unwrap(), Marked::UpTo(number));
        }
        let whole = fs::read(&path).unwrap();
        for (block, left) in [(0, 8), (1, 7)] {
            let mut bytes = whole.clone();
            bytes[block * BLOCK + 9] ^= 4;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(Marked::read(&path).unwrap(), Marked::UpTo(left));
        }
        for damaged in [b"".as_slice(), &whole[..20], b"something else"] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(Marked::read(&path).unwrap(), Marked::Unreadable);
        }
        fs::write(&path, &whole[..BLOCK]).unwrap();
        assert_eq!(Marked::read(&path).unwrap(), Marked::UpTo(7));
    }
}
