//! The part of the event loop that dials. Whom, where and when is for `dialer` to say.
//!
//! It also looks after connections that have gone silent. A machine that is gone, or that has
//! another address now, breaks nothing off: what is sent to it is repeated for minutes. So each
//! connection is probed. A peer from which nothing comes on any is dialled beside them after
//! `SILENT`; if somebody answers there, `contest` decides. A connection on which nothing has come
//! for `DEAD` is closed. Whatever is read on a lane is as good as an answer, which on a slow link
//! may have to wait behind much else.

use std::collections::BTreeSet;

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use tokio::time::Instant;

use super::agenda::Alarm;
use super::bounds::{DEAD, DIALLED_AT_ONCE, DIRECT_AFTER, HEAD_START, LOOK_INTERVAL};
use super::dialer::{Attempt, Over, Resolved, Target, explain, literals, resolve};
use super::driver::{Driver, Report};
use super::learned::Follow;
use super::peers::Peer;
use super::stats::count;
use super::table::Dial;
use super::transport::{address, from_libp2p, multiaddr, to_libp2p};
use crate::ports::NetworkEvent;
use crate::types::{Address, PeerId};

impl Driver {
    /// True for a peer that is connected directly and answers.
    pub(super) fn is_reached(&self, peer: PeerId) -> bool {
        let is_reached = |known: &Peer| !known.is_only_relayed() && !known.is_silent();
        self.peers.get(&peer).is_some_and(is_reached)
    }

    /// Where a peer may be: first where this node has reached it.
    pub(super) fn addresses(&self, peer: PeerId) -> Vec<Address> {
        let dialled = self.peers.get(&peer).and_then(Peer::dialled);
        dialled.into_iter().chain(self.dialer.addresses(peer).cloned()).collect()
    }

    /// Dials a kept peer wherever it is not being dialled, unless it is reached.
    pub(super) fn dial_kept(&mut self, peer: PeerId) {
        if self.is_reached(peer) {
            return;
        }
        let begun = self.dialer.begin_kept(peer);
        let is_relayed = |known: &Peer| known.is_only_relayed() && !known.is_silent();
        if begun.is_empty() && self.peers.get(&peer).is_some_and(is_relayed) {
            self.seek_direct(peer);
        }
        for (dial, addresses) in begun {
            self.resolve(Target::Kept(peer, dial), addresses);
        }
    }

    /// Takes note of where a kept peer may be, and dials it there if it is not reached.
    pub(super) fn learn(&mut self, peer: PeerId, address: Address) {
        if self.dialer.learn(peer, address) {
            self.dial_kept(peer);
        }
    }

    /// Somebody in the local network claims that a peer is at these addresses. It is dialled there,
    /// if it is kept and not reached, but at once only so often.
    pub(super) fn follow_claim(&mut self, peer: PeerId, addresses: Vec<Address>) {
        let is_news = self.dialer.claim(peer, addresses);
        // What is claimed of a peer that is reached is no reason to wait when it is lost.
        if self.is_reached(peer) {
            return;
        }
        match self.dialer.follow(peer, is_news, Instant::now()) {
            Some(Follow::Now) => self.dial_kept(peer),
            Some(Follow::After(after)) => self.agenda.set(after, Alarm::FollowClaims(peer)),
            Some(Follow::WithOthers) | None => {}
        }
    }

    /// This machine has an address that it did not have.
    pub(super) fn on_new_address(&mut self) {
        self.dialer.hurry();
        self.hints.hurry(Instant::now());
        for peer in self.dialer.kept().collect::<Vec<_>>() {
            self.dial_kept(peer);
        }
    }

    /// A probe of a connection was answered, or the other end knows no probes.
    pub(super) fn on_pong(&mut self, peer: PeerId, connection: ConnectionId, is_probed: bool) {
        let known = self.peers.get_mut(&peer);
        let found = known.and_then(|k| k.connections.iter_mut().find(|c| c.id == connection));
        if let Some(found) = found {
            found.alive = is_probed.then(Instant::now);
        }
    }

    /// Looks which connections are silent, and who is missed.
    pub(super) fn on_look(&mut self) {
        let stood_still = self.looked.elapsed() >= 3 * LOOK_INTERVAL;
        self.looked = Instant::now();
        self.agenda.set(LOOK_INTERVAL, Alarm::Look);
        if stood_still {
            // It is this process that was stopped; the others get their time anew.
            let connections = self.peers.values_mut().flat_map(|known| &mut known.connections);
            for connection in connections.filter(|c| c.alive.is_some()) {
                connection.alive = Some(Instant::now());
            }
        }
        let all = self.peers.iter().flat_map(|(peer, known)| {
            known.connections.iter().map(move |connection| (*peer, connection))
        });
        let dead: Vec<(PeerId, ConnectionId)> =
            all.filter(|(_, c)| c.is_silent_for(DEAD)).map(|(peer, c)| (peer, c.id)).collect();
        for (peer, connection) in dead {
            tracing::info!(%peer, "the connection is dead; closing it");
            count(&self.shared.stats.dead);
            self.close(peer, connection);
        }
        let is_due = |(peer, known): &(&PeerId, &Peer)| {
            known.is_silent() && !self.dialer.is_dialling(**peer)
        };
        let due: Vec<PeerId> = self.peers.iter().filter(is_due).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.dial_kept(peer);
        }
        self.dial_hints();
    }

    /// What is relayed now may become direct later: addresses change, and so do firewalls.
    pub(super) fn seek_direct(&mut self, peer: PeerId) {
        if let Some(generation) = self.dialer.later(peer) {
            self.agenda.set(DIRECT_AFTER, Alarm::Redial(peer, generation));
        }
    }

    /// Dials addresses, after having them resolved if they are names.
    pub(super) fn resolve(&mut self, target: Target, addresses: Vec<Address>) {
        if let Some(resolved) = literals(&addresses) {
            return self.start_dial(target, Ok(resolved));
        }
        let reports = self.reports.clone();
        tokio::spawn(async move {
            // An event loop that is gone dials nothing more.
            let _ = reports.send(Report::Resolved(target, resolve(addresses).await));
        });
    }

    /// Dials what addresses stand for, or fails because that is not known.
    pub(super) fn start_dial(&mut self, target: Target, resolved: Result<Resolved, String>) {
        count(&self.shared.stats.dials);
        match (target, resolved) {
            (Target::Kept(peer, dial), resolved) => self.start_kept(peer, dial, resolved),
            (Target::Once(ticket), Ok(resolved)) => {
                self.dialer.resolve_once(ticket, &resolved);
                self.dial_next(ticket);
            }
            (Target::Once(_), Err(reason)) => self.on_dial_failed(target, reason),
        }
    }

    /// Dials a kept peer at all of its addresses, and through those that hold a place for it.
    fn start_kept(&mut self, peer: PeerId, dial: u64, resolved: Result<Resolved, String>) {
        let target = Target::Kept(peer, dial);
        let needs_circuit = !self.peers.contains_key(&peer) && self.dialer.is_first(peer, dial);
        let circuits = if needs_circuit { self.circuits_to(peer) } else { Vec::new() };
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(_) if !circuits.is_empty() => Resolved::new(),
            Err(reason) => {
                self.dialer.end_kept(&target);
                return self.on_dial_failed(target, reason);
            }
        };
        if self.shared.is_admitted(peer) {
            // Where others only say that it is, others may be.
            let named = resolved.iter().filter(|(_, named)| self.dialer.is_of_roster(peer, named));
            let hosts = named.filter_map(|(r, _)| r.socket()).map(|socket| socket.ip());
            self.shared.sockets.keep_named(peer, hosts);
        }
        let addresses: BTreeSet<_> =
            resolved.iter().filter_map(|(r, _)| multiaddr(r)).chain(circuits).collect();
        let options = DialOpts::peer_id(to_libp2p(peer))
            .condition(PeerCondition::Always)
            // Those that are dead keep nobody waiting for the others.
            .override_dial_concurrency_factor(DIALLED_AT_ONCE)
            .addresses(addresses.into_iter().collect())
            // With the listening port as source, two nodes that dial each other at once would meet in one TCP
            // connection that has no server side.
            .allocate_new_port()
            .build();
        self.dial(options, Attempt { target, resolved });
    }

    /// Goes on with a `dial` call or a hint at the next of its addresses, and after `HEAD_START` at
    /// the one after it; ends it once all have failed. (Were all dialled in one moment, a node that
    /// has several of them would get as many connections.) The library tries but one address of a
    /// peer that is not named.
    pub(super) fn dial_next(&mut self, ticket: u64) {
        while let Some(next) = self.dialer.next_once(ticket) {
            let Some(at) = multiaddr(&next).filter(|_| !self.is_spent(ticket, &next)) else {
                continue;
            };
            if self.dialer.has_more(ticket) {
                self.agenda.set(HEAD_START, Alarm::DialNext(ticket));
            }
            let options = DialOpts::unknown_peer_id().address(at).allocate_new_port().build();
            let resolved = vec![(next.clone(), next)];
            return self.dial(options, Attempt { target: Target::Once(ticket), resolved });
        }
        if self.dialer.is_trying(ticket) {
            return;
        }
        let Some(Over { address, is_hint, reason }) = self.dialer.give_up_once(ticket) else {
            return;
        };
        if is_hint {
            tracing::debug!(%address, reason, "a hint was followed");
            return self.hints.end(&address, Instant::now());
        }
        count(&self.shared.stats.dial_failures);
        self.emit(NetworkEvent::DialFailed { address, reason });
    }

    fn dial(&mut self, options: DialOpts, attempt: Attempt) {
        let connection = options.connection_id();
        self.dialer.begin(connection, attempt);
        self.shared.begin_dial(connection, Dial::Own);
        if let Err(error) = self.swarm.dial(options)
            && let Some(attempt) = self.dialer.end(connection)
        {
            self.on_dial_error(&attempt, &error);
        }
    }

    pub(super) fn on_dial_error(&mut self, attempt: &Attempt, error: &DialError) {
        let reason = explain(error);
        if let Target::Kept(peer, _) = attempt.target
            && matches!(error, DialError::Transport(_) | DialError::WrongPeerId { .. })
        {
            self.dialer.disprove(peer, attempt);
        }
        match (attempt.target, error) {
            (Target::Kept(peer, _), DialError::WrongPeerId { obtained, address: found_at }) => {
                let found = from_libp2p(obtained).filter(|found| self.shared.is_admitted(*found));
                if let Some((found, at)) = found.zip(address(found_at)) {
                    // They may have taken each other's places.
                    self.learn(found, at);
                }
                if let Some(at) = address(found_at).and_then(|dialled| attempt.named(&dialled)) {
                    self.on_wrong_peer(peer, at, &reason);
                }
            }
            (Target::Once(_), DialError::LocalPeerId { .. } | DialError::NoAddresses) => {
                if let Some((at, _)) = attempt.resolved.first() {
                    self.hints.led_to(at.clone(), self.local, Instant::now());
                }
            }
            _ => {}
        }
        self.on_dial_failed(attempt.target, reason);
    }

    /// Somebody else than the peer that was looked for is at this address.
    fn on_wrong_peer(&mut self, peer: PeerId, address: Address, reason: &str) {
        count(&self.shared.stats.wrong_peer);
        if self.dialer.warn_once(&address) {
            tracing::warn!(%peer, %address, reason, "the peer was not found at its address");
        }
        self.dialer.doubt(peer, address.clone());
        self.emit(NetworkEvent::DialFailed { address, reason: reason.to_owned() });
    }

    fn on_dial_failed(&mut self, target: Target, reason: String) {
        match target {
            Target::Kept(peer, _) => {
                count(&self.shared.stats.dial_failures);
                tracing::debug!(%peer, reason, "a dial failed");
                if self.dialer.take_again(peer) {
                    // Not at once: a dial that fails at once could go on like that for ever.
                    return self.redial(peer, true);
                }
                if self.peers.contains_key(&peer) {
                    return self.seek_direct(peer);
                }
                self.redial(peer, false);
                self.ask_where(peer);
                self.tend_places();
            }
            Target::Once(ticket) => {
                self.dialer.fail_once(ticket, reason);
                self.dial_next(ticket);
            }
        }
    }

    pub(super) fn redial(&mut self, peer: PeerId, stable: bool) {
        if let Some((after, generation)) = self.dialer.again(peer, stable) {
            self.agenda.set(after, Alarm::Redial(peer, generation));
        }
    }
}
