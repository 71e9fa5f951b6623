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
//! An established one that has not said which run it is, and is silent, never got that far: the other end had
//! moved by the time it was up. It is closed, and the later one takes its place.
//!
//! Invariants:
//! 1. While the run that was there first brings frames, no other run gets a lane. Where the peer is
//!    in the roster, frames of the join lane do not count: whoever asks to join shows only that it
//!    is no member.
//! 2. Whoever is refused is told why, once.

use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use super::agenda::Alarm;
use super::behaviour::{Ask, Notice};
use super::bounds::CONTEST;
use super::driver::Driver;
use super::peers::{Connection, Contest};
use super::transport::to_libp2p;
use crate::messages::wire::Turned;
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
        let first = known.connections.first().map(|first| (first.id, first.frames()));
        let Some((with, frames)) = first else { return };
        let Some(connection) = known.connections.iter_mut().find(|c| c.id == later) else { return };
        if connection.contest.is_none_or(|contest| contest.with != with) {
            connection.contest = Some(Contest { with, frames, since: Instant::now() });
            self.agenda.set(CONTEST, Alarm::Contest(peer, later));
        }
    }

    /// The established connection had its time to show that it lives.
    pub(super) fn on_contest_over(&mut self, peer: PeerId, later: ConnectionId) {
        let Some(known) = self.peers.get_mut(&peer).filter(|known| known.stands_back(later)) else {
            return;
        };
        let Some((first, others)) = known.connections.split_first_mut() else { return };
        let Some(connection) = others.iter_mut().find(|c| c.id == later) else { return };
        match decide(first, connection) {
            Decision::Wait => {}
            Decision::None => connection.contest = None,
            Decision::Again => {
                connection.contest = None;
                self.begin_contest(peer, later);
            }
            Decision::Close(one) => {
                self.close(peer, one);
                // Others may have come meanwhile, which need not stand back any more.
                self.close_surplus(peer);
            }
            Decision::Refuse => {
                if !std::mem::replace(&mut connection.refused, true) {
                    tracing::warn!(%peer, "two processes use the key of this peer; the later one is refused");
                    let ask = Ask::Tell(Notice::Duplicate);
                    self.swarm.behaviour_mut().lanes.ask(to_libp2p(peer), later, ask);
                }
            }
            Decision::Disconnect => {
                tracing::info!(%peer, "another process of this peer came, and the first is silent");
                self.disconnect(peer);
            }
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

/// What follows for two connections to a peer once the first had its time.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Nothing yet: another one has become the first meanwhile, and has its time.
    Wait,
    /// Nothing until the later one says which run it is; it is closed if it never does.
    None,
    /// The first gets its time once more.
    Again,
    /// The other one is enough: both are of one process, or nobody is at the end of this one.
    Close(ConnectionId),
    /// The later one is of a second process.
    Refuse,
    /// The first one is of a process that is gone.
    Disconnect,
}

fn decide(first: &Connection, later: &Connection) -> Decision {
    let Some(run) = later.run else { return Decision::None };
    let Some(contest) = later.contest.filter(|contest| contest.with == first.id) else {
        return Decision::Again;
    };
    if contest.since.elapsed() < CONTEST {
        return Decision::Wait;
    }
    let lives = first.frames() > contest.frames;
    match first.run {
        Some(same) if same == run => Decision::Close(if lives { later.id } else { first.id }),
        Some(_) if lives => Decision::Refuse,
        Some(_) => Decision::Disconnect,
        // Which process it is of can't be told yet.
        None if lives || !first.is_silent_for(CONTEST) => Decision::Again,
        // It may have been another one, whose lanes the later one must not inherit.
        None if first.frames() > 0 => Decision::Disconnect,
        // The other end was gone before it could say that, as when both have moved at once. (Or it is
        // slow: a probe need not be answered within this time. Then one connection is lost, and the
        // other stays.)
        None => Decision::Close(first.id),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use libp2p::core::transport::PortUse;
    use libp2p::core::{ConnectedPoint, Endpoint};

    use super::*;

    fn connection(number: usize, run: Option<u64>) -> Connection {
        let address = "/ip4/10.0.0.1/tcp/4001".parse().unwrap();
        let (role_override, port_use) = (Endpoint::Dialer, PortUse::New);
        let point = ConnectedPoint::Dialer { address, role_override, port_use };
        Connection { run, ..Connection::new(ConnectionId::new_unchecked(number), None, &point) }
    }

    /// A connection that stands back behind another one, on which so many frames had come.
    fn later(run: Option<u64>, behind: usize, frames: u64) -> Connection {
        let (with, since) = (ConnectionId::new_unchecked(behind), Instant::now());
        Connection { contest: Some(Contest { with, frames, since }), ..connection(2, run) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_connection_stays_if_it_lives() {
        let close = |id| Decision::Close(ConnectionId::new_unchecked(id));
        for (first_run, later_run, frames, if_it_lives, if_it_is_silent) in [
            (Some(7), Some(7), 5, close(2), close(1)),
            (Some(7), Some(8), 5, Decision::Refuse, Decision::Disconnect),
            (None, Some(8), 0, Decision::Again, close(1)),
            (None, Some(8), 5, Decision::Again, Decision::Disconnect),
            (Some(7), None, 5, Decision::None, Decision::None),
            (None, None, 5, Decision::None, Decision::None),
        ] {
            for (more, expected) in [(1, if_it_lives), (0, if_it_is_silent)] {
                let (first, later) = (connection(1, first_run), later(later_run, 1, frames));
                first.heard.frames.store(frames + more, Ordering::Relaxed);
                tokio::time::advance(CONTEST).await;
                assert_eq!(decide(&first, &later), expected, "{first_run:?} {later_run:?} {more}");
            }
        }
        let (mut first, later) = (connection(1, None), later(Some(8), 1, 0));
        tokio::time::advance(CONTEST).await;
        first.alive = Some(Instant::now());
        assert_eq!(decide(&first, &later), Decision::Again, "a probe was answered");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_the_first_has_its_time() {
        let behind_another = later(Some(8), 3, 0);
        tokio::time::advance(CONTEST).await;
        assert_eq!(decide(&connection(1, Some(7)), &behind_another), Decision::Again);
        assert_eq!(decide(&connection(1, Some(7)), &connection(2, Some(8))), Decision::Again);
        let (first, later) = (connection(1, Some(7)), later(Some(8), 1, 0));
        tokio::time::advance(CONTEST / 2).await;
        assert_eq!(decide(&first, &later), Decision::Wait, "the alarm was set for another one");
    }
}
