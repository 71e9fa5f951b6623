//! Every bound of the product, by component, related to each other at compile time.
//!
//! A bound that is not here does not exist: code that grows something takes its limit from one of
//! these pages, so that they can be read, reviewed and tested in one sitting. What relates the bounds
//! of one component to those of another is asserted here.

mod bulk;
mod clocks;
mod consensus;
mod control;
mod gossip;
mod http;
mod journal;
mod members;
mod node;
mod records;
mod requests;
mod supervision;
mod ucxl;
mod wire;

pub use bulk::*;
pub use clocks::*;
pub use consensus::*;
pub use control::*;
pub use gossip::*;
pub use http::*;
pub use journal::*;
pub use members::*;
pub use node::*;
pub use records::*;
pub use requests::*;
pub use supervision::*;
pub use ucxl::*;
pub use wire::*;

const _: () = assert!(
    LEASE_MS + LEASE_MS * CLOCK_DRIFT_PERMILLE_MAX / 1_000 <= ELECTION_TIMEOUT_MAX_MS,
    "a drifting clock must not carry a lease past the next election"
);
const _: () =
    assert!(LEASE_WAIT_MS > ELECTION_TIMEOUT_MAX_MS, "a write outlives a normal failover");
const _: () = assert!(LEASE_WAIT_MS < 1_000, "a minority refuses writes within a second");
const _: () = assert!(CONTENT_BODY_MAX + 16 * 1024 < FRAME_LEN_MAX, "a content fits in a frame");
const _: () = assert!(RECORDS_BYTES_MAX + 512 * 1024 < FRAME_LEN_MAX, "so does a page of records");
const _: () = assert!(2 * VERSIONS_MAX * 96 < FRAME_LEN_MAX, "so do all versions of an address");
const _: () = assert!(PUBLISHED_MAX * (UCXL_TEXT_MAX + 256) < NOTE_LEN_MAX, "so do publications");
const _: () = assert!(NOTES_BYTES_MAX + GOSSIP_LEN_MAX < FRAME_LEN_MAX, "so does a page of notes");
const _: () = assert!(
    GOSSIP_REMEMBERED.as_secs() * 1_000 > GOSSIP_WINDOW.as_secs() * 1_000 + CLOCK_AHEAD_MAX_MS
);
const _: () = assert!(SNAPSHOT_PART * 2 < FRAME_LEN_MAX, "a part of a snapshot fits in a frame");
const _: () = assert!(
    APPEND_ENTRIES_MAX as usize * (HEAD_VALUE_MAX + HEAD_KEY_MAX + 512) < FRAME_LEN_MAX,
    "the largest replication message fits in a frame"
);
const _: () = assert!(HTTP_BODY_MAX <= HTTP_DRAIN_MAX, "what is too long by little is taken in");
const _: () = assert!(DRAFT_LEN_MAX as u64 <= HTTP_LINGER_MAX, "so is the longest body");
const _: () = assert!(SNAPSHOT_LEN_MAX < JOURNAL_RECORD_MAX);
const _: () = assert!(HEAD_VALUE_MAX * 8 <= HTTP_BODY_MAX as usize);
const _: () =
    assert!(5 * (UCXL_SEGMENT_MAX + 1) + 64 < UCXL_TEXT_MAX, "every address can be written");
const _: () = assert!(HEAD_KEY_MAX + 64 < UCXL_TEXT_MAX, "so can every configuration key");
const _: () = assert!(SNAPSHOT_EVERY > LOG_KEPT_BEHIND_SNAPSHOT);
const _: () = assert!(
    BULK_CONNECTIONS_MAX * BULK_WINDOW <= 256 * 1024 * 1024,
    "what members send in bulk is bounded also where nobody reads it"
);
const _: () =
    assert!(BULK_STALLED.as_millis() > ELECTION_TIMEOUT_MAX_MS as u128, "a failover is no stall");
const _: () =
    assert!(REPLICA_OPEN_MAX < WORK_OPEN_MAX, "what a replica works on is never too much");
