//! Finding peers where nobody has said that they are: in the local network (mDNS, RFC 6762 and the
//! libp2p specification), and by asking other members (Kademlia, peer routing only).
//!
//! Problem: the roster says where each member listened when it joined. A machine that gets another
//! address, or a new one that has a token but no address, should be found nevertheless.
//!
//! Flow: somebody in the local network answers that a peer is there -> if the peer is kept, it is
//! dialled there; if not, that is remembered until it is kept, as it is said only once in minutes,
//! and the sink is told (`Found`), which a joiner looks at. A kept peer that could not be dialled
//! -> the members closest to it by Kademlia's distance are asked where it is -> it is dialled
//! there. Members tell each other where they listen (`identify`).
//!
//! Invariants:
//! 1. Whatever is learned is only where to dial: the peer that answers there has to prove its key.
//! 2. At most `NEARBY_MAX` peers that nobody looks for are remembered. What is heard of a peer is
//!    bounded (`learned`); at most `QUERIES_MAX` questions are under way, and one for each peer.
//! 3. Only members are in the routing table, and no records are kept in it.
//! 4. A node that only this machine can reach is silent in the local network.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::kad::{self, BucketInserts, Caching, QueryId, QueryResult, StoreInserts};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{ConnectionId, FromSwarm, NetworkBehaviour, NewListenAddr};
use libp2p::{Multiaddr, StreamProtocol, mdns, memory_connection_limits};

use super::agenda::Alarm;
use super::bounds::{NEARBY_INTERVAL, NEARBY_MAX};
use super::circuits::relay_of;
use super::dialer::can_be_dialled;
use super::driver::Driver;
use super::stats::count;
use super::transport::{address, from_libp2p, multiaddr, protocol_name, to_libp2p};
use crate::adapters::host::memory_total;
use crate::ports::NetworkEvent;
use crate::types::limits::{ADDRESSES_MAX, MEMBERS_MAX};
use crate::types::{Address, PeerId};

/// Members that are asked where a peer is.
const ASKED: NonZeroUsize = NonZeroUsize::new(4).expect("not zero");
/// Questions where a peer is that are under way.
const QUERIES_MAX: usize = 16;
/// How long such a question may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a message of Kademlia.
const KAD_LEN_MAX: usize = 16 * 1024;
/// Answers of the local network that are remembered.
const LOCAL_ANSWERS_MAX: usize = 2 * MEMBERS_MAX;
/// How often the local network is asked who is there.
const MDNS_INTERVAL: Duration = Duration::from_secs(60);
/// How long an answer in the local network holds.
const MDNS_TTL: Duration = Duration::from_secs(180);
/// One in so many bytes of memory may this process take before it refuses connections.
const MEMORY_SHARE: u64 = 2;

/// Asks in the local network, unless it is off or can't be done. The library does so over IPv4 or
/// over IPv6.
pub(super) fn local(
    peer: libp2p::PeerId,
    enabled: bool,
    enable_ipv6: bool,
) -> Toggle<mdns::tokio::Behaviour> {
    let config = mdns::Config { ttl: MDNS_TTL, query_interval: MDNS_INTERVAL, enable_ipv6 };
    let started = enabled.then(|| mdns::tokio::Behaviour::new(config, peer));
    let started = started.and_then(|started| {
        started
            .map_err(
                |error| tracing::warn!(%error, "peers in the local network are not looked for"),
            )
            .ok()
    });
    started.into()
}

/// Routing among members.
pub(super) fn routing(peer: libp2p::PeerId, cluster_tag: &str) -> kad::Behaviour<MemoryStore> {
    let protocol = StreamProtocol::try_from_owned(protocol_name(cluster_tag, "kad"));
    let mut config = kad::Config::new(protocol.expect("the name begins with a slash"));
    config
        .set_kbucket_inserts(BucketInserts::Manual)
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_caching(Caching::Disabled)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_periodic_bootstrap_interval(None)
        .set_query_timeout(QUERY_TIMEOUT)
        .set_max_packet_size(KAD_LEN_MAX);
    let nothing = MemoryStoreConfig {
        max_records: 0,
        max_value_bytes: 0,
        max_providers_per_key: 0,
        max_provided_keys: 0,
    };
    let store = MemoryStore::with_config(peer, nothing);
    let mut behaviour = kad::Behaviour::with_config(peer, store, config);
    behaviour.set_mode(Some(kad::Mode::Server));
    behaviour
}

/// Refuses connections while this process takes too much memory.
pub(super) fn memory() -> memory_connection_limits::Behaviour {
    // The library's own percentage is one of the machine, whatever limits this process.
    memory_connection_limits::Behaviour::with_max_bytes(memory_max(memory_total()))
}

/// How much memory this process may take of `total`: any, where nobody can tell how much there is.
fn memory_max(total: u64) -> usize {
    let share = if total == 0 { u64::MAX } else { total / MEMORY_SHARE };
    usize::try_from(share).unwrap_or(usize::MAX)
}

/// Tells a behaviour that was made later where this node listens: the swarm says it only once.
fn tell_listening<'a>(
    addresses: impl Iterator<Item = &'a Multiaddr>,
    mut tell: impl FnMut(FromSwarm<'_>),
) {
    for addr in addresses {
        // Nobody that is told here asks which listener it is.
        let listener_id = ListenerId::next();
        tell(FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }));
    }
}

/// Questions where a peer is.
#[derive(Default)]
pub(super) struct Queries(HashMap<QueryId, PeerId>);

impl Driver {
    /// Somebody in the local network says who is where.
    pub(super) fn on_local(&mut self, event: mdns::Event) {
        let mdns::Event::Discovered(found) = event else { return };
        let mut claims: BTreeMap<PeerId, Vec<Address>> = BTreeMap::new();
        for (peer, at) in found {
            let Some((peer, address)) = from_libp2p(&peer).zip(address(&at)) else { continue };
            if peer == self.local || !can_be_dialled(&address) {
                continue;
            }
            count(&self.shared.stats.found_locally);
            if !self.dialer.keeps(peer) {
                self.remember_nearby(peer, address.clone());
            }
            claims.entry(peer).or_default().push(address);
        }
        for (peer, addresses) in claims {
            self.follow_claim(peer, addresses);
        }
        self.forget_answers(false);
        self.forget_answers(true);
    }

    /// Bounds what the library remembers: every answer for as long as the answer says.
    fn forget_answers(&mut self, ipv6: bool) {
        let own = to_libp2p(self.local);
        let behaviour = self.swarm.behaviour();
        let of = if ipv6 { &behaviour.local_ipv6 } else { &behaviour.local };
        if of.as_ref().is_none_or(|of| of.discovered_nodes().len() <= LOCAL_ANSWERS_MAX) {
            return;
        }
        tracing::warn!("too many answers in the local network; all of them are forgotten");
        let mut anew = local(own, true, ipv6);
        tell_listening(self.swarm.listeners(), |event| anew.on_swarm_event(event));
        let behaviour = self.swarm.behaviour_mut();
        *(if ipv6 { &mut behaviour.local_ipv6 } else { &mut behaviour.local }) = anew;
    }

    fn remember_nearby(&mut self, peer: PeerId, address: Address) {
        let found = (peer, address);
        if self.nearby.contains(&found) {
            return;
        }
        if self.nearby.len() == NEARBY_MAX {
            self.nearby.pop_front();
        }
        if self.nearby.is_empty() {
            self.agenda.set(NEARBY_INTERVAL, Alarm::Nearby);
        }
        let (peer, address) = found.clone();
        self.nearby.push_back(found);
        self.emit(NetworkEvent::Found { peer, address });
    }

    /// Tells the sink again whom nobody looks for, while this node may want to join somewhere.
    pub(super) fn tell_nearby(&mut self) {
        if self.shared.has_roster() {
            return self.nearby.clear();
        }
        for (peer, address) in self.nearby.iter().cloned() {
            self.emit(NetworkEvent::Found { peer, address });
        }
        self.agenda.set(NEARBY_INTERVAL, Alarm::Nearby);
    }

    /// A member says on a connection where it listens.
    pub(super) fn on_listens(&mut self, peer: PeerId, id: ConnectionId, at: &[Multiaddr]) {
        if !self.shared.is_admitted(peer) {
            return;
        }
        // Loopback means another machine there, unless that connection stays on this one.
        let on =
            self.peers.get(&peer).and_then(|known| known.connections.iter().find(|c| c.id == id));
        let is_here = on.and_then(|on| address(&on.remote)).is_some_and(|on| on.is_loopback());
        let heard = at.iter().filter_map(address).filter(|at| is_here || !at.is_loopback());
        for at in heard.take(ADDRESSES_MAX) {
            self.dialer.learn(peer, at);
        }
        let (kad, peer) = (&mut self.swarm.behaviour_mut().kad.inner, to_libp2p(peer));
        // What it said before does not pile up.
        kad.remove_peer(&peer);
        let direct = at.iter().filter(|at| address(at).is_some()).take(ADDRESSES_MAX);
        // A relay that listens at many addresses makes as many circuits of one.
        let circuits: BTreeMap<PeerId, &Multiaddr> =
            at.iter().filter_map(|at| Some((relay_of(at)?, at))).take(ADDRESSES_MAX).collect();
        for at in direct.chain(circuits.into_values()) {
            kad.add_address(&peer, at.clone());
        }
    }

    /// Members are in the routing table as long as they are kept.
    pub(super) fn route(&mut self, peer: PeerId, addresses: &[Address]) {
        let kad = &mut self.swarm.behaviour_mut().kad.inner;
        for at in addresses.iter().filter_map(multiaddr) {
            kad.add_address(&to_libp2p(peer), at);
        }
    }

    pub(super) fn unroute(&mut self, peer: PeerId) {
        self.swarm.behaviour_mut().kad.inner.remove_peer(&to_libp2p(peer));
    }

    /// Asks where a peer is that could not be dialled, also if nobody waits for it any more: it will be wanted again.
    pub(super) fn ask_where(&mut self, peer: PeerId) {
        let asked = self.queries.0.values().any(|asked| *asked == peer);
        let is_lost = !self.peers.contains_key(&peer);
        if asked || self.queries.0.len() >= QUERIES_MAX || !is_lost {
            return;
        }
        // Where it was is known to be wrong, and would be tried before anybody is asked.
        self.unroute(peer);
        let kad = &mut self.swarm.behaviour_mut().kad.inner;
        let query = kad.get_n_closest_peers(to_libp2p(peer), ASKED);
        self.queries.0.insert(query, peer);
        self.swarm.behaviour_mut().lanes.seek(peer, true);
        count(&self.shared.stats.asked_where);
    }

    pub(super) fn on_routing(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed { id, result, step, .. } = event else { return };
        let Some(wanted) = self.queries.0.get(&id).copied() else { return };
        if step.last {
            self.queries.0.remove(&id);
            self.swarm.behaviour_mut().lanes.seek(wanted, false);
        }
        let QueryResult::GetClosestPeers(closest) = result else { return };
        let peers = closest.map_or_else(
            |kad::GetClosestPeersError::Timeout { peers, .. }| peers,
            |found| found.peers,
        );
        let at = peers.into_iter().filter(|info| from_libp2p(&info.peer_id) == Some(wanted));
        let (mut addresses, mut relays) = (BTreeSet::new(), BTreeSet::new());
        for at in at.flat_map(|info| info.addrs) {
            addresses.extend(address(&at));
            relays.extend(relay_of(&at));
        }
        let mut is_news = false;
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            is_news |= self.dialer.learn(wanted, address);
        }
        for relay in relays.into_iter().filter(|relay| *relay != self.local).take(ADDRESSES_MAX) {
            is_news |= self.dialer.learn_relay(wanted, relay);
        }
        if is_news {
            self.dial_kept(wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::ListenAddresses;

    use super::*;

    #[test]
    fn a_behaviour_that_is_made_later_learns_where_this_node_listens() {
        let at = ["/ip4/10.0.0.1/tcp/4001", "/ip4/10.0.0.1/udp/4001/quic-v1"];
        let at: BTreeSet<Multiaddr> = at.iter().map(|at| at.parse().unwrap()).collect();
        // In this the library keeps what it answers with.
        let mut known = ListenAddresses::default();
        tell_listening(at.iter(), |event| assert!(known.on_swarm_event(&event)));
        let told: BTreeSet<Multiaddr> = known.iter().cloned().collect();
        assert_eq!(told, at);
    }

    #[test]
    fn half_of_the_memory_that_there_is_may_be_taken() {
        assert_eq!(memory_max(8 << 30), 4 << 30);
        assert_eq!(memory_max(0), usize::MAX, "nobody can tell");
        assert_eq!(memory().max_allowed_bytes(), memory_max(memory_total()));
    }
}
