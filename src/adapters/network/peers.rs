//! What the event loop knows of each connected peer.

use libp2p::swarm::ConnectionId;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use std::sync::Arc;
use std::time::Duration;

use super::bounds::{REOPEN_MAX, REOPEN_MIN, SETTLE, STABLE};
use super::lane::LaneId;
use super::stats::index;
use super::table::Link;
use crate::ports::Lane;
use crate::types::Address;

/// One connection to a peer.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) since: Instant,
    pub(super) dialled: Option<Address>,
}

/// Where a lane stands.
pub(super) enum Stage {
    /// There is no stream.
    Closed,
    /// A stream was asked for on this connection.
    Opening(ConnectionId),
    /// A task runs on a stream.
    Running {
        /// Which stream.
        id: LaneId,
        /// True once frames can be sent.
        ready: bool,
        /// True if this side opened the stream.
        opener: bool,
        /// Since when.
        since: Instant,
        /// Ends the task.
        task: AbortHandle,
    },
}

/// A lane and its history.
pub(super) struct Slot {
    pub(super) stage: Stage,
    failures: u32,
    /// True while an alarm is set that will open the lane.
    pub(super) waiting: bool,
}

impl Slot {
    fn new() -> Self {
        Self { stage: Stage::Closed, failures: 0, waiting: false }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Running { ready: true, .. })
    }

    /// True if the lane has no stream and nothing is on its way to change that.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Closed) && !self.waiting
    }

    /// True if this side asked for a stream, or has one that it opened.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.stage, Stage::Opening(_) | Stage::Running { opener: true, .. })
    }

    fn connection(&self) -> Option<ConnectionId> {
        match &self.stage {
            Stage::Closed => None,
            Stage::Opening(connection) => Some(*connection),
            Stage::Running { id, .. } => Some(id.connection),
        }
    }

    /// Ends the stream, if there is one.
    pub(super) fn close(&mut self) {
        if let Stage::Running { since, ready, task, .. } =
            std::mem::replace(&mut self.stage, Stage::Closed)
        {
            task.abort();
            if ready && since.elapsed() >= STABLE {
                self.failures = 0;
            }
        }
    }

    /// How long to wait before the lane is opened again.
    pub(super) fn backoff(&mut self) -> Duration {
        let delay = REOPEN_MIN * 2u32.pow(self.failures.min(8));
        self.failures += 1;
        self.waiting = true;
        delay.min(REOPEN_MAX)
    }
}

/// A connected peer.
pub(super) struct Peer {
    pub(super) link: Arc<Link>,
    /// In the order in which they came; never empty.
    pub(super) connections: Vec<Connection>,
    pub(super) since: Instant,
    /// True if the connection is enough for `Up`, without lanes.
    pub(super) up_at_once: bool,
    slots: [Slot; 4],
}

impl Peer {
    pub(super) fn new(link: Arc<Link>, up_at_once: bool) -> Self {
        Self {
            link,
            connections: Vec::new(),
            since: Instant::now(),
            up_at_once,
            slots: std::array::from_fn(|_| Slot::new()),
        }
    }

    pub(super) fn slot(&mut self, lane: Lane) -> &mut Slot {
        &mut self.slots[index(lane)]
    }

    pub(super) fn has(&self, connection: ConnectionId) -> bool {
        self.connections.iter().any(|known| known.id == connection)
    }

    /// True if the sink may be told that the peer is there, see the module `network`.
    pub(super) fn is_up(&self) -> bool {
        let ready = |lane| self.slots[index(lane)].is_ready();
        self.up_at_once || ready(Lane::Consensus) && ready(Lane::Control) || ready(Lane::Join)
    }

    /// The address at which this node dialled the peer, if it did.
    pub(super) fn dialled(&self) -> Option<Address> {
        self.connections.iter().find_map(|connection| connection.dialled.clone())
    }

    /// The connection to open a lane on: where consensus runs, or the newest.
    pub(super) fn home(&self) -> Option<ConnectionId> {
        let consensus = &self.slots[index(Lane::Consensus)];
        consensus.connection().or_else(|| self.connections.last().map(|newest| newest.id))
    }

    /// The connections that are too many: all but the newest, or, while the oldest has not settled,
    /// all but the oldest.
    pub(super) fn surplus(&self) -> Vec<ConnectionId> {
        let Some(oldest) = self.connections.first() else { return Vec::new() };
        let settled = oldest.since.elapsed() >= SETTLE;
        let kept = if settled { self.connections.last() } else { Some(oldest) };
        let kept = kept.map(|connection| connection.id);
        self.connections.iter().map(|c| c.id).filter(|id| Some(*id) != kept).collect()
    }

    /// Forgets a connection and ends the lanes on it.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.connections.retain(|known| known.id != connection);
        for lane in Lane::ALL {
            if self.slot(lane).connection() == Some(connection) {
                self.slot(lane).close();
                self.link.queue(lane).detach();
            }
        }
    }
}
