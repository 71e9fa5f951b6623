//! What the event loop knows of each connected peer.

use libp2p::Multiaddr;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::bounds::{REOPEN_MAX, REOPEN_MIN, SETTLE, SILENT, STABLE};
use super::lane::LaneId;
use super::queue::Bucket;
use super::stats::index;
use super::table::Link;
use super::transport::address;
use crate::ports::Lane;
use crate::types::Address;
use crate::types::limits::GOSSIP_PER_SECOND_MAX;

/// What has come on the lanes of a connection.
pub(super) struct Heard {
    since: Instant,
    /// Frames that show that whoever is there is the one that was there.
    pub(super) frames: AtomicU64,
    /// When bytes came last, in milliseconds after `since`.
    last_ms: AtomicU64,
}

impl Heard {
    /// Nothing so far.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), frames: AtomicU64::new(0), last_ms: AtomicU64::new(0) }
    }

    /// Takes note of bytes that came, also of frames of which the rest has not come yet.
    pub(super) fn note_bytes(&self) {
        let after = self.since.elapsed().as_millis();
        self.last_ms.store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When bytes came last, or the connection began.
    pub(super) fn last(&self) -> Instant {
        self.since + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

/// That a connection stands back behind the one that was there first.
#[derive(Clone, Copy)]
pub(super) struct Contest {
    /// The one that was there first.
    pub(super) with: ConnectionId,
    /// How many frames had come on that when this began.
    pub(super) frames: u64,
    pub(super) since: Instant,
}

/// One connection to a peer.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) since: Instant,
    pub(super) dialled: Option<Address>,
    /// Where it leads.
    pub(super) remote: Multiaddr,
    /// True if another member passes it on.
    pub(super) is_relayed: bool,
    /// The run at the other end, once it has said.
    pub(super) run: Option<u64>,
    /// Counts what came on it.
    pub(super) heard: Arc<Heard>,
    /// While it stands back.
    pub(super) contest: Option<Contest>,
    /// True once this side has told the other end that it is a duplicate.
    pub(super) refused: bool,
    /// When a probe was answered last; none if the other end knows no probes.
    pub(super) alive: Option<Instant>,
}

impl Connection {
    /// A connection that has just come up.
    pub(super) fn new(id: ConnectionId, dialled: Option<Address>, at: &ConnectedPoint) -> Self {
        Self {
            id,
            since: Instant::now(),
            dialled,
            remote: at.get_remote_address().clone(),
            is_relayed: at.is_relayed(),
            run: None,
            heard: Arc::new(Heard::new()),
            contest: None,
            refused: false,
            alive: Some(Instant::now()),
        }
    }

    /// How many frames have come on it.
    pub(super) fn frames(&self) -> u64 {
        self.heard.frames.load(Ordering::Relaxed)
    }

    /// True if nothing has come on it for so long, neither bytes nor the answer to a probe.
    pub(super) fn is_silent_for(&self, limit: Duration) -> bool {
        self.alive.is_some_and(|at| at.max(self.heard.last()).elapsed() >= limit)
    }

    fn is_settled(&self) -> bool {
        self.since.elapsed() >= SETTLE
    }

    /// True if the two lead to different addresses, which may be of one machine.
    fn is_at_another_ip(&self, other: &Self) -> bool {
        let ip = |at: &Multiaddr| Some(address(at)?.socket()?.ip().to_canonical());
        ip(&self.remote).zip(ip(&other.remote)).is_some_and(|(here, there)| here != there)
    }
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
    pub(super) fn needs_opening(&self) -> bool {
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
    /// True if this side closes the connections that are too many.
    decides: bool,
    /// How many messages of the mesh are looked at.
    pub(super) gossip: Bucket,
    slots: [Slot; 4],
}

impl Peer {
    pub(super) fn new(link: Arc<Link>, up_at_once: bool, decides: bool) -> Self {
        Self {
            link,
            decides,
            connections: Vec::new(),
            since: Instant::now(),
            up_at_once,
            gossip: Bucket::new(GOSSIP_PER_SECOND_MAX),
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
        self.up_at_once || self.has_lanes() || self.slots[index(Lane::Join)].is_ready()
    }

    /// True if nothing has come on any of its connections for a while.
    pub(super) fn is_silent(&self) -> bool {
        self.connections.iter().all(|connection| connection.is_silent_for(SILENT))
    }

    /// True if others pass on whatever goes to it.
    pub(super) fn is_only_relayed(&self) -> bool {
        self.connections.iter().all(|connection| connection.is_relayed)
    }

    /// True if the lanes of the roster run.
    pub(super) fn has_lanes(&self) -> bool {
        let ready = |lane| self.slots[index(lane)].is_ready();
        ready(Lane::Consensus) && ready(Lane::Control)
    }

    /// The address at which this node dialled the peer, if it did.
    pub(super) fn dialled(&self) -> Option<Address> {
        self.connections.iter().find_map(|connection| connection.dialled.clone())
    }

    /// The connection to open a lane on: where consensus runs, or the newest that need not stand
    /// back.
    pub(super) fn home(&self) -> Option<ConnectionId> {
        let consensus = &self.slots[index(Lane::Consensus)];
        let newest = || self.connections.iter().rev().find(|c| !self.stands_back(c.id));
        consensus.connection().or_else(|| newest().map(|newest| newest.id))
    }

    /// True for a connection that must get no lanes, because another one stood before it: one of
    /// another run; one that has not said yet which run it is; and one of the same run, on the side
    /// that decides, until it has turned out that the other one is dead. (A direct connection takes
    /// the place of a relayed one.)
    pub(super) fn stands_back(&self, connection: ConnectionId) -> bool {
        let Some(oldest) = self.connections.first() else { return false };
        let Some(this) = self.connections.iter().find(|c| c.id == connection) else { return false };
        if this.id == oldest.id {
            return false;
        }
        // Else both may come from dials that met: then it does not matter which one stays.
        let stood_before =
            oldest.is_settled() || self.link.is_admitted() && oldest.is_at_another_ip(this);
        match (oldest.run, this.run) {
            (Some(first), Some(later)) if first != later => true,
            (Some(_), Some(_)) => {
                let takes_over = oldest.is_relayed && !this.is_relayed;
                self.decides && stood_before && !takes_over
            }
            _ => stood_before,
        }
    }

    /// The connections that are too many: of those that need not stand back all but one, which is the oldest
    /// direct one if there is one.
    pub(super) fn surplus(&self) -> Vec<ConnectionId> {
        let equal = || self.connections.iter().filter(|c| !self.stands_back(c.id));
        let kept = equal().min_by_key(|connection| connection.is_relayed).map(|kept| kept.id);
        equal().map(|connection| connection.id).filter(|id| Some(*id) != kept).collect()
    }

    /// What the lanes of a connection count up.
    pub(super) fn heard(&self, connection: ConnectionId) -> Option<Arc<Heard>> {
        self.connections.iter().find(|c| c.id == connection).map(|c| c.heard.clone())
    }

    /// Forgets a connection and ends the lanes on it.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.connections.retain(|known| known.id != connection);
        self.end_lanes(connection);
    }

    /// Ends the lanes on a connection.
    pub(super) fn end_lanes(&mut self, connection: ConnectionId) {
        for lane in Lane::ALL {
            if self.slot(lane).connection() == Some(connection) {
                self.slot(lane).close();
                self.link.queue(lane).detach();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::Endpoint;
    use libp2p::core::transport::PortUse;

    use super::super::arrivals::Source;
    use super::super::bounds::{DEAD, LOOK_INTERVAL};
    use super::*;
    use crate::types::PeerId;

    #[tokio::test(start_paused = true)]
    async fn whatever_comes_shows_that_a_connection_lives_without_any_answer_to_a_probe() {
        let address = "/ip4/10.0.0.1/tcp/4001".parse().unwrap();
        let (role_override, port_use) = (Endpoint::Dialer, PortUse::New);
        let point = ConnectedPoint::Dialer { address, role_override, port_use };
        let mut connection = Connection::new(ConnectionId::new_unchecked(1), None, &point);
        let heard = connection.heard.clone();
        for _ in 0..100 {
            heard.note_bytes();
            tokio::time::advance(LOOK_INTERVAL).await;
            assert!(!connection.is_silent_for(SILENT));
        }
        assert_eq!(connection.frames(), 0, "a long one is still on its way");
        tokio::time::advance(DEAD).await;
        assert!(connection.is_silent_for(DEAD));
        connection.alive = None;
        assert!(!connection.is_silent_for(DEAD), "the other end knows no probes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_moves_is_not_one_that_was_dialled_twice() {
        let connection = |id: usize, ip: &str| {
            let address = format!("/ip4/{ip}/tcp/4001").parse().unwrap();
            let (role_override, port_use) = (Endpoint::Dialer, PortUse::New);
            let point = ConnectedPoint::Dialer { address, role_override, port_use };
            Connection {
                run: Some(1),
                ..Connection::new(ConnectionId::new_unchecked(id), None, &point)
            }
        };
        let later = ConnectionId::new_unchecked(2);
        for (ip, is_admitted, contests) in
            [("10.0.0.2", true, true), ("10.0.0.1", true, false), ("10.0.0.2", false, false)]
        {
            let source = Source::of("10.0.0.1".parse().unwrap());
            let link = Arc::new(Link::new(PeerId([2; 32]), source, is_admitted, false));
            let mut peer = Peer::new(link, false, true);
            peer.connections = vec![connection(1, "10.0.0.1"), connection(2, ip)];
            assert_eq!(peer.stands_back(later), contests, "{ip} {is_admitted}");
            // One that stands back stays until it is known which of the two lives.
            assert_eq!(peer.surplus().contains(&later), !contests, "{ip} {is_admitted}");
            tokio::time::advance(SETTLE).await;
            assert!(peer.stands_back(later), "the first has been there for long");
        }
    }
}
