//! Whom the peers believe.

use super::*;
use crate::core::ctx::{Effect, Outbox, Rng};
use crate::core::fixture;
use crate::types::Wall;
use crate::types::golden;
use std::sync::Arc;

const OTHER: PeerId = PeerId([2; 32]);

pub(in crate::core::peers) fn peers() -> Peers {
    let members = [(MemberId(2), (OTHER, Vec::new()))].into();
    let id = Identity {
        cluster: ClusterId([1; 16]),
        member: MemberId(1),
        peer: PeerId([1; 32]),
        boot_counter: 1,
        boot: BootId(1),
        seen: [(OTHER, SeenStart { member: MemberId(2), counter: 5, boot: BootId(50) })].into(),
        roster: Roster { members, voted: false },
    };
    let own = Announcement {
        node_id: "one".into(),
        capabilities: Default::default(),
        ip_address: String::new(),
        p2p_port: 1,
        services: BTreeMap::new(),
        joined_at: Wall(0),
        links: BTreeMap::new(),
    };
    Peers::new(id, own, Shape::default())
}

#[test]
fn a_hello_is_judged_by_cluster_membership_and_starts() {
    let mut peers = peers();
    peers.next_member = 4;
    let hello = |boot_counter, boot| Hello {
        cluster: ClusterId([1; 16]),
        member: MemberId(2),
        boot_counter,
        boot: BootId(boot),
    };
    assert_eq!(peers.judge(OTHER, &hello(5, 50)), Some(Ok(())), "the run that is known");
    assert_eq!(peers.judge(OTHER, &hello(6, 60)), Some(Ok(())), "a later start");
    let turned = |why| Some(Err(why));
    let old = |ours| turned(Turned::OldCopy { seen: 5, ours });
    assert_eq!(peers.judge(OTHER, &hello(4, 40)), old(4), "a restored older copy");
    assert_eq!(peers.judge(OTHER, &hello(5, 51)), old(5), "a copy that went on by itself");
    let foreign = Hello { cluster: ClusterId([9; 16]), ..hello(6, 60) };
    assert_eq!(peers.judge(OTHER, &foreign), turned(Turned::OtherCluster));
    let mut rejoined = self::peers();
    rejoined.by_peer.insert(OTHER, MemberId(4));
    let anew = Hello { member: MemberId(4), ..hello(1, 10) };
    assert_eq!(rejoined.judge(OTHER, &anew), Some(Ok(())), "the key has a new membership");
    let another = Hello { member: MemberId(3), ..hello(6, 60) };
    assert_eq!(peers.judge(OTHER, &another), turned(Turned::NotAMember), "not its member id");
    let later = Hello { member: MemberId(4), ..hello(1, 10) };
    assert_eq!(peers.judge(OTHER, &later), None, "perhaps it has just joined again");
    assert_eq!(peers.judge(PeerId([7; 32]), &hello(6, 60)), turned(Turned::NotAMember));
    peers.by_peer.remove(&OTHER);
    assert_eq!(peers.judge(OTHER, &hello(6, 60)), turned(Turned::NotAMember), "it was removed");
    peers.departing.insert(MemberId(2), (OTHER, Vec::new()));
    assert_eq!(peers.judge(OTHER, &hello(6, 60)), Some(Ok(())), "its vote is needed");
    assert_eq!(peers.judge(PeerId([7; 32]), &hello(6, 60)), turned(Turned::NotAMember));
}

/// One of five voters, of whom the first leads.
fn one_of_five() -> Peers {
    let mut peers = peers();
    for id in 2..=5 {
        peers.members.insert(MemberId(id), (PeerId([id as u8; 32]), Vec::new()));
        peers.by_peer.insert(PeerId([id as u8; 32]), MemberId(id));
    }
    peers.voters = (1..=5).map(MemberId).collect();
    peers.leader = Some(MemberId(2));
    peers
}

/// Whether the node halts when these members turn its present run away.
fn halts(peers: &mut Peers, turned: &[(u64, Turned)]) -> bool {
    let (mut rng, mut out) = (Rng::from_seed([0; 32]), Outbox::default());
    let mut ctx = Ctx { now: Mono(0), wall: Wall(0), rng: &mut rng, out: &mut out };
    for (member, why) in turned {
        let message = PeersMessage::Turned { boot: peers.id.boot, why: *why };
        peers.on_message(&mut ctx, PeerId([*member as u8; 32]), message);
    }
    out.effects.iter().any(|effect| matches!(effect, Effect::Halt(Halt::TurnedAway(_))))
}

#[test]
fn a_node_stops_when_more_than_half_of_the_other_voters_turn_it_away() {
    let twin = Turned::DuplicateIdentity;
    assert!(!halts(&mut one_of_five(), &[(2, twin), (3, twin)]), "two of four");
    assert!(!halts(&mut one_of_five(), &[(2, twin), (2, twin), (2, twin)]), "one, three times");
    assert!(halts(&mut one_of_five(), &[(2, twin), (3, twin), (5, twin)]));
    assert!(!halts(&mut one_of_five(), &[(7, twin), (8, twin), (9, twin)]), "no members");

    let mut forgiven = one_of_five();
    assert!(!halts(&mut forgiven, &[(2, twin), (3, twin)]));
    let (mut rng, mut out) = (Rng::from_seed([0; 32]), Outbox::default());
    let mut ctx = Ctx { now: Mono(0), wall: Wall(0), rng: &mut rng, out: &mut out };
    let welcome = PeersMessage::Welcome { boot: forgiven.id.boot };
    forgiven.on_message(&mut ctx, PeerId([3; 32]), welcome);
    assert!(!halts(&mut forgiven, &[(4, twin)]), "one of them has taken it in since");
}

#[test]
fn an_earlier_run_that_was_turned_away_is_no_concern_of_this_one() {
    let mut peers = one_of_five();
    peers.id.boot = BootId(9);
    let (mut rng, mut out) = (Rng::from_seed([0; 32]), Outbox::default());
    let mut ctx = Ctx { now: Mono(0), wall: Wall(0), rng: &mut rng, out: &mut out };
    for member in 2..=5 {
        let turned = PeersMessage::Turned { boot: BootId(8), why: Turned::DuplicateIdentity };
        peers.on_message(&mut ctx, PeerId([member; 32]), turned);
    }
    assert!(out.effects.is_empty());
}

#[test]
fn the_leader_alone_can_say_that_acknowledged_entries_are_missing() {
    assert!(!halts(&mut one_of_five(), &[(3, Turned::LogLost)]), "not the leader");
    assert!(halts(&mut one_of_five(), &[(2, Turned::LogLost)]));
}

pub(in crate::core::peers) fn at(
    peers: &mut Peers,
    now: Mono,
    act: impl FnOnce(&mut Peers, &mut Ctx<'_, Reply>),
) -> Vec<Effect<Reply>> {
    let (mut rng, mut out) = (Rng::from_seed([0; 32]), Outbox::default());
    act(peers, &mut Ctx { now, wall: Wall(0), rng: &mut rng, out: &mut out });
    out.effects
}

#[test]
fn a_view_from_before_the_own_admission_cuts_nobody_off() {
    let mut peers = peers();
    peers.id.member = MemberId(4);
    let mut view = View { roster: fixture::members([1]), ..View::default() };
    Arc::make_mut(&mut view.roster).next = 4;
    let effects = at(&mut peers, Mono(0), |peers, ctx| peers.on_view(ctx, &view));
    assert!(effects.is_empty(), "the sponsor had left and has come back since: {effects:?}");
    Arc::make_mut(&mut view.roster).next = 5;
    let effects = at(&mut peers, Mono(0), |peers, ctx| peers.on_view(ctx, &view));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Release(OTHER))));
}

#[test]
fn a_view_from_before_the_admission_of_another_one_cuts_nobody_off() {
    let mut peers = peers();
    peers.id.member = MemberId(1);
    let mut view = View { roster: fixture::members([1]), ..View::default() };
    Arc::make_mut(&mut view.roster).next = 2;
    let effects = at(&mut peers, Mono(0), |peers, ctx| peers.on_view(ctx, &view));
    assert!(effects.is_empty(), "it is known since before this start, and may lead: {effects:?}");
    Arc::make_mut(&mut view.roster).next = 3;
    let effects = at(&mut peers, Mono(0), |peers, ctx| peers.on_view(ctx, &view));
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::Release(OTHER))),
        "it was removed"
    );
}

#[test]
fn a_removed_leader_hands_over_until_it_leads_no_more() {
    let mut peers = one_of_five();
    peers.leader = Some(MemberId(1));
    peers.links.insert(OTHER, Link::new(Mono(0)));
    let resigns = |effects: Vec<Effect<Reply>>| {
        effects.iter().filter(|effect| format!("{effect:?}").contains("Resign")).count()
    };
    assert_eq!(resigns(at(&mut peers, Mono(0), |peers, ctx| peers.begin_leaving(ctx))), 1);
    let second = |second: u64| Mono(second * 1_000_000);
    for again in [1, 11, 59] {
        let effects = at(&mut peers, second(again), |peers, ctx| peers.tend_leaving(ctx));
        assert_eq!(resigns(effects), 1, "consensus may have refused the one before");
    }
    let halts = |effects: Vec<Effect<Reply>>| {
        effects.iter().any(|effect| matches!(effect, Effect::Halt(Halt::Removed)))
    };
    assert!(halts(at(&mut peers, second(60), |peers, ctx| peers.tend_leaving(ctx))));
    let mut restarted = one_of_five();
    let effects = at(&mut restarted, Mono(0), |peers, ctx| peers.begin_leaving(ctx));
    assert!(!halts(effects), "it was told of no peer yet, which says nothing");
    let parted = at(&mut restarted, second(1), |peers, ctx| {
        peers.on_up(ctx, OTHER);
        peers.on_msg(ctx, Msg::Down(OTHER));
    });
    assert!(halts(parted), "the others have closed their connections");

    // Once another one leads its vote is needed to take its vote away.
    let mut successor = one_of_five();
    successor.leader = Some(MemberId(1));
    successor.links.insert(OTHER, Link::new(Mono(0)));
    at(&mut successor, Mono(0), |peers, ctx| peers.begin_leaving(ctx));
    at(&mut successor, second(30), |peers, ctx| peers.tend_leaving(ctx));
    successor.leader = Some(MemberId(2));
    assert!(!halts(at(&mut successor, second(31), |peers, ctx| peers.tend_leaving(ctx))));
    assert!(halts(at(&mut successor, second(40), |peers, ctx| peers.tend_leaving(ctx))));
}

#[test]
fn golden_bytes() {
    let seen = SeenStart { member: MemberId(2), counter: 5, boot: BootId(50) };
    golden::durable::<SeenStart>(include_str!("../../../types/golden/seen-start"), &[seen]);
}

#[test]
fn what_a_member_announces_is_kept_in_order_and_of_members_only() {
    let mut peers = peers();
    let named = |name: &str| Announcement { node_id: name.into(), ..peers.own.clone() };
    let (old, new) = (named("old"), named("new"));
    peers.on_announced(Mono(0), OTHER, (1, 9), old.clone());
    peers.on_announced(Mono(0), OTHER, (2, 1), new.clone());
    peers.on_announced(Mono(0), OTHER, (1, 10), old.clone());
    peers.on_announced(Mono(0), PeerId([9; 32]), (1, 1), old);
    let announced: Vec<_> = peers.announced.values().map(|a| &a.announcement).collect();
    assert_eq!(announced, [&new]);
}

#[test]
fn a_removed_node_that_is_started_again_stays_on_its_way_out() {
    let halts = |effects: &[Effect<Reply>]| effects.iter().any(|e| matches!(e, Effect::Halt(_)));
    // Its stored roster is without it.
    let started = || {
        let mut removed = peers();
        let effects = at(&mut removed, Mono(0), |peers, ctx| peers.on_start(ctx));
        assert!(!halts(&effects), "it does not know yet whether its vote is needed");
        let is_kept = |effect: &Effect<Reply>| matches!(effect, Effect::Keep(OTHER, _));
        assert!(effects.iter().any(is_kept), "the others have to tell it");
        removed
    };
    let role = |voters: &[u64]| {
        let voters = voters.iter().copied().map(MemberId).collect();
        News::Role(Role { voters, ..Role::default() })
    };
    let mut removed = started();
    let effects = at(&mut removed, Mono(1), |peers, ctx| peers.on_news(ctx, role(&[2])));
    assert!(halts(&effects), "it has no vote any more");

    let mut voter = started();
    let effects = at(&mut voter, Mono(1), |peers, ctx| peers.on_news(ctx, role(&[1, 2])));
    assert!(!halts(&effects));
    let away = || Msg::TurnedAway(OTHER, Turned::NotAMember);
    let effects = at(&mut voter, Mono(2), |peers, ctx| peers.on_msg(ctx, away()));
    assert!(halts(&effects), "the others have done without it");
    let minute = Mono(60_000_000);
    assert!(halts(&at(&mut started(), minute, |peers, ctx| peers.tend_leaving(ctx))));
}

#[test]
fn a_view_that_is_no_news_still_says_that_this_node_was_removed() {
    let mut peers = peers();
    let mut view = View { roster: fixture::members([2]), ..View::default() };
    Arc::make_mut(&mut view.roster).next = 3;
    at(&mut peers, Mono(0), |peers, ctx| peers.on_view(ctx, &view));
    assert!(peers.leaving.is_some());
}

#[test]
fn a_founder_goes_by_its_clock_as_soon_as_it_is_the_only_voter() {
    let goes = |effects: &[Effect<Reply>]| effects.iter().any(|e| matches!(e, Effect::GoBy(_)));
    let role = || News::Role(Role { voters: [MemberId(1)].into(), ..Role::default() });
    let view = || {
        let mut view = View { roster: fixture::members([1]), ..View::default() };
        Arc::make_mut(&mut view.roster).next = 2;
        News::View(Arc::new(view))
    };
    for told in [[role(), view()], [view(), role()]] {
        let mut peers = peers();
        peers.members.clear();
        peers.by_peer.clear();
        let [first, last] = told;
        let effects = at(&mut peers, Mono(0), |peers, ctx| peers.on_news(ctx, first));
        assert!(!goes(&effects), "it does not know who votes, or that it is a member");
        let effects = at(&mut peers, Mono(0), |peers, ctx| peers.on_news(ctx, last));
        assert!(goes(&effects));
    }
}
