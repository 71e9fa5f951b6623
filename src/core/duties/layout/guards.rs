//! What the leader's duty goes by, one rule at a time: each of these fails where its rule is gone.

use crate::messages::command::LayoutCommand;
use std::sync::Arc;

use super::*;
use crate::core::control::{Layout, View};
use crate::core::fixture;

fn member(id: u64, labels: &[(&str, &str)]) -> Member {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Member { labels, ..fixture::member(id) }
}

fn holders(ids: &[u64]) -> Holders {
    ids.iter().map(|id| (MemberId(*id), Holder::default())).collect()
}

/// Member 1 of these, some of which answer it.
fn standing(members: &[u64], answering: &[u64], layout: Layout) -> Standing {
    let mut standing = Standing::new(MemberId(1));
    let members = fixture::members(members.iter().copied());
    standing.view = Arc::new(View { roster: members, layout: layout.into(), ..View::default() });
    standing.answering = answering.iter().copied().map(MemberId).collect();
    standing
}

fn role(term: u64, leading: bool) -> Role {
    Role { leading, term, ..Role::default() }
}

fn leading() -> Rebalance {
    let mut rebalance = Rebalance::default();
    rebalance.on_role(Mono(0), &role(3, true));
    rebalance
}

fn gain_all(leader: &mut Rebalance) {
    for id in [1, 2] {
        leader.on_gained(MemberId(id));
    }
}

fn next(version: u64, current: &[u64], next: &[u64]) -> Layout {
    Layout { version, current: holders(current), next: Some(holders(next)), given_up: [].into() }
}

fn settled(version: u64, current: &[u64]) -> Layout {
    Layout { version, current: holders(current), next: None, given_up: [].into() }
}

#[test]
fn a_holder_weighs_what_its_label_says_within_bounds() {
    for (label, weight) in [("0", 1), ("1", 1), ("16", 16), ("17", 16), ("300", 1), ("much", 1)] {
        let holder = holder_of(&member(1, &[("weight", label), ("zone", "a")]));
        assert_eq!((holder.weight, holder.zone.as_str()), (weight, "a"), "{label}");
    }
    assert_eq!(holder_of(&member(1, &[])), Holder::default());
}

#[test]
fn a_proposal_is_waited_for_as_long_as_said() {
    let world = standing(&[1, 2], &[2], settled(1, &[1]));
    let mut leader = leading();
    assert!(leader.next_step(&world, Mono(0)).is_some());
    assert_eq!(leader.next_step(&world, Mono(999_999)), None);
    assert!(leader.next_step(&world, Mono(1_000_000)).is_some());
}

#[test]
fn a_layout_is_committed_once_it_has_settled_and_not_before() {
    let settled_us = u64::try_from(SETTLED.as_micros()).unwrap();
    let world = standing(&[1, 2], &[2], next(2, &[1], &[1, 2]));
    let mut leader = leading();
    gain_all(&mut leader);
    assert_eq!(leader.next_step(&world, Mono(settled_us - 1)), None);
    let commit = Some(Command::Layout(LayoutCommand::Commit { version: 2 }));
    assert_eq!(leader.next_step(&world, Mono(settled_us)), commit);
}

#[test]
fn what_was_gained_and_since_when_counts_for_one_term_and_layout_only() {
    let settled_us = u64::try_from(SETTLED.as_micros()).unwrap();
    let world = standing(&[1, 2], &[2], next(2, &[1], &[1, 2]));
    let late = Mono(2 * settled_us);
    let commits = |change: &dyn Fn(&mut Rebalance)| {
        let mut leader = leading();
        gain_all(&mut leader);
        change(&mut leader);
        leader.next_step(&world, late).is_some()
    };
    assert!(commits(&|_| {}));
    assert!(commits(&|leader| leader.on_role(late, &role(3, true))), "nothing is new");
    assert!(!commits(&|leader| leader.on_role(Mono(0), &role(4, true))));
    assert!(!commits(&|leader| leader.on_layout(Mono(0))));
    assert!(!commits(&|leader| leader.on_role(Mono(0), &role(3, false))), "it does not lead");
    let regained = |leader: &mut Rebalance| {
        leader.on_layout(late);
        gain_all(leader);
    };
    assert!(!commits(&regained), "a lease from before may still be in use");
}

#[test]
fn there_is_nothing_to_do_before_there_is_a_layout_or_without_anybody() {
    let world = standing(&[1, 2], &[2], Layout::default());
    assert_eq!(leading().next_step(&world, Mono(0)), None, "nobody has founded anything");
    let world = standing(&[1, 2], &[2], settled(3, &[1, 2]));
    assert_eq!(leading().next_step(&world, Mono(0)), None, "all hold records");
}

#[test]
fn a_newcomer_is_waited_for_from_its_last_answer_on() {
    let named = || next(2, &[1], &[1, 2]);
    let (silent, answers) = (standing(&[1, 2], &[], named()), standing(&[1, 2], &[2], named()));
    let mut leader = leading();
    let give_up_us = u64::try_from(GIVE_UP.as_micros()).unwrap();
    assert_eq!(leader.next_step(&silent, Mono(0)), None);
    assert_eq!(leader.next_step(&silent, Mono(give_up_us - 1)), None);
    assert_eq!(leader.next_step(&answers, Mono(give_up_us)), None);
    assert_eq!(leader.next_step(&silent, Mono(give_up_us + 1)), None, "it counts anew");
    let without = Some(Command::Layout(LayoutCommand::Next { holders: holders(&[1]) }));
    assert_eq!(leader.next_step(&silent, Mono(2 * give_up_us + 1)), without);
}

#[test]
fn a_layout_grows_beyond_seven_at_once_only_if_nobody_leaves() {
    let seven = [1, 2, 3, 4, 5, 6, 7];
    let eight = [1, 2, 3, 4, 5, 6, 7, 8];
    let world = standing(&eight, &eight, settled(1, &seven));
    let grows = Some(Command::Layout(LayoutCommand::Next { holders: holders(&eight) }));
    assert_eq!(leading().next_step(&world, Mono(0)), grows);
    // Seven of which one leaves and one is new stay seven.
    let world = standing(&eight[..7], &eight, settled(1, &[1, 2, 3, 4, 5, 6, 9]));
    let same = Some(Command::Layout(LayoutCommand::Next { holders: holders(&seven) }));
    assert_eq!(leading().next_step(&world, Mono(0)), same);
    // Where few hold a record already, whoever leaves and whoever comes can do so at once.
    let world = standing(&[1, 3, 4, 5, 6, 7, 8, 9], &[9], settled(1, &eight));
    let change =
        Some(Command::Layout(LayoutCommand::Next { holders: holders(&[1, 3, 4, 5, 6, 7, 8, 9]) }));
    assert_eq!(leading().next_step(&world, Mono(0)), change);
}

#[test]
fn a_leader_looks_again_while_a_change_is_under_way() {
    let changing = standing(&[1, 2], &[2], next(2, &[1], &[1, 2]));
    let quiet = standing(&[1], &[], settled(1, &[1]));
    let soon = Mono(0) + SETTLED;
    assert_eq!(leading().wake_at(&changing, Mono(0)), Some(soon));
    let late = Mono(10_000_000);
    let again = Some(late + Duration::from_millis(100));
    assert_eq!(leading().wake_at(&changing, late), again);
    assert_eq!(leading().wake_at(&quiet, Mono(0)), None);
    assert_eq!(Rebalance::default().wake_at(&changing, Mono(0)), None);
    let mut leader = leading();
    let world = standing(&[1, 2], &[2], settled(1, &[1]));
    leader.next_step(&world, Mono(0));
    assert_eq!(leader.wake_at(&world, Mono(0)), Some(soon), "what was proposed may get lost");
}
