//! Bounds and times that concern this adapter alone; what the rest of the product relies on is in
//! `types::limits`.

use std::time::Duration;

use crate::types::limits::{CONNECTIONS_MAX, WRITE_CHUNK};

/// Inbound connections whose handshake is under way; further ones are refused, so that half-open
/// connections cannot take the memory of the node.
pub(super) const PENDING_MAX: usize = 128;
/// Connections with one peer. Two come from simultaneous dials, more only from a broken peer.
pub(super) const CONNECTIONS_PER_PEER_MAX: usize = 4;
/// Inbound streams of one connection that wait for the event loop.
pub(super) const STREAMS_WAITING_MAX: usize = 16;
/// Streams of one connection in the multiplexer: four lanes, identify, ping, reopening, and the circuits to
/// or from a member that is reached through the peer.
pub(super) const STREAMS_MAX: usize = 128;
/// Dials under way that punch holes, and addresses that each of them may try.
pub(super) const PUNCHES_MAX: usize = 8;
/// See `PUNCHES_MAX`.
pub(super) const PUNCHED_ADDRESSES_MAX: usize = 32;
/// `dial` calls under way; further ones fail at once.
pub(super) const DIALS_MAX: usize = 64;
/// Peers in the local network that the sink is told of although nobody looks for them.
pub(super) const NEARBY_MAX: usize = 64;
/// How often a node without a roster is told of them again: whoever wants to know may just have started.
pub(super) const NEARBY_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses for which a warning was written and is not repeated.
pub(super) const WARNED_MAX: usize = 1_024;

/// Time for TCP, TLS and multiplexer together, in both directions.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a dial over QUIC waits for one over TCP: the delay that RFC 8305 recommends.
pub(super) const HEAD_START: Duration = Duration::from_millis(250);
/// Time for resolving a name.
pub(super) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the opener of a lane waits for the byte that says that the lane is taken.
pub(super) const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a frame may take from its first byte to its last, and a write to make any progress.
pub(super) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// Distance between two probes of a connection.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long a probe may take before the connection counts as dead.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection younger than this is not given up for a newer one to the same peer.
pub(super) const SETTLE: Duration = Duration::from_secs(5);
/// How long an established connection has to show that its run lives when another run of the same
/// identity connects: several of the pings that nodes exchange.
pub(super) const CONTEST: Duration = Duration::from_millis(1_000);
/// How long a connection that has to stand back may take to say which run it is, or to hear that it
/// is refused.
pub(super) const CONTEST_LIMIT: Duration = Duration::from_secs(5);
/// How long a stranger may take to hear that it is one.
pub(super) const NOTICE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection or lane that lived this long was a success: the next one starts without backoff.
pub(super) const STABLE: Duration = Duration::from_secs(2);
/// Delay before the first redial of a lost connection, in milliseconds, drawn from this range.
pub(super) const REDIAL_FIRST_MS: std::ops::Range<u64> = 20..50;
/// First and last step of the backoff between dials.
pub(super) const REDIAL_MIN: Duration = Duration::from_millis(100);
/// See `REDIAL_MIN`.
pub(super) const REDIAL_MAX: Duration = Duration::from_secs(10);
/// When a peer that is only reached through others is dialled again.
pub(super) const DIRECT_AFTER: Duration = Duration::from_secs(300);
/// First and last step of the backoff between attempts to open a lane.
pub(super) const REOPEN_MIN: Duration = Duration::from_millis(20);
/// See `REOPEN_MIN`.
pub(super) const REOPEN_MAX: Duration = Duration::from_millis(500);
/// How long a closed connection may take to say goodbye before it is dropped.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long `shutdown` waits for connections to say goodbye.
pub(super) const GOODBYE: Duration = Duration::from_millis(500);
/// How long `start` waits for the addresses of the interfaces behind 0.0.0.0 and `::`.
pub(super) const INTERFACES_WAIT: Duration = Duration::from_secs(1);

/// Bytes of the buffer that a lane reads small frames through.
pub(super) const READ_BUFFER: usize = 8 * 1024;
/// Bytes that the length of a large frame makes the reader allocate ahead of what has arrived.
pub(super) const GROW_STEP: usize = 64 * 1024;
/// Bytes of one QUIC stream that may be under way without having been read.
pub(super) const QUIC_STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes of all streams of a QUIC connection that may be under way without having been read.
pub(super) const QUIC_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Capacity that a writer keeps between two bursts.
pub(super) const WRITE_BUFFER_KEPT: usize = 8 * 1024;

const _: () = assert!(PENDING_MAX < CONNECTIONS_MAX);
const _: () = assert!(READ_BUFFER < GROW_STEP && WRITE_BUFFER_KEPT <= WRITE_CHUNK);
const _: () = assert!(REDIAL_MIN.as_millis() > REDIAL_FIRST_MS.end as u128);
