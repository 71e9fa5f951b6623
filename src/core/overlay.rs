//! Which members a member keeps connections to when there are too many for everybody to know everybody.
//!
//! Problem: a connection between each two of a thousand members makes half a million. But what the leader
//! commits has to reach every member within a few steps, gossip has to get everywhere although members fail,
//! and nobody may be in everybody's way, the voters least of all.
//!
//! Structure: up to `full_max` members, everybody knows everybody. Above that, a member has these *neighbours*:
//! - a voter: the other voters;
//! - in the *tree*: its source and those whose source it is. The members that do not vote stand in the order of
//!   their ids. The first of them have voters as sources, `fanout` each, the others have them, again `fanout`
//!   each. A member of a cluster of a thousand is three steps from a voter at most;
//! - on the *ring*: all members stand in the order of their keys, and each knows those that are 1, 4, 16, ...
//!   places away, in both directions (the fingers of Chord, Stoica et al. 2001, with base 4).
//!
//! Everybody else is reached on demand, see `peers`. All members compute this from the same control state, so
//! nothing has to be agreed upon.
//!
//! Invariants:
//! 1. With the same state, a is a neighbour of b if b is one of a.
//! 2. A member has at most `NEIGHBOURS_MAX` neighbours.
//! 3. The ring alone connects all members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::types::limits::{LINK_IDLE, LINKS_MAX, MEMBERS_MAX, VOTERS_MAX};
use crate::types::{MemberId, PeerId};

/// Members up to which everybody knows everybody.
const FULL_MESH_MAX: usize = 48;
/// Members that have the same source.
const FANOUT: usize = 16;
/// Places on the ring between a member and its nearest finger, the next one, and so on: powers of this.
const RING_BASE: usize = 4;
/// Fingers in one direction on the longest ring.
const FINGERS_MAX: usize = MEMBERS_MAX.ilog(RING_BASE) as usize + 1;
/// Neighbours of one member at most.
const NEIGHBOURS_MAX: usize = (VOTERS_MAX - 1) + FANOUT + 2 * FINGERS_MAX;

// Half of the connections are left for those that are reached on demand.
const _: () = assert!(NEIGHBOURS_MAX <= LINKS_MAX / 2 + 2 && FULL_MESH_MAX <= LINKS_MAX);

/// How a cluster is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Members up to which everybody knows everybody.
    pub full_max: usize,
    /// Members that have the same source.
    pub fanout: usize,
    /// Connections to members that a member keeps.
    pub links_max: usize,
    /// How long one that was made on demand may be idle.
    pub idle: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Self { full_max: FULL_MESH_MAX, fanout: FANOUT, links_max: LINKS_MAX, idle: LINK_IDLE }
    }
}

/// The layout of one state of the cluster.
pub struct Overlay {
    shape: Shape,
    /// In the order of their keys.
    ring: Vec<MemberId>,
    voters: Vec<MemberId>,
    /// Members that do not vote, in the order of their ids.
    others: Vec<MemberId>,
}

impl Overlay {
    /// The layout of a cluster of these members, of which these vote.
    pub fn new(
        shape: Shape,
        members: &BTreeMap<MemberId, PeerId>,
        voters: &BTreeSet<MemberId>,
    ) -> Self {
        let mut ring: Vec<MemberId> = members.keys().copied().collect();
        ring.sort_by_key(|member| members.get(member));
        let voters: Vec<MemberId> =
            voters.iter().copied().filter(|voter| members.contains_key(voter)).collect();
        let others = members.keys().copied().filter(|member| !voters.contains(member)).collect();
        Self { shape, ring, voters, others }
    }

    /// True while everybody knows everybody.
    pub fn is_full(&self) -> bool {
        self.ring.len() <= self.shape.full_max
    }

    /// Where a member is to get from what is committed; none for a voter, or while no voter is known.
    pub fn source(&self, member: MemberId) -> Option<MemberId> {
        let place = self.others.binary_search(&member).ok()?;
        if self.is_full() {
            return self.voters.get(place % self.voters.len().max(1)).copied();
        }
        let fanout = self.shape.fanout.max(1);
        let first = self.voters.len() * fanout;
        match place.checked_sub(first) {
            None => self.voters.get(place / fanout).copied(),
            Some(_) if self.voters.is_empty() => None,
            Some(beyond) => self.others.get(beyond / fanout).copied(),
        }
    }

    /// Those whose source a member is.
    fn below(&self, member: MemberId) -> &[MemberId] {
        let fanout = self.shape.fanout.max(1);
        let first = match self.voters.binary_search(&member) {
            Ok(place) => place * fanout,
            Err(_) if self.voters.is_empty() => return &[],
            Err(_) => match self.others.binary_search(&member) {
                Ok(place) => (self.voters.len() + place) * fanout,
                Err(_) => return &[],
            },
        };
        let end = (first + fanout).min(self.others.len());
        self.others.get(first..end).unwrap_or(&[])
    }

    /// Whom a member keeps connections to.
    pub fn neighbours(&self, member: MemberId) -> BTreeSet<MemberId> {
        let Some(place) = self.ring.iter().position(|m| *m == member) else {
            return BTreeSet::new();
        };
        if self.is_full() {
            return self.ring.iter().copied().filter(|other| *other != member).collect();
        }
        let mut neighbours: BTreeSet<MemberId> = self.below(member).iter().copied().collect();
        neighbours.extend(self.source(member));
        if self.voters.contains(&member) {
            neighbours.extend(&self.voters);
        }
        let length = self.ring.len();
        let mut distance = 1;
        while distance <= length / 2 {
            neighbours.insert(self.ring[(place + distance) % length]);
            neighbours.insert(self.ring[(place + length - distance) % length]);
            distance *= RING_BASE;
        }
        neighbours.remove(&member);
        neighbours
    }
}

#[cfg(test)]
mod tests {
    use std::collections::btree_map::Entry;

    use super::*;
    use crate::core::ctx::Rng;

    fn overlay(count: usize, voters: usize, seed: u64) -> Overlay {
        let mut rng = Rng::from_seed([seed as u8; 32]);
        let members: BTreeMap<MemberId, PeerId> = (0..count)
            .map(|n| {
                let mut key = [0; 32];
                key[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
                (MemberId(n as u64 * 3 + 1), PeerId(key))
            })
            .collect();
        let ids: Vec<MemberId> = members.keys().copied().collect();
        let mut voting = BTreeSet::new();
        while voting.len() < voters.min(count) {
            voting.insert(ids[rng.below(count as u64) as usize]);
        }
        Overlay::new(Shape::default(), &members, &voting)
    }

    /// Steps from a member to every other one.
    fn steps(overlay: &Overlay, from: MemberId) -> BTreeMap<MemberId, usize> {
        let mut reached = BTreeMap::from([(from, 0)]);
        let mut edge = vec![from];
        while !edge.is_empty() {
            let mut next = Vec::new();
            for member in edge {
                let far = reached[&member] + 1;
                for neighbour in overlay.neighbours(member) {
                    if let Entry::Vacant(new) = reached.entry(neighbour) {
                        new.insert(far);
                        next.push(neighbour);
                    }
                }
            }
            edge = next;
        }
        reached
    }

    #[test]
    fn few_neighbours_are_enough_for_all_to_be_near() {
        for (count, voters) in
            [(49, 5), (64, 7), (100, 0), (333, 5), (MEMBERS_MAX, 5), (MEMBERS_MAX, 7)]
        {
            let overlay = overlay(count, voters, 7);
            for member in &overlay.ring {
                let neighbours = overlay.neighbours(*member);
                assert!(neighbours.len() <= NEIGHBOURS_MAX, "{count}: {}", neighbours.len());
                for neighbour in &neighbours {
                    assert!(overlay.neighbours(*neighbour).contains(member), "both ways");
                }
            }
            let steps = steps(&overlay, overlay.ring[0]);
            assert_eq!(steps.len(), count, "everybody is reached");
            assert!(steps.values().all(|steps| *steps <= 6), "{:?}", steps.values().max());
        }
    }

    #[test]
    fn everybody_has_a_source_and_is_few_steps_from_a_voter() {
        for count in [8, 49, 85, 86, 400, MEMBERS_MAX] {
            let overlay = overlay(count, 5, 3);
            for member in &overlay.others {
                let (mut at, mut far) = (*member, 0);
                while let Some(source) = overlay.source(at) {
                    if !overlay.is_full() {
                        assert!(overlay.below(source).contains(&at));
                    }
                    (at, far) = (source, far + 1);
                    assert!(far <= 3);
                }
                assert!(overlay.voters.contains(&at));
            }
            assert!(overlay.voters.iter().all(|voter| overlay.source(*voter).is_none()));
        }
    }

    #[test]
    fn in_a_small_cluster_everybody_knows_everybody() {
        let overlay = overlay(FULL_MESH_MAX, 5, 1);
        assert!(overlay.ring.iter().all(|m| overlay.neighbours(*m).len() == FULL_MESH_MAX - 1));
        assert!(overlay.neighbours(MemberId(9_999)).is_empty());
        assert_eq!(overlay.source(MemberId(9_999)), None);
    }
}
