//! Who gets a vote, who loses it, and when.

use std::sync::Arc;

use super::*;
use crate::core::consensus::{Quorum, Role};
use crate::core::control::View;
use crate::core::fixture::{self, peer};
use crate::core::standing::Standing;
use crate::types::{Term, Wall};

fn ids(ids: &[u64]) -> BTreeSet<MemberId> {
    ids.iter().copied().map(MemberId).collect()
}

/// Member 1 leads in term 4; these are members, voters, and linked.
struct World {
    standing: Standing,
    linked: BTreeSet<MemberId>,
    quorum: Option<Quorum>,
    voters: Voters,
}

impl World {
    fn new(members: &[u64], voters: &[u64], linked: &[u64]) -> Self {
        let mut standing = Standing::new(MemberId(1));
        let roster = fixture::members(members.iter().copied());
        standing.view = Arc::new(View { roster, ..View::default() });
        let leader = Some(MemberId(1));
        standing.role = Role { term: 4, leader, voters: ids(voters), leading: true, joint: false };
        Self { standing, linked: ids(linked), quorum: None, voters: Voters::default() }
    }

    fn look(&mut self, now: Mono) -> Look {
        let Self { standing, linked, quorum, voters } = self;
        let sight = Sight { now, wall: Wall(0), standing, linked, quorum: *quorum };
        voters.sees(&sight);
        voters.look(&sight)
    }

    /// The step that is due now, with a majority that has just answered.
    fn step(&mut self, now: Mono) -> Option<VoterChange> {
        self.quorum = Some(Quorum { term: 4, acked_at: now, committed: 0 });
        match self.look(now).step.map(|(step, _)| step) {
            Some(Step::Voters(change)) => Some(change),
            _ => None,
        }
    }
}

fn add(id: u64) -> Option<VoterChange> {
    Some(VoterChange::Add(MemberId(id), peer(id)))
}

fn remove(id: u64) -> Option<VoterChange> {
    Some(VoterChange::Remove(MemberId(id)))
}

#[test]
fn only_a_member_that_answers_gets_a_vote() {
    assert_eq!(World::new(&[1, 2], &[1], &[]).step(Mono(0)), None);
    assert_eq!(World::new(&[1, 2, 3], &[1], &[3]).step(Mono(0)), add(3));
    assert_eq!(World::new(&[1, 2], &[1, 2], &[2]).step(Mono(0)), None, "all vote");
    let eight = [1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(World::new(&eight, &eight[..7], &eight[1..]).step(Mono(0)), None, "seven vote");
    assert_eq!(World::new(&eight, &eight[..6], &eight[1..]).step(Mono(0)), add(7));
}

#[test]
fn a_member_that_could_not_catch_up_does_not_keep_others_from_voting() {
    let mut world = World::new(&[1, 2, 3], &[1], &[2, 3]);
    assert_eq!(world.step(Mono(0)), add(2));
    assert_eq!(world.step(Mono(0)), add(3));
    assert_eq!(world.step(Mono(0)), add(2), "and then it is tried again");
}

#[test]
fn a_voter_that_is_silent_for_a_minute_is_replaced_if_another_member_can_vote() {
    let members = [1, 2, 3, 4, 5, 6, 7, 8];
    let minute = Mono(VOTER_SILENT_MS * 1_000);
    let mut world = World::new(&members, &members[..7], &[2, 3, 4, 5, 6, 8]);
    let early = world.look(Mono(0));
    assert_eq!((early.step, early.again), (None, Some(minute)), "it is looked at then");
    assert_eq!(world.step(Mono(minute.0 - 1)), None);
    assert_eq!(world.step(minute), remove(7));
    world.linked.remove(&MemberId(8));
    assert_eq!(world.step(minute), None, "nobody can vote instead");
    world.linked.extend([MemberId(7), MemberId(8)]);
    world.look(minute);
    world.linked.remove(&MemberId(7));
    assert_eq!(world.step(minute), None, "it has answered meanwhile");
}

#[test]
fn this_node_is_never_silent_to_itself_and_only_voters_are() {
    let mut world = World::new(&[1, 2, 3], &[1, 2], &[]);
    world.look(Mono(5));
    assert_eq!(world.voters.silent_since, BTreeMap::from([(MemberId(2), Mono(5))]));
}

#[test]
fn who_is_no_member_loses_its_vote_before_another_one_gets_one() {
    assert_eq!(World::new(&[1, 3], &[1, 2], &[3]).step(Mono(0)), remove(2));
    assert_eq!(World::new(&[2, 3], &[1, 2, 3], &[2, 3]).step(Mono(0)), None, "not by itself");
}

#[test]
fn a_change_that_was_left_half_done_is_ended_first() {
    let mut world = World::new(&[1, 3], &[1, 2], &[3]);
    world.standing.role.joint = true;
    assert_eq!(world.step(Mono(0)), Some(VoterChange::Settle));
}

#[test]
fn a_step_takes_a_majority_that_answered_within_a_lease_of_the_same_term() {
    let lease_us = LEASE_MS * 1_000;
    let quorum =
        |(term, acked_at): (Term, u64)| Quorum { term, acked_at: Mono(acked_at), committed: 0 };
    for (acked, now, is_due) in [
        (None, 0, false),
        (Some((4, 1_000)), 1_000 + lease_us - 1, true),
        (Some((4, 1_000)), 1_000 + lease_us, false),
        (Some((3, 1_000)), 1_001, false),
        (Some((5, 1_000)), 1_001, false),
    ] {
        let mut world = World::new(&[1, 2, 3], &[1, 2], &[2, 3]);
        world.quorum = acked.map(quorum);
        let look = world.look(Mono(now));
        assert_eq!(look.step.is_some(), is_due, "{acked:?} {now}");
        // Without one it looks again.
        assert_eq!(look.again, (!is_due).then_some(Mono(now) + RETRY), "{acked:?} {now}");
    }
    let mut sole = World::new(&[1, 2], &[1], &[2]);
    assert!(sole.look(Mono(0)).step.is_some(), "a sole voter is its own majority");
    assert_eq!(World::new(&[1, 2], &[], &[2]).step(Mono(0)), None, "nobody votes yet");
}

#[test]
fn a_step_that_failed_comes_again_a_little_later() {
    let mut world = World::new(&[1, 2, 3], &[1], &[2, 3]);
    assert_eq!(world.step(Mono(0)), add(2));
    world.voters.ended(Mono(1_000), false);
    let look = world.look(Mono(1_001));
    assert_eq!((look.step, look.again), (None, Some(Mono(1_000) + RETRY)));
    assert_eq!(world.step(Mono(1_000) + RETRY), add(3), "the other one's turn");
    world.voters.ended(Mono(200_000), true);
    assert_eq!(world.step(Mono(200_000)), add(2), "on to the next one at once");
}

#[test]
fn a_silence_of_an_earlier_term_costs_nobody_its_vote() {
    let eight: Vec<u64> = (1..=8).collect();
    let mut world = World::new(&eight, &eight[..7], &[2, 3, 4, 5, 6, 8]);
    assert_eq!(world.step(Mono(0)), None, "7 does not answer for the first time");
    let again = Mono(3_600_000_000);
    let World { standing, linked, quorum, voters } = &mut world;
    let sight = Sight { now: again, wall: Wall(0), standing, linked, quorum: *quorum };
    voters.begin(&sight);
    assert_eq!(world.step(again), None, "it may have answered in between");
    assert_eq!(world.step(again + VOTER_SILENT), remove(7));
}
