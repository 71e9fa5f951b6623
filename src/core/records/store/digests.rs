//! The digests of all partitions: in memory, and on disk by what each batch changed.
//!
//! Problem: every write changes the digest of its partition, and nearly every one that of another partition. As rows of
//! their own, digests would be a third of all rows that are written.
//!
//! Flow: `load` -> `Batch` flips what it writes -> one row with the digests that the batch changed, as numbers: it takes
//! the place of the one that came `PLACES` batches before. Every `PLACES` batches a row with all of them takes the place
//! of the changes up to there.
//!
//! Keys: `d` -> all digests; `e` place -> the digests that a batch changed.
//!
//! Invariants:
//! 1. What is loaded is what the keys of the same table amount to: a batch writes its digests with its records, or neither.
//! 2. A change is overwritten only after the row of all of them has it.
//! 3. What is written is taken only if it is all there, each change following the one before: otherwise the keys say it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::keys::{ALL_DIGESTS_KEY, changes_key, end_of, read, written};
use super::{RECORD_KEYS_MAX, Table, TableError};
use crate::types::ContentHash;
use crate::types::record::{PARTITIONS, Partition};

/// Changes that are kept apart from the row of all digests.
pub(super) const PLACES: u64 = 1_024;

/// A digest for each partition: the exclusive or of the hashes of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    values: Vec<u64>,
    /// Number of the next change.
    next: u64,
}

/// All digests after a change.
#[derive(Serialize, Deserialize)]
struct All {
    number: u64,
    values: Vec<u64>,
}

/// The digests that a change left.
#[derive(Serialize, Deserialize)]
struct Change {
    number: u64,
    values: Vec<(Partition, u64)>,
}

/// The digests that a batch has changed so far.
pub(super) type Changed = BTreeMap<Partition, u64>;

/// The hash of one key.
pub(super) fn hash_of(item: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in item {
        hasher.update(part);
    }
    let mut hash = [0; 8];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(hash)
}

impl Digests {
    /// Those of a table; fails only where it cannot be read.
    pub fn load(table: &dyn Table) -> Result<Self, TableError> {
        Ok(match Self::stored(table)? {
            Some(digests) => digests,
            None => Self::of_keys(table)?,
        })
    }

    /// Those that are written there, if they are all there.
    fn stored(table: &dyn Table) -> Result<Option<Self>, TableError> {
        let Some(row) = table.get(ALL_DIGESTS_KEY)? else { return Ok(None) };
        let all = read::<All>(&row).ok();
        let all = all.filter(|all| all.values.len() == usize::from(PARTITIONS));
        let mut stored = all
            .and_then(|All { number, values }| Some(Self { values, next: number.checked_add(1)? }));
        // The number of all of them is a multiple of the places, so those of the changes after it rise with the keys.
        each_row(table, b"e", |_, row| {
            stored = stored.take().and_then(|digests| digests.followed_by(read(row).ok()?));
        })?;
        if stored.is_none() {
            tracing::warn!(
                "the digests of the record store do not fit together, and are made anew"
            );
        }
        Ok(stored)
    }

    /// Those after a change, unless they are from after it already. None if one is missing between them.
    fn followed_by(mut self, change: Change) -> Option<Self> {
        match change.number.cmp(&self.next) {
            Ordering::Less => Some(self),
            Ordering::Equal => {
                self.apply(&change.values.into_iter().collect());
                self.next = self.next.checked_add(1)?;
                Some(self)
            }
            Ordering::Greater => None,
        }
    }

    /// What the keys of a table amount to.
    pub fn of_keys(table: &dyn Table) -> Result<Self, TableError> {
        let mut found = Self { values: vec![0; usize::from(PARTITIONS)], next: 0 };
        // Changes that are there are from before the row of all of them that comes next.
        each_row(table, b"e", |_, row| {
            let number = read::<Change>(row).map_or(0, |change| change.number);
            found.next = found.next.max(number.saturating_add(PLACES) / PLACES * PLACES);
        })?;
        for prefix in [b"g", b"v"] {
            each_row(table, prefix, |key, value| {
                let slot = keyed(key, value).and_then(|(partition, hash)| {
                    Some((found.values.get_mut(usize::from(partition.0))?, hash))
                });
                // One that is no key is nobody's record either.
                if let Some((slot, hash)) = slot {
                    *slot ^= hash;
                }
            })?;
        }
        Ok(found)
    }

    /// Of one partition.
    pub(super) fn of(&self, partition: Partition) -> u64 {
        self.values.get(usize::from(partition.0)).copied().unwrap_or_default()
    }

    /// All of them, in the order of the partitions.
    pub fn values(&self) -> &[u64] {
        &self.values
    }

    /// All of them, after what a batch has changed.
    pub(super) fn with(&self, changed: &Changed) -> Vec<u64> {
        let mut after = self.clone();
        after.apply(changed);
        after.values
    }

    fn apply(&mut self, changed: &Changed) {
        for (partition, value) in changed {
            if let Some(slot) = self.values.get_mut(usize::from(partition.0)) {
                *slot = *value;
            }
        }
    }

    /// Takes over what a batch has changed; returns the row that has to be written with what it wrote.
    pub(super) fn change(&mut self, changed: Changed) -> (Vec<u8>, Vec<u8>) {
        self.apply(&changed);
        let number = self.next;
        self.next += 1;
        if number.is_multiple_of(PLACES) {
            let values = self.values.clone();
            return (ALL_DIGESTS_KEY.to_vec(), written(&All { number, values }));
        }
        let change = Change { number, values: changed.into_iter().collect() };
        (changes_key((number % PLACES) as u16), written(&change))
    }
}

/// Goes through all rows whose keys begin with this, a page at a time.
fn each_row(
    table: &dyn Table,
    prefix: &[u8],
    mut each: impl FnMut(&[u8], &[u8]),
) -> Result<(), TableError> {
    let (mut from, to) = (prefix.to_vec(), end_of(prefix));
    loop {
        let rows = table.range(&from, &to, RECORD_KEYS_MAX)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from = [last.as_slice(), &[0]].concat();
        for (key, value) in &rows {
            each(key, value);
        }
    }
}

/// Partition and hash of a row that counts.
fn keyed(key: &[u8], value: &[u8]) -> Option<(Partition, u64)> {
    match key {
        [b'g', hash @ ..] => {
            let hash = ContentHash(hash.try_into().ok()?);
            let generation: u32 = read(value).ok()?;
            Some((Partition::of_content(&hash), hash_of(&[key, &generation.to_be_bytes()])))
        }
        [_, high, low, ..] => Some((Partition(u16::from_be_bytes([*high, *low])), hash_of(&[key]))),
        _ => None,
    }
}
