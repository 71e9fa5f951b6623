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
//! Invariants:
//! 1. At most `ARRIVALS_PER_SOURCE_MAX` wait of one source, `ARRIVALS_KEPT_MAX` of all hosts at
//!    which members are known to be, and `ARRIVALS_MAX` of all others.
//! 2. No connection from a host of a member gives way to one from elsewhere.
//! 3. What is said of those that end is said at most once in `TOLD_INTERVAL`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use super::bounds::{
    ARRIVALS_KEPT_MAX, ARRIVALS_MAX, ARRIVALS_PER_SOURCE_MAX, TOLD_ABOVE, TOLD_INTERVAL,
    TOLD_SOURCES_MAX,
};

/// Bits of an IPv6 address that say where it is; whoever has one address there has all the others.
const IPV6_NETWORK_BITS: u32 = 64;

/// Where connections come from that are counted together: an IPv4 address, an IPv6 network, or this
/// machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            ip if ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) => {
                let host_bits = 128 - IPV6_NETWORK_BITS;
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> host_bits << host_bits))
            }
            ip => ip,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => write!(f, "{ip}"),
            IpAddr::V6(ip) => write!(f, "{ip}/{IPV6_NETWORK_BITS}"),
        }
    }
}

/// The source that occurs most often among these.
pub(super) fn fullest(sources: impl Iterator<Item = Source>) -> Option<Source> {
    let mut counts: BTreeMap<Source, usize> = BTreeMap::new();
    for source in sources {
        *counts.entry(source).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(source, _)| source)
}

#[derive(Debug)]
struct Arrival {
    source: Source,
    /// True if a member is known to be at this host.
    is_kept: bool,
    has_spoken: bool,
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
    pub(super) fn arrive(
        &mut self,
        number: u64,
        source: Source,
        is_kept: bool,
    ) -> Option<(u64, Source)> {
        let leaver = self.who_gives_way(source, is_kept);
        let left = leaver.and_then(|leaver| Some((leaver, self.leave(leaver)?)));
        self.waiting.insert(number, Arrival { source, is_kept, has_spoken: false });
        left
    }

    fn who_gives_way(&self, source: Source, is_kept: bool) -> Option<u64> {
        let alike = || self.waiting.iter().filter(|(_, other)| other.is_kept == is_kept);
        let max = if is_kept { ARRIVALS_KEPT_MAX } else { ARRIVALS_MAX };
        let of_source = alike().filter(|(_, other)| other.source == source).count();
        let from = if of_source >= ARRIVALS_PER_SOURCE_MAX {
            source
        } else if alike().count() >= max {
            fullest(alike().map(|(_, other)| other.source))?
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

    /// One waits no longer; returns where it came from, if it did wait.
    pub(super) fn leave(&mut self, number: u64) -> Option<Source> {
        self.waiting.remove(&number).map(|arrival| arrival.source)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// What is to be said of connections that have ended without showing whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) ended: usize,
    /// How many of them had to give way, or were refused for lack of a place.
    pub(super) gave_way: usize,
    /// Where most of them came from.
    pub(super) most_from: Source,
}

/// Counts such connections until there is something to say. Single ones are not worth a line:
/// whoever looks whether a port is open makes one.
#[derive(Default)]
pub(super) struct Tally {
    since: Option<Instant>,
    told: Option<Instant>,
    ended: usize,
    gave_way: usize,
    from: BTreeMap<Source, usize>,
}

impl Tally {
    /// One has ended.
    pub(super) fn note(&mut self, now: Instant, source: Source, gave_way: bool) -> Option<Told> {
        let is_over =
            |at: Option<Instant>| at.is_none_or(|at| now.duration_since(at) >= TOLD_INTERVAL);
        if is_over(self.since) && self.ended < TOLD_ABOVE {
            *self = Self { since: Some(now), told: self.told, ..Self::default() };
        }
        self.ended += 1;
        self.gave_way += usize::from(gave_way);
        if self.from.len() < TOLD_SOURCES_MAX || self.from.contains_key(&source) {
            *self.from.entry(source).or_default() += 1;
        }
        if self.ended < TOLD_ABOVE || !is_over(self.told) {
            return None;
        }
        let (most_from, _) = self.from.iter().max_by_key(|(_, count)| **count)?;
        let told = Told { ended: self.ended, gave_way: self.gave_way, most_from: *most_from };
        *self = Self { since: Some(now), told: Some(now), ..Self::default() };
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(last: u8) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
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
            assert_eq!(arrivals.arrive(number, host(1), false), None);
        }
        arrivals.speak(0);
        for number in 0..max - 1 {
            assert_eq!(arrivals.arrive(max + number, host(1), false), Some((number + 1, host(1))));
        }
        assert_eq!(arrivals.leave(0), Some(host(1)), "it has not been sent away");
        assert_eq!(arrivals.leave(0), None);
        assert_eq!(arrivals.arrive(2 * max, host(1), false), None, "there is a place again");
        for number in max..=2 * max {
            arrivals.speak(number);
        }
        let given = arrivals.arrive(3 * max, host(1), false);
        assert_eq!(given, Some((max, host(1))), "all have spoken: the one that came first");
        assert_eq!(arrivals.len(), ARRIVALS_PER_SOURCE_MAX);
    }

    #[test]
    fn the_source_that_has_most_gives_way_to_the_others() {
        let mut arrivals = Arrivals::default();
        let mut number = 0;
        let mut come = |arrivals: &mut Arrivals, last| {
            number += 1;
            arrivals.arrive(number, host(last), false)
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
        assert_eq!(arrivals.arrive(0, host(1), true), None);
        let all = 4 * ARRIVALS_MAX as u64;
        for number in 1..all {
            let given = arrivals.arrive(number, host(2 + (number % 8) as u8), false);
            assert_ne!(given.map(|(leaver, _)| leaver), Some(0));
        }
        assert_eq!(arrivals.len(), ARRIVALS_MAX + 1);
        // Not even many from a host of a member take the places of other members' hosts.
        for number in 0..2 * ARRIVALS_KEPT_MAX as u64 {
            let given = arrivals.arrive(all + number, host(200), true);
            assert!(given.is_none_or(|(leaver, from)| leaver >= all && from == host(200)));
        }
        assert_eq!(arrivals.leave(0), Some(host(1)));
    }

    #[test]
    fn many_that_end_are_told_and_not_again_at_once() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        for _ in 1..TOLD_ABOVE {
            assert_eq!(tally.note(start, host(1), true), None);
        }
        let told = Told { ended: TOLD_ABOVE, gave_way: TOLD_ABOVE - 1, most_from: host(1) };
        assert_eq!(tally.note(start, host(2), false), Some(told));
        for _ in 0..3 * TOLD_ABOVE {
            assert_eq!(tally.note(start, host(2), false), None);
        }
        let later = start + TOLD_INTERVAL;
        let told = tally.note(later, host(2), false).unwrap();
        assert_eq!((told.ended, told.gave_way), (3 * TOLD_ABOVE + 1, 0), "what came meanwhile");
        // Few in a long time are none that anybody has to hear of.
        let mut now = later;
        for _ in 0..10 * TOLD_ABOVE {
            now += TOLD_INTERVAL;
            assert_eq!(tally.note(now, host(2), false), None);
        }
    }
}
