//! Who of the strangers that are connected gives way to one more.
//!
//! Problem: whoever wants to join is a stranger at first, and strangers may only take so many
//! places. One host that fills them, with connections that it makes anew all the time, must not
//! keep out whoever comes from elsewhere.
//!
//! Flow: there is no place left -> the source that has most of them gives one up, however new it
//! is, if the newcomer's source has fewer even then. Between sources that have as many, whoever
//! has only just come is spared, as it may be about to join.
//!
//! Invariants:
//! 1. A source that has fewer places than another one is not refused for the sake of that one.
//! 2. Whoever gives way may take its time to be gone; at most `STRANGERS_LEAVING_MAX` do.

use std::time::Instant;

use libp2p::swarm::ConnectionId;

use super::arrivals::{Source, fullest};
use super::bounds::{STRANGER_SPARED, STRANGERS_LEAVING_MAX};
use crate::types::limits::STRANGERS_MAX;

/// The connection of a stranger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stranger {
    pub(super) id: ConnectionId,
    pub(super) source: Source,
    pub(super) since: Instant,
    /// True once it has asked for something.
    pub(super) has_asked: bool,
}

/// Whether there is a place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// There is.
    Free,
    /// That of this connection, which gives way.
    Of(ConnectionId),
    /// There is none.
    None,
}

/// The place for a newcomer from `source` among these strangers, while so many more are leaving.
pub(super) fn place_for(
    source: Source,
    strangers: &[Stranger],
    leaving: usize,
    now: Instant,
) -> Place {
    if strangers.len() < STRANGERS_MAX {
        return Place::Free;
    }
    if leaving >= STRANGERS_LEAVING_MAX {
        return Place::None;
    }
    // Whoever asks for something gives way last, and of the others the one that came first.
    let order = |stranger: &Stranger| (stranger.has_asked, stranger.id);
    let count = |of| strangers.iter().filter(|stranger| stranger.source == of).count();
    let Some(most) = fullest(strangers.iter().map(|s| (s.source, order(s)))) else {
        return Place::None;
    };
    let leaver = if count(most) > count(source) + 1 {
        strangers.iter().filter(|other| other.source == most).min_by_key(|other| order(other))
    } else {
        let max = count(most);
        let is_spared = |other: &Stranger| now.duration_since(other.since) < STRANGER_SPARED;
        let candidates =
            strangers.iter().filter(|other| count(other.source) == max && !is_spared(other));
        candidates.min_by_key(|other| order(other))
    };
    leaver.map_or(Place::None, |leaver| Place::Of(leaver.id))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::types::PeerId;

    fn host(last: u8) -> Source {
        Source::of(IpAddr::from([10, 0, 0, last]))
    }

    fn stranger(number: usize, source: Source, since: Instant) -> Stranger {
        Stranger { id: id(number), source, since, has_asked: false }
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn a_source_that_renews_its_strangers_keeps_nobody_else_out() {
        let now = Instant::now();
        let relay = Source::Relay(PeerId([7; 32]));
        for full in [host(1), relay] {
            let all: Vec<_> = (0..STRANGERS_MAX).map(|n| stranger(n, full, now)).collect();
            assert_eq!(place_for(host(2), &all[1..], 0, now), Place::Free);
            assert_eq!(place_for(host(2), &all, 0, now), Place::Of(id(0)), "though it is new");
            let other_relay = Source::Relay(PeerId([8; 32]));
            assert_eq!(place_for(other_relay, &all, 0, now), Place::Of(id(0)));
            assert_eq!(place_for(full, &all, 0, now), Place::None, "its own are spared");
            let leaving = STRANGERS_LEAVING_MAX;
            assert_eq!(place_for(host(2), &all, leaving, now), Place::None, "they pile up");
            let later = now + STRANGER_SPARED;
            assert_eq!(place_for(full, &all, 0, later), Place::Of(id(0)));
        }
    }

    #[test]
    fn sources_that_have_as_many_do_not_push_each_other_out_at_once() {
        let now = Instant::now();
        let half = |n: usize| stranger(n, host(1 + (n % 2) as u8), now);
        let mut all: Vec<_> = (0..STRANGERS_MAX).map(half).collect();
        assert_eq!(place_for(host(1), &all, 0, now), Place::None);
        assert_eq!(place_for(host(2), &all, 0, now), Place::None);
        // A third one is none of those that have most.
        assert_eq!(place_for(host(3), &all, 0, now), Place::Of(id(0)));
        let later = now + STRANGER_SPARED;
        assert_eq!(place_for(host(2), &all, 0, later), Place::Of(id(0)), "the longest of both");
        all[0].has_asked = true;
        assert_eq!(place_for(host(2), &all, 0, later), Place::Of(id(1)));
        let each: Vec<_> = (0..STRANGERS_MAX).map(|n| stranger(n, host(n as u8), now)).collect();
        assert_eq!(place_for(host(99), &each, 0, now), Place::None);
        assert_eq!(place_for(host(99), &each, 0, later), Place::Of(id(0)));
    }

    #[test]
    fn whoever_asks_for_something_gives_way_last() {
        let now = Instant::now();
        let mut all: Vec<_> = (0..STRANGERS_MAX).map(|n| stranger(n, host(1), now)).collect();
        all[0].has_asked = true;
        assert_eq!(place_for(host(2), &all, 0, now), Place::Of(id(1)));
        all.iter_mut().for_each(|stranger| stranger.has_asked = true);
        assert_eq!(place_for(host(2), &all, 0, now), Place::Of(id(0)));
    }
}
