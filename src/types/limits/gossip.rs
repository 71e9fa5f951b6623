//! Notes, which go from member to member.

use std::time::Duration;

/// How old a note may be; for as long notes of kept topics are kept for members that missed them.
pub const GOSSIP_WINDOW: Duration = Duration::from_secs(600);
/// How long a note that was heard is remembered: until its time would not let it in again, even if
/// its publisher's clock is ahead.
pub const GOSSIP_REMEMBERED: Duration = Duration::from_secs(600 + 61);
/// Bytes of one signed note.
pub const NOTE_LEN_MAX: usize = 60 * 1024;
/// Bytes of one message of the mesh.
pub const GOSSIP_LEN_MAX: usize = 64 * 1024;
/// Notes of one stream that are remembered.
pub const STREAM_NOTES_MAX: usize = 4_096;
/// Runs of one publisher that are remembered, on each topic. One that keeps crashing makes many in ten minutes.
pub const STREAMS_MAX: usize = 32;
/// Bytes of all notes that are kept.
pub const GOSSIP_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Notes of one publisher on one topic that are taken in a second, on average and at once.
pub const NOTES_PER_SECOND: u32 = 100;
/// See `NOTES_PER_SECOND`.
pub const NOTES_BURST: u32 = 1_000;
/// Messages of the mesh that are taken from one peer in a second, whoever wrote them.
pub const GOSSIP_PER_SECOND_MAX: u32 = 5_000;
/// Streams in one digest.
pub const DIGEST_STREAMS_MAX: usize = 64;
/// Runs of numbers of one stream in a digest.
pub const DIGEST_RANGES_MAX: usize = 32;
/// Notes in one message between two members.
pub const NOTES_MAX: usize = 64;
/// Bytes of these, unless a single one is larger.
pub const NOTES_BYTES_MAX: usize = 256 * 1024;
/// Publications in one note.
pub const PUBLISHED_MAX: usize = 64;
/// Bytes of the name of an application's event.
pub const EVENT_NAME_MAX: usize = 128;
/// Bytes of the data of an application's event, as JSON.
pub const EVENT_DATA_MAX: usize = 32 * 1024;
/// Publications of events that wait for a confirmation.
pub const EVENTS_PENDING_MAX: usize = 1_024;

const _: () = assert!(NOTE_LEN_MAX + 1024 < GOSSIP_LEN_MAX, "a signed note fits in a message");
const _: () = assert!(EVENT_DATA_MAX + EVENT_NAME_MAX + 512 < NOTE_LEN_MAX, "so does an event");
