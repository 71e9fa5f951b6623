//! What sets of replicas go by, one rule at a time: each of these fails where its rule is gone.

use super::*;

fn holders(ids: impl IntoIterator<Item = u64>) -> Holders {
    ids.into_iter().map(|id| (MemberId(id), Holder::default())).collect()
}

fn layout(current: u64, next: Option<u64>) -> Layout {
    Layout {
        version: 1,
        current: holders(1..=current),
        next: next.map(|n| holders(1..=n)),
        given_up: [].into(),
    }
}

#[test]
fn a_write_takes_a_majority_and_a_read_what_meets_it() {
    for (count, write, read) in [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 3, 2), (5, 3, 3), (7, 4, 4)] {
        let set = ReplicaSet { members: (1..=count).map(MemberId).collect() };
        assert_eq!((set.write_quorum(), set.read_quorum()), (write, read), "{count}");
    }
    let set = ReplicaSet { members: [1, 2, 3].map(MemberId).into() };
    assert_eq!(set.count(&[2, 3, 4].map(MemberId).into()), 2, "4 is not in it");
}

#[test]
fn one_partition_stands_for_all_while_everybody_holds_everything() {
    let count = |current, next| representatives(&layout(current, next)).count();
    assert_eq!([count(7, None), count(7, Some(3))], [1, 1]);
    let all = usize::from(PARTITIONS);
    assert_eq!([count(8, None), count(7, Some(8)), count(8, Some(7))], [all; 3]);
}

#[test]
fn two_sets_are_in_force_only_where_they_differ() {
    assert_eq!(sets(&layout(3, None), Partition(0)).len(), 1);
    assert_eq!(sets(&layout(3, Some(3)), Partition(0)).len(), 1);
    let two = sets(&layout(3, Some(4)), Partition(0));
    assert_eq!(two.iter().map(|set| set.members.len()).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_member_holds_what_it_has_or_gains_and_vouches_for_what_it_has() {
    let layout = layout(3, Some(4));
    let of = |id: u64| {
        let member = MemberId(id);
        (holds(&layout, member, Partition(0)), set_of(&layout, member, Partition(0)).is_some())
    };
    assert_eq!([of(3), of(4), of(5)], [(true, true), (true, false), (false, false)]);
}

#[test]
fn another_member_makes_another_set_and_all_of_one_set_name_it_alike() {
    let id = |current: u64, own: u64| {
        set_of(&layout(current, None), MemberId(own), Partition(0)).unwrap()
    };
    assert_eq!(id(3, 1), id(3, 3));
    assert_ne!(id(3, 1), id(4, 1));
    assert_ne!(id(1, 1), id(2, 1));
}

#[test]
fn where_zones_are_fewer_than_copies_some_have_two() {
    let holder = |id: u64| Holder { weight: 1, zone: if id <= 4 { "a" } else { "b" }.to_owned() };
    let holders: Holders = (1..=8).map(|id| (MemberId(id), holder(id))).collect();
    for partition in (0..64).map(Partition) {
        let set = replica_set(&holders, partition).members;
        let in_a = set.iter().filter(|id| id.0 <= 4).count();
        assert_eq!(set.len(), REPLICAS);
        assert!((1..=2).contains(&in_a), "{set:?}");
    }
}

#[test]
fn nodes_of_different_releases_agree_on_who_holds_what() {
    let holder = |id: u64| {
        let zone = ["a", "b"][(id % 2) as usize].to_owned();
        (MemberId(id), Holder { weight: 1 + (id % 3) as u8, zone })
    };
    let current: Holders = (1..=12).map(holder).collect();
    let layout = Layout { version: 1, current, next: None, given_up: [].into() };
    let sets = [0, 1, 2, 77, 256, 4_095].map(|number| {
        let partition = Partition(number);
        let members = replica_set(&layout.current, partition).members;
        let ids: Vec<u64> = members.iter().map(|member| member.0).collect();
        let set = set_of(&layout, MemberId(ids[0]), partition).unwrap().0;
        (ids, set)
    });
    let expected = [
        (vec![5, 8, 9], 8_264_187_090_538_620_668),
        (vec![2, 3, 11], 10_178_982_307_503_717_026),
        (vec![3, 5, 8], 11_440_301_470_703_460_801),
        (vec![1, 10, 12], 16_057_345_664_995_721_663),
        (vec![8, 10, 11], 12_866_474_138_868_630_339),
        (vec![4, 5, 12], 3_390_419_879_935_457_459),
    ];
    assert_eq!(sets, expected);
}
