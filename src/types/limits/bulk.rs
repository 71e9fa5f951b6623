//! Bytes in bulk, on connections of their own.

use std::time::Duration;

/// Connections for bulk bytes, dialled and accepted together; lanes have their own.
pub const BULK_CONNECTIONS_MAX: usize = 24;
/// The same with one peer: one, and one more that ends with its last stream.
pub const BULK_CONNECTIONS_PER_PEER_MAX: usize = 2;
/// Streams that one node opens to one peer at once, those under way included.
pub const BULK_STREAMS_PER_PEER_MAX: usize = 4;
/// Streams that one node has opened, or is opening, at once.
pub const BULK_STREAMS_MAX: usize = 48;
/// Streams that a node takes of one peer: the peer may have let one go before this end has.
pub const BULK_STREAMS_TAKEN_MAX: usize = 2 * BULK_STREAMS_PER_PEER_MAX;
/// Bytes of the header that a stream is opened with.
pub const BULK_HEADER_MAX: usize = 4 * 1024;
/// Bytes of one chunk.
pub const BULK_CHUNK_MAX: usize = 256 * 1024;
/// Bytes of all streams of a connection that may have come without having been read. Each piece takes some
/// fifty bytes beside its own, which only counts where a member sends tiny ones.
pub const BULK_WINDOW: usize = 6 * 1024 * 1024;
/// Addresses at which one peer is tried.
pub const BULK_ADDRESSES_MAX: usize = 16;
/// How long a connection without streams is kept.
pub const BULK_IDLE: Duration = Duration::from_secs(30);
/// How long a stream may stand still, whoever of the two it is up to.
pub const BULK_STALLED: Duration = Duration::from_secs(60);
/// How long whoever serves streams may take to answer one, and the way there and back.
pub const BULK_ANSWER: Duration = Duration::from_secs(15);

const _: () = assert!(BULK_STREAMS_PER_PEER_MAX <= BULK_STREAMS_MAX);
const _: () = assert!(BULK_CONNECTIONS_PER_PEER_MAX < BULK_CONNECTIONS_MAX);
const _: () = assert!(BULK_HEADER_MAX < BULK_CHUNK_MAX && BULK_HEADER_MAX <= u16::MAX as usize);
