//! Bounds and times that concern this adapter alone; what the rest of the product relies on is in
//! `types::limits`.

use std::num::NonZeroU8;
use std::time::Duration;

use crate::types::limits::{
    BULK_STREAMS_PER_PEER_MAX, BULK_STREAMS_TAKEN_MAX, BULK_WINDOW, CONNECTIONS_MAX, STRANGERS_MAX,
    WRITE_CHUNK,
};

/// Inbound connections over TCP that have not shown yet whose they are, of all hosts but those of
/// members; one gives way to each further one.
pub(super) const ARRIVALS_MAX: usize = 256;
/// The same for all hosts at which members are known to be.
pub(super) const ARRIVALS_KEPT_MAX: usize = 192;
/// The same for one source.
pub(super) const ARRIVALS_PER_SOURCE_MAX: usize = 192;
/// The same as `ARRIVALS_MAX` for connections over QUIC, whose sources can be made up.
pub(super) const QUIC_ARRIVALS_MAX: usize = 128;
/// The same for all hosts at which members are known to be.
pub(super) const QUIC_ARRIVALS_KEPT_MAX: usize = 64;
/// The same for one source.
pub(super) const QUIC_ARRIVALS_PER_SOURCE_MAX: usize = 96;
/// The same as `ARRIVALS_MAX` for connections through relays.
pub(super) const RELAYED_ARRIVALS_MAX: usize = 64;
/// The same for one relay.
pub(super) const RELAYED_ARRIVALS_PER_SOURCE_MAX: usize = 48;
/// Hosts that the roster names for one member whose connections have places of their own.
pub(super) const NAMED_HOSTS_PER_PEER_MAX: usize = 32;
/// The same for hosts where it has proven its key.
pub(super) const PROVEN_HOSTS_PER_PEER_MAX: usize = 16;
/// A stranger's connection younger than this gives way only to one of a source that has fewer.
pub(super) const STRANGER_SPARED: Duration = Duration::from_secs(1);
/// Strangers that have had to give way and whose connections are not closed yet; while there are as
/// many, nobody else has to.
pub(super) const STRANGERS_LEAVING_MAX: usize = 64;
/// Sources of join frames that are told apart.
pub(super) const JOIN_SOURCES_MAX: usize = 64;
/// So many connections have to end without having shown whose they are before that is worth a line.
pub(super) const SUMMARY_ABOVE: usize = 32;
/// How often it is worth one at most, and within what time they have to end.
pub(super) const SUMMARY_INTERVAL: Duration = Duration::from_secs(60);
/// Sources among which the one is looked for that most of them came from.
pub(super) const SUMMARY_SOURCES_MAX: usize = 64;
/// Connections with one peer. Two come from simultaneous dials, more only from a broken peer.
pub(super) const CONNECTIONS_PER_PEER_MAX: usize = 4;
/// Inbound streams of one connection that wait for the event loop.
pub(super) const STREAMS_WAITING_MAX: usize = 16;
/// Inbound streams of one connection that its multiplexer has handed over, and that wait for the connection's task.
pub(super) const HANDED_OVER_MAX: usize = 8;
/// Bytes of the largest frame of yamux: its header and what it writes at once.
pub(super) const YAMUX_FRAME_MAX: usize = 12 + 16 * 1024;
/// Streams of one connection in the multiplexer: four lanes, identify, ping, reopening, and the circuits to
/// or from a member that is reached through the peer.
pub(super) const STREAMS_MAX: usize = 128;
/// Dials under way that punch holes, and addresses that each of them may try.
pub(super) const PUNCHES_MAX: usize = 8;
/// See `PUNCHES_MAX`.
pub(super) const PUNCHED_ADDRESSES_MAX: usize = 32;
/// `dial` calls and dials of hints under way; further ones fail at once.
pub(super) const DIALS_MAX: usize = 64;
/// Dials of one kept peer under way: what is heard of it meanwhile need not wait for addresses that
/// are dead.
pub(super) const DIALS_PER_PEER_MAX: usize = 4;
/// Addresses of one peer that members have told, besides those in the roster.
pub(super) const LEARNED_MAX: usize = 16;
/// The same for addresses that anybody in the local network has claimed.
pub(super) const CLAIMED_MAX: usize = 16;
/// Members that hold a place for one peer, as others have told.
pub(super) const RELAYS_MAX: usize = 4;
/// How often claims have one peer dialled at once within `CLAIM_INTERVAL`.
pub(super) const CLAIM_HURRIES_MAX: usize = 3;
/// See `CLAIM_HURRIES_MAX`.
pub(super) const CLAIM_INTERVAL: Duration = Duration::from_secs(6);
/// Addresses of one peer that are dialled at once.
pub(super) const DIALLED_AT_ONCE: NonZeroU8 = NonZeroU8::new(32).expect("not zero");
/// Hints of which a dial is begun at once.
pub(super) const HINTS_AT_ONCE: usize = 8;
/// Addresses of which it is remembered whom a hint has led to.
pub(super) const HINTS_LED_MAX: usize = 256;
/// Peers in the local network that the sink is told of although nobody looks for them.
pub(super) const NEARBY_MAX: usize = 64;
/// How often a node without a roster is told of them again: whoever wants to know may just have started.
pub(super) const NEARBY_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses for which a warning was written and is not repeated.
pub(super) const WARNED_MAX: usize = 1_024;

/// Streams of one connection for bulk bytes in the multiplexer, those that are just ending included. It ends
/// the connection where there are more.
pub(super) const BULK_MUX_STREAMS: usize = 16;
/// Bytes of bulk that go out in one piece, between which other streams have their turn.
pub(super) const BULK_SPLIT: usize = WRITE_CHUNK;
/// Connections for bulk bytes that wait for their thread.
pub(super) const BULK_ARRIVALS_MAX: usize = 32;
/// Time for a dial at all addresses of a peer.
pub(super) const BULK_DIAL: Duration = Duration::from_secs(15);
/// How long the dial of the next address waits for the one before it.
#[cfg(not(test))]
pub(super) const BULK_HEAD_START: Duration = HEAD_START;
/// Tests want to know at which address a peer is met.
#[cfg(test)]
pub(super) const BULK_HEAD_START: Duration = Duration::from_secs(10);
/// How much less of the processor the thread for bulk bytes gets where others want it, see nice(2).
pub(super) const BULK_NICE: i32 = 10;

/// Time for TCP, TLS and multiplexer together, in both directions.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a dial over QUIC waits for one over TCP, and the dial of the next address of a name for
/// the one before it: the delay that RFC 8305 recommends.
pub(super) const HEAD_START: Duration = Duration::from_millis(250);
/// Time for resolving a name.
pub(super) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the opener of a lane waits for the byte that says that the lane is taken.
pub(super) const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a frame may take from its first byte to its last, and a write to make any progress.
pub(super) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// Distance between two probes of a connection.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How long a probe may take before it has failed.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the event loop looks which connections are silent.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A peer from which nothing has come for so long on any connection, no answer to a probe either,
/// is dialled beside them.
pub(super) const SILENT: Duration = Duration::from_secs(5);
/// A connection on which nothing has come for so long is dead, and closed. A process that stands
/// still for 10 s keeps its connections.
pub(super) const DEAD: Duration = Duration::from_secs(15);
/// A connection younger than this is not given up for a newer one to the same peer, unless the peer
/// is a member and the newer one leads to another address.
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
pub(super) const REDIAL_MAX: Duration = Duration::from_secs(5);
/// First and last step of the backoff between dials of a hint while a member is missed.
pub(super) const HINT_MIN: Duration = Duration::from_secs(1);
/// See `HINT_MIN`.
pub(super) const HINT_MAX: Duration = Duration::from_secs(5);
/// For how long it is taken for granted that an address leads where it led.
pub(super) const HINT_LED: Duration = Duration::from_secs(30);
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

const _: () =
    assert!(QUIC_ARRIVALS_MAX + QUIC_ARRIVALS_KEPT_MAX + RELAYED_ARRIVALS_MAX < CONNECTIONS_MAX);
const _: () = assert!(
    2 * (STRANGERS_MAX + STRANGERS_LEAVING_MAX) < CONNECTIONS_MAX,
    "there is room for members"
);
const _: () = assert!(BULK_STREAMS_PER_PEER_MAX + BULK_STREAMS_TAKEN_MAX < BULK_MUX_STREAMS);
const _: () = assert!(BULK_MUX_STREAMS * 256 * 1024 <= BULK_WINDOW, "as the multiplexer wants it");
const _: () = assert!(ARRIVALS_PER_SOURCE_MAX < ARRIVALS_MAX, "one source can't take all places");
const _: () = assert!(QUIC_ARRIVALS_PER_SOURCE_MAX < QUIC_ARRIVALS_MAX);
const _: () = assert!(RELAYED_ARRIVALS_PER_SOURCE_MAX < RELAYED_ARRIVALS_MAX);
const _: () = assert!(CLAIM_HURRIES_MAX < DIALS_PER_PEER_MAX, "other news are dialled, too");
const _: () = assert!(SETUP_TIMEOUT.as_millis() < CLAIM_INTERVAL.as_millis(), "also after a while");
const _: () = assert!(2 * PING_INTERVAL.as_millis() < SILENT.as_millis(), "one pong may get lost");
const _: () = assert!(PING_TIMEOUT.as_millis() < DEAD.as_millis());
const _: () = assert!(READ_BUFFER < GROW_STEP && WRITE_BUFFER_KEPT <= WRITE_CHUNK);
const _: () = assert!(REDIAL_MIN.as_millis() > REDIAL_FIRST_MS.end as u128);
