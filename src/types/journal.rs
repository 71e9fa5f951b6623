//! The byte format of a journal: how durable records lie in a file, and how damage is told apart
//! from a power cut.
//!
//! A power cut in the middle of an append leaves a torn end, which is normal and has to be cut
//! off without a word. A record that was acknowledged and can't be read any more is the opposite:
//! a node that went on without it would break promises that others rely on. Both look the same
//! at the end of a file, so the file says by itself how far its acknowledged part reaches.
//!
//! ```text
//! block 0   magic 8 | version 4 | file id 16 | name 64, zero padded | checksum 16
//! block 1   mark with an even sequence: sequence 8 | length 8 | chain 16 | checksum 16
//! block 2   mark with an odd sequence
//! then      records: length 4 | chain 16 | body
//! ```
//!
//! Numbers are little endian; a block is 4 KiB, so that a torn write of one mark leaves the other
//! one alone. Every version keeps the layout of block 0.
//!
//! Invariants:
//! 1. The chain value of a record covers the file id, every record before it and itself, so no
//!    record can be changed, dropped, swapped or taken over from another file.
//! 2. A mark is written only after its records were synced. What the newest readable mark covers
//!    is read completely, or reading fails.
//! 3. Behind that mark, records are kept as long as they chain. A batch whose mark was lost in a
//!    power cut was synced before it was acknowledged, so it chains; what does not is a torn end.
//! 4. Reading is total: any bytes give a result or an error, and no length that stands in them is
//!    trusted before it was compared with what is there.

use crate::types::limits::JOURNAL_RECORD_MAX;

/// Version of the format that this build writes and reads.
pub const JOURNAL_VERSION: u32 = 1;
/// Bytes before the first record.
pub const HEADER_LEN: u64 = 3 * BLOCK as u64;
/// Bytes of one encoded mark.
pub const MARK_LEN: usize = 48;
/// Bytes of a record beside its body.
pub const RECORD_OVERHEAD: usize = 4 + CHECK;
/// Bytes of a journal's name.
pub const JOURNAL_NAME_MAX: usize = 64;
/// What the file of a journal begins with.
pub const MAGIC: &[u8; 8] = b"BZZZjrn\n";

const BLOCK: usize = 4096;
/// Bytes of a checksum and of a chain value.
const CHECK: usize = 16;
const VERSION_AT: usize = MAGIC.len();
const FILE_ID_AT: usize = VERSION_AT + 4;
const NAME_AT: usize = FILE_ID_AT + 16;
const STATIC_LEN: usize = NAME_AT + JOURNAL_NAME_MAX;

const _: () = assert!(JOURNAL_RECORD_MAX <= u32::MAX as usize);
const _: () = assert!(STATIC_LEN + CHECK <= BLOCK && MARK_LEN <= BLOCK);

const REJOIN: &str = "this node can't come back as the same member: move the data directory aside \
     and join again with a token (`bzzz run --join ADDR --token-file FILE`)";

/// What the disk under the journals is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskState {
    /// Writes get to disk.
    #[default]
    Writable,
    /// There is no room: writes wait until there is.
    Full,
    /// It refused a write or a sync, so what it holds is in doubt until the node starts again.
    Failed,
}

/// Why a journal can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused an operation.
    #[error("{what}: {message}; look into the disk and the data directory, then restart the node")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// What the operating system said.
        message: String,
    },
    /// The bytes are no journal, or another one.
    #[error(
        "journal {name} is not usable: {reason}; unless the file was put there by mistake, {}",
        REJOIN
    )]
    NotAJournal {
        /// Journal that was asked for.
        name: String,
        /// What was found instead.
        reason: String,
    },
    /// The file was written by another version.
    #[error(
        "journal {name} has format {found} and this build reads {ours}; run the version of \
         bzzz that wrote it, or a newer one"
    )]
    Version {
        /// Journal that was asked for.
        name: String,
        /// Version found.
        found: u32,
        /// Version this build reads.
        ours: u32,
    },
    /// Bytes that were acknowledged have changed.
    #[error("journal {name} is damaged at byte {offset} ({reason}); {}", REJOIN)]
    Damaged {
        /// The journal.
        name: String,
        /// Where reading failed.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The file ends before what was acknowledged does.
    #[error(
        "journal {name} has {found} bytes where at least {expected} were acknowledged; {}",
        REJOIN
    )]
    Shorter {
        /// The journal.
        name: String,
        /// Bytes that were acknowledged.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// Another process uses the data directory.
    #[error("{path} is in use by another process{}; stop that node first, or give this one a \
         data directory of its own", pid_text(.pid))]
    Locked {
        /// The data directory.
        path: String,
        /// The process, where it is known.
        pid: Option<u32>,
    },
    /// This process has the journal open already.
    #[error("journal {name} is still open in this process; close it before opening it again")]
    InUse {
        /// The journal.
        name: String,
    },
    /// The data directory can't be written to.
    #[error(
        "{path} can't be written to ({message}); make the data directory writable for the \
         user that runs this node, or choose another one"
    )]
    ReadOnly {
        /// File or directory.
        path: String,
        /// What the operating system said.
        message: String,
    },
    /// The disk has no room.
    #[error("the disk has no room for {what}; free some space and try again")]
    Full {
        /// What should have been written.
        what: String,
    },
    /// The journal was closed before the request was carried out.
    #[error("the journal is closed because the node stops; try again when it runs")]
    Closed,
    /// A record is larger than any record may be.
    #[error("a record of {len} bytes is longer than the {limit} allowed; split it up")]
    RecordTooLong {
        /// Bytes of the record.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The name is no name for a journal.
    #[error("{name:?} can't name a journal; use 1 to 64 lower-case letters, digits and dashes")]
    Name {
        /// The name.
        name: String,
    },
}

impl JournalError {
    /// True if acknowledged records are lost, so that the node must not go on as the same member.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Shorter { .. } | Self::NotAJournal { .. })
    }
}

fn pid_text(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// A checksum, or the link of the chain behind a record.
pub type Chain = [u8; CHECK];

/// The end of a journal: all that is needed to go on writing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    file_id: [u8; 16],
    length: u64,
    chain: Chain,
    sequence: u64,
}

impl Tail {
    fn start(file_id: [u8; 16]) -> Self {
        let chain = digest(&[b"bzzz journal chain", &file_id]);
        Self { file_id, length: HEADER_LEN, chain, sequence: 0 }
    }

    /// Bytes up to the end of the last record; the next one is written there.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Sequence number of the last mark.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Appends the bytes of a record to `out` and moves the end behind it.
    pub fn encode_record(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), JournalError> {
        check_record(body)?;
        let length = (body.len() as u32).to_le_bytes();
        self.chain = link(&self.chain, &length, body);
        self.length += (RECORD_OVERHEAD + body.len()) as u64;
        out.extend_from_slice(&length);
        out.extend_from_slice(&self.chain);
        out.extend_from_slice(body);
        Ok(())
    }

    /// The next mark, and the offset where it has to be written. It acknowledges everything up to
    /// this end, so the records must have been synced before.
    ///
    /// Marks alternate between two places. A mark whose write failed may have left half of itself
    /// behind; the next one must take the same place, so go on with a copy from before.
    pub fn encode_mark(&mut self) -> (u64, [u8; MARK_LEN]) {
        self.sequence += 1;
        let mut mark = [0; MARK_LEN];
        mark[..8].copy_from_slice(&self.sequence.to_le_bytes());
        mark[8..16].copy_from_slice(&self.length.to_le_bytes());
        mark[16..32].copy_from_slice(&self.chain);
        let check = digest(&[&self.file_id, &mark[..32]]);
        mark[32..].copy_from_slice(&check);
        (mark_offset((self.sequence % 2) as usize) as u64, mark)
    }
}

/// What a journal holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// All records, in order.
    pub records: Vec<Vec<u8>>,
    /// Where to go on. Its length is what the file has to be cut down to.
    pub tail: Tail,
    /// Length that the newest mark acknowledges. Records behind it may not be on disk yet.
    pub marked: u64,
    /// Bytes behind the last record.
    pub torn_bytes: u64,
}

/// Checks that `name` can name a journal and the file that it lies in.
pub fn check_name(name: &str) -> Result<(), JournalError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=JOURNAL_NAME_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(JournalError::Name { name: name.chars().take(80).collect() })
}

/// Checks that `body` is short enough for a record.
pub fn check_record(body: &[u8]) -> Result<(), JournalError> {
    if body.len() > JOURNAL_RECORD_MAX {
        return Err(JournalError::RecordTooLong { len: body.len(), limit: JOURNAL_RECORD_MAX });
    }
    Ok(())
}

/// The bytes of a new journal with `records`, all of them marked as acknowledged. The file must be
/// complete and synced before it takes the place of another. `file_id` must never have been used.
pub fn new_image(
    name: &str,
    file_id: [u8; 16],
    records: &[Vec<u8>],
) -> Result<(Vec<u8>, Tail), JournalError> {
    check_name(name)?;
    let bodies: usize = records.iter().map(|body| RECORD_OVERHEAD + body.len()).sum();
    let mut image = Vec::with_capacity(HEADER_LEN as usize + bodies);
    image.extend_from_slice(MAGIC);
    image.extend_from_slice(&JOURNAL_VERSION.to_le_bytes());
    image.extend_from_slice(&file_id);
    image.extend_from_slice(name.as_bytes());
    image.resize(STATIC_LEN, 0);
    let check = digest(&[&image]);
    image.extend_from_slice(&check);
    image.resize(HEADER_LEN as usize, 0);
    let mut tail = Tail::start(file_id);
    for body in records {
        tail.encode_record(body, &mut image)?;
    }
    // Both places, so that damage to either leaves a mark that covers everything.
    for _ in 0..2 {
        let (offset, mark) = tail.encode_mark();
        image[offset as usize..][..MARK_LEN].copy_from_slice(&mark);
    }
    Ok((image, tail))
}

/// Reads the bytes of the journal `name`.
pub fn scan(name: &str, bytes: &[u8]) -> Result<Scan, JournalError> {
    let file_len = bytes.len() as u64;
    let shorter = |expected| JournalError::Shorter { name: name.into(), expected, found: file_len };
    let damaged = |offset, reason| JournalError::Damaged { name: name.into(), offset, reason };
    if file_len < HEADER_LEN {
        return Err(shorter(HEADER_LEN));
    }
    let mut tail = Tail::start(read_static(name, bytes)?);
    let mark = newest_mark(&tail.file_id, bytes)
        .ok_or_else(|| damaged(BLOCK as u64, "neither mark is readable"))?;
    if file_len < mark.length {
        return Err(shorter(mark.length));
    }
    tail.sequence = mark.sequence;
    let mut records = Vec::new();
    loop {
        if tail.length == mark.length && tail.chain != mark.chain {
            return Err(damaged(tail.length, "the mark belongs to other records"));
        }
        let acknowledged = tail.length < mark.length;
        let (body, chain) = match read_record(&tail.chain, &bytes[tail.length as usize..]) {
            Ok(record) => record,
            Err(reason) if acknowledged => return Err(damaged(tail.length, reason)),
            Err(_) => break,
        };
        let end = tail.length + (RECORD_OVERHEAD + body.len()) as u64;
        if acknowledged && end > mark.length {
            return Err(damaged(tail.length, "a record crosses the mark"));
        }
        records.push(body.to_vec());
        tail.chain = chain;
        tail.length = end;
    }
    Ok(Scan { records, tail, marked: mark.length, torn_bytes: file_len - tail.length })
}

/// Checks block 0 and returns the file id.
fn read_static(name: &str, bytes: &[u8]) -> Result<[u8; 16], JournalError> {
    let not_a_journal = |reason| JournalError::NotAJournal { name: name.into(), reason };
    let (fixed, check) = bytes[..STATIC_LEN + CHECK].split_at(STATIC_LEN);
    if !fixed.starts_with(MAGIC) {
        return Err(not_a_journal("the file does not begin like a journal".into()));
    }
    if check != digest(&[fixed]) {
        let reason = "the header does not match its checksum";
        return Err(JournalError::Damaged { name: name.into(), offset: 0, reason });
    }
    let found = u32::from_le_bytes(array(&fixed[VERSION_AT..]));
    if found != JOURNAL_VERSION {
        return Err(JournalError::Version { name: name.into(), found, ours: JOURNAL_VERSION });
    }
    let written = fixed[NAME_AT..].split(|&byte| byte == 0).next().unwrap_or_default();
    if written != name.as_bytes() {
        let written = String::from_utf8_lossy(written);
        return Err(not_a_journal(format!("the file is the journal {written}")));
    }
    Ok(array(&fixed[FILE_ID_AT..]))
}

struct Mark {
    sequence: u64,
    length: u64,
    chain: Chain,
}

fn newest_mark(file_id: &[u8; 16], bytes: &[u8]) -> Option<Mark> {
    let marks = [0, 1].into_iter().filter_map(|place| {
        let (fixed, check) = bytes[mark_offset(place)..][..MARK_LEN].split_at(32);
        let mark = Mark {
            sequence: u64::from_le_bytes(array(fixed)),
            length: u64::from_le_bytes(array(&fixed[8..])),
            chain: array(&fixed[16..]),
        };
        (check == digest(&[file_id, fixed]) && mark.length >= HEADER_LEN).then_some(mark)
    });
    marks.max_by_key(|mark| mark.sequence)
}

/// Reads the record at the beginning of `bytes`, behind a record with the value `chain`.
fn read_record<'a>(chain: &Chain, bytes: &'a [u8]) -> Result<(&'a [u8], Chain), &'static str> {
    let (head, rest) =
        bytes.split_at_checked(RECORD_OVERHEAD).ok_or("the head of a record is cut off")?;
    let (length, check) = head.split_at(4);
    let len = u32::from_le_bytes(array(length)) as usize;
    if len > JOURNAL_RECORD_MAX {
        return Err("a record is longer than any may be");
    }
    let body = rest.get(..len).ok_or("a record is cut off")?;
    let found = link(chain, length, body);
    if check == found { Ok((body, found)) } else { Err("a record does not match its checksum") }
}

fn mark_offset(place: usize) -> usize {
    BLOCK * (1 + place)
}

fn link(previous: &Chain, length: &[u8], body: &[u8]) -> Chain {
    digest(&[previous, length, body])
}

fn digest(parts: &[&[u8]]) -> Chain {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    array(hasher.finalize().as_bytes())
}

/// The first `N` bytes of a slice that is known to have as many.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

#[cfg(test)]
mod tests;
