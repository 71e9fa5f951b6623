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

    pub(super) fn start_dial(&mut self, target: Target, resolved: Result<Resolved, String>) {
        count(&self.shared.stats.dials);
        let circuits = match target {
            Target::Kept(peer) if !self.peers.contains_key(&peer) => self.circuits_to(peer),
            Target::Kept(_) | Target::Once(_) => Vec::new(),
        };
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
        let mut addresses = addresses.into_iter();
        // A port of its own for each dial: with the listening port as source, two nodes that dial
        // each other at once would meet in one TCP connection that has no server side.
        let options = match target {
            Target::Kept(peer) => DialOpts::peer_id(to_libp2p(peer))
                .condition(PeerCondition::Always)
                .addresses(addresses.collect())
                .allocate_new_port()
                .build(),
            Target::Once(_) => {
                let Some(first) = addresses.next() else { return };
                DialOpts::unknown_peer_id().address(first).allocate_new_port().build()
            }
        };
        let (connection, attempt) = (options.connection_id(), Attempt { target, resolved });
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
        count(&self.shared.stats.dial_failures);
        match target {
            Target::Kept(peer) => {
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
                if let Some(address) = self.dialer.end_once(ticket) {
                    self.emit(NetworkEvent::DialFailed { address, reason });
                }
            }
        }
    }

    pub(super) fn redial(&mut self, peer: PeerId, stable: bool) {
        if let Some((after, generation)) = self.dialer.again(peer, stable) {
            self.agenda.set(after, Alarm::Redial(peer, generation));
        }
    }
}
