//! Counters of the network, for metrics and tests. Reading them disturbs nobody.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ports::Lane;

/// Counters of one lane, over all peers.
#[derive(Debug, Default)]
pub struct LaneStats {
    /// Frames that arrived whole.
    pub frames_in: AtomicU64,
    /// Frames that were handed to a stream.
    pub frames_out: AtomicU64,
    /// Bytes of the frames that arrived, with their length prefixes.
    pub bytes_in: AtomicU64,
    /// Bytes of the frames that were handed to a stream, with their length prefixes.
    pub bytes_out: AtomicU64,
}

/// Counters of the connections for bulk bytes.
#[derive(Debug, Default)]
pub struct BulkStats {
    /// Bytes of the chunks that were read.
    pub bytes_in: AtomicU64,
    /// Bytes of the chunks that were handed to a connection.
    pub bytes_out: AtomicU64,
    /// Streams and connections that there was no room for, or that strangers wanted.
    pub refused: AtomicU64,
    /// Connections that did not come about.
    pub dial_failures: AtomicU64,
    /// Streams that stood still for too long.
    pub stalled: AtomicU64,
    /// Connections that stand now; they are not among the others.
    pub connections: AtomicU64,
    /// Streams that this node has open now.
    pub streams_out: AtomicU64,
    /// Streams that others have open with it.
    pub streams_in: AtomicU64,
    /// Bytes of the chunks that are under way through it now.
    pub held: AtomicU64,
    /// The most that these ever were.
    pub held_most: AtomicU64,
}

/// Counters of a node's network since its start. The last four are gauges, the others only grow.
#[derive(Debug, Default)]
pub struct NetworkStats {
    lanes: [LaneStats; 4],
    /// Bytes in bulk.
    pub bulk: BulkStats,
    /// Frames dropped because the queue to the peer was full.
    pub dropped_queue_full: AtomicU64,
    /// Frames that this node tried to send although they are empty or longer than the lane allows.
    pub dropped_unsendable: AtomicU64,
    /// Streams that a peer opened without being entitled to, and connections refused as too many.
    pub refused_stranger: AtomicU64,
    /// Connections that had to give way to others before they had shown whose they are, or before
    /// they had joined.
    pub gave_way: AtomicU64,
    /// Other connections that have ended before they had shown whose they are: they said nothing,
    /// or nonsense, or took too long. Those from hosts of members are left out.
    pub unproven: AtomicU64,
    /// Connections that were closed because nothing came on them any more.
    pub dead: AtomicU64,
    /// Frames announced as empty or longer than the lane allows; each cost the peer its connection.
    pub oversize: AtomicU64,
    /// Frames that took too long to arrive; each cost the peer its stream.
    pub slow: AtomicU64,
    /// Writers that made no progress; each cost the peer its connection.
    pub stalled: AtomicU64,
    /// Times that a reader paused because its peer sent frames too fast.
    pub rate_limited: AtomicU64,
    /// Join frames of strangers dropped because too many came.
    pub joins_dropped: AtomicU64,
    /// Dials begun.
    pub dials: AtomicU64,
    /// Dials that failed, for whatever reason.
    pub dial_failures: AtomicU64,
    /// Dials that met somebody else than the peer that was looked for.
    pub wrong_peer: AtomicU64,
    /// Messages that this node has handed to the mesh.
    pub gossip_out: AtomicU64,
    /// Messages of the mesh that arrived, each counted once.
    pub gossip_in: AtomicU64,
    /// Messages of the mesh that were dropped because there were too many.
    pub gossip_dropped: AtomicU64,
    /// Messages of the mesh that were rejected; each costs its sender some trust.
    pub gossip_rejected: AtomicU64,
    /// Peers that were found in the local network, each answer counted.
    pub found_locally: AtomicU64,
    /// Times that other members were asked where a peer is.
    pub asked_where: AtomicU64,
    /// Places at relays that this node was given.
    pub places_reserved: AtomicU64,
    /// Connections through a relay that this node has opened or taken.
    pub circuits: AtomicU64,
    /// Connections that this node passes, or has passed, on between two other members.
    pub circuits_relayed: AtomicU64,
    /// Times that a direct connection was made where there was one through a relay.
    pub holes_punched: AtomicU64,
    /// Times that this was tried in vain.
    pub holes_not_punched: AtomicU64,
    /// Times that this node has dialled another one to tell it whether it can be dialled.
    pub probes: AtomicU64,
    /// Dials by others than the event loop that were denied.
    pub unasked_dials: AtomicU64,
    /// Connections that have come in and have not shown yet whose they are.
    pub arrivals: AtomicU64,
    /// Connections that stand now.
    pub connections: AtomicU64,
    /// How many of them lead through a relay.
    pub connections_relayed: AtomicU64,
    /// Whether others can dial this node: 0 unknown, 1 yes, 2 no.
    pub reachability: AtomicU64,
}

impl NetworkStats {
    /// The counters of one lane.
    pub fn lane(&self, lane: Lane) -> &LaneStats {
        &self.lanes[index(lane)]
    }
}

/// Position of a lane in arrays over all lanes.
pub(super) fn index(lane: Lane) -> usize {
    match lane {
        Lane::Consensus => 0,
        Lane::Control => 1,
        Lane::Bulk => 2,
        Lane::Join => 3,
    }
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Counts several. Counters order nothing, so relaxed will do.
pub(super) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}
