//! The part of the event loop that dials. Whom, where and when is for `dialer` to say.

use std::collections::BTreeSet;

use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};

use super::agenda::Alarm;
use super::bounds::DIRECT_AFTER;
use super::dialer::{Attempt, Resolved, Target, explain, literals, resolve};
use super::driver::{Driver, Report};
use super::stats::count;
use super::table::Dial;
use super::transport::{address, multiaddr, to_libp2p};
use crate::ports::NetworkEvent;
use crate::types::{Address, PeerId};

impl Driver {
    /// Dials a kept peer, unless it is connected directly.
    pub(super) fn dial_kept(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(|known| !known.is_only_relayed()) {
            return;
        }
        match self.dialer.begin_kept(peer) {
            Some(addresses) => self.resolve(Target::Kept(peer), addresses),
            None if self.peers.contains_key(&peer) => self.seek_direct(peer),
            None => {}
        }
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
            (Target::Kept(peer), resolved) => self.start_kept(peer, resolved),
            (Target::Once(ticket), Ok(resolved)) => {
                self.dialer.resolve_once(ticket, &resolved);
                self.dial_next(ticket);
            }
            (Target::Once(_), Err(reason)) => self.on_dial_failed(target, reason),
        }
    }

    /// Dials a kept peer at all of its addresses, and through those that hold a place for it.
    fn start_kept(&mut self, peer: PeerId, resolved: Result<Resolved, String>) {
        let target = Target::Kept(peer);
        let is_connected = self.peers.contains_key(&peer);
        let circuits = if is_connected { Vec::new() } else { self.circuits_to(peer) };
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(_) if !circuits.is_empty() => Resolved::new(),
            Err(reason) => {
                self.dialer.end_kept(&target);
                return self.on_dial_failed(target, reason);
            }
        };
        let addresses: BTreeSet<_> =
            resolved.iter().filter_map(|(r, _)| multiaddr(r)).chain(circuits).collect();
        let options = DialOpts::peer_id(to_libp2p(peer))
            .condition(PeerCondition::Always)
            .addresses(addresses.into_iter().collect())
            // With the listening port as source, two nodes that dial each other at once would meet in one TCP
            // connection that has no server side.
            .allocate_new_port()
            .build();
        self.dial(options, Attempt { target, resolved });
    }

    /// Goes on with a `dial` call at the next of its addresses; ends it after the last one. The library tries
    /// but one address of a peer that is not named.
    fn dial_next(&mut self, ticket: u64) {
        let mut left = std::iter::from_fn(|| self.dialer.next_once(ticket));
        if let Some(next) = left.find_map(|address| multiaddr(&address)) {
            let options = DialOpts::unknown_peer_id().address(next).allocate_new_port().build();
            let (target, resolved) = (Target::Once(ticket), Resolved::new());
            self.dial(options, Attempt { target, resolved });
        } else if let Some((address, reason)) = self.dialer.give_up_once(ticket) {
            count(&self.shared.stats.dial_failures);
            self.emit(NetworkEvent::DialFailed { address, reason });
        }
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
        if let (Target::Kept(peer), DialError::WrongPeerId { address: found_at, .. }) =
            (attempt.target, error)
            && let Some(address) = address(found_at).and_then(|dialled| attempt.named(&dialled))
        {
            count(&self.shared.stats.wrong_peer);
            if self.dialer.warn_once(&address) {
                tracing::warn!(%peer, %address, reason, "the peer was not found at its address");
            }
            self.dialer.doubt(peer, address.clone());
            self.emit(NetworkEvent::DialFailed { address, reason: reason.clone() });
        }
        self.on_dial_failed(attempt.target, reason);
    }

    fn on_dial_failed(&mut self, target: Target, reason: String) {
        match target {
            Target::Kept(peer) => {
                count(&self.shared.stats.dial_failures);
                tracing::debug!(%peer, reason, "a dial failed");
                if self.dialer.take_again(peer) {
                    return self.dial_kept(peer);
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
