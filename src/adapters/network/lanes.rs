//! The part of the event loop that decides about lanes.
//!
//! Invariants:
//! 1. A lane has at most one stream, whose task alone drains its queue.
//! 2. The lanes of the roster are opened by the side with the smaller peer id and by nobody else;
//!    it alone can say that an earlier stream is over, so a newer one replaces the earlier.
//! 3. The join lane is opened by whoever has a frame for it. Where both did, the stream of the side
//!    with the smaller peer id stays.

use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use super::agenda::Alarm;
use super::behaviour::{Ask, Happened, LaneEvent, LaneOutcome};
use super::driver::Driver;
use super::lane::{LaneEnd, LaneId, LaneReport, LaneTask};
use super::peers::Stage;
use super::stats::count;
use super::transport::to_libp2p;
use crate::ports::Lane;
use crate::types::PeerId;

impl Driver {
    /// True if this side has to see to it that the lane is open.
    fn wants_lane(&self, peer: PeerId, lane: Lane) -> bool {
        self.peers.get(&peer).is_some_and(|known| match lane {
            Lane::Join => !known.link.queue(lane).is_empty(),
            Lane::Consensus | Lane::Control | Lane::Bulk => {
                self.local < peer && known.link.is_admitted()
            }
        })
    }

    /// Asks for streams for the lanes that this side has to open and that have none.
    pub(super) fn open_lanes(&mut self, peer: PeerId) {
        if let Some(known) = self.peers.get(&peer) {
            known.link.set_run(known.connections.first().and_then(|first| first.run));
        }
        for lane in Lane::ALL {
            if !self.wants_lane(peer, lane) {
                continue;
            }
            let Some(known) = self.peers.get_mut(&peer) else { return };
            let Some(home) = known.home() else { return };
            let slot = known.slot(lane);
            if slot.needs_opening() {
                slot.stage = Stage::Opening(home);
                self.swarm.behaviour_mut().lanes.ask(to_libp2p(peer), home, Ask::Lane(lane));
            }
        }
    }

    /// Sets an alarm to open a lane that is this side's to open.
    fn reopen_later(&mut self, peer: PeerId, lane: Lane) {
        if self.wants_lane(peer, lane)
            && let Some(known) = self.peers.get_mut(&peer)
            && known.slot(lane).needs_opening()
        {
            let after = known.slot(lane).backoff();
            self.agenda.set(after, Alarm::Reopen(peer, lane));
        }
    }

    pub(super) fn on_lane_event(&mut self, event: LaneEvent) {
        let LaneEvent { peer, connection, happened } = event;
        match happened {
            Happened::Lane(lane, outcome) => self.on_lane_outcome(peer, connection, lane, outcome),
            Happened::Notified(notice) => self.on_notice(peer, connection, notice),
            Happened::Heard => self.close(peer, connection),
        }
    }

    fn on_lane_outcome(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        lane: Lane,
        outcome: LaneOutcome,
    ) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if !known.has(connection) {
            return;
        }
        let asked = matches!(known.slot(lane).stage, Stage::Opening(on) if on == connection);
        match outcome {
            LaneOutcome::Opened(stream) if asked => {
                self.start_lane(peer, connection, lane, stream, true);
            }
            LaneOutcome::Failed(reason) if asked => {
                tracing::debug!(%peer, lane = lane.name(), reason, "a lane was not opened");
                known.slot(lane).stage = Stage::Closed;
                self.reopen_later(peer, lane);
            }
            LaneOutcome::Accepted(stream) => self.on_accepted(peer, connection, lane, stream),
            // The lane was given up, or the peer's own stream taken, while this one was opened.
            LaneOutcome::Opened(_) | LaneOutcome::Failed(_) => {}
        }
    }

    fn on_accepted(&mut self, peer: PeerId, connection: ConnectionId, lane: Lane, stream: Stream) {
        let smaller = self.local < peer;
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let entitled = !known.stands_back(connection)
            && match lane {
                Lane::Join => !(smaller && known.slot(lane).is_own()),
                Lane::Consensus | Lane::Control | Lane::Bulk => {
                    !smaller && known.link.is_admitted()
                }
            };
        if entitled {
            self.start_lane(peer, connection, lane, stream, false);
            self.announce(peer);
            self.open_gates(peer);
        } else if lane != Lane::Join {
            tracing::debug!(%peer, lane = lane.name(), "the peer may not open this lane");
            count(&self.shared.stats.refused_stranger);
        }
        // Without a task the stream is dropped here, which the peer takes for a refusal.
    }

    fn start_lane(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        lane: Lane,
        stream: Stream,
        opener: bool,
    ) {
        self.serials += 1;
        let id = LaneId { peer, connection, lane, serial: self.serials };
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let Some(heard) = known.heard(connection) else { return };
        known.slot(lane).close();
        let task = LaneTask {
            id,
            heard,
            shared: self.shared.clone(),
            link: known.link.clone(),
            writer: known.link.queue(lane).attach(),
            reports: self.reports.clone(),
        };
        let task = tokio::spawn(task.run(stream, opener)).abort_handle();
        let since = Instant::now();
        known.slot(lane).stage = Stage::Running { id, ready: !opener, opener, since, task };
    }

    /// Opens the gates to a peer once the lanes with it run.
    fn open_gates(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get(&peer).filter(|known| known.has_lanes()) else { return };
        if known.link.set_lanes() {
            return;
        }
        for connection in &known.connections {
            self.swarm.behaviour_mut().lanes.look(to_libp2p(peer), connection.id);
        }
        // It may be a relay.
        self.tend_places();
    }

    pub(super) fn on_lane_report(&mut self, report: LaneReport) {
        let (LaneReport::Taken(id) | LaneReport::Ended(id, _)) = report;
        let Some(known) = self.peers.get_mut(&id.peer) else { return };
        let slot = known.slot(id.lane);
        let Stage::Running { id: current, ready, .. } = &mut slot.stage else { return };
        if *current != id {
            return;
        }
        match report {
            LaneReport::Taken(_) => {
                *ready = true;
                self.announce(id.peer);
                self.open_gates(id.peer);
            }
            LaneReport::Ended(_, end) => {
                slot.close();
                known.link.queue(id.lane).detach();
                match end {
                    LaneEnd::Hostile | LaneEnd::Stalled => self.disconnect(id.peer),
                    LaneEnd::Broken | LaneEnd::NotTaken | LaneEnd::Refused => {
                        self.reopen_later(id.peer, id.lane);
                    }
                }
            }
        }
    }
}
