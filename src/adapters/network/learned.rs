//! What was heard of where a peer is, besides its addresses in the roster.
//!
//! Problem: members tell where others are, and so does whoever speaks up in the local network
//! (mDNS), where anybody may claim anything. The false claims must neither push out what is true
//! nor have this node dial without a pause.
//!
//! States of an address: claimed -> it has led nowhere, or it has led to the peer and is taken for
//! what a member has told.
//!
//! Invariants:
//! 1. At most `LEARNED_MAX` addresses are remembered that members have told, `CLAIMED_MAX` that
//!    were claimed, and `RELAYS_MAX` relays; the newest, but of claims those go first that have led
//!    nowhere.
//! 2. No claim pushes out what a member has told.
//! 3. Claims cause at most `CLAIM_HURRIES_MAX` dials at once within `CLAIM_INTERVAL`; the rest
//!    waits until that is over.

use std::time::Duration;

use tokio::time::Instant;

use super::bounds::{CLAIM_HURRIES_MAX, CLAIM_INTERVAL, CLAIMED_MAX, LEARNED_MAX, RELAYS_MAX};
use crate::types::{Address, PeerId};

/// An address that anybody in the local network has named.
struct Claim {
    address: Address,
    /// True once a dial of it has failed.
    has_failed: bool,
}

/// When a claim is to be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// At once.
    Now,
    /// After so long, with others.
    After(Duration),
    /// With others, for which that is set already.
    WithOthers,
}

/// How often claims of one peer were followed at once.
#[derive(Default)]
struct Hurries {
    since: Option<Instant>,
    count: usize,
    is_deferred: bool,
}

/// See the module. All lists have the oldest first.
#[derive(Default)]
pub(super) struct Learned {
    /// Where it or another member says that it is, or where it was found.
    addresses: Vec<Address>,
    claims: Vec<Claim>,
    /// Who holds a place for it, as members say.
    relays: Vec<PeerId>,
    hurries: Hurries,
}

/// Adds what is not in a list, at the expense of what has been in it for longest; true if it is
/// news.
fn push_bounded<T: PartialEq>(list: &mut Vec<T>, item: T, max: usize) -> bool {
    if list.contains(&item) {
        return false;
    }
    if list.len() == max {
        list.remove(0);
    }
    list.push(item);
    true
}

impl Learned {
    /// Takes note of an address that a member has told, or where the peer was found; true if it is
    /// news.
    pub(super) fn learn(&mut self, address: Address) -> bool {
        let claims = self.claims.len();
        self.claims.retain(|claim| claim.address != address);
        let was_claimed = self.claims.len() < claims;
        push_bounded(&mut self.addresses, address, LEARNED_MAX) && !was_claimed
    }

    /// Takes note of a claim; true if it is news. `is_tried` says which addresses are being
    /// dialled: it will soon be known what they are worth.
    pub(super) fn claim(&mut self, address: Address, is_tried: impl Fn(&Address) -> bool) -> bool {
        let is_known = |claim: &Claim| claim.address == address;
        if self.addresses.contains(&address) || self.claims.iter().any(is_known) {
            return false;
        }
        if self.claims.len() == CLAIMED_MAX {
            let worth =
                |(at, claim): &(usize, &Claim)| (!claim.has_failed, is_tried(&claim.address), *at);
            let least = self.claims.iter().enumerate().min_by_key(worth).map(|(at, _)| at);
            self.claims.remove(least.unwrap_or(0));
        }
        self.claims.push(Claim { address, has_failed: false });
        true
    }

    /// A dial of these addresses has led nowhere.
    pub(super) fn disprove<'a>(&mut self, addresses: impl Iterator<Item = &'a Address>) {
        for address in addresses {
            for claim in self.claims.iter_mut().filter(|claim| claim.address == *address) {
                claim.has_failed = true;
            }
        }
    }

    /// When to follow a claim that has come now.
    pub(super) fn follow(&mut self, now: Instant) -> Follow {
        let hurries = &mut self.hurries;
        let since = match hurries.since {
            Some(since) if now.duration_since(since) < CLAIM_INTERVAL => since,
            _ => {
                *hurries = Hurries { since: Some(now), ..Hurries::default() };
                now
            }
        };
        if hurries.count < CLAIM_HURRIES_MAX {
            hurries.count += 1;
            return Follow::Now;
        }
        if std::mem::replace(&mut hurries.is_deferred, true) {
            return Follow::WithOthers;
        }
        Follow::After(since + CLAIM_INTERVAL - now)
    }

    /// Takes note of who holds a place for the peer; true if it is news.
    pub(super) fn learn_relay(&mut self, relay: PeerId) -> bool {
        push_bounded(&mut self.relays, relay, RELAYS_MAX)
    }

    /// All addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.addresses.iter().chain(self.claims.iter().map(|claim| &claim.address))
    }

    /// Who holds a place for the peer.
    pub(super) fn relays(&self) -> &[PeerId] {
        &self.relays
    }

    /// True if nobody has told anything.
    pub(super) fn is_empty(&self) -> bool {
        self.is_only_claimed() && self.claims.is_empty()
    }

    /// True if no member has told anything.
    pub(super) fn is_only_claimed(&self) -> bool {
        self.addresses.is_empty() && self.relays.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: usize) -> Address {
        Address::from_socket(([10, 0, 0, 1], port as u16).into())
    }

    fn ports(learned: &Learned) -> Vec<usize> {
        learned.addresses().map(|address| usize::from(address.port)).collect()
    }

    #[test]
    fn false_claims_do_not_push_out_what_is_true() {
        let mut learned = Learned::default();
        assert!(learned.learn(address(1)), "a member says so");
        assert!(learned.claim(address(2), |_| false));
        assert!(!learned.learn(address(2)), "it was found there");
        for port in 100..100 + 2 * CLAIMED_MAX {
            assert!(learned.claim(address(port), |_| false));
            assert!(!learned.claim(address(port), |_| false), "it is known");
            assert!(ports(&learned).contains(&1) && ports(&learned).contains(&2));
        }
        assert!(!learned.claim(address(1), |_| false), "it is known");
        assert_eq!(ports(&learned).len(), 2 + CLAIMED_MAX);
    }

    #[test]
    fn of_claims_those_that_led_nowhere_go_first_and_those_that_are_dialled_last() {
        let mut learned = Learned::default();
        for port in 0..CLAIMED_MAX {
            learned.claim(address(port), |_| false);
        }
        learned.disprove([address(3), address(5)].iter());
        let is_tried = |address: &Address| address.port == 0;
        for (new, goes) in [(100, 3), (101, 5), (102, 1), (103, 2), (104, 4)] {
            assert!(ports(&learned).contains(&goes));
            assert!(learned.claim(address(new), is_tried));
            assert!(!ports(&learned).contains(&goes), "{goes}");
        }
        assert!(ports(&learned).contains(&0));
    }

    #[tokio::test(start_paused = true)]
    async fn claims_are_followed_at_once_only_so_often() {
        let (mut learned, start) = (Learned::default(), Instant::now());
        for round in 0..3 {
            let now = start + CLAIM_INTERVAL * round;
            for _ in 0..CLAIM_HURRIES_MAX {
                assert_eq!(learned.follow(now), Follow::Now);
            }
            let later = now + CLAIM_INTERVAL / 4;
            assert_eq!(learned.follow(later), Follow::After(CLAIM_INTERVAL * 3 / 4));
            assert_eq!(learned.follow(later), Follow::WithOthers);
        }
    }

    #[test]
    fn what_members_told_is_bounded_to_the_newest() {
        let mut learned = Learned::default();
        for port in 1..=LEARNED_MAX + 2 {
            assert!(learned.learn(address(port)));
        }
        assert_eq!(ports(&learned), (3..=LEARNED_MAX + 2).collect::<Vec<_>>());
        assert!(!learned.is_only_claimed());
    }
}
