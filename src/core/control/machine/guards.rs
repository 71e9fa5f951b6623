//! What the keeper of the view goes by, one rule at a time: each fails where its rule is gone.

use std::collections::BTreeSet;

use super::*;
use crate::core::control::{Cluster, HeadsChange, Member, RosterChange, level, roster};
use crate::core::ctx::Rng;
use crate::core::fixture::{self, Give, made};
use crate::core::machines::Cast;
use crate::messages::Command;
use crate::types::{ClusterId, LogId, Wall};

fn ids(ids: &[u64]) -> BTreeSet<MemberId> {
    ids.iter().copied().map(MemberId).collect()
}

fn tell(
    control: &mut Control,
    now: Mono,
    msg: impl Give<Control>,
) -> (Vec<Effect<Reply>>, Option<Mono>) {
    let (mut rng, mut out) = (Rng::from_seed([1; 32]), Outbox::default());
    let mut ctx = Ctx { now, wall: Wall(7), rng: &mut rng, out: &mut out };
    msg.give(control, &mut ctx);
    (out.effects, out.wake_at)
}

fn events(effects: &[Effect<Reply>]) -> Vec<EventBody> {
    let events = effects.iter().filter_map(|effect| match effect {
        Effect::Event(event) => Some(event.clone()),
        _ => None,
    });
    events.collect()
}

/// The state of a cluster that speaks this level, in which this member is known to run such a build.
fn spoken(index: u64, level: u8, own: u8) -> Msg {
    let cluster = Cluster { id: ClusterId([1; 16]), name: "c".into(), founded_at: Wall(0) };
    let own = Member { level: Level(own), ..fixture::member(1) };
    let roster: roster::State = [(MemberId(1), Arc::new(own))].into();
    let log_id = LogId { term: 4, index };
    let view = View {
        applied: Some(log_id),
        cluster: made(Some(cluster)),
        roster: Arc::new(roster),
        level: Arc::new(level::State { level: Level(level) }),
        ..View::default()
    };
    Msg::Consensus(ConsensusEvent::Applied { log_id, view: Arc::new(view), changes: vec![] })
}

#[test]
fn a_node_speaks_what_its_cluster_speaks_or_stops() {
    // What is older than this build may be the beginning of a long log.
    for (build, level, speaks) in
        [(2, 1, Some(1)), (2, 2, Some(2)), (2, 3, None), (3, 1, Some(2)), (3, 2, Some(2))]
    {
        let mut control = Control::new(MemberId(1), Level(build));
        let (effects, _) = tell(&mut control, Mono(0), spoken(5, level, build));
        let said = effects.iter().find_map(|effect| match effect {
            Effect::Speak(Level(to)) => Some(*to),
            _ => None,
        });
        let stops = effects.iter().any(|e| matches!(e, Effect::Halt(Halt::OtherLevel(_))));
        assert_eq!((said, stops), (speaks, speaks.is_none()), "build {build}, cluster {level}");
    }
    let mut control = Control::new(MemberId(1), Level(2));
    tell(&mut control, Mono(0), spoken(5, 1, 2));
    let again = |effects: &[Effect<Reply>]| effects.iter().any(|e| matches!(e, Effect::Speak(_)));
    assert!(!again(&tell(&mut control, Mono(0), spoken(6, 1, 2)).0), "nothing is new");
    assert!(again(&tell(&mut control, Mono(0), spoken(7, 2, 2)).0));
}

#[test]
fn a_build_that_the_cluster_refuses_stops_and_a_proposal_of_before_does_not_stop_it() {
    let mut control = Control::new(MemberId(1), Level(3));
    let (effects, _) = tell(&mut control, Mono(0), spoken(5, 1, 1));
    let id = effects.iter().find_map(|effect| match effect {
        Effect::Propose(id, _) => Some(*id),
        _ => None,
    });
    let other = Refused::OtherLevel { build: Level(3), level: Level(1) };
    let refused = || Err(Refusal::Refused(other.clone()));
    let mut decided = |id, result| {
        let (mut rng, mut out) = (Rng::from_seed([1; 32]), Outbox::default());
        let mut ctx = Ctx { now: Mono(0), wall: Wall(7), rng: &mut rng, out: &mut out };
        control.on_decided(&mut ctx, id, result);
        out.effects.iter().any(|e| matches!(e, Effect::Halt(Halt::OtherLevel(_))))
    };
    assert!(!decided(ProposalId([9; 16]), refused()), "of somebody else");
    assert!(decided(id.expect("it tells what it is"), refused()));
}

#[test]
fn the_cluster_is_told_of_another_build_until_it_knows() {
    let mut control = Control::new(MemberId(1), Level(2));
    let told = |effects: &[Effect<Reply>]| {
        effects.iter().any(|effect| match effect {
            Effect::Propose(_, Command::Roster(RosterCommand::Upgraded { member, level })) => {
                (*member, *level) == (MemberId(1), Level(2))
            }
            _ => false,
        })
    };
    let (effects, wake) = tell(&mut control, Mono(0), spoken(5, 1, 1));
    assert!(told(&effects));
    let again = Mono(0) + UPGRADE_RETRY;
    assert_eq!(wake, Some(again));
    assert!(!told(&tell(&mut control, Mono(1), spoken(6, 1, 1)).0), "it was said a moment ago");
    assert!(told(&tell(&mut control, again, spoken(7, 1, 1)).0));
    assert!(!told(&tell(&mut control, again + UPGRADE_RETRY, spoken(8, 1, 2)).0), "it is known");
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
        let entries = |e: &Effect<Reply>| matches!(e, Effect::News(News::Applied(_)));
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
fn what_a_member_says_of_its_leading_is_told_once_if_it_can_be() {
    let mut control = Control::new(MemberId(1), Level::FIRST);
    control.role.term = 4;
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
