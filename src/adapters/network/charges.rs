//! What members are charged with that write more to the mesh than their share.
//!
//! Problem: the mesh keeps the score of a peer that has gone, and never lifts the part of it that this node has
//! set. Whoever could shed a charge by connecting again would do so; whoever was away while it should have
//! been forgiven would never be listened to again.
//!
//! Flow: charged -> the mesh is told -> every `FORGIVE_INTERVAL` a part of all charges is forgotten, and the mesh is
//! told again. It is told at each connection as well: it may have forgotten the peer meanwhile, or may remember
//! what was forgiven since.
//!
//! Invariants:
//! 1. A charge depends on what was written and on time, not on who is connected.
//! 2. At most `MEMBERS_MAX` members are charged: an entry goes once nothing is left of it, or its owner is no
//!    member any more.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::PeerId;
use crate::types::limits::MEMBERS_MAX;

/// How often a part of what a member wrote too much is forgotten.
pub(super) const FORGIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Most that a member is charged with: enough that it is not listened to for about a minute.
const EXCESS_MAX: u32 = 400;

/// See the module.
#[derive(Default)]
pub(super) struct Charges {
    /// Messages by which each has exceeded its share, less what was forgiven.
    excess: BTreeMap<PeerId, u32>,
    /// True while it is due that a part is forgotten.
    forgiving: bool,
}

impl Charges {
    /// Charges a member with one more message. True if from now on charges have to be forgiven.
    pub(super) fn charge(&mut self, member: PeerId) -> bool {
        if self.excess.len() >= MEMBERS_MAX && !self.excess.contains_key(&member) {
            return false;
        }
        let excess = self.excess.entry(member).or_default();
        *excess = excess.saturating_add(1).min(EXCESS_MAX);
        !std::mem::replace(&mut self.forgiving, true)
    }

    /// Forgets a part of all charges; returns whose they were.
    pub(super) fn forgive(&mut self) -> Vec<PeerId> {
        let charged = self.excess.keys().copied().collect();
        for excess in self.excess.values_mut() {
            *excess = *excess * 3 / 4;
        }
        self.excess.retain(|_, excess| *excess > 0);
        self.forgiving = !self.excess.is_empty();
        charged
    }

    /// True while there is something left to forgive.
    pub(super) fn is_forgiving(&self) -> bool {
        self.forgiving
    }

    /// What a peer is charged with.
    pub(super) fn of(&self, peer: PeerId) -> u32 {
        self.excess.get(&peer).copied().unwrap_or(0)
    }

    /// Forgets whoever is no member any more.
    pub(super) fn retain(&mut self, is_member: impl Fn(PeerId) -> bool) {
        self.excess.retain(|peer, _| is_member(*peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: usize) -> PeerId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(id as u64).to_le_bytes());
        PeerId(bytes)
    }

    #[test]
    fn a_charge_is_bounded_and_forgiven_over_minutes() {
        let mut charges = Charges::default();
        assert!(charges.charge(peer(1)), "the first one begins the forgiving");
        for _ in 0..2 * EXCESS_MAX {
            assert!(!charges.charge(peer(1)), "which goes on by itself");
        }
        let (mut before, mut rounds) = (charges.of(peer(1)), 0);
        assert_eq!(before, EXCESS_MAX);
        while charges.is_forgiving() {
            assert_eq!(charges.forgive(), [peer(1)]);
            assert!(charges.of(peer(1)) < before);
            (before, rounds) = (charges.of(peer(1)), rounds + 1);
        }
        assert_eq!(before, 0);
        let took = FORGIVE_INTERVAL * rounds;
        assert!(took > Duration::from_secs(60) && took < Duration::from_secs(300), "{took:?}");
        assert!(charges.charge(peer(1)), "it begins anew");
    }

    #[test]
    fn going_and_coming_back_neither_wipes_a_charge_nor_keeps_it() {
        let mut charges = Charges::default();
        for _ in 0..100 {
            charges.charge(peer(1));
        }
        // It goes, and comes back at once.
        assert_eq!(charges.of(peer(1)), 100);
        charges.charge(peer(1));
        assert_eq!(charges.of(peer(1)), 101, "it goes on from there");
        // It goes, and others go on being charged and forgiven.
        for _ in 0..20 {
            charges.charge(peer(2));
            assert!(charges.forgive().contains(&peer(2)));
        }
        assert_eq!(charges.of(peer(1)), 0);
    }

    #[test]
    fn the_charged_are_bounded_and_members() {
        let mut charges = Charges::default();
        for id in 0..MEMBERS_MAX + 10 {
            charges.charge(peer(id));
        }
        assert_eq!(charges.excess.len(), MEMBERS_MAX);
        assert_eq!(charges.of(peer(MEMBERS_MAX)), 0);
        charges.charge(peer(3));
        assert_eq!(charges.of(peer(3)), 2, "whoever is among them is charged further");
        charges.retain(|member| member == peer(3));
        assert_eq!((charges.excess.len(), charges.of(peer(3))), (1, 2));
        charges.retain(|_| false);
        assert!(charges.forgive().is_empty());
        assert!(!charges.is_forgiving());
    }
}
