//! Who holds what: the sets of replicas that a layout gives.
//!
//! Up to seven holders everybody holds everything. Beyond that a partition has three, chosen by weighted
//! rendezvous hashing (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates",
//! 1998): every holder draws a number for the partition, and the highest ones win. So a holder that
//! comes or goes moves its own share and nothing else. A second one of a zone is taken only when
//! every zone has one.
//!
//! Invariants:
//! 1. The same layout gives the same set on every node.
//! 2. Two majorities of a set meet, and so do a write and a read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::core::control::{Holders, Layout, is_whole};
use crate::messages::command::Holder;
use crate::types::MemberId;
use crate::types::limits::{HOLDER_WEIGHT_MAX, REPLICAS};
use crate::types::record::{PARTITIONS, Partition};

/// The members that hold a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSet {
    /// They.
    pub members: BTreeSet<MemberId>,
}

impl ReplicaSet {
    /// How many have to have a write on disk before it is acknowledged.
    pub fn write_quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// How many have to answer a read so that it sees every acknowledged write.
    pub fn read_quorum(&self) -> usize {
        self.members.len() + 1 - self.write_quorum()
    }

    /// How many of these are in the set.
    pub fn count(&self, members: &BTreeSet<MemberId>) -> usize {
        self.members.intersection(members).count()
    }
}

/// Spreads a number over all 64 bits (the finaliser of SplitMix64; Steele, Lea and Flood, "Fast
/// Splittable Pseudorandom Number Generators", 2014). Nobody gains by a collision here, and all
/// partitions are gone through at every change.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The number that a holder draws for a partition: the highest of as many as it weighs.
fn draw(member: MemberId, holder: &Holder, partition: Partition) -> u64 {
    let of_member = mix(member.0);
    let one = |turn: u8| mix(of_member ^ mix(u64::from(partition.0) << 8 | u64::from(turn)));
    (0..holder.weight.clamp(1, HOLDER_WEIGHT_MAX)).map(one).max().unwrap_or_default()
}

/// The set of one partition among these holders.
pub fn replica_set(holders: &Holders, partition: Partition) -> ReplicaSet {
    if is_whole(holders) {
        return ReplicaSet { members: holders.keys().copied().collect() };
    }
    // Only the first few of each zone can be taken, and partitions are many.
    let mut best = BTreeMap::<&str, [Option<(u64, MemberId)>; REPLICAS]>::new();
    for (id, holder) in holders {
        let mut next = Some((draw(*id, holder, partition), *id));
        for place in best.entry(holder.zone.as_str()).or_default() {
            if next > *place {
                std::mem::swap(&mut next, place);
            }
        }
    }
    let mut drawn: Vec<(u64, MemberId, &str)> = Vec::with_capacity(holders.len().min(64));
    for (zone, best) in best {
        drawn.extend(best.into_iter().flatten().map(|(number, id)| (number, id, zone)));
    }
    drawn.sort_unstable_by(|a, b| b.cmp(a));
    let mut members = BTreeSet::new();
    while members.len() < REPLICAS.min(drawn.len()) {
        let mut zones = BTreeSet::new();
        for (_, id, zone) in &drawn {
            if members.len() < REPLICAS && !members.contains(id) && zones.insert(*zone) {
                members.insert(*id);
            }
        }
    }
    ReplicaSet { members }
}

/// Partitions that stand for all: one where everybody holds everything.
pub fn representatives(layout: &Layout) -> impl Iterator<Item = Partition> {
    (0..if layout.is_whole() { 1 } else { PARTITIONS }).map(Partition)
}

/// The sets in force for a partition: one, or two while the layout changes.
pub fn sets(layout: &Layout, partition: Partition) -> Vec<ReplicaSet> {
    let mut sets = vec![replica_set(&layout.current, partition)];
    if let Some(next) = &layout.next {
        let next = replica_set(next, partition);
        if next != sets[0] {
            sets.push(next);
        }
    }
    sets
}

/// Which set of replicas: another one if any member is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetId(pub u64);

/// The current set of a partition if this member is in it, and none if it only gains it with the next layout.
pub fn set_of(layout: &Layout, member: MemberId, partition: Partition) -> Option<SetId> {
    let set = replica_set(&layout.current, partition).members;
    // Ids are never used again, and nobody chooses his own.
    let id = set.iter().fold(0, |id, member| mix(id ^ member.0));
    set.contains(&member).then_some(SetId(id))
}

/// True if this member holds, or will hold, a partition.
pub fn holds(layout: &Layout, member: MemberId, partition: Partition) -> bool {
    sets(layout, partition).iter().any(|set| set.members.contains(&member))
}

#[cfg(test)]
mod guards;

#[cfg(test)]
mod tests {
    use super::*;

    fn holders(count: u64, zones: u64) -> Holders {
        let holder = |id| Holder { weight: 1, zone: format!("zone-{}", id % zones) };
        (1..=count).map(|id| (MemberId(id), holder(id))).collect()
    }

    fn all() -> impl Iterator<Item = Partition> {
        (0..PARTITIONS).map(Partition)
    }

    #[test]
    fn up_to_seven_everybody_holds_everything_and_quorums_meet() {
        for count in 1..=12 {
            let set = replica_set(&holders(count, 1), Partition(7));
            let expected = if count <= 7 { count as usize } else { 3 };
            assert_eq!(set.members.len(), expected);
            assert!(set.write_quorum() + set.read_quorum() > set.members.len());
            assert!(2 * set.write_quorum() > set.members.len());
        }
    }

    #[test]
    fn three_zones_have_one_copy_each_and_the_share_follows_the_weight() {
        let mut holders = holders(9, 3);
        holders.insert(MemberId(9), Holder { weight: 3, zone: "zone-0".into() });
        let mut shares = [0_usize; 10];
        for partition in all() {
            let set = replica_set(&holders, partition);
            let zones: BTreeSet<&str> =
                set.members.iter().map(|id| holders[id].zone.as_str()).collect();
            assert_eq!(zones.len(), 3);
            set.members.iter().for_each(|id| shares[id.0 as usize] += 1);
        }
        // Of its zone's copies, three parts in five.
        assert!((2_200..2_700).contains(&shares[9]), "{shares:?}");
        assert!((600..1_050).contains(&shares[3]), "{shares:?}");
    }

    #[test]
    fn a_newcomer_moves_its_own_share_only() {
        let (before, after) = (holders(8, 1), holders(9, 1));
        let mut moved = 0;
        for partition in all() {
            let (old, new) = (replica_set(&before, partition), replica_set(&after, partition));
            let gained: Vec<&MemberId> = new.members.difference(&old.members).collect();
            assert!(gained.is_empty() || gained == [&MemberId(9)]);
            moved += gained.len();
        }
        assert!((1_200..1_550).contains(&moved), "a third of 4096, it is {moved}");
    }
}
