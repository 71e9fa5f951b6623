//! Connections that have come in and have not shown yet whose they are, and which of them give way.
//!
//! Problem: a connection takes a place from the moment on that it is accepted, and only at the end
//! of its handshake it is known whose it is. If the last to come were refused once all places are
//! taken, whoever opens many connections and says nothing on them would keep everybody else out.
//!
//! States: silent -> has spoken -> gone from here, because it has shown whose it is or has ended.
//!
//! Flow: a newcomer always gets a place. If there is none, one of those that wait gives way: one of
//! the newcomer's own source if that has its share, else one of the source that has most. Of its
//! connections those go first on which nothing has come, and of these the one that has waited for
//! longest: whoever means it has spoken by then.
//!
//! Each way in has places of its own: the address that a QUIC packet comes from can be made up, and
//! whatever a relay passes on has no other source than the relay.
//!
//! Invariants:
//! 1. On each way at most as many wait of one source, of all hosts at which members are known to
//!    be, and of all others, as its `Room` says.
//! 2. No connection from a host of a member gives way to one from elsewhere, and none to one that
//!    came in another way.
//! 3. What is said of those that end is said at most once in `SUMMARY_INTERVAL`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use libp2p::Multiaddr;
use libp2p::core::ConnectedPoint;

use super::bounds::{
    ARRIVALS_KEPT_MAX, ARRIVALS_MAX, ARRIVALS_PER_SOURCE_MAX, QUIC_ARRIVALS_KEPT_MAX,
    QUIC_ARRIVALS_MAX, QUIC_ARRIVALS_PER_SOURCE_MAX, RELAYED_ARRIVALS_MAX,
    RELAYED_ARRIVALS_PER_SOURCE_MAX, SUMMARY_ABOVE, SUMMARY_INTERVAL, SUMMARY_SOURCES_MAX,
};
use super::circuits::relay_of;
use super::transport::address;
use crate::types::PeerId;

/// Bits of an IPv6 address that say where it is; whoever has one address there has all the others.
const IPV6_NETWORK_BITS: u32 = 64;

/// Where connections come from that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// An IPv4 address, an IPv6 network, or this machine.
    Host(IpAddr),
    /// A member that passes them on.
    Relay(PeerId),
}

impl Source {
    pub(super) fn of(ip: IpAddr) -> Self {
        Self::Host(match ip.to_canonical() {
            ip if ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) => {
                let host_bits = 128 - IPV6_NETWORK_BITS;
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> host_bits << host_bits))
            }
            ip => ip,
        })
    }

    /// The source of a connection that came in between these ends. All of which neither host nor
    /// relay is known are one source.
    pub(super) fn of_ends(local: &Multiaddr, remote: &Multiaddr) -> Self {
        if let Some(relay) = relay_of(local).or_else(|| relay_of(remote)) {
            return Self::Relay(relay);
        }
        let at = address(remote).and_then(|at| at.socket());
        Self::of(at.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |at| at.ip()))
    }

    /// Where a connection came from, or leads.
    pub(super) fn of_point(point: &ConnectedPoint) -> Self {
        match point {
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                Self::of_ends(local_addr, send_back_addr)
            }
            ConnectedPoint::Dialer { address, .. } => Self::of_ends(address, address),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Host(IpAddr::V6(ip)) => write!(f, "{ip}/{IPV6_NETWORK_BITS}"),
            Self::Relay(peer) => write!(f, "relay {peer}"),
        }
    }
}

/// How connections come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Over TCP.
    Tcp,
    /// Over QUIC.
    Quic,
    /// Through a relay.
    Circuit,
}

/// How many may wait that came in one way.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Of all hosts but those of members.
    others: usize,
    /// Of all hosts at which members are known to be.
    kept: usize,
    /// Of one source.
    per_source: usize,
}

impl Way {
    const fn room(self) -> Room {
        match self {
            Self::Tcp => Room {
                others: ARRIVALS_MAX,
                kept: ARRIVALS_KEPT_MAX,
                per_source: ARRIVALS_PER_SOURCE_MAX,
            },
            Self::Quic => Room {
                others: QUIC_ARRIVALS_MAX,
                kept: QUIC_ARRIVALS_KEPT_MAX,
                per_source: QUIC_ARRIVALS_PER_SOURCE_MAX,
            },
            Self::Circuit => Room {
                others: RELAYED_ARRIVALS_MAX,
                // Nobody knows the host of whoever comes through a relay.
                kept: 0,
                per_source: RELAYED_ARRIVALS_PER_SOURCE_MAX,
            },
        }
    }
}

/// The source of which there are most among these. Of several, the one with the first of them all
/// in the order in which they would give way.
pub(super) fn fullest<K: Ord>(of: impl Iterator<Item = (Source, K)>) -> Option<Source> {
    let mut counts: BTreeMap<Source, (usize, K)> = BTreeMap::new();
    for (source, order) in of {
        match counts.remove(&source) {
            Some((count, first)) => counts.insert(source, (count + 1, first.min(order))),
            None => counts.insert(source, (1, order)),
        };
    }
    let fullest = counts.into_iter().max_by(|(_, (count, first)), (_, (other, others_first))| {
        count.cmp(other).then_with(|| others_first.cmp(first))
    });
    fullest.map(|(source, _)| source)
}

/// A connection that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) source: Source,
    pub(super) way: Way,
    /// True if a member is known to be at this host.
    pub(super) is_kept: bool,
    has_spoken: bool,
}

impl Arrival {
    pub(super) fn new(way: Way, source: Source, is_kept: bool) -> Self {
        Self { source, way, is_kept, has_spoken: false }
    }
}

/// Those that wait, see the module.
#[derive(Default)]
pub(super) struct Arrivals {
    /// By numbers that grow with time.
    waiting: BTreeMap<u64, Arrival>,
}

impl Arrivals {
    /// Takes in a newcomer, whose number is above all earlier ones; returns who has given way to
    /// it.
    pub(super) fn arrive(&mut self, number: u64, newcomer: Arrival) -> Option<(u64, Source)> {
        let leaver = self.who_gives_way(&newcomer);
        let left = leaver.and_then(|leaver| Some((leaver, self.leave(leaver)?.source)));
        self.waiting.insert(number, newcomer);
        left
    }

    fn who_gives_way(&self, newcomer: &Arrival) -> Option<u64> {
        let Arrival { source, way, is_kept, .. } = *newcomer;
        let alike = || self.waiting.iter().filter(|(_, a)| a.way == way && a.is_kept == is_kept);
        let room = way.room();
        let max = if is_kept { room.kept } else { room.others };
        let of_source = alike().filter(|(_, other)| other.source == source).count();
        let from = if of_source >= room.per_source {
            source
        } else if alike().count() >= max {
            fullest(alike().map(|(number, other)| (other.source, (other.has_spoken, *number))))?
        } else {
            return None;
        };
        let candidates = alike().filter(|(_, other)| other.source == from);
        let first = candidates.min_by_key(|(number, other)| (other.has_spoken, **number));
        first.map(|(number, _)| *number)
    }

    /// Something came on a connection.
    pub(super) fn speak(&mut self, number: u64) {
        if let Some(arrival) = self.waiting.get_mut(&number) {
            arrival.has_spoken = true;
        }
    }

    /// One waits no longer; returns it, if it did wait.
    pub(super) fn leave(&mut self, number: u64) -> Option<Arrival> {
        self.waiting.remove(&number)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// What is to be said of connections that have ended without showing whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) ended: usize,
    /// How many of them had to give way, or were refused for lack of a place.
    pub(super) gave_way: usize,
    /// Where most of them came from.
    pub(super) most_from: Source,
}

/// Counts such connections until there are enough for a summary. Single ones are not worth a line:
/// whoever looks whether a port is open makes one.
#[derive(Default)]
pub(super) struct Tally {
    since: Option<Instant>,
    summed_up: Option<Instant>,
    ended: usize,
    gave_way: usize,
    from: BTreeMap<Source, usize>,
}

impl Tally {
    /// One has ended.
    pub(super) fn count_end(
        &mut self,
        now: Instant,
        source: Source,
        gave_way: bool,
    ) -> Option<Summary> {
        let is_over =
            |at: Option<Instant>| at.is_none_or(|at| now.duration_since(at) >= SUMMARY_INTERVAL);
        if is_over(self.since) && self.ended < SUMMARY_ABOVE {
            *self = Self { since: Some(now), summed_up: self.summed_up, ..Self::default() };
        }
        self.ended += 1;
        self.gave_way += usize::from(gave_way);
        if self.from.len() < SUMMARY_SOURCES_MAX || self.from.contains_key(&source) {
            *self.from.entry(source).or_default() += 1;
        }
        if self.ended < SUMMARY_ABOVE || !is_over(self.summed_up) {
            return None;
        }
        let (most_from, _) = self.from.iter().max_by_key(|(_, count)| **count)?;
        let Self { ended, gave_way, .. } = *self;
        let summary = Summary { ended, gave_way, most_from: *most_from };
        *self = Self { since: Some(now), summed_up: Some(now), ..Self::default() };
        Some(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(last: u8) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
    }

    fn tcp(last: u8) -> Arrival {
        Arrival::new(Way::Tcp, host(last), false)
    }

    fn kept(last: u8) -> Arrival {
        Arrival::new(Way::Tcp, host(last), true)
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_so_is_this_machine() {
        let of = |ip: &str| Source::of(ip.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("2001:db8::1").to_string(), "2001:db8::/64");
        assert_eq!(of("127.0.0.1"), of("::1"));
        assert_eq!(of("127.0.0.1"), of("127.9.9.9"));
        assert_eq!(of("::ffff:10.0.0.1"), host(1));
        assert_ne!(host(1), host(2));
    }

    #[test]
    fn of_one_source_the_longest_silent_gives_way_and_whoever_has_spoken_last() {
        let mut arrivals = Arrivals::default();
        let max = ARRIVALS_PER_SOURCE_MAX as u64;
        for number in 0..max {
            assert_eq!(arrivals.arrive(number, tcp(1)), None);
        }
        arrivals.speak(0);
        for number in 0..max - 1 {
            assert_eq!(arrivals.arrive(max + number, tcp(1)), Some((number + 1, host(1))));
        }
        assert!(arrivals.leave(0).is_some(), "it has not been sent away");
        assert_eq!(arrivals.leave(0), None);
        assert_eq!(arrivals.arrive(2 * max, tcp(1)), None, "there is a place again");
        for number in max..=2 * max {
            arrivals.speak(number);
        }
        let given = arrivals.arrive(3 * max, tcp(1));
        assert_eq!(given, Some((max, host(1))), "all have spoken: the one that came first");
        assert_eq!(arrivals.len(), ARRIVALS_PER_SOURCE_MAX);
    }

    #[test]
    fn the_source_that_has_most_gives_way_to_the_others() {
        let mut arrivals = Arrivals::default();
        let mut number = 0;
        let mut come = |arrivals: &mut Arrivals, last| {
            number += 1;
            arrivals.arrive(number, tcp(last))
        };
        for _ in 0..ARRIVALS_PER_SOURCE_MAX {
            come(&mut arrivals, 1);
        }
        for _ in ARRIVALS_PER_SOURCE_MAX..ARRIVALS_MAX {
            assert_eq!(come(&mut arrivals, 2), None);
        }
        assert_eq!(come(&mut arrivals, 3), Some((1, host(1))));
        assert_eq!(come(&mut arrivals, 4), Some((2, host(1))));
        assert_eq!(arrivals.len(), ARRIVALS_MAX);
    }

    #[test]
    fn the_places_of_members_are_taken_by_nobody_else() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.arrive(0, kept(1)), None);
        let all = 4 * ARRIVALS_MAX as u64;
        for number in 1..all {
            let given = arrivals.arrive(number, tcp(2 + (number % 8) as u8));
            assert_ne!(given.map(|(leaver, _)| leaver), Some(0));
        }
        assert_eq!(arrivals.len(), ARRIVALS_MAX + 1);
        // Not even many from a host of a member take the places of other members' hosts.
        for number in 0..2 * ARRIVALS_KEPT_MAX as u64 {
            let given = arrivals.arrive(all + number, kept(200));
            assert!(given.is_none_or(|(leaver, from)| leaver >= all && from == host(200)));
        }
        assert!(arrivals.leave(0).is_some());
    }

    #[test]
    fn of_two_sources_that_have_as_many_the_longest_unproven_gives_way() {
        let mut arrivals = Arrivals::default();
        // The one with the lower address has waited for longest, but has spoken.
        for number in 0..ARRIVALS_MAX as u64 {
            arrivals.arrive(number, tcp(1 + (number % 2) as u8));
        }
        arrivals.speak(1);
        let come = |arrivals: &mut Arrivals, number| {
            arrivals.arrive(ARRIVALS_MAX as u64 + number, tcp(9)).map(|(leaver, _)| leaver)
        };
        assert_eq!(come(&mut arrivals, 0), Some(0));
        assert_eq!(come(&mut arrivals, 1), Some(3), "now the other one has most");
        arrivals.speak(2);
        arrivals.speak(4);
        assert_eq!(come(&mut arrivals, 2), Some(5), "whoever has spoken is proven next");
    }

    #[test]
    fn whatever_comes_in_one_way_takes_no_places_of_another_one() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.arrive(0, tcp(1)), None);
        let relay = |id| Source::Relay(PeerId([id; 32]));
        let relayed = |id| Arrival::new(Way::Circuit, relay(id), false);
        assert_eq!(arrivals.arrive(1, relayed(1)), None);
        // The sources of QUIC are made up.
        let mut number = 1;
        for _ in 0..4 * QUIC_ARRIVALS_MAX {
            number += 1;
            let made_up = Source::of(IpAddr::V4(Ipv4Addr::from_bits(number as u32)));
            let given = arrivals.arrive(number, Arrival::new(Way::Quic, made_up, false));
            assert!(given.is_none_or(|(leaver, _)| leaver > 1));
        }
        assert_eq!(arrivals.len(), 2 + QUIC_ARRIVALS_MAX);
        // A relay through which many come keeps out none who comes through another one.
        for _ in 0..4 * RELAYED_ARRIVALS_MAX {
            number += 1;
            let given = arrivals.arrive(number, relayed(2));
            assert!(given.is_none_or(|(_, from)| from == relay(2)));
        }
        assert_eq!(arrivals.len(), 2 + QUIC_ARRIVALS_MAX + RELAYED_ARRIVALS_PER_SOURCE_MAX);
        assert!(arrivals.leave(0).is_some() && arrivals.leave(1).is_some());
    }

    #[test]
    fn what_a_relay_passes_on_comes_from_the_relay() {
        let [relay, other] =
            [1, 2].map(|_| libp2p::identity::Keypair::generate_ed25519().public().to_peer_id());
        let local: Multiaddr =
            format!("/ip4/10.0.0.1/tcp/4001/p2p/{relay}/p2p-circuit").parse().unwrap();
        let remote: Multiaddr = format!("/p2p/{other}").parse().unwrap();
        let expected =
            Source::Relay(crate::adapters::network::transport::from_libp2p(&relay).unwrap());
        assert_eq!(Source::of_ends(&local, &remote), expected);
        let point = ConnectedPoint::Listener { local_addr: local, send_back_addr: remote };
        assert_eq!(Source::of_point(&point), expected);
        let near: Multiaddr = "/ip4/10.0.0.9/udp/4001/quic-v1".parse().unwrap();
        let far: Multiaddr = "/ip4/10.0.0.1/udp/9/quic-v1".parse().unwrap();
        assert_eq!(Source::of_ends(&near, &far), host(1));
    }

    #[test]
    fn many_that_end_are_told_and_not_again_at_once() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        for _ in 1..SUMMARY_ABOVE {
            assert_eq!(tally.count_end(start, host(1), true), None);
        }
        let summary =
            Summary { ended: SUMMARY_ABOVE, gave_way: SUMMARY_ABOVE - 1, most_from: host(1) };
        assert_eq!(tally.count_end(start, host(2), false), Some(summary));
        for _ in 0..3 * SUMMARY_ABOVE {
            assert_eq!(tally.count_end(start, host(2), false), None);
        }
        let later = start + SUMMARY_INTERVAL;
        let summary = tally.count_end(later, host(2), false).unwrap();
        assert_eq!(
            (summary.ended, summary.gave_way),
            (3 * SUMMARY_ABOVE + 1, 0),
            "what came meanwhile"
        );
        // Few in a long time are none that anybody has to hear of.
        let mut now = later;
        for _ in 0..10 * SUMMARY_ABOVE {
            now += SUMMARY_INTERVAL;
            assert_eq!(tally.count_end(now, host(2), false), None);
        }
    }
}
