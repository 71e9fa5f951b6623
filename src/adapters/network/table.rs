//! What the event loop shares with senders and with the tasks of the lanes: the roster, the link to
//! each connected peer, the sink and the counters.
//!
//! Invariants:
//! 1. Sending takes a read lock on the table and a short lock on one queue, and never waits for the
//!    event loop.
//! 2. A frame reaches the sink only between the `Up` and the `Down` of its peer: both, and every
//!    frame, pass the peer's gate.
//! 3. A frame on another lane than `Join` reaches the sink only from a peer of the roster as it is
//!    at that moment.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use tokio::sync::watch;

use super::arrivals::Source;
use super::bounds::{PUNCHED_ADDRESSES_MAX, PUNCHES_MAX};
use super::joins::JoinRates;
use super::queue::{Bucket, LaneQueue, Pushed, lock};
use super::sockets::Sockets;
use super::stats::{NetworkStats, count, index};
use crate::ports::network::SendError;
use crate::ports::{Lane, NetworkEvent, Sink};
use crate::types::limits::{FRAME_LEN_MAX, FRAMES_PER_SECOND_MAX, JOIN_FRAME_LEN_MAX};
use crate::types::{Address, Lock, PeerId};

/// The longest frame of a lane.
pub(super) fn len_max(lane: Lane) -> usize {
    match lane {
        Lane::Join => JOIN_FRAME_LEN_MAX,
        Lane::Consensus | Lane::Control | Lane::Bulk => FRAME_LEN_MAX,
    }
}

/// Where a link stands between its first and its last connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connected, but nobody was told.
    Pending,
    /// The sink was told `Up`.
    Up,
    /// The last connection is gone; whatever still comes out of a lane is dropped.
    Closed,
}

/// What became of a frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// It is with the sink, or was dropped for a reason that costs the peer nothing else.
    Done,
    /// The peer may not use this lane any more.
    Refused,
    /// The link is closed.
    Closed,
}

struct Gate {
    phase: Phase,
    bucket: Bucket,
}

/// The link to one peer, from its first connection until its last one is gone.
pub(super) struct Link {
    pub(super) peer: PeerId,
    /// Where its first connection came from, or leads.
    source: Source,
    gate: Mutex<Gate>,
    up: watch::Sender<bool>,
    /// True while the peer is in the roster.
    admitted: AtomicBool,
    /// True once this node dialled the peer; its answers on the join lane are then wanted.
    wanted: AtomicBool,
    /// True once the lanes of the roster have run.
    lanes: AtomicBool,
    /// True once it has sent a join frame as a stranger.
    has_asked: AtomicBool,
    /// The run that is at the other end of its first connection; 0 as long as it has not said.
    run: AtomicU64,
    queues: [LaneQueue; 4],
}

impl Link {
    pub(super) fn new(peer: PeerId, source: Source, admitted: bool, wanted: bool) -> Self {
        let gate = Gate { phase: Phase::Pending, bucket: Bucket::new(FRAMES_PER_SECOND_MAX) };
        Self {
            peer,
            source,
            gate: Mutex::new(gate),
            up: watch::Sender::new(false),
            admitted: AtomicBool::new(admitted),
            wanted: AtomicBool::new(wanted),
            lanes: AtomicBool::new(false),
            has_asked: AtomicBool::new(false),
            run: AtomicU64::new(0),
            queues: Default::default(),
        }
    }

    pub(super) fn queue(&self, lane: Lane) -> &LaneQueue {
        &self.queues[index(lane)]
    }

    pub(super) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    pub(super) fn set_wanted(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// Takes note of the run that is at the other end.
    pub(super) fn set_run(&self, run: Option<u64>) {
        self.run.store(run.unwrap_or(0), Ordering::Release);
    }

    /// Notes that the lanes run; true if they did before.
    pub(super) fn set_lanes(&self) -> bool {
        self.lanes.swap(true, Ordering::AcqRel)
    }

    pub(super) fn phase(&self) -> Phase {
        lock(&self.gate).phase
    }

    /// Waits until the sink was told of this peer.
    pub(super) async fn wait_up(&self) {
        // The sender is in `self`, so it cannot be gone while somebody waits here.
        let _ = self.up.subscribe().wait_for(|up| *up).await;
    }

    /// Tells the sink that the peer is there, if it was not told.
    pub(super) fn go_up(&self, sink: &Sink<NetworkEvent>, dialled: Option<Address>) {
        let mut gate = lock(&self.gate);
        if gate.phase == Phase::Pending {
            gate.phase = Phase::Up;
            // Before the call, so that the sink can answer with a frame at once.
            self.up.send_replace(true);
            sink(NetworkEvent::Up { peer: self.peer, dialled });
        }
    }

    /// Closes the gate; true if the sink has to be told that the peer is gone.
    pub(super) fn close(&self) -> bool {
        let mut gate = lock(&self.gate);
        std::mem::replace(&mut gate.phase, Phase::Closed) == Phase::Up
    }

    /// Counts a frame against the peer's rate; returns the pause that its reader has to make.
    pub(super) fn pace(&self) -> Option<Duration> {
        lock(&self.gate).bucket.take()
    }
}

#[derive(Default)]
struct Table {
    roster: BTreeSet<PeerId>,
    kept: BTreeSet<PeerId>,
    links: HashMap<PeerId, Arc<Link>>,
}

/// Who has begun a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dial {
    /// The event loop.
    Own,
    /// Whoever punches a hole.
    Punch,
    /// Whoever finds out for a member whether it can be dialled. The connection has no other use.
    Probe,
}

/// Why the event loop has failed, if it has, and who is to hear of it.
#[derive(Default)]
struct End {
    sink: Option<Sink<NetworkEvent>>,
    failed: Option<String>,
}

/// See the module.
pub(super) struct Shared {
    dials: Mutex<HashMap<ConnectionId, Dial>>,
    table: RwLock<Table>,
    sink: RwLock<Option<Sink<NetworkEvent>>>,
    end: Mutex<End>,
    joins: Mutex<JoinRates>,
    listening: Mutex<Vec<Address>>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) stats: Arc<NetworkStats>,
}

impl Default for Shared {
    fn default() -> Self {
        let stats = Arc::<NetworkStats>::default();
        Self {
            dials: Mutex::default(),
            table: RwLock::default(),
            sink: RwLock::default(),
            end: Mutex::default(),
            joins: Mutex::default(),
            listening: Mutex::default(),
            sockets: Arc::new(Sockets::new(stats.clone())),
            stats,
        }
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sink(&self) -> Option<Sink<NetworkEvent>> {
        self.sink.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The event loop has failed: whoever was attached last hears of it, and whoever is attached later.
    pub(super) fn fail(&self, reason: String) {
        let mut end = self.end.locked();
        if let Some(sink) = &end.sink {
            sink(NetworkEvent::Failed { reason: reason.clone() });
        }
        end.failed = Some(reason);
    }

    /// Names who hears of such a failure.
    pub(super) fn tell_end(&self, sink: Sink<NetworkEvent>) {
        let mut end = self.end.locked();
        if let Some(reason) = end.failed.clone() {
            sink(NetworkEvent::Failed { reason });
        }
        end.sink = Some(sink);
    }

    pub(super) fn set_sink(&self, sink: Sink<NetworkEvent>) {
        *self.sink.write().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    /// Lets a dial pass; nobody else's does.
    pub(super) fn begin_dial(&self, connection: ConnectionId, dial: Dial) {
        lock(&self.dials).insert(connection, dial);
    }

    pub(super) fn is_dialling(&self, connection: ConnectionId) -> bool {
        lock(&self.dials).contains_key(&connection)
    }

    /// True for a dial that punches a hole where too many are under way, or that tries too many addresses.
    pub(super) fn is_excess(&self, connection: ConnectionId, addresses: usize) -> bool {
        let dials = lock(&self.dials);
        let punches = dials.values().filter(|dial| **dial == Dial::Punch).count();
        dials.get(&connection) == Some(&Dial::Punch)
            && (punches > PUNCHES_MAX || addresses > PUNCHED_ADDRESSES_MAX)
    }

    /// A dial has come to its end, good or bad; returns whose it was.
    pub(super) fn end_dial(&self, connection: ConnectionId) -> Option<Dial> {
        lock(&self.dials).remove(&connection)
    }

    pub(super) fn listening(&self) -> Vec<Address> {
        lock(&self.listening).clone()
    }

    pub(super) fn change_listening(&self, change: impl FnOnce(&mut Vec<Address>)) {
        change(&mut lock(&self.listening));
    }

    /// Replaces the roster; returns who is connected and was in the old one only.
    pub(super) fn admit(&self, roster: BTreeSet<PeerId>) -> Vec<PeerId> {
        let mut table = self.write();
        let old = std::mem::replace(&mut table.roster, roster);
        let mut removed = Vec::new();
        for (peer, link) in &table.links {
            let admitted = table.roster.contains(peer);
            link.admitted.store(admitted, Ordering::Release);
            if !admitted && old.contains(peer) {
                removed.push(*peer);
            }
        }
        removed
    }

    pub(super) fn set_kept(&self, peer: PeerId, kept: bool) {
        let mut table = self.write();
        if kept {
            table.kept.insert(peer);
        } else {
            table.kept.remove(&peer);
        }
    }

    /// True once this node knows members.
    pub(super) fn has_roster(&self) -> bool {
        !self.read().roster.is_empty()
    }

    pub(super) fn is_admitted(&self, peer: PeerId) -> bool {
        self.read().roster.contains(&peer)
    }

    /// True for a peer that is in the roster or that this node looks for.
    pub(super) fn is_known(&self, peer: PeerId) -> bool {
        let table = self.read();
        table.roster.contains(&peer)
            || table.kept.contains(&peer)
            || table.links.get(&peer).is_some_and(|link| link.wanted.load(Ordering::Acquire))
    }

    /// The run of a peer that the lanes lead to, if that is known.
    pub(super) fn run_of(&self, peer: PeerId) -> Option<u64> {
        let table = self.read();
        let run = table.links.get(&peer)?.run.load(Ordering::Acquire);
        (run != 0).then_some(run)
    }

    /// True for a peer of the roster with which lanes have run.
    pub(super) fn has_lanes(&self, peer: PeerId) -> bool {
        let table = self.read();
        let link = table.links.get(&peer);
        table.roster.contains(&peer) && link.is_some_and(|link| link.lanes.load(Ordering::Acquire))
    }

    /// True for a stranger that has sent a join frame.
    pub(super) fn has_asked(&self, peer: PeerId) -> bool {
        let table = self.read();
        table.links.get(&peer).is_some_and(|link| link.has_asked.load(Ordering::Acquire))
    }

    /// Makes the link to a peer that has connected.
    pub(super) fn link(&self, peer: PeerId, source: Source) -> Arc<Link> {
        let mut table = self.write();
        let (admitted, wanted) = (table.roster.contains(&peer), table.kept.contains(&peer));
        let link = Arc::new(Link::new(peer, source, admitted, wanted));
        table.links.insert(peer, link.clone());
        link
    }

    /// Forgets the link to a peer; sends to it fail from now on.
    pub(super) fn unlink(&self, peer: PeerId) {
        self.write().links.remove(&peer);
    }

    /// Queues a frame; true if nobody is there to write it, so that the lane has to be opened.
    pub(super) fn send(&self, to: PeerId, lane: Lane, bytes: Vec<u8>) -> Result<bool, SendError> {
        let link = self.read().links.get(&to).cloned().ok_or(SendError::NotConnected)?;
        if lane != Lane::Join && !(link.is_admitted() && *link.up.borrow()) {
            return Err(SendError::NotConnected);
        }
        if bytes.is_empty() || bytes.len() > len_max(lane) {
            tracing::error!(lane = lane.name(), len = bytes.len(), "a frame cannot be sent");
            count(&self.stats.dropped_unsendable);
            return Err(SendError::QueueFull);
        }
        match link.queue(lane).push(bytes) {
            Pushed::Queued => Ok(false),
            Pushed::Unattended => Ok(true),
            Pushed::Full => {
                count(&self.stats.dropped_queue_full);
                Err(SendError::QueueFull)
            }
        }
    }

    /// Hands a frame that arrived to the sink, if it may go there.
    pub(super) fn deliver(&self, link: &Link, lane: Lane, bytes: Vec<u8>) -> Delivered {
        let admitted = link.is_admitted();
        if lane != Lane::Join && !admitted {
            count(&self.stats.refused_stranger);
            return Delivered::Refused;
        }
        let stranger = !admitted && !link.wanted.load(Ordering::Acquire);
        if stranger {
            link.has_asked.store(true, Ordering::Release);
            if !lock(&self.joins).try_take(link.source) {
                count(&self.stats.joins_dropped);
                return Delivered::Done;
            }
        }
        let Some(sink) = self.sink() else { return Delivered::Closed };
        // The gate stays locked while the sink runs, so that `Down` comes after this frame.
        let gate = lock(&link.gate);
        if gate.phase != Phase::Up {
            return Delivered::Closed;
        }
        sink(NetworkEvent::Frame { from: link.peer, lane, bytes });
        Delivered::Done
    }
}
