//! Connections, streams and frames.

use std::time::Duration;

/// Bytes of one frame on a stream; checked against the length prefix before anything is allocated.
pub const FRAME_LEN_MAX: usize = 1024 * 1024 + 128 * 1024;
/// Bytes of one frame of the join protocol, which strangers may speak.
pub const JOIN_FRAME_LEN_MAX: usize = 16 * 1024;
/// Frames that wait for one peer on one lane; further ones are dropped and counted.
pub const SEND_QUEUE_FRAMES_MAX: usize = 1_024;
/// Bytes that wait for one peer on one lane.
pub const SEND_QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes after which a writer lets other streams have a turn.
pub const WRITE_CHUNK: usize = 64 * 1024;
/// Payloads above this go on the bulk lane.
pub const BULK_ABOVE: usize = 16 * 1024;
/// Connections to peers of the roster and to strangers, together.
pub const CONNECTIONS_MAX: usize = 500;
/// Members that one member is connected to in a large cluster.
pub const LINKS_MAX: usize = 64;
/// How long a connection to another member that was made on demand may be idle.
pub const LINK_IDLE: Duration = Duration::from_secs(300);
/// Connections of peers that are not in the roster.
pub const STRANGERS_MAX: usize = 32;
/// How long a stranger may stay connected without having joined.
pub const STRANGER_TIMEOUT_MS: u64 = 10_000;
/// Frames that one peer may send in a second before its stream is slowed down.
pub const FRAMES_PER_SECOND_MAX: u32 = 50_000;
/// Join requests that one node answers in a second.
pub const JOINS_PER_SECOND_MAX: u32 = 40;
/// Join requests from one source (a host, an IPv6 network or a relay) that one node answers in a
/// second.
pub const JOINS_PER_SOURCE_MAX: u32 = 10;
/// Bytes of frames and gossip that have arrived and were not handed on yet.
pub const INTAKE_BYTES_MAX: usize = 64 * 1024 * 1024;

const _: () = assert!(JOIN_FRAME_LEN_MAX < FRAME_LEN_MAX);
const _: () = assert!(JOINS_PER_SOURCE_MAX < JOINS_PER_SECOND_MAX, "no source takes all of them");
const _: () = assert!(FRAME_LEN_MAX <= SEND_QUEUE_BYTES_MAX);
