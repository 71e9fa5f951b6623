//! Addresses at which somebody has said that members are, without saying which.
//!
//! Problem: the roster says where each member was. If all have moved while they were off, nobody is
//! where the others look, and whoever runs the nodes knows better.
//!
//! Flow: a member is missed -> the hints are dialled, their names resolved anew each time, again
//! and again with backoff -> the handshake says who is there. A member is kept on that connection,
//! and tells where the others are; anybody else is left alone.
//!
//! Invariants:
//! 1. No hint is dialled before there is a roster, nor while no member is missed.
//! 2. At most one dial of each hint is under way, and `HINTS_AT_ONCE` are begun at once.
//! 3. A hint is only where to dial: who answers there has to prove its key, and is no member by it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::bounds::{HINT_LED, HINT_MAX, HINT_MIN, HINTS_AT_ONCE, HINTS_LED_MAX};
use super::dialer::Target;
use super::driver::Driver;
use super::peers::Peer;
use crate::types::{Address, PeerId};

struct Hint {
    address: Address,
    /// When it is to be dialled, if somebody is missed by then.
    due: Instant,
    backoff: Duration,
    is_dialled: bool,
}

/// The hints of a node, see the module.
pub(super) struct Hints {
    hints: Vec<Hint>,
    /// Whom addresses have led to, and when.
    led: BTreeMap<Address, (PeerId, Instant)>,
}

impl Hints {
    pub(super) fn new(mut addresses: Vec<Address>, now: Instant) -> Self {
        addresses.sort();
        addresses.dedup();
        let hint = |address| Hint { address, due: now, backoff: HINT_MIN, is_dialled: false };
        Self { hints: addresses.into_iter().map(hint).collect(), led: BTreeMap::new() }
    }

    /// Begins to dial those that are due, the ones that have waited for longest first.
    pub(super) fn begin(&mut self, now: Instant) -> Vec<Address> {
        let mut due: Vec<&mut Hint> =
            self.hints.iter_mut().filter(|hint| !hint.is_dialled && hint.due <= now).collect();
        due.sort_by_key(|hint| hint.due);
        let begun = due.into_iter().take(HINTS_AT_ONCE).map(|hint| {
            hint.is_dialled = true;
            hint.address.clone()
        });
        begun.collect()
    }

    /// A dial of a hint is over, good or bad.
    pub(super) fn end(&mut self, address: &Address, now: Instant) {
        if let Some(hint) = self.hints.iter_mut().find(|hint| hint.address == *address) {
            hint.is_dialled = false;
            hint.due = now + hint.backoff;
            hint.backoff = (hint.backoff * 2).min(HINT_MAX);
        }
    }

    /// Something has changed that may make hints good.
    pub(super) fn hurry(&mut self, now: Instant) {
        for hint in &mut self.hints {
            (hint.due, hint.backoff) = (now, HINT_MIN);
        }
        self.led.clear();
    }

    /// An address, which needs no resolving, has led to a peer.
    pub(super) fn led_to(&mut self, address: Address, peer: PeerId, now: Instant) {
        if self.led.len() >= HINTS_LED_MAX {
            self.led.clear();
        }
        self.led.insert(address, (peer, now));
    }

    /// Whom an address has led to not long ago.
    pub(super) fn leads_to(&self, address: &Address, now: Instant) -> Option<PeerId> {
        let led = self.led.get(address).filter(|(_, at)| now.duration_since(*at) < HINT_LED);
        led.map(|(peer, _)| *peer)
    }
}

impl Driver {
    /// Dials the hints that are due, if a member is missed.
    pub(super) fn dial_hints(&mut self) {
        let is_missed = |peer: PeerId| self.peers.get(&peer).is_none_or(Peer::is_silent);
        if !self.shared.has_roster() || !self.dialer.kept().any(is_missed) {
            return;
        }
        let now = Instant::now();
        for address in self.hints.begin(now) {
            match self.dialer.begin_once(address.clone(), true) {
                Some(ticket) => self.resolve(Target::Once(ticket), vec![address]),
                None => self.hints.end(&address, now),
            }
        }
    }

    /// True if a hint need not be dialled at an address: it has led to somebody there who is
    /// connected.
    pub(super) fn is_spent(&self, ticket: u64, at: &Address) -> bool {
        let led = || self.hints.leads_to(at, Instant::now());
        self.dialer.is_hint(ticket)
            && led().is_some_and(|peer| peer == self.local || self.is_reached(peer))
    }

    /// A hint has led to a peer. True if the connection is of use.
    pub(super) fn take_hint(&mut self, ticket: u64, peer: PeerId, at: Option<&Address>) -> bool {
        let is_wanted = self.shared.is_admitted(peer) && !self.is_reached(peer);
        if let Some(at) = at {
            self.hints.led_to(at.clone(), peer, Instant::now());
            if self.shared.is_admitted(peer) {
                self.dialer.learn(peer, at.clone());
            }
        }
        if is_wanted {
            tracing::info!(%peer, ?at, "a member was found where a hint has led to");
        }
        // Others may be at the other addresses that a name stands for.
        self.dial_next(ticket);
        is_wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address::from_socket(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn hints_are_dialled_again_and_again_each_once_at_a_time() {
        let mut now = Instant::now();
        let mut hints = Hints::new(vec![address(2), address(1), address(2)], now);
        assert_eq!(hints.begin(now), [address(1), address(2)]);
        assert!(hints.begin(now + HINT_MAX).is_empty(), "both are under way");
        let mut step = HINT_MIN;
        for _ in 0..6 {
            hints.end(&address(1), now);
            assert!(hints.begin(now + step - Duration::from_millis(1)).is_empty());
            now += step;
            assert_eq!(hints.begin(now), [address(1)]);
            step = (step * 2).min(HINT_MAX);
        }
        hints.end(&address(1), now);
        hints.hurry(now);
        assert_eq!(hints.begin(now), [address(1)], "at once, and");
        hints.end(&address(1), now);
        assert_eq!(hints.begin(now + HINT_MIN), [address(1)], "from the beginning");
    }

    #[test]
    fn those_that_have_waited_for_longest_are_dialled_first() {
        let now = Instant::now();
        let count = 2 * HINTS_AT_ONCE as u16 + 3;
        let mut hints = Hints::new((1..=count).map(address).collect(), now);
        let mut dialled = Vec::new();
        for round in 0..3 {
            let begun = hints.begin(now + HINT_MIN * round);
            assert!(begun.len() <= HINTS_AT_ONCE);
            for hint in &begun {
                hints.end(hint, now + HINT_MIN * round);
            }
            dialled.extend(begun);
        }
        dialled.sort();
        dialled.dedup();
        assert_eq!(dialled.len(), usize::from(count), "nobody is left out");
    }

    #[test]
    fn where_an_address_has_led_is_remembered_for_a_while_and_bounded() {
        let (now, peer) = (Instant::now(), PeerId([1; 32]));
        let mut hints = Hints::new(Vec::new(), now);
        hints.led_to(address(1), peer, now);
        assert_eq!(hints.leads_to(&address(1), now), Some(peer));
        assert_eq!(hints.leads_to(&address(1), now + HINT_LED), None);
        assert_eq!(hints.leads_to(&address(2), now), None);
        hints.hurry(now);
        assert_eq!(hints.leads_to(&address(1), now), None, "addresses have changed");
        for port in 0..2 * HINTS_LED_MAX as u16 {
            hints.led_to(address(port), peer, now);
            assert!(hints.led.len() <= HINTS_LED_MAX);
        }
    }
}
