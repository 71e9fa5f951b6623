//! Reaching members that nobody can dial: through another member (circuit relay v2 of libp2p), directly if
//! both sides can punch a hole (DCUtR), and finding out whether this node is such a member (AutoNAT).
//!
//! Problem: a machine behind a router that translates addresses, or behind a firewall, can dial out, but
//! nobody can dial it. Two of them never meet, although both are connected to a third member.
//!
//! Flow: a node that others can't dial reserves a place at `RESERVED` members that it is connected to
//! directly. It takes itself for such a node if AutoNAT says so (a member with a public address dials it at
//! the address at which it sees it; on a LAN, where no member is seen at a public address, nobody is asked),
//! or if a kept peer stays out of reach while other members are there. What it reserved is told to them with
//! the addresses where it listens (`identify`). Whoever can't dial it asks members where it is (`discovery`),
//! hears who holds a place for it, and opens a circuit through one that it is connected to. Over that
//! connection both sides agree to dial each other at one moment, from the ports that they listen on; if that
//! works, the direct connection takes the place of the relayed one.
//!
//! Invariants:
//! 1. Only members relay, for members only, and nothing but the sealed bytes of a connection between the two
//!    ends passes through them: TLS runs on the circuit.
//! 2. A relay is a member that is connected directly; nobody is dialled in order to be a relay.
//! 3. A relay keeps at most `RESERVATIONS_MAX` places and `CIRCUITS_MAX` circuits.
//! 4. A direct connection that lives is not given up for a relayed one, and a kept peer that is only reached
//!    through others is dialled again now and then.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, autonat, relay};
use rand::seq::SliceRandom;

use super::agenda::Alarm;
use super::driver::Driver;
use super::stats::count;
use super::transport::{from_libp2p, to_libp2p};
use crate::types::PeerId;
use crate::types::limits::{CONNECTIONS_MAX, MEMBERS_MAX};

/// Members at which a node that can't be dialled reserves a place.
const RESERVED: usize = 2;
/// Places that a relay keeps.
const RESERVATIONS_MAX: usize = MEMBERS_MAX;
/// Circuits through a relay at once.
const CIRCUITS_MAX: usize = 256;
/// Circuits that one member opens through a relay at once.
const CIRCUITS_PER_PEER_MAX: usize = 24;
/// Circuits that one member opens through a relay within `CIRCUITS_PERIOD`.
const CIRCUITS_RATE: NonZeroU32 = NonZeroU32::new(128).expect("not zero");
/// Reservations that one member asks for within `CIRCUITS_PERIOD`.
const RESERVATIONS_RATE: NonZeroU32 = NonZeroU32::new(32).expect("not zero");
/// See `CIRCUITS_RATE`.
const CIRCUITS_PERIOD: Duration = Duration::from_secs(60);
/// How long a circuit stands at most. The ends open another one then, which breaks their lanes once, so it
/// is long.
const CIRCUIT_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a reservation holds. It ends with its connection anyway, and nothing is gained by renewing it.
const RESERVATION_DURATION: Duration = CIRCUIT_DURATION;
/// When reservations are looked after again once one was lost or refused.
const RESERVE_AGAIN: Duration = Duration::from_secs(5);
/// How long a member may be missed before a place is given up for another one; twice as long each time, as it may
/// just be switched off.
const REDRAW_MIN: Duration = Duration::from_secs(300);
/// See `REDRAW_MIN`.
const REDRAW_MAX: Duration = Duration::from_secs(3_600);
/// Addresses that a relay may give to one place; only that there is one matters.
const PLACE_ADDRESSES_MAX: usize = 32;
/// Relays that gave more, and are not asked again.
const SHUNNED_MAX: usize = 16;

const _: () = assert!(CIRCUITS_MAX <= CONNECTIONS_MAX);

/// Whether other members can dial this node at the address at which they see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reachability {
    /// Nobody was asked, or no answer has come yet.
    #[default]
    Unknown = 0,
    /// A member has dialled it.
    Public = 1,
    /// A member has tried to and could not.
    Private = 2,
}

/// Whom a node asks whether it can be dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probing {
    /// Members that are seen at a public address.
    #[default]
    Public,
    /// Any member, at once; for tests.
    Any,
}

/// Passes connections on between members.
pub(super) fn relay(own: libp2p::PeerId) -> relay::Behaviour {
    let config = relay::Config {
        max_reservations: RESERVATIONS_MAX,
        max_reservations_per_peer: 4,
        reservation_duration: RESERVATION_DURATION,
        reservation_rate_limiters: Vec::new(),
        max_circuits: CIRCUITS_MAX,
        max_circuits_per_peer: CIRCUITS_PER_PEER_MAX,
        max_circuit_duration: CIRCUIT_DURATION,
        // Zero is no bound: what members say to each other has none either.
        max_circuit_bytes: 0,
        circuit_src_rate_limiters: Vec::new(),
    };
    let config = config
        .reservation_rate_per_peer(RESERVATIONS_RATE, CIRCUITS_PERIOD)
        .circuit_src_per_peer(CIRCUITS_RATE, CIRCUITS_PERIOD);
    let mut behaviour = relay::Behaviour::new(own, config);
    behaviour.set_status(Some(relay::Status::Enable));
    behaviour
}

/// Asks members whether this node can be dialled, and does it for them.
pub(super) fn probe(own: libp2p::PeerId, probing: Probing) -> autonat::Behaviour {
    let mut config = autonat::Config::default();
    if probing == Probing::Any {
        config.only_global_ips = false;
        config.boot_delay = Duration::from_millis(200);
        config.retry_interval = Duration::from_millis(500);
        config.throttle_server_period = Duration::ZERO;
    }
    autonat::Behaviour::new(own, config)
}

/// True for an address of a circuit.
pub(super) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The relay of a circuit; none of one that leads through another one.
pub(super) fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    if address.iter().filter(|part| *part == Protocol::P2pCircuit).count() > 1 {
        return None;
    }
    let mut last = None;
    for part in address {
        match part {
            Protocol::P2p(peer) => last = Some(peer),
            Protocol::P2pCircuit => return from_libp2p(&last?),
            _ => {}
        }
    }
    None
}

/// True for an address that anybody may be able to dial, as far as it tells.
fn is_public(at: &Multiaddr) -> bool {
    at.iter().any(|part| match part {
        Protocol::Ip4(ip) => {
            let [a, b, ..] = ip.octets();
            // 100.64.0.0/10 is what providers translate (RFC 6598).
            let is_shared = a == 100 && (64..128).contains(&b);
            !ip.is_private() && !ip.is_loopback() && !ip.is_link_local() && !is_shared
        }
        Protocol::Ip6(ip) => {
            !ip.is_loopback() && !ip.is_unique_local() && !ip.is_unicast_link_local()
        }
        _ => false,
    })
}

/// A place at a relay.
struct Place {
    relay: PeerId,
    /// True if the relay is seen at a public address.
    is_public: bool,
    /// The addresses that it has given.
    addresses: BTreeSet<Multiaddr>,
}

/// Places of this node at other members.
#[derive(Default)]
pub(super) struct Places {
    held: HashMap<ListenerId, Place>,
    shunned: VecDeque<PeerId>,
    reachability: Reachability,
    /// True while an alarm is set that looks after the places.
    waiting: bool,
    /// True while one is set that may give up a place.
    redrawing: bool,
    /// How often one was given up while somebody was missed.
    redrawn: u32,
    /// The relay whose place was given up last.
    given_up: Option<PeerId>,
}

impl Driver {
    /// Where a relay is dialled for a circuit to somebody else: it is connected, so nobody will go there.
    fn circuit(&self, relay: PeerId) -> Option<Multiaddr> {
        let known = self.peers.get(&relay).filter(|known| known.has_lanes())?;
        let direct = known.connections.iter().find(|connection| !connection.is_relayed)?;
        let bare: Multiaddr =
            direct.remote.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
        Some(bare.with(Protocol::P2p(to_libp2p(relay))).with(Protocol::P2pCircuit))
    }

    /// Circuits to a peer through members that hold a place for it.
    pub(super) fn circuits_to(&self, peer: PeerId) -> Vec<Multiaddr> {
        let relays = self.dialer.relays(peer).filter(|_| self.relaying);
        relays.filter_map(|relay| self.circuit(relay)).collect()
    }

    /// True if a kept peer stays out of reach.
    fn misses_any(&self) -> bool {
        self.dialer.missed().any(|peer| !self.peers.contains_key(&peer))
    }

    /// Reserves places if others can't dial this node.
    pub(super) fn tend_places(&mut self) {
        let relayed =
            || self.peers.values().any(|known| known.connections.iter().any(|c| c.is_relayed));
        let is_needed =
            self.places.reachability == Reachability::Private || self.misses_any() || relayed();
        if !self.relaying || !is_needed {
            return;
        }
        if self.places.held.len() >= RESERVED {
            if !self.misses_any() {
                self.places.redrawn = 0;
            } else if !std::mem::replace(&mut self.places.redrawing, true) {
                let after = REDRAW_MIN * 2_u32.saturating_pow(self.places.redrawn);
                self.agenda.set(after.min(REDRAW_MAX), Alarm::Redraw);
            }
            return;
        }
        let mut free = self.free_relays();
        // Any of them will do; that everybody asks the same ones would not.
        free.sort_by_key(|(peer, _)| *peer);
        free.shuffle(self.dialer.rng());
        // One behind the same router is of no use to those beyond it.
        free.sort_by_key(|(peer, circuit)| {
            (Some(*peer) == self.places.given_up, !is_public(circuit))
        });
        for (relay, circuit) in free.into_iter().take(RESERVED - self.places.held.len()) {
            let is_public = is_public(&circuit);
            match self.swarm.listen_on(circuit) {
                Ok(listener) => {
                    let place = Place { relay, is_public, addresses: BTreeSet::new() };
                    self.places.held.insert(listener, place);
                }
                Err(error) => tracing::debug!(%relay, %error, "no place was asked for"),
            }
        }
    }

    /// Members that may hold a place for this node and hold none, with their circuits.
    fn free_relays(&self) -> Vec<(PeerId, Multiaddr)> {
        let is_free = |peer: &PeerId| {
            !self.places.held.values().any(|held| held.relay == *peer)
                && !self.places.shunned.contains(peer)
        };
        let free = self.peers.keys().copied().filter(is_free);
        free.filter_map(|peer| Some((peer, self.circuit(peer)?))).collect()
    }

    /// A relay has named an address of a place. All of them are told to every member, so they are bounded.
    pub(super) fn on_place_address(&mut self, listener: ListenerId, address: Multiaddr) {
        let Some(place) = self.places.held.get_mut(&listener) else { return };
        place.addresses.insert(address);
        if place.addresses.len() > PLACE_ADDRESSES_MAX {
            let relay = place.relay;
            tracing::warn!(%relay, "a relay gives too many addresses, and is not used any more");
            if self.places.shunned.len() == SHUNNED_MAX {
                self.places.shunned.pop_front();
            }
            self.places.shunned.push_back(relay);
            self.swarm.remove_listener(listener);
        }
    }

    /// Tells one address to those that reserve a place here: they have to hear some address, and this
    /// node's connection to them is what counts.
    pub(super) fn be_external(&mut self, address: Multiaddr) {
        if self.swarm.external_addresses().next().is_none() {
            self.swarm.add_external_address(address);
        }
    }

    /// Gives up a place, so that another member gets it, if somebody is still missed: it may be that nobody
    /// beyond this node's router can reach those that hold its places.
    pub(super) fn on_redraw(&mut self) {
        self.places.redrawing = false;
        let is_full = self.misses_any() && self.places.held.len() >= RESERVED;
        let is_other = |(peer, _): &(PeerId, Multiaddr)| Some(*peer) != self.places.given_up;
        if is_full && self.free_relays().iter().any(is_other) {
            let held = self.places.held.iter().find(|(_, place)| !place.is_public);
            if let Some((listener, relay)) = held.map(|(listener, place)| (*listener, place.relay))
            {
                self.swarm.remove_listener(listener);
                self.places.held.remove(&listener);
                self.places.given_up = Some(relay);
            }
        }
        self.places.redrawn = self.places.redrawn.saturating_add(1);
        self.tend_places();
    }

    /// A listener is gone; true if it was a place at a relay.
    pub(super) fn on_place_lost(&mut self, listener: ListenerId) -> bool {
        let Some(Place { relay, .. }) = self.places.held.remove(&listener) else { return false };
        tracing::debug!(%relay, "the place at this relay is gone");
        if !std::mem::replace(&mut self.places.waiting, true) {
            self.agenda.set(RESERVE_AGAIN, Alarm::Reserve);
        }
        true
    }

    /// It is time to look after the places.
    pub(super) fn on_reserve_again(&mut self) {
        self.places.waiting = false;
        self.tend_places();
    }

    pub(super) fn on_relay_client(&mut self, event: &relay::client::Event) {
        match event {
            relay::client::Event::ReservationReqAccepted {
                relay_peer_id, renewal: false, ..
            } => {
                count(&self.shared.stats.places_reserved);
                if let Some(relay) = from_libp2p(relay_peer_id) {
                    tracing::info!(%relay, "others can reach this node through a relay");
                }
            }
            relay::client::Event::ReservationReqAccepted { .. } => {}
            relay::client::Event::OutboundCircuitEstablished { .. }
            | relay::client::Event::InboundCircuitEstablished { .. } => {
                count(&self.shared.stats.circuits);
            }
        }
    }

    pub(super) fn on_relay(&mut self, event: &relay::Event) {
        if matches!(event, relay::Event::CircuitReqAccepted { .. }) {
            count(&self.shared.stats.circuits_relayed);
        }
    }

    /// A member has dialled this node, or could not.
    pub(super) fn on_probe(&mut self, event: &autonat::Event) {
        let autonat::Event::StatusChanged { new, .. } = event else { return };
        let reachability = match new {
            autonat::NatStatus::Public(_) => Reachability::Public,
            autonat::NatStatus::Private => Reachability::Private,
            autonat::NatStatus::Unknown => Reachability::Unknown,
        };
        match reachability {
            Reachability::Private => tracing::info!(
                "other members cannot dial this node at the address at which they see it"
            ),
            Reachability::Public => tracing::info!("other members can dial this node"),
            Reachability::Unknown => {}
        }
        self.places.reachability = reachability;
        self.shared.stats.reachability.store(reachability as u64, Ordering::Relaxed);
        self.tend_places();
    }

    /// Both sides have tried to dial each other at one moment.
    pub(super) fn on_punched(&mut self, event: &libp2p::dcutr::Event) {
        let stats = &self.shared.stats;
        match &event.result {
            Ok(_) => count(&stats.holes_punched),
            Err(error) => {
                count(&stats.holes_not_punched);
                tracing::debug!(peer = %event.remote_peer_id, %error, "no direct connection");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_routers_and_providers_are_not_public() {
        let public = |at: &str| is_public(&at.parse().unwrap());
        assert!(public("/ip4/203.0.113.9/tcp/4001") && public("/ip6/2001:db8::1/udp/4001/quic-v1"));
        for private in ["/ip4/10.1.2.3/tcp/1", "/ip4/192.168.0.9/tcp/1", "/ip4/100.64.0.1/tcp/1"] {
            assert!(!public(private), "{private}");
        }
        for private in ["/ip4/127.0.0.1/tcp/1", "/ip6/fd00::1/tcp/1", "/ip6/fe80::1/tcp/1"] {
            assert!(!public(private), "{private}");
        }
    }

    #[test]
    fn the_relay_of_a_circuit_is_the_peer_before_it() {
        let key = libp2p::identity::Keypair::generate_ed25519();
        let relay = key.public().to_peer_id();
        let plain: Multiaddr = format!("/ip4/10.0.0.1/tcp/4001/p2p/{relay}").parse().unwrap();
        assert_eq!((relay_of(&plain), is_relayed(&plain)), (None, false));
        let circuit = plain.with(Protocol::P2pCircuit);
        assert_eq!((relay_of(&circuit), is_relayed(&circuit)), (from_libp2p(&relay), true));
        let nested: Multiaddr =
            format!("/ip4/10.0.0.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{relay}/p2p-circuit")
                .parse()
                .unwrap();
        assert_eq!((relay_of(&nested), is_relayed(&nested)), (None, true));
        let nobody: Multiaddr = "/ip4/10.0.0.1/tcp/4001/p2p-circuit".parse().unwrap();
        assert_eq!((relay_of(&nobody), is_relayed(&nobody)), (None, true));
    }
}
