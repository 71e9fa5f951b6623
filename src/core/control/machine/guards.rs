//! What the keeper of the view goes by, one rule at a time: each fails where its rule is gone.

use super::*;
use crate::core::control::HeadsChange;
use crate::core::control::RosterChange;
use crate::core::ctx::{Outbox, Rng};
use crate::core::fixture::Give;
use crate::core::fixture::{self, peer};
use crate::core::machines::Cast;
use crate::types::{LogId, Wall};

const STEP_US: u64 = 20_000_000;

fn ids(ids: &[u64]) -> BTreeSet<MemberId> {
    ids.iter().copied().map(MemberId).collect()
}

/// Member 1 leads in term 4; these are members, voters, and answering.
fn control(members: &[u64], voters: &[u64], answering: &[u64]) -> Control {
    let mut control = Control::new(MemberId(1), Level::FIRST);
    let members = fixture::members(members.iter().copied());
    control.view = Arc::new(View { roster: members, ..View::default() });
    let leader = Some(MemberId(1));
    control.role = Role { term: 4, leader, voters: ids(voters), leading: true, joint: false };
    control.answering = ids(answering);
    control
}

fn call(
    control: &mut Control,
    now: Mono,
    call: impl FnOnce(&mut Control, &mut Ctx<'_, Reply>),
) -> (Vec<Effect<Reply>>, Option<Mono>) {
    let (mut rng, mut out) = (Rng::from_seed([1; 32]), Outbox::default());
    let mut ctx = Ctx { now, wall: Wall(7), rng: &mut rng, out: &mut out };
    call(control, &mut ctx);
    (out.effects, out.wake_at)
}

fn tell(
    control: &mut Control,
    now: Mono,
    msg: impl Give<Control>,
) -> (Vec<Effect<Reply>>, Option<Mono>) {
    call(control, now, |control, ctx| msg.give(control, ctx))
}

fn step(effects: &[Effect<Reply>]) -> Option<VoterChange> {
    effects.iter().find_map(|effect| match effect {
        Effect::Submit(Op::Voters(step)) => Some(*step),
        _ => None,
    })
}

fn events(effects: &[Effect<Reply>]) -> Vec<EventBody> {
    let events = effects.iter().filter_map(|effect| match effect {
        Effect::Event(event) => Some(event.clone()),
        _ => None,
    });
    events.collect()
}

fn quorum(term: Term, acked_at: Mono) -> Quorum {
    Quorum { term, acked_at, committed: 0 }
}

fn answering(of: &[u64]) -> News {
    News::Linked(ids(of))
}

#[test]
fn a_step_takes_a_majority_that_answered_within_a_lease_of_the_same_term() {
    let add = Some(VoterChange::Add(MemberId(3), peer(3)));
    let lease_us = LEASE_MS * 1_000;
    for (acked, now, expected) in [
        (None, 0, None),
        (Some((4, 1_000)), 1_000 + lease_us - 1, add),
        (Some((4, 1_000)), 1_000 + lease_us, None),
        (Some((3, 1_000)), 1_001, None),
        (Some((5, 1_000)), 1_001, None),
    ] {
        let mut control = control(&[1, 2, 3], &[1, 2], &[]);
        control.quorum = acked.map(|(term, at)| quorum(term, Mono(at)));
        let (effects, wake) = tell(&mut control, Mono(now), answering(&[2, 3]));
        assert_eq!(step(&effects), expected, "{acked:?} {now}");
        // Without one it looks again.
        let again = Mono(now) + VOTERS_RETRY;
        assert_eq!(wake, expected.is_none().then_some(again), "{acked:?} {now}");
    }
    let mut sole = control(&[1, 2], &[1], &[]);
    let (effects, _) = tell(&mut sole, Mono(0), answering(&[2]));
    assert!(step(&effects).is_some(), "a sole voter is its own majority");
    let mut follower = control(&[1, 2], &[1], &[]);
    follower.role.leading = false;
    assert_eq!(step(&tell(&mut follower, Mono(0), answering(&[2])).0), None);
    let mut new = control(&[1, 2], &[], &[]);
    new.quorum = Some(quorum(4, Mono(0)));
    assert_eq!(step(&tell(&mut new, Mono(0), answering(&[2])).0), None, "nobody votes yet");
}

#[test]
fn one_step_is_under_way_at_a_time_and_a_failed_one_comes_again() {
    let mut control = control(&[1, 2, 3], &[1], &[]);
    let (effects, _) = tell(&mut control, Mono(0), answering(&[2, 3]));
    assert_eq!(step(&effects), Some(VoterChange::Add(MemberId(2), peer(2))));
    let (effects, _) = tell(&mut control, Mono(STEP_US - 1), answering(&[2, 3]));
    assert_eq!(step(&effects), None, "it is under way");
    let mut lost = tell(&mut control, Mono(STEP_US), answering(&[2, 3])).0;
    assert_eq!(step(&lost), Some(VoterChange::Add(MemberId(3), peer(3))), "the other one's turn");

    let ended = |done| Msg::Consensus(ConsensusEvent::VotersChanged { done });
    let (effects, wake) = tell(&mut control, Mono(STEP_US), ended(false));
    assert_eq!((step(&effects), wake), (None, Some(Mono(STEP_US) + VOTERS_RETRY)));
    let wake_up = |control: &mut Control, now| call(control, now, |c, ctx| c.on_wake(ctx));
    let early = Mono(STEP_US + 99_999);
    let (effects, wake) = wake_up(&mut control, early);
    assert_eq!((step(&effects), wake), (None, Some(Mono(STEP_US) + VOTERS_RETRY)));
    lost = wake_up(&mut control, Mono(STEP_US) + VOTERS_RETRY).0;
    assert!(step(&lost).is_some());
    let (effects, _) = tell(&mut control, Mono(STEP_US + 200_000), ended(true));
    assert!(step(&effects).is_some(), "on to the next one at once");
}

#[test]
fn what_time_alone_brings_is_looked_at_then() {
    let mut one = control(&[1, 2, 3], &[1], &[]);
    let (_, wake) = tell(&mut one, Mono(0), answering(&[2, 3]));
    assert_eq!(wake, None, "the end of the step is told");
    let (_, wake) = tell(&mut one, Mono(1), answering(&[2]));
    assert_eq!(wake, Some(Mono(STEP_US)), "or got lost");

    let all: Vec<u64> = (1..=8).collect();
    let mut seven = control(&all, &all[..VOTERS_MAX], &[]);
    let (effects, wake) = tell(&mut seven, Mono(5), answering(&[2, 3, 4, 5, 6, 8]));
    assert_eq!((step(&effects), wake), (None, Some(Mono(5) + VOTER_SILENT)));
    seven.quorum = Some(quorum(4, Mono(5) + VOTER_SILENT));
    let (effects, _) = call(&mut seven, Mono(5) + VOTER_SILENT, |c, ctx| c.on_wake(ctx));
    assert_eq!(step(&effects), Some(VoterChange::Remove(MemberId(7))));
}

#[test]
fn as_many_vote_as_may() {
    let all: Vec<u64> = (1..=8).collect();
    let mut control = control(&all, &all[..VOTERS_MAX - 1], &all[1..]);
    let next = control.next_step(Mono(0));
    assert_eq!(next, Some(VoterChange::Add(MemberId(7), peer(7))));
    control.role.voters = ids(&all[..VOTERS_MAX]);
    assert_eq!(control.next_step(Mono(0)), None);
}

#[test]
fn this_node_is_never_silent_to_itself_and_only_voters_are() {
    let mut control = control(&[1, 2, 3], &[1, 2], &[]);
    control.note_silence(Mono(5));
    assert_eq!(control.silent_since, BTreeMap::from([(MemberId(2), Mono(5))]));
}

fn applied(index: u64, changes: Vec<Change>) -> Msg {
    let log_id = LogId { term: 4, index };
    let view = Arc::new(View { applied: Some(log_id), ..View::default() });
    Msg::Consensus(ConsensusEvent::Applied { log_id, view, changes })
}

#[test]
fn views_rise_and_routine_is_told_to_those_that_want_it() {
    let mut control = Control::new(MemberId(1), Level::FIRST);
    let told = |effects: &[Effect<Reply>]| {
        let whole = |e: &Effect<Reply>| matches!(e, Effect::News(News::View(_)));
        let entries = |e: &Effect<Reply>| matches!(e, Effect::News(News::Applied { .. }));
        (effects.iter().any(whole), effects.iter().any(entries))
    };
    let routine = || vec![Change::Heads(HeadsChange::Set("k".into(), 1))];
    let (effects, _) = tell(&mut control, Mono(0), applied(5, routine()));
    assert_eq!(told(&effects), (true, true), "the first one goes to everybody");
    assert_eq!(events(&effects), [EventBody::HeadSet { key: "k".into(), version: 1 }]);
    let (effects, _) = tell(
        &mut control,
        Mono(0),
        applied(4, vec![Change::Roster(RosterChange::Changed(MemberId(1)))]),
    );
    assert!(effects.is_empty(), "older than what is known");
    let (effects, _) = tell(&mut control, Mono(0), applied(6, routine()));
    assert_eq!(told(&effects), (false, true));
    let (effects, _) = tell(
        &mut control,
        Mono(0),
        applied(6, vec![Change::Roster(RosterChange::Changed(MemberId(1)))]),
    );
    assert_eq!(told(&effects), (true, true));
}

fn role(term: Term, leader: u64, voters: &[u64]) -> Role {
    let leading = leader == 1;
    Role { term, leader: Some(MemberId(leader)), voters: ids(voters), leading, joint: false }
}

#[test]
fn a_role_is_told_once_with_what_is_new_about_it() {
    let mut control = Control::new(MemberId(1), Level::FIRST);
    let mut tell = |role: Role| {
        let (effects, _) = tell(&mut control, Mono(0), Msg::Consensus(ConsensusEvent::Role(role)));
        let leads = effects.iter().any(|effect| {
            matches!(effect, Effect::Cast(Cast::Gossip(gossip::Msg::Tell(NoteBody::Leads { .. }))))
        });
        let cast = effects.iter().any(|effect| matches!(effect, Effect::News(News::Role(_))));
        (events(&effects), leads, cast)
    };
    let leader = |term, leader| EventBody::Leader { term, leader: Some(MemberId(leader)) };
    let voters = |voters: &[u64]| EventBody::Voters { voters: ids(voters).into_iter().collect() };
    assert_eq!(tell(role(4, 2, &[1, 2])), (vec![leader(4, 2), voters(&[1, 2])], false, true));
    assert_eq!(tell(role(4, 2, &[1, 2])), (vec![], false, false), "nothing is new");
    assert_eq!(tell(role(4, 2, &[1])), (vec![voters(&[1])], false, true));
    assert_eq!(tell(role(5, 2, &[1])), (vec![leader(5, 2)], false, true), "another term");
    assert_eq!(tell(role(5, 1, &[1])), (vec![leader(5, 1)], true, true));
    assert_eq!(tell(role(5, 1, &[1, 2])), (vec![voters(&[1, 2])], false, true), "it did before");
    assert_eq!(tell(role(6, 1, &[1, 2])), (vec![leader(6, 1)], true, true), "in a new term");
}

#[test]
fn a_node_that_does_not_lead_has_no_majority_of_its_own() {
    let mut control = control(&[1, 2], &[1, 2], &[]);
    control.quorum = Some(quorum(4, Mono(0)));
    tell(&mut control, Mono(0), Msg::Consensus(ConsensusEvent::Role(role(4, 1, &[1, 2, 3]))));
    assert!(control.quorum.is_some());
    tell(&mut control, Mono(0), Msg::Consensus(ConsensusEvent::Role(role(5, 2, &[1, 2]))));
    assert_eq!(control.quorum, None);
}

#[test]
fn what_a_member_says_of_its_leading_is_told_once_if_it_can_be() {
    let mut control = control(&[1, 2], &[1, 2], &[]);
    let mut told = |term| {
        let (effects, _) = tell(&mut control, Mono(0), Msg::Leads { term, leader: MemberId(2) });
        !effects.is_empty()
    };
    assert!(!told(3) && !told(4), "consensus knows of that");
    assert!(told(5));
    assert!(!told(5), "again");
    assert!(told(4 + TERMS_AHEAD_MAX));
    assert!(!told(4 + TERMS_AHEAD_MAX + 1), "no node can be cut off for that long");
}
