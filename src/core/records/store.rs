//! What one node keeps of the records, and how it answers from it: pure functions over an ordered table.
//!
//! Problem: the same rules must hold over a real database and in the simulator, and many operations
//! must share one transaction, each seeing what those before it wrote.
//!
//! Flow: an adapter collects operations, makes a `Batch` over its table, calls `execute` for each, writes
//! the batch with one fsync, and only then hands the answers out.
//!
//! Keys: `c` hash -> content; `g` hash -> its generation; `v` partition, address, 0, version -> kind and body; `a` address -> newest version and
//! their count; `r` address, 0, request -> newest version of that publication, and whether it was in order when it came; `h` -> the highest stamp; `d`, `e`: see `digests`.
//!
//! Invariants:
//! 1. A version is inserted by `Add` only above the newest one of its address, and taken for inserted only while it is
//!    the newest: others insert it anywhere.
//! 2. The digest of a partition is the exclusive or of the hashes of its keys: equal sets, equal
//!    digests, however they came about.
//! 3. A publication is found only by a version that was above all others when it came to a holder of the current set, or
//!    is now. Where W of that set find it, it is above whatever was acknowledged before it began: W of the same set, or all
//!    of it since it became the current one, have that.
//! 4. Tries of a publication have the content of the first one that came here, unless a coordinator has settled on that
//!    of another one: then that is kept, too.
//! 5. An answer is bounded, in rows and in bytes.

mod digests;
mod keys;
mod salvage;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::digests::Digests;
use self::digests::{Changed, hash_of};
use self::keys::{
    CLOCK_KEY, address_of, content_key, end_of, generation_key, index_key, newest_key, read,
    request_key, version_key, version_of, version_prefix, written,
};
pub use self::keys::{CONTENT_KEYS, HOT_KEY};
pub use self::salvage::{Emit, salvage, salvage_contents, salvage_versions};
use super::placement::SetId;
use crate::types::fault::{Fault, planted};
use crate::types::limits::{
    RECORD_KEYS_MAX, RECORDS_BYTES_MAX, RECORDS_ROWS_MAX, UCXL_TEXT_MAX, VERSIONS_MAX,
};
use crate::types::record::{Hlc, PARTITIONS, Partition, Record, RecordKey, Version};
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, ContentHash, RequestId};

/// The table can't be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record store failed: {0}")]
pub struct TableError(pub String);

/// Why the record store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// The disk is full; nothing was written, and it goes on once there is room.
    #[error("the disk is full")]
    Full,
    /// It failed and takes nothing more until it is opened again.
    #[error("the record store failed: {0}")]
    Failed(String),
    /// It has more to do than it takes.
    #[error("the record store is busy")]
    Busy,
}

/// How much a store that was opened has of what it once had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All of it.
    Whole,
    /// Perhaps not all: it vouches for nothing until it was compared with others.
    Unsure,
    /// Not all, and nobody has given the rest up: it vouches for nothing until others have filled it up, and never where
    /// there are none.
    Lost,
}

/// Keys with their values, in order.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// An ordered map that survives a restart.
pub trait Table {
    /// A value.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError>;

    /// At most `limit` pairs from `from` on and before `to`, in order.
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError>;
}

/// What is to be done with the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Keep a content that was checked.
    Put {
        /// Its hash.
        hash: ContentHash,
        /// Counts its encryptions; a later one replaces an earlier one.
        generation: u32,
        /// It, as it is sent.
        content: Bytes,
    },
    /// Keep a version if it is the newest.
    Add {
        /// Its address.
        address: DecisionAddress,
        /// It.
        version: Version,
        /// Whether it replaces what other contents the tries of its publication have here.
        settled: bool,
        /// The current set of replicas, if this holder is in it and has everything that it ever acknowledged. Where W
        /// of one set have a version above their newest, it is above all that was acknowledged before.
        vouched: Option<SetId>,
    },
    /// Keep a version if it is the newest, and its content with it: both or neither.
    Post {
        /// Address of the version.
        address: DecisionAddress,
        /// It.
        version: Version,
        /// Generation of the content.
        generation: u32,
        /// The content, as it is sent.
        content: Bytes,
        /// As with `Add`.
        settled: bool,
        /// As with `Add`.
        vouched: Option<SetId>,
    },
    /// Keep a version that exists elsewhere already.
    Merge {
        /// Its address.
        address: DecisionAddress,
        /// It.
        version: Version,
        /// As with `Add`.
        vouched: Option<SetId>,
    },
    /// A content.
    Content(ContentHash),
    /// The newest version of an address.
    Newest(DecisionAddress),
    /// The newest version of one publication at an address, if this holder knows that it is above everything that was
    /// acknowledged before.
    Find {
        /// The address.
        address: DecisionAddress,
        /// The publication.
        request: RequestId,
        /// As with `Add`.
        vouched: Option<SetId>,
    },
    /// All versions of an address.
    Versions(DecisionAddress),
    /// Addresses with a prefix and their newest versions.
    Scan {
        /// What they begin with.
        prefix: String,
        /// The last one of the page before.
        after: Option<DecisionAddress>,
        /// Rows wanted.
        limit: usize,
    },
    /// The digests of all partitions.
    Digests,
    /// Keys of a partition.
    Keys {
        /// Which.
        partition: Partition,
        /// The last one of the page before.
        after: Option<RecordKey>,
    },
    /// Which of these keys are not there.
    Missing {
        /// They.
        keys: Vec<RecordKey>,
        /// Whether a version that is not there is preceded by its content, if that is not there either.
        with_contents: bool,
    },
    /// The records under these keys, as many as fit into one answer.
    Fetch(Vec<RecordKey>),
    /// The highest stamp of any version here.
    Clock,
}

impl StoreOp {
    /// About how many bytes it takes up.
    pub fn size(&self) -> usize {
        match self {
            Self::Put { content, .. } | Self::Post { content, .. } => content.0.len(),
            _ => 256,
        }
    }

    /// True for operations that may write.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Add { .. } | Self::Post { .. } | Self::Merge { .. })
    }
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAnswer {
    /// It is kept.
    Stored,
    /// The address has this version, and the one that was to be added is not greater.
    NotGreater(Version),
    /// The publication was made already, with this version; and its content, if it is there.
    Repeated(Version, Option<Bytes>),
    /// The address has as many versions as it may have.
    Full,
    /// To `Content`.
    Content(Option<Bytes>),
    /// To `Newest` and `Find`.
    Newest(Option<Version>),
    /// To `Versions`: oldest first.
    Versions(Vec<Version>),
    /// To `Scan`: rows in order, and whether there are more.
    Page(Vec<(DecisionAddress, Version)>, bool),
    /// To `Digests`: one for each partition.
    Digests(Vec<u64>),
    /// To `Keys` and `Missing`: keys, and whether there are more.
    Keys(Vec<RecordKey>, bool),
    /// To `Fetch`.
    Records(Vec<Record>),
    /// To `Clock`.
    Clock(Hlc),
}

/// Operations that are executed together: what they wrote, over what the table has.
pub struct Batch<'a> {
    table: &'a dyn Table,
    digests: &'a mut Digests,
    changed: Changed,
    writes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'a> Batch<'a> {
    /// Over this table, with its digests.
    pub fn new(table: &'a dyn Table, digests: &'a mut Digests) -> Self {
        Self { table, digests, changed: Changed::new(), writes: BTreeMap::new() }
    }

    /// What has to be written, together. From here on the digests are those after it: where it cannot be written they
    /// have to be loaded anew.
    pub fn into_writes(mut self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        if !self.changed.is_empty() {
            let (key, value) = self.digests.change(self.changed);
            self.writes.insert(key, value);
        }
        self.writes
    }

    /// Adds or takes off a key of a partition.
    fn flip(&mut self, partition: Partition, item: &[&[u8]]) {
        let digests = &self.digests;
        let digest = self.changed.entry(partition).or_insert_with(|| digests.of(partition));
        *digest ^= hash_of(item);
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        match self.writes.get(key) {
            Some(value) => Ok(Some(value.clone())),
            None => self.table.get(key),
        }
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.insert(key, value);
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let found = self.table.range(from, to, limit)?;
        let mut written = self.writes.range(from.to_vec()..to.to_vec()).peekable();
        if written.peek().is_none() {
            return Ok(found);
        }
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = found.into_iter().collect();
        merged.extend(written.map(|(key, value)| (key.clone(), value.clone())));
        Ok(merged.into_iter().take(limit).collect())
    }
}

/// What an address has.
#[derive(Serialize, Deserialize)]
struct Summary {
    newest: Version,
    count: u64,
}

/// What a publication has.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Made {
    version: Version,
    /// The set in which this holder was when it came above all others; none if it came otherwise.
    ordered: Option<SetId>,
}

// ---- Writing ---------------------------------------------------------------------------------------

fn put_content(
    batch: &mut Batch<'_>,
    hash: &ContentHash,
    generation: u32,
    content: &Bytes,
) -> Result<StoreAnswer, TableError> {
    let key = generation_key(hash);
    let partition = Partition::of_content(hash);
    if let Some(present) = batch.get(&key)? {
        let present: u32 = read(&present)?;
        if present >= generation {
            return Ok(StoreAnswer::Stored);
        }
        batch.flip(partition, &[&key, &present.to_be_bytes()]);
    }
    batch.flip(partition, &[&key, &generation.to_be_bytes()]);
    batch.put(key, written(&generation));
    batch.put(content_key(hash), content.0.clone());
    Ok(StoreAnswer::Stored)
}

fn summary(batch: &Batch<'_>, address: &DecisionAddress) -> Result<Option<Summary>, TableError> {
    batch.get(&newest_key(address.as_str()))?.map(|bytes| read(&bytes)).transpose()
}

/// The newest version that a publication has so far.
fn of_request(
    batch: &Batch<'_>,
    address: &DecisionAddress,
    request: &RequestId,
) -> Result<Option<Made>, TableError> {
    batch.get(&request_key(address, request))?.map(|bytes| read(&bytes)).transpose()
}

fn add(
    batch: &mut Batch<'_>,
    address: &DecisionAddress,
    version: &Version,
    (settled, vouched): (bool, Option<SetId>),
) -> Result<StoreAnswer, TableError> {
    let known = of_request(batch, address, &version.request)?;
    let is_other = |made: &Made| made.version.content != version.content;
    if let Some(Made { version: first, .. }) = known.filter(is_other).filter(|_| !settled) {
        let content = batch.get(&content_key(&first.content))?.map(Bytes);
        return Ok(StoreAnswer::Repeated(first, content));
    }
    let summary = summary(batch, address)?;
    if let Some(summary) = &summary {
        // One that is there and not the newest may have been copied here below what it has to be above.
        let is_ordered = *version >= summary.newest;
        // Nothing above the newest one is there. Kind and body are not in the key, but its content says them
        // (`Version::is_of`): two versions of one key are the same.
        let is_there =
            *version <= summary.newest && batch.get(&version_key(address, version))?.is_some();
        if !is_ordered && !planted(Fault::NoOrderRefusal) {
            return Ok(StoreAnswer::NotGreater(summary.newest));
        }
        if is_there {
            // Copied here before, and the newest still.
            if vouched.is_some() && known.is_none_or(|made| made.ordered != vouched) {
                note_made(batch, address, version, vouched);
            }
            return Ok(StoreAnswer::Stored);
        }
        if summary.count >= VERSIONS_MAX as u64 {
            return Ok(StoreAnswer::Full);
        }
    }
    insert(batch, address, version, summary, (known, vouched))?;
    Ok(StoreAnswer::Stored)
}

fn merge(
    batch: &mut Batch<'_>,
    address: &DecisionAddress,
    version: &Version,
    vouched: Option<SetId>,
) -> Result<StoreAnswer, TableError> {
    if batch.get(&version_key(address, version))?.is_none() {
        let summary = summary(batch, address)?;
        let known = of_request(batch, address, &version.request)?;
        insert(batch, address, version, summary, (known, vouched))?;
    }
    Ok(StoreAnswer::Stored)
}

fn note_made(
    batch: &mut Batch<'_>,
    address: &DecisionAddress,
    version: &Version,
    ordered: Option<SetId>,
) {
    let made = Made { version: *version, ordered };
    batch.put(request_key(address, &version.request), written(&made));
}

/// Inserts a version that is not there; `known` is the one that its publication has so far.
fn insert(
    batch: &mut Batch<'_>,
    address: &DecisionAddress,
    version: &Version,
    summary: Option<Summary>,
    (known, vouched): (Option<Made>, Option<SetId>),
) -> Result<(), TableError> {
    let key = version_key(address, version);
    batch.flip(Partition::of_address(address), &[&key]);
    batch.put(key, written(&(version.kind, version.body)));
    let (newest, count) = summary.map_or((*version, 0), |s| (s.newest.max(*version), s.count));
    batch.put(newest_key(address.as_str()), written(&Summary { newest, count: count + 1 }));
    if known.is_none_or(|known| known.version < *version) {
        note_made(batch, address, version, vouched.filter(|_| newest == *version));
    }
    let clock = clock(batch)?;
    if version.at > clock {
        batch.put(CLOCK_KEY.to_vec(), written(&version.at));
    }
    Ok(())
}

// ---- Reading ---------------------------------------------------------------------------------------

fn clock(batch: &Batch<'_>) -> Result<Hlc, TableError> {
    Ok(batch.get(CLOCK_KEY)?.map(|bytes| read(&bytes)).transpose()?.unwrap_or_default())
}

fn versions(batch: &Batch<'_>, address: &DecisionAddress) -> Result<Vec<Version>, TableError> {
    let prefix = version_prefix(address);
    // What was merged may exceed what may be added, by what was added at once elsewhere.
    let found = batch.range(&prefix, &end_of(&prefix), 2 * VERSIONS_MAX)?;
    found.iter().map(|(key, value)| version_of(&key[prefix.len()..], value)).collect()
}

fn scan(
    batch: &Batch<'_>,
    prefix: &str,
    after: Option<&DecisionAddress>,
    limit: usize,
) -> Result<StoreAnswer, TableError> {
    let begin = newest_key(prefix);
    let mut from = begin.clone();
    if let Some(after) = after {
        let mut next = newest_key(after.as_str());
        next.push(0);
        from = from.max(next);
    }
    let limit = limit.clamp(1, RECORDS_ROWS_MAX);
    let left_out = usize::from(after.is_some() && planted(Fault::ListingLeavesOut));
    let mut found = batch.range(&from, &end_of(&begin), left_out + limit + 1)?;
    found.drain(..left_out.min(found.len()));
    let more = found.len() > limit;
    found.truncate(limit);
    let rows = found.iter().map(|(key, value)| {
        let summary: Summary = read(value)?;
        Ok((address_of(&key[1..])?, summary.newest))
    });
    Ok(StoreAnswer::Page(rows.collect::<Result<_, TableError>>()?, more))
}

/// Keys of a partition: its contents first, then its versions.
fn keys(
    batch: &Batch<'_>,
    partition: Partition,
    after: Option<&RecordKey>,
) -> Result<StoreAnswer, TableError> {
    let mut found = Vec::new();
    let number = partition.0;
    let first = (number << 4).to_be_bytes();
    let mut from = [b"g", first.as_slice()].concat();
    let to = match (number + 1).checked_shl(4).filter(|_| number + 1 < PARTITIONS) {
        Some(next) => [b"g", next.to_be_bytes().as_slice()].concat(),
        None => end_of(b"g"),
    };
    let mut version_from = [b"v", number.to_be_bytes().as_slice()].concat();
    let version_to = [b"v", (number + 1).to_be_bytes().as_slice()].concat();
    match after {
        Some(RecordKey::Content(hash, _)) => {
            from = generation_key(hash);
            from.push(0);
        }
        Some(RecordKey::Version(address, version)) => {
            from.clone_from(&to);
            version_from = version_key(address, version);
            version_from.push(0);
        }
        None => {}
    }
    for (key, value) in batch.range(&from, &to, RECORD_KEYS_MAX + 1)? {
        let hash = key.get(1..).and_then(|rest| <[u8; 32]>::try_from(rest).ok());
        let hash = hash.ok_or_else(|| TableError("a key in it is damaged".into()))?;
        found.push(RecordKey::Content(ContentHash(hash), read(&value)?));
    }
    if found.len() <= RECORD_KEYS_MAX {
        let room = RECORD_KEYS_MAX + 1 - found.len();
        for (key, value) in batch.range(&version_from, &version_to, room)? {
            let rest = key.get(3..).unwrap_or_default();
            let end = rest.iter().take(UCXL_TEXT_MAX).position(|byte| *byte == 0);
            let end = end.ok_or_else(|| TableError("a key in it is damaged".into()))?;
            let version = version_of(&rest[end + 1..], &value)?;
            found.push(RecordKey::Version(address_of(&rest[..end])?, version));
        }
    }
    let more = found.len() > RECORD_KEYS_MAX;
    found.truncate(RECORD_KEYS_MAX);
    Ok(StoreAnswer::Keys(found, more))
}

fn lacks(batch: &Batch<'_>, key: &RecordKey) -> Result<bool, TableError> {
    Ok(match (key, batch.get(&index_key(key))?) {
        (RecordKey::Content(_, wanted), Some(bytes)) => read::<u32>(&bytes)? < *wanted,
        (_, present) => present.is_none(),
    })
}

fn missing(
    batch: &Batch<'_>,
    wanted: &[RecordKey],
    with_contents: bool,
) -> Result<StoreAnswer, TableError> {
    let mut missing = Vec::new();
    for key in wanted.iter().take(RECORD_KEYS_MAX) {
        if !lacks(batch, key)? {
            continue;
        }
        if let RecordKey::Version(_, version) = key
            && with_contents
        {
            // Of any generation.
            let content = RecordKey::Content(version.content, 0);
            if lacks(batch, &content)? {
                missing.push(content);
            }
        }
        missing.push(key.clone());
    }
    Ok(StoreAnswer::Keys(missing, false))
}

fn fetch(batch: &Batch<'_>, wanted: &[RecordKey]) -> Result<StoreAnswer, TableError> {
    let (mut records, mut bytes) = (Vec::new(), 0);
    for key in wanted.iter().take(RECORD_KEYS_MAX) {
        let stored = match key {
            RecordKey::Content(hash, _) => content_key(hash),
            RecordKey::Version(..) => index_key(key),
        };
        let Some(value) = batch.get(&stored)? else { continue };
        bytes += value.len() + UCXL_TEXT_MAX;
        if bytes > RECORDS_BYTES_MAX && !records.is_empty() {
            break;
        }
        records.push(match key {
            RecordKey::Content(hash, _) => Record::Content(*hash, Bytes(value)),
            RecordKey::Version(address, version) => Record::Version(address.clone(), *version),
        });
    }
    Ok(StoreAnswer::Records(records))
}

/// Executes one operation after those that went into the batch before.
pub fn execute(batch: &mut Batch<'_>, op: &StoreOp) -> Result<StoreAnswer, TableError> {
    match op {
        StoreOp::Put { hash, generation, content } => {
            put_content(batch, hash, *generation, content)
        }
        StoreOp::Add { address, version, settled, vouched } => {
            add(batch, address, version, (*settled, *vouched))
        }
        StoreOp::Post { address, version, generation, content, settled, vouched } => {
            let answer = add(batch, address, version, (*settled, *vouched))?;
            if answer == StoreAnswer::Stored {
                put_content(batch, &version.content, *generation, content)?;
            }
            Ok(answer)
        }
        StoreOp::Merge { address, version, vouched } => merge(batch, address, version, *vouched),
        StoreOp::Content(hash) => {
            Ok(StoreAnswer::Content(batch.get(&content_key(hash))?.map(Bytes)))
        }
        StoreOp::Newest(address) => {
            Ok(StoreAnswer::Newest(summary(batch, address)?.map(|summary| summary.newest)))
        }
        StoreOp::Find { address, request, vouched } => {
            let newest = summary(batch, address)?.map(|summary| summary.newest);
            let counts = |made: &Made| {
                // What came in any order, as to a new holder, is in order if it is the newest now.
                let is_ordered = made.ordered == *vouched || Some(made.version) == newest;
                vouched.is_some() && is_ordered || planted(Fault::FoundOutOfOrder)
            };
            let made = of_request(batch, address, request)?.filter(counts);
            Ok(StoreAnswer::Newest(made.map(|made| made.version)))
        }
        StoreOp::Versions(address) => versions(batch, address).map(StoreAnswer::Versions),
        StoreOp::Scan { prefix, after, limit } => scan(batch, prefix, after.as_ref(), *limit),
        StoreOp::Digests => Ok(StoreAnswer::Digests(batch.digests.with(&batch.changed))),
        StoreOp::Keys { partition, after } => keys(batch, *partition, after.as_ref()),
        StoreOp::Missing { keys, with_contents } => missing(batch, keys, *with_contents),
        StoreOp::Fetch(wanted) => fetch(batch, wanted),
        StoreOp::Clock => clock(batch).map(StoreAnswer::Clock),
    }
}

#[cfg(test)]
pub(super) mod tests;
