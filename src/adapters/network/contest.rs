//! The part of the event loop that decides between two processes with the same key.
//!
//! Problem: a copied data directory gives a second process the identity of the first. If its
//! connections took the place of the first one's, it would take over a membership whose promises it
//! does not remember.
//!
//! Flow: every process names its run (`identify`). A connection of another run than the established
//! one stands back: it gets no lanes. If the established one brings a frame within `CONTEST`, the
//! later one is told that it is a duplicate, and closed. If not, the established one belongs to a
//! process that is gone, or to a link that is dead: all connections are closed, and the peer that
//! lives dials again.
//!
//! A later connection of the same run gets no lanes either, on the side that decides which one stays, until
//! `CONTEST` is over: somebody may only want to know whether this node can be dialled. If the established one
//! is silent, the other end has lost it, and the later one takes its place. (Where the established one is
//! young, and both lead to one address, they come from dials that met, and the later one is closed at once.)
//!
//! Invariants:
//! 1. While the run that was there first brings frames, no other run gets a lane. Where the peer is
//!    in the roster, frames of the join lane do not count: whoever asks to join shows only that it
//!    is no member.
//! 2. Whoever is refused is told why, once.

use libp2p::swarm::ConnectionId;

use super::agenda::Alarm;
use super::behaviour::{Ask, Notice};
use super::bounds::CONTEST;
use super::driver::Driver;
use super::transport::to_libp2p;
use crate::messages::wire::v1::Turned;
use crate::ports::NetworkEvent;
use crate::types::PeerId;

impl Driver {
    /// A peer said which run is at the other end of a connection.
    pub(super) fn on_identified(&mut self, peer: PeerId, connection: ConnectionId, run: u64) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let Some(named) = known.connections.iter_mut().find(|c| c.id == connection) else { return };
        if named.run.replace(run) == Some(run) {
            return;
        }
        // With the oldest one named, others may turn out to be of another run, too.
        let others: Vec<ConnectionId> = known.connections.iter().map(|c| c.id).collect();
        for later in others {
            self.begin_contest(peer, later);
        }
        self.close_surplus(peer);
        self.open_lanes(peer);
    }

    /// Makes a connection stand back if it has to, and gives the one that was there first its time.
    fn begin_contest(&mut self, peer: PeerId, later: ConnectionId) {
        let Some(known) = self.peers.get_mut(&peer).filter(|known| known.stands_back(later)) else {
            return;
        };
        known.end_lanes(later);
        let first = known.connections.first().map(|c| (c.id, c.frames()));
        if let Some(connection) = known.connections.iter_mut().find(|c| c.id == later)
            && connection.contest.map(|(first, _)| first) != first.map(|(first, _)| first)
        {
            connection.contest = first;
            self.agenda.set(CONTEST, Alarm::Contest(peer, later));
        }
    }

    /// The established connection had its time to show that it lives.
    pub(super) fn decide_contest(&mut self, peer: PeerId, later: ConnectionId) {
        let Some(known) = self.peers.get_mut(&peer).filter(|known| known.stands_back(later)) else {
            return;
        };
        let first = known.connections.first().map(|c| (c.id, c.frames()));
        let is_same_run = known.is_same_run(later);
        let is_named = known.connections.first().is_some_and(|first| first.run.is_some());
        let Some(connection) = known.connections.iter_mut().find(|c| c.id == later) else { return };
        match first.zip(connection.contest) {
            // It has not said yet which run it is; it is closed if it never does.
            _ if connection.run.is_none() => {}
            // Nor has the first one.
            _ if !is_named => {
                connection.contest = None;
                self.begin_contest(peer, later);
            }
            Some(((now, heard), (then, before))) if now == then && is_same_run => {
                self.close(peer, if heard > before { later } else { now });
                // Others may have come meanwhile, which need not stand back any more.
                self.close_surplus(peer);
            }
            Some(((now, heard), (then, before))) if now == then && heard > before => {
                if !std::mem::replace(&mut connection.refused, true) {
                    tracing::warn!(%peer, "two processes use the key of this peer; the later one is refused");
                    let ask = Ask::Tell(Notice::Duplicate);
                    self.swarm.behaviour_mut().lanes.ask(to_libp2p(peer), later, ask);
                }
            }
            Some(((now, _), (then, _))) if now == then => {
                tracing::info!(%peer, "another process of this peer came, and the first is silent");
                self.disconnect(peer);
            }
            // Another connection is the first by now: it gets its time as well.
            _ => self.begin_contest(peer, later),
        }
    }

    /// A peer says why it will close the connection.
    pub(super) fn on_notice(&mut self, peer: PeerId, connection: ConnectionId, notice: Notice) {
        let known = self.peers.get(&peer).is_some_and(|known| known.has(connection));
        // Whoever joins has no roster yet, but has dialled somebody.
        let is_joining = !self.shared.has_roster() && self.shared.is_known(peer);
        if known && (is_joining || self.shared.is_admitted(peer)) {
            let why = match notice {
                Notice::Duplicate => Turned::DuplicateIdentity,
                Notice::Stranger => Turned::NotAMember,
            };
            self.emit(NetworkEvent::TurnedAway { peer, why });
        }
    }
}
