//! What reaches the front from strangers and from other nodes.

use crate::core::control::RosterChange;
use crate::core::fixture::Give;
use crate::core::fixture::applied;
use crate::core::fixture::made;
use crate::core::news::News;
use crate::messages::command::{HeadsCommand, RosterCommand, TokensCommand};
use crate::types::Level;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::core::consensus::{Op, Role};
use crate::core::control::{Change, Cluster, JoinToken, Layout, Member, View};
use crate::core::ctx::{Ctx, Effect, Outbox, ReplyTo, Rng};
use crate::core::election::lease::Lease;
use crate::core::event::EventBody;
use crate::core::machine::Machine as _;
use crate::core::refusal::Refusal;
use crate::messages::Command;
use crate::messages::command::{Candidate, Expect, Refused};
use crate::messages::wire::{FrontMessage, JoinMessage, Message};
use crate::types::journal::DiskState;
use crate::types::limits::LABELS_MAX;
use crate::types::{Bytes, ClusterId, MemberId, Mono, PeerId, ProposalId, TokenId, Wall};

mod guards;
mod removals;
mod waits;

const OWN: PeerId = PeerId([1; 32]);
const OTHER: PeerId = PeerId([2; 32]);
const STRANGER: PeerId = PeerId([9; 32]);
const CLUSTER: ClusterId = ClusterId([7; 16]);

fn member(id: u64, peer: PeerId) -> (MemberId, Arc<Member>) {
    let member = Member {
        id: MemberId(id),
        peer,
        name: format!("node-{id}"),
        role: "worker".into(),
        addresses: vec![],
        labels: BTreeMap::new(),
        content_key: Default::default(),
        joined_at: Wall(0),
        level: Level::FIRST,
    };
    (MemberId(id), Arc::new(member))
}

fn candidate(peer: PeerId) -> Candidate {
    Candidate {
        peer,
        name: "new".into(),
        role: "worker".into(),
        addresses: vec![],
        labels: BTreeMap::new(),
        content_key: Default::default(),
        level: Level::FIRST,
    }
}

/// A front of member 1 of two, of which `leader` leads.
fn front(leader: u64) -> Front {
    let mut front = Front::new(MemberId(1), OWN, Mono(0));
    let view = View {
        cluster: made(Some(Cluster { id: CLUSTER, name: "c".into(), founded_at: Wall(0) })),
        roster: Arc::new([member(1, OWN), member(2, OTHER)].into()),
        ..View::default()
    };
    tell(&mut front, applied(Arc::new(view), &[]));
    tell(&mut front, News::Role(role(leader, 2)));
    front
}

/// The role of member 1 where this many vote and `leader` leads.
fn role(leader: u64, voters: u64) -> Role {
    let leading = leader == 1;
    let (leader, voters) = (Some(MemberId(leader)), (1..=voters).map(MemberId).collect());
    Role { term: 1, leader, voters, leading, joint: false }
}

fn tell(front: &mut Front, msg: impl Give<Front>) -> Vec<Effect<Reply>> {
    tell_at(front, Mono(1_000), msg)
}

fn tell_at(front: &mut Front, now: Mono, msg: impl Give<Front>) -> Vec<Effect<Reply>> {
    let mut out = Outbox::default();
    let mut rng = Rng::from_seed([3; 32]);
    let mut ctx = Ctx { now, wall: Wall(1), rng: &mut rng, out: &mut out };
    msg.give(front, &mut ctx);
    out.effects
}

fn join(front: &mut Front, cluster: ClusterId, candidate: Candidate) -> Vec<Effect<Reply>> {
    let (token, secret) = (TokenId([5; 8]), [6; 32]);
    let message = JoinMessage::Request { cluster, token, secret, candidate };
    tell(front, Msg::Join { from: STRANGER, message })
}

fn refusal(effects: &[Effect<Reply>]) -> Option<&Refused> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send(STRANGER, Message::Join(JoinMessage::Refused { reason })) => Some(reason),
        _ => None,
    })
}

#[test]
fn a_stranger_with_anything_wrong_is_refused_before_the_log_hears_of_it() {
    let mut front = front(1);
    let foreign = join(&mut front, ClusterId([8; 16]), candidate(STRANGER));
    let Some(Refused::Invalid(why)) = refusal(&foreign) else { panic!("{foreign:?}") };
    assert!(why.contains("another cluster"), "{why}");

    let another = join(&mut front, CLUSTER, candidate(OTHER));
    let Some(Refused::Invalid(why)) = refusal(&another) else { panic!("{another:?}") };
    assert!(why.contains("another peer id"), "{why}");

    let mut oversize = candidate(STRANGER);
    oversize.labels = (0..=LABELS_MAX).map(|n| (n.to_string(), String::new())).collect();
    let oversize = join(&mut front, CLUSTER, oversize);
    assert!(matches!(refusal(&oversize), Some(Refused::Limit { .. })), "{oversize:?}");

    let status = |front: &mut Front| {
        let mut out = Outbox::default();
        let mut rng = Rng::from_seed([3; 32]);
        let mut ctx = Ctx { now: Mono(1_000), wall: Wall(1), rng: &mut rng, out: &mut out };
        front.on_request(&mut ctx, Request::Status, ReplyTo(1));
        match out.effects.pop() {
            Some(Effect::Reply(_, Reply::Status(status))) => status.open,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(status(&mut front), 0, "nothing is under way");
    assert!(refusal(&join(&mut front, CLUSTER, candidate(STRANGER))).is_none());
    assert_eq!(status(&mut front), 1);
    // Asking again while it is under way changes nothing.
    assert!(join(&mut front, CLUSTER, candidate(STRANGER)).is_empty());
    assert_eq!(status(&mut front), 1);
}

fn propose(front: &mut Front, from: PeerId, command: Command) -> Vec<Effect<Reply>> {
    let message = FrontMessage::Propose { id: ProposalId([4; 16]), command };
    tell(front, Msg::Message { from, message })
}

#[test]
fn a_leader_proposes_what_a_member_sends_if_it_is_sound() {
    let label = |unset: usize| {
        Command::Roster(RosterCommand::Label {
            member: MemberId(2),
            set: BTreeMap::new(),
            unset: vec!["x".into(); unset],
        })
    };
    let proposed = |effects: &[Effect<Reply>]| {
        effects.iter().any(|effect| matches!(effect, Effect::Submit(Op::Propose { .. })))
    };
    let mut leader = front(1);
    assert!(proposed(&propose(&mut leader, OTHER, label(1))));
    assert!(!proposed(&propose(&mut leader, OTHER, label(LABELS_MAX + 1))), "oversize");
    assert!(propose(&mut leader, STRANGER, label(1)).is_empty(), "no member");

    let mut follower = front(2);
    let answer = propose(&mut follower, OTHER, label(1));
    assert!(!proposed(&answer));
    let told = |effect: &Effect<Reply>| {
        matches!(effect, Effect::Send(OTHER, Message::Front(FrontMessage::NotProposed { .. })))
    };
    assert!(answer.iter().any(told), "{answer:?}");
}

#[test]
fn a_node_that_cannot_write_refuses_writes_and_serves_reads() {
    let mut front = front(1);
    tell(&mut front, News::Answering([MemberId(2)].into()));
    let key = || "monitoring/x".to_owned();
    let ask = |front: &mut Front, disk: DiskState| {
        let (mut rng, mut out) = (Rng::from_seed([0; 32]), Outbox::default());
        let mut ctx = Ctx { now: Mono(0), wall: Wall(0), rng: &mut rng, out: &mut out };
        front.on_news(&mut ctx, News::Disk(disk));
        let (expect, value, author) = (Expect::Absent, Bytes(vec![1]), String::new());
        let command = Command::Heads(HeadsCommand::Set { key: key(), expect, value, author });
        front.on_request(&mut ctx, Request::Write { id: None, command }, ReplyTo(1));
        let query = Query::Key(key());
        front.on_request(&mut ctx, Request::Read { query, stale_ok: true }, ReplyTo(2));
        let read = |effect: &Effect<Reply>| matches!(effect, Effect::Reply(_, Reply::Read(_)));
        assert!(out.effects.iter().any(read), "it serves reads");
        let refused = out.effects.iter().find_map(|effect| match effect {
            Effect::Reply(_, Reply::Written(Err(refusal))) => Some(refusal.code()),
            _ => None,
        });
        let told = out.effects.iter().find_map(|effect| match effect {
            Effect::Event(EventBody::ReadOnly { reason, .. }) => Some(reason.clone()),
            _ => None,
        });
        (refused, told)
    };
    let told = |reason: &str| Some(reason.to_owned());
    assert_eq!(ask(&mut front, DiskState::Full), (Some("DISK_FULL"), told("DISK_FULL")));
    assert_eq!(ask(&mut front, DiskState::Full), (Some("DISK_FULL"), None), "told once");
    assert_eq!(ask(&mut front, DiskState::Failed), (Some("DISK_FAILED"), told("DISK_FAILED")));
    assert_eq!(ask(&mut front, DiskState::Writable), (None, told("HEALED")));
}

/// Why a removal is refused.
fn removed(front: &mut Front, member: MemberId, lost: bool) -> Option<Refusal> {
    let mut out = Outbox::default();
    let mut rng = Rng::from_seed([3; 32]);
    let mut ctx = Ctx { now: Mono(1_000), wall: Wall(1), rng: &mut rng, out: &mut out };
    let command = Command::Roster(RosterCommand::Remove { member, lost });
    front.on_request(&mut ctx, Request::Write { id: None, command }, ReplyTo(1));
    out.effects.into_iter().find_map(|effect| match effect {
        Effect::Reply(_, Reply::Written(Err(refusal))) => Some(refusal),
        _ => None,
    })
}

#[test]
fn a_removal_that_needs_a_majority_says_whether_it_comes_back_by_itself() {
    // Of the voters 1 to 3 the second one does not answer, as it was removed or is only off; then 3 does not either.
    for (members, answering, code) in [
        (&[1, 3][..], &[3][..], "VOTERS_CHANGING"),
        (&[1, 2, 3], &[3], "NO_MAJORITY_LEFT"),
        (&[1, 3], &[], "NO_MAJORITY_LEFT"),
    ] {
        let mut front = front(1);
        let members = members.iter().map(|id| member(*id, PeerId([*id as u8; 32]))).collect();
        let view = Arc::new(View { roster: Arc::new(members), ..View::default() });
        tell(&mut front, applied(view, &[]));
        tell(&mut front, News::Role(role(1, 3)));
        tell(&mut front, News::Answering(answering.iter().copied().map(MemberId).collect()));
        let refused = removed(&mut front, MemberId(3), false);
        assert_eq!(refused.map(|refusal| refusal.code()), Some(code));
    }
}

#[test]
fn a_removal_waits_while_others_take_over_and_is_refused_while_too_few_answer() {
    for (members, answering, moving) in
        [(vec![1, 2], true, true), (vec![1, 2], false, false), (vec![1, 2, 3], true, false)]
    {
        let mut front = front(1);
        let holders = (1..=3).map(|id| (MemberId(id), Default::default())).collect();
        let layout = Layout { version: 1, current: holders, next: None, given_up: [].into() };
        let members =
            members.into_iter().map(|id| member(id, PeerId([u8::try_from(id).unwrap(); 32])));
        let members = Arc::new(members.collect());
        let view = Arc::new(View { roster: members, layout: layout.into(), ..View::default() });
        tell(&mut front, applied(view, &[]));
        // That 2 is off is no majority lost while only 1 votes.
        tell(&mut front, News::Role(role(1, 1)));
        let answering = answering.then_some(MemberId(2));
        tell(&mut front, News::Answering(answering.into_iter().collect()));
        let refused = removed(&mut front, MemberId(2), false);
        let Some(Refusal::Refused(Refused::RecordsAtRisk { moving: is_moving, .. })) = refused
        else {
            panic!("{refused:?}")
        };
        assert_eq!(is_moving, moving);
    }
}

/// What a node hears that asks at a certain time to join with the key of member 2.
fn claim(front: &mut Front, now: Mono) -> Option<JoinMessage> {
    let (token, secret) = (TokenId([5; 8]), [6; 32]);
    let candidate = candidate(OTHER);
    let message = JoinMessage::Request { cluster: CLUSTER, token, secret, candidate };
    let effects = tell_at(front, now, Msg::Join { from: OTHER, message });
    effects.into_iter().find_map(|effect| match effect {
        Effect::Send(OTHER, Message::Join(answer)) => Some(answer),
        _ => None,
    })
}

fn second(second: u64) -> Mono {
    Mono(second * 1_000_000)
}

fn duplicate() -> Option<JoinMessage> {
    Some(JoinMessage::Refused { reason: Refused::DuplicateIdentity })
}

#[test]
fn a_member_that_answers_keeps_its_place_when_another_node_has_its_key() {
    let mut front = front(1);
    tell_at(&mut front, second(10), News::Linked([MemberId(2)].into()));
    assert_eq!(claim(&mut front, second(11)), duplicate());
    tell_at(&mut front, second(20), News::Linked([].into()));
    let early = claim(&mut front, second(22));
    assert!(matches!(early, Some(JoinMessage::Retry { .. })), "it may be on its way: {early:?}");
    // In a large cluster it may only not be connected.
    let presumed =
        |members: &[u64]| News::Answering(members.iter().copied().map(MemberId).collect());
    tell_at(&mut front, second(23), presumed(&[2]));
    let early = claim(&mut front, second(23));
    assert!(matches!(early, Some(JoinMessage::Retry { .. })), "it is looked for: {early:?}");
    tell_at(&mut front, second(24), presumed(&[]));
    let early = claim(&mut front, second(34));
    assert!(matches!(early, Some(JoinMessage::Retry { .. })), "it may stand still: {early:?}");
    assert_eq!(claim(&mut front, second(35)), None, "it has lost its disk, and is let in");
}

#[test]
fn nobody_takes_the_place_of_a_member_that_had_no_time_to_answer_yet() {
    let retries = |answer: Option<JoinMessage>| matches!(answer, Some(JoinMessage::Retry { .. }));
    assert!(retries(claim(&mut front(1), second(1))), "the one that is asked has just started");
    assert!(!retries(claim(&mut front(1), second(16))));

    let mut front = front(1);
    let mut view = View {
        cluster: made(Some(Cluster { id: CLUSTER, name: "c".into(), founded_at: Wall(0) })),
        roster: Arc::new([member(1, OWN), member(2, OTHER)].into()),
        ..View::default()
    };
    let joined = |view: &View| {
        applied(Arc::new(view.clone()), &[Change::Roster(RosterChange::Joined(MemberId(2)))])
    };
    tell_at(&mut front, second(9), joined(&view));
    assert!(retries(claim(&mut front, second(10))), "another one with its key was let in");
    // Asking again with the token that made it a member is something else.
    let used_by = [(OTHER, MemberId(2))].into();
    let used = JoinToken { secret_hash: [0; 32], expires_at: Wall(9), uses: 1, used_by };
    Arc::make_mut(&mut view.tokens).insert(TokenId([5; 8]), used);
    tell_at(&mut front, second(10), joined(&view));
    assert_eq!(claim(&mut front, second(11)), None);
}

#[test]
fn a_leader_that_a_member_answers_declines_to_admit_another_node_with_its_key() {
    let mut leader = front(1);
    tell(&mut leader, News::Linked([MemberId(2)].into()));
    let (token, secret_hash) = (TokenId([5; 8]), [6; 32]);
    let admit = |peer| {
        Command::Tokens(TokensCommand::Admit { token, secret_hash, candidate: candidate(peer) })
    };
    let declines = |effects: Vec<Effect<Reply>>| {
        let declined = |effect: &Effect<Reply>| {
            matches!(effect, Effect::Send(_, Message::Front(FrontMessage::Declined { .. })))
        };
        effects.iter().any(declined)
    };
    assert!(declines(propose(&mut leader, OTHER, admit(OTHER))));
    assert!(!declines(propose(&mut leader, OTHER, admit(STRANGER))), "a key of its own");

    // Whoever was asked, and could not know, passes it on.
    let mut asked = front(2);
    let lease = Lease { term: 1, until: second(60), committed: 0 };
    tell_at(&mut asked, second(10), News::Lease(Some(lease)));
    let (secret, candidate) = ([6; 32], candidate(STRANGER));
    let message = JoinMessage::Request { cluster: CLUSTER, token, secret, candidate };
    let effects = tell_at(&mut asked, second(10), Msg::Join { from: STRANGER, message });
    let proposed = effects.iter().find_map(|effect| match effect {
        Effect::Send(OTHER, Message::Front(FrontMessage::Propose { id, .. })) => Some(*id),
        _ => None,
    });
    let id = proposed.expect("it goes to the leader");
    let message = FrontMessage::Declined { id, reason: Refused::DuplicateIdentity };
    let effects = tell_at(&mut asked, second(10), Msg::Message { from: OTHER, message });
    assert_eq!(refusal(&effects), Some(&Refused::DuplicateIdentity));
}
