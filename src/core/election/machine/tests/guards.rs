//! What the election goes by, one rule at a time: each of these fails where its rule is gone.

use super::*;
use crate::core::consensus::Quorum;
use crate::core::control::{Cluster, duties};
use crate::core::fixture::Give;
use crate::core::fixture::made;
use crate::messages::wire::Scores;
use crate::types::ClusterId;
use crate::types::limits::{GPUS_MAX, MEMBERS_MAX, VOTERS_MAX};
use crate::types::metrics;

const DAY_MS: u64 = 86_400_000;

/// Member 2 leads three voters in term 4.
fn leader() -> Election {
    let mut election = election(48, at(0));
    tell(&mut election, at(0), News::Role(leading(4)));
    tell(&mut election, at(0), News::Answering([LEADER, MemberId(3)].into()));
    election
}

fn leading(term: u64) -> Role {
    let voters = [LEADER, OWN, MemberId(3)].into();
    Role { term, leader: Some(OWN), voters, leading: true, ..Role::default() }
}

fn effects(
    election: &mut Election,
    now: Mono,
    wall: Wall,
    msg: impl Give<Election>,
) -> Vec<Effect<Reply>> {
    call(election, now, wall, |election, ctx| msg.give(election, ctx))
}

fn call(
    election: &mut Election,
    now: Mono,
    wall: Wall,
    call: impl FnOnce(&mut Election, &mut Ctx<'_, Reply>),
) -> Vec<Effect<Reply>> {
    let (mut rng, mut out) = (Rng::from_seed([1; 32]), Outbox::default());
    let mut ctx = Ctx { now, wall, rng: &mut rng, out: &mut out };
    call(election, &mut ctx);
    out.effects
}

fn from(from: PeerId, message: ElectionMessage) -> Msg {
    Msg::Message { from, message }
}

/// To whom a handover has begun.
fn handed_to(effects: &[Effect<Reply>]) -> Option<MemberId> {
    effects.iter().find_map(|effect| match effect {
        Effect::Event(EventBody::Handover { to, .. }) => Some(*to),
        _ => None,
    })
}

fn transferred(effects: &[Effect<Reply>]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Submit(Op::Transfer { .. })))
}

fn runs(effects: &[Effect<Reply>]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Submit(Op::Elect)))
}

fn report(disk_free_mb: u64) -> Report {
    let load = Load { disk_free_mb, ..Load::default() };
    Report { load, capabilities: Capabilities::default(), links: BTreeMap::new() }
}

fn host() -> News {
    News::Host(Host { capabilities: Capabilities::default(), load: Load::default() })
}

fn scores(of: &[(u64, u16)]) -> BTreeMap<MemberId, Scores> {
    let score = |overall: u16| Scores { overall, ..Scores::default() };
    of.iter().map(|(id, overall)| (MemberId(*id), score(*overall))).collect()
}

// ---- Leases -------------------------------------------------------------------------------------

#[test]
fn a_leader_grants_by_a_majority_of_its_term_and_to_members_only() {
    let mut leader = leader();
    assert_eq!(asked_below(&mut leader, at(1_000)), None, "it knows of no majority");
    let quorum = |term| News::Quorum(Quorum { term, acked_at: at(1_000), committed: 9 });
    tell(&mut leader, at(1_000), quorum(3));
    assert_eq!(asked_below(&mut leader, at(1_000)), None, "of another term");
    tell(&mut leader, at(1_000), quorum(4));
    let grant = asked_below(&mut leader, at(1_100)).unwrap();
    assert_eq!((grant.term, grant.committed, grant.remaining_us), (4, 9, 140_000));
    for sender in [peer(OWN), PeerId([77; 32])] {
        let ask = from(sender, ElectionMessage::LeaseAsk { nonce: 7 });
        assert!(tell(&mut leader, at(1_100), ask).is_empty(), "{sender}");
    }
}

#[test]
fn leadership_is_handed_over_once_every_lease_was_given_back() {
    let mut leader = leader();
    let quorum = Quorum { term: 4, acked_at: at(1_000), committed: 9 };
    tell(&mut leader, at(1_000), News::Quorum(quorum));
    assert!(asked_below(&mut leader, at(1_100)).is_some());
    let transfer = || Msg::Transfer { to: Some(LEADER) };
    let begun = effects(&mut leader, at(1_150), Wall(0), transfer());
    assert_eq!(handed_to(&begun), Some(LEADER));
    assert!(!transferred(&begun), "a lease is out");
    let revoke = Message::Election(ElectionMessage::LeaseRevoke { term: 4 });
    assert!(begun.iter().any(|e| matches!(e, Effect::Send(BELOW, sent) if *sent == revoke)));
    assert_eq!(asked_below(&mut leader, at(1_155)), None, "nothing more is granted");
    let again = effects(&mut leader, at(1_156), Wall(0), transfer());
    assert_eq!(handed_to(&again), None, "it is under way");
    let revoked = |term| from(BELOW, ElectionMessage::LeaseRevoked { term });
    assert!(!transferred(&effects(&mut leader, at(1_160), Wall(0), revoked(3))));
    assert!(transferred(&effects(&mut leader, at(1_160), Wall(0), revoked(4))));

    // Whoever is to lead may lack what was decided a moment ago.
    let counted = |e: &Effect<Reply>| matches!(e, Effect::Count(metric, 1) if **metric == metrics::ELECTION_TRANSFER_REFUSED);
    let fitter = BTreeMap::from([(LEADER, Scores { overall: 9_000, ..Scores::default() })]);
    leader.challenge.look(at(1_170), leader.own, &fitter, false);
    let mut now = 1_170;
    for look in 1..=10 {
        let quorum = Quorum { term: 4, acked_at: at(now), committed: 9 };
        tell(&mut leader, at(now), News::Quorum(quorum));
        let refused = effects(&mut leader, at(now), Wall(0), Msg::TransferRefused);
        assert_eq!(refused.iter().any(counted), look == 10);
        if look == 10 {
            break;
        }
        assert!(asked_below(&mut leader, at(now)).is_none(), "it is under way");
        now += 20;
        let woken = call(&mut leader, at(now), Wall(0), |leader, ctx| leader.on_wake(ctx));
        assert!(transferred(&woken), "it is asked again");
    }
    assert!(leader.handover.is_none());
    let challenger = leader.challenge.look(at(60_000), leader.own, &fitter, false);
    assert_eq!(challenger, None, "who is never ready has to wait for another window");
    assert!(asked_below(&mut leader, at(now)).is_some(), "it grants again");
    let refused = effects(&mut leader, at(now), Wall(0), Msg::TransferRefused);
    assert!(!refused.iter().any(counted), "nothing was under way");
}

#[test]
fn only_a_leader_hands_over_and_only_to_another_voter() {
    let to = |election: &mut Election, to: u64| {
        let to = Some(MemberId(to));
        handed_to(&effects(election, at(10), Wall(0), Msg::Transfer { to }))
    };
    assert_eq!(to(&mut leader(), 4), None, "it does not vote");
    assert_eq!(to(&mut leader(), 2), None, "it leads");
    assert_eq!(to(&mut leader(), 3), Some(MemberId(3)));
    assert_eq!(to(&mut election(48, at(0)), 1), None, "it does not lead");
}

#[test]
fn whoever_resigns_does_so_to_one_that_answers_and_has_room() {
    let resign = |leader: &mut Election| {
        let reason = "it stops".to_owned();
        handed_to(&effects(leader, at(10), Wall(0), Msg::Resign { reason }))
    };
    let mut full = leader();
    tell(&mut full, at(1), from(peer(LEADER), ElectionMessage::Report(report(0))));
    assert_eq!(resign(&mut full), Some(MemberId(3)), "of 3 nothing is known");
    let mut roomy = leader();
    tell(&mut roomy, at(1), from(peer(LEADER), ElectionMessage::Report(report(1))));
    tell(&mut roomy, at(1), from(BELOW, ElectionMessage::Report(report(0))));
    assert_eq!(resign(&mut roomy), Some(LEADER));
    let mut alone = leader();
    tell(&mut alone, at(1), News::Answering(BTreeSet::new()));
    assert_eq!(resign(&mut alone), None);
}

#[test]
fn a_leader_whose_disk_takes_nothing_hands_over_and_does_not_run() {
    for disk in [DiskState::Full, DiskState::Failed] {
        let mut leader = leader();
        let told = News::Disk(disk);
        assert!(handed_to(&effects(&mut leader, at(10), Wall(0), told)).is_some(), "{disk:?}");
    }
    let mut leader = leader();
    assert_eq!(handed_to(&effects(&mut leader, at(10), Wall(0), host())), None);
}

#[test]
fn a_lease_is_given_up_for_the_leader_or_a_newer_term() {
    for (sender, term, is_kept) in
        [(BELOW, 2, true), (BELOW, 3, false), (peer(LEADER), 3, false), (peer(LEADER), 2, true)]
    {
        let mut holder = election(48, at(0));
        holder.holder.hold(Lease { term: 3, until: at(1_200), committed: 5 });
        tell(&mut holder, at(1_000), from(sender, ElectionMessage::LeaseRevoke { term }));
        assert_eq!(holder.holder.lease(at(1_000)).is_some(), is_kept, "{sender} {term}");
    }
}

#[test]
fn a_lease_is_asked_for_while_it_is_wanted_and_renewed_at_half() {
    let mut holder = election(48, at(0));
    fn asks(holder: &mut Election, now: u64, msg: impl Give<Election>) -> Option<u64> {
        let sent = tell(holder, at(now), msg);
        sent.into_iter().find_map(|(to, message)| match message {
            ElectionMessage::LeaseAsk { nonce } if to == peer(LEADER) => Some(nonce),
            _ => None,
        })
    }
    let quorum = News::Quorum(Quorum { term: 3, acked_at: at(0), committed: 0 });
    assert_eq!(asks(&mut holder, 1, quorum), None, "nobody wants one");
    assert!(asks(&mut holder, 1_000, Msg::LeaseWanted).is_some());
    assert_eq!(asks(&mut holder, 1_039, Msg::LeaseWanted), None, "it was asked for");
    assert!(asks(&mut holder, 1_040, Msg::LeaseWanted).is_some(), "it may have got lost");

    let mut holder = election(48, at(0));
    let nonce = asks(&mut holder, 1_000, Msg::LeaseWanted).unwrap();
    let grant = Grant { term: 3, committed: 0, remaining_us: 200_000 };
    let granted = |grant| from(peer(LEADER), ElectionMessage::LeaseGranted { nonce, grant });
    assert_eq!(asks(&mut holder, 1_050, granted(grant)), None);
    assert_eq!(holder.told.map(|lease| lease.until), Some(at(1_200)), "the others are told");
    assert_eq!(asks(&mut holder, 1_079, Msg::LeaseWanted), None);
    assert!(asks(&mut holder, 1_080, Msg::LeaseWanted).is_some(), "half of it is gone");
    // It has run out, which the others are told with the next look.
    call(&mut holder, at(1_200), Wall(0), |holder, ctx| holder.on_wake(ctx));
    assert_eq!(holder.told, None);
}

#[test]
fn a_source_that_has_nothing_is_left_for_the_leader_for_a_while() {
    let mut holder = election(2, at(0));
    holder.source = Some(BELOW);
    let whom = |holder: &mut Election, now: u64| {
        let sent = tell(holder, at(now), Msg::LeaseWanted);
        let asked = sent.into_iter().find(|(_, m)| matches!(m, ElectionMessage::LeaseAsk { .. }));
        asked.map(|(to, _)| to)
    };
    for now in [1_000, 1_040, 1_080, 1_120] {
        assert_eq!(whom(&mut holder, now), Some(BELOW), "{now}");
    }
    assert_eq!(whom(&mut holder, 1_160), Some(peer(LEADER)));
    assert_eq!(whom(&mut holder, 11_159), Some(peer(LEADER)));
    assert_eq!(whom(&mut holder, 11_200), Some(BELOW));
}

// ---- Reports and scores -------------------------------------------------------------------------

#[test]
fn reports_are_taken_within_bounds_and_answered_by_a_leader() {
    let link = LinkReport::default();
    let links = |count: usize| -> BTreeMap<MemberId, LinkReport> {
        (0..count as u64).map(|id| (MemberId(id), link)).collect()
    };
    let gpus = |count: usize| {
        let capabilities =
            Capabilities { gpu_memory_mb: vec![1; count], ..Capabilities::default() };
        Report { capabilities, ..report(1) }
    };
    for (sent, is_taken) in [
        (Report { links: links(MEMBERS_MAX), ..report(1) }, true),
        (Report { links: links(MEMBERS_MAX + 1), ..report(1) }, false),
        (gpus(GPUS_MAX), true),
        (gpus(GPUS_MAX + 1), false),
    ] {
        let mut leader = leader();
        let answers = tell(&mut leader, at(1), from(BELOW, ElectionMessage::Report(sent)));
        assert!(matches!(answers[..], [(BELOW, ElectionMessage::Table { .. })]));
        assert_eq!(leader.reports.contains_key(&MemberId(3)), is_taken);
    }
    let mut follower = election(48, at(0));
    let answers = tell(&mut follower, at(1), from(BELOW, ElectionMessage::Report(report(1))));
    assert!(answers.is_empty(), "its table is not its own");
}

#[test]
fn what_was_reported_long_ago_says_nothing() {
    let mut leader = leader();
    tell(&mut leader, at(0), from(BELOW, ElectionMessage::Report(report(1))));
    tell(&mut leader, at(4_999), host());
    assert!(leader.reports.contains_key(&MemberId(3)));
    tell(&mut leader, at(5_000), host());
    assert_eq!(leader.reports.keys().copied().collect::<Vec<_>>(), [OWN]);
}

#[test]
fn a_table_is_taken_from_the_leader_if_it_is_newer_and_bounded() {
    let mut follower = election(48, at(0));
    let mut version_after = |sender: PeerId, term: u64, version: u64, count: usize| {
        let of: Vec<(u64, u16)> = (1..=count as u64).map(|id| (id, 1)).collect();
        let table = ScoreTable { term, version, scores: scores(&of) };
        tell(
            &mut follower,
            at(1),
            from(sender, ElectionMessage::Table { scores: table, duties: DutyTable::default() }),
        );
        (follower.table.term, follower.table.version, follower.table.scores.len())
    };
    assert_eq!(version_after(BELOW, 3, 5, 1), (0, 0, 0), "it does not lead");
    assert_eq!(version_after(peer(LEADER), 3, 5, 1), (3, 5, 1));
    assert_eq!(version_after(peer(LEADER), 3, 5, 2), (3, 5, 1), "no newer one");
    assert_eq!(version_after(peer(LEADER), 2, 9, 2), (3, 5, 1), "of an older term");
    assert_eq!(version_after(peer(LEADER), 3, 6, 2 * VOTERS_MAX + 1), (3, 5, 1), "too long");
    assert_eq!(version_after(peer(LEADER), 3, 6, 2 * VOTERS_MAX), (3, 6, 2 * VOTERS_MAX));
}

#[test]
fn a_leader_is_compared_at_a_smaller_margin_once_a_day_where_there_is_a_cluster() {
    let gives_way = |is_founded: bool, paused: &[&str], wall: u64| {
        let mut leader = leader();
        let paused = paused.iter().map(|duty| (*duty).to_owned()).collect();
        let duties = Arc::new(duties::State { paused });
        let cluster = Cluster { id: ClusterId([1; 16]), name: "c".into(), founded_at: Wall(0) };
        let cluster = is_founded.then_some(cluster);
        let view = View { cluster: made(cluster), duties, ..(*view()).clone() };
        tell(&mut leader, at(0), News::View(Arc::new(view)));
        leader.table.scores = scores(&[(1, 5_300), (2, 5_000)]);
        leader.answering = [LEADER].into();
        leader.reports = [1, 2].map(|id| (MemberId(id), (report(1), at(1)))).into();
        let wall = Wall(wall);
        handed_to(&call(&mut leader, at(1), wall, |leader, ctx| leader.reconsider(ctx))).is_some()
    };
    assert!(gives_way(true, &["layout"], DAY_MS));
    assert!(!gives_way(true, &[], DAY_MS - 1));
    assert!(!gives_way(false, &[], DAY_MS));
    assert!(!gives_way(true, &["evaluation"], DAY_MS), "nobody would note that it was");
}

#[test]
fn only_who_answers_and_has_reported_can_take_over() {
    let mut leader = leader();
    let cluster = Cluster { id: ClusterId([1; 16]), name: "c".into(), founded_at: Wall(0) };
    let view = View { cluster: made(Some(cluster)), ..(*view()).clone() };
    tell(&mut leader, at(0), News::View(Arc::new(view)));
    leader.table.scores = scores(&[(1, 7_000), (2, 5_000), (3, 6_000)]);
    let mut evaluated = |answering: &[u64], reported: &[u64]| {
        leader.handover = None;
        leader.answering = answering.iter().copied().map(MemberId).collect();
        let reports = reported.iter().map(|id| (MemberId(*id), (report(1), at(1))));
        leader.reports = reports.collect();
        let wall = Wall(DAY_MS);
        handed_to(&call(&mut leader, at(1), wall, |leader, ctx| leader.reconsider(ctx)))
    };
    assert_eq!(evaluated(&[1, 3], &[1, 2, 3]), Some(LEADER));
    assert_eq!(evaluated(&[3], &[1, 2, 3]), Some(MemberId(3)));
    assert_eq!(evaluated(&[1, 3], &[2, 3]), Some(MemberId(3)));
    assert_eq!(evaluated(&[], &[1, 2, 3]), None);
}

// ---- Running ------------------------------------------------------------------------------------

#[test]
fn a_voter_that_can_write_and_hears_nobody_runs() {
    let wakes = |election: &mut Election, now: u64| {
        runs(&call(election, at(now), Wall(0), |election, ctx| election.on_wake(ctx)))
    };
    assert!(wakes(&mut election(48, at(0)), 10_000));
    assert!(!wakes(&mut leader(), 10_000), "it leads");
    let mut full = election(48, at(0));
    full.disk = DiskState::Full;
    assert!(!wakes(&mut full, 10_000));
    let mut follower = election(48, at(0));
    follower.role.voters = [LEADER].into();
    assert!(!wakes(&mut follower, 10_000), "it does not vote");
    let mut heard = election(48, at(0));
    tell(&mut heard, at(9_999), News::Heard(Heard { leader: LEADER, at: at(9_999) }));
    assert!(!wakes(&mut heard, 10_000));
}

#[test]
fn a_leader_that_was_replaced_gives_its_successor_time() {
    let mut old = leader();
    let role = Role { leader: None, leading: false, ..leading(4) };
    assert!(!runs(&effects(&mut old, at(10_000), Wall(0), News::Role(role))));
    assert!(old.handover.is_none());
}

#[test]
fn a_new_term_ends_what_was_held_and_begun_in_the_one_before() {
    let mut leader = leader();
    let transfer = Msg::Transfer { to: Some(LEADER) };
    effects(&mut leader, at(10), Wall(0), transfer);
    leader.holder.hold(Lease { term: 4, until: at(1_200), committed: 5 });
    tell(&mut leader, at(20), News::Role(leading(4)));
    assert!(leader.handover.is_some() && leader.holder.lease(at(20)).is_some());
    tell(&mut leader, at(20), News::Role(leading(5)));
    assert!(leader.handover.is_none() && leader.holder.lease(at(20)).is_none());
}

#[test]
fn a_sole_voter_needs_no_majority_for_its_lease() {
    for (voters, has_lease) in [(&[OWN][..], true), (&[OWN, LEADER], false), (&[LEADER], false)] {
        let mut election = election(48, at(0));
        let voters = voters.iter().copied().collect();
        tell(&mut election, at(1_000), News::Role(Role { voters, ..leading(4) }));
        tell(&mut election, at(1_000), Msg::LeaseWanted);
        assert_eq!(election.told.is_some(), has_lease, "{:?}", election.role.voters);
    }
}

#[test]
fn where_a_lease_is_asked_for_follows_voters_and_members() {
    let mut holder = election(2, at(0));
    let follows = Role { voters: [LEADER].into(), ..holder.role.clone() };
    let votes = holder.role.clone();
    let source = |holder: &mut Election, msg: News| {
        tell(holder, at(1), msg);
        holder.source.is_some()
    };
    assert!(source(&mut holder, News::Role(follows)), "it has a place in the tree");
    let members = fixture::members(1..=2);
    let small = Arc::new(View { roster: members, ..View::default() });
    assert!(!source(&mut holder, News::View(small)), "everybody is connected to everybody");
    assert!(source(&mut holder, News::View(view())));
    tell(&mut holder, at(1), News::Role(votes));
    assert!(!holder.is_large || holder.source != Some(BELOW));
}

#[test]
fn a_report_goes_to_the_leader_from_all_it_is_connected_to() {
    let reports = |full_max: usize, votes: bool| {
        let mut election = election(full_max, at(0));
        let voters = if votes { [LEADER, OWN].into() } else { [LEADER].into() };
        let role = Role { voters, ..election.role.clone() };
        tell(&mut election, at(1), News::Role(role));
        let sent = tell(&mut election, at(1), host());
        sent.iter().any(|(to, message)| {
            *to == peer(LEADER) && matches!(message, ElectionMessage::Report(_))
        })
    };
    assert!(reports(48, true) && reports(48, false));
    assert!(reports(2, true), "voters are connected to each other");
    assert!(!reports(2, false), "in a large cluster the leader can't hear everybody");
}

#[test]
fn each_table_of_a_leader_is_newer_than_the_one_before() {
    let mut leader = leader();
    for version in 1..=3 {
        tell(&mut leader, at(version), host());
        assert_eq!((leader.table.term, leader.table.version), (4, version));
    }
}

#[test]
fn what_is_tried_is_looked_at_again_in_time() {
    let mut out = Outbox::default();
    let mut rng = Rng::from_seed([1; 32]);
    let now = at(1_000);
    let mut leader = leader();
    let mut ctx = Ctx { now, wall: Wall(0), rng: &mut rng, out: &mut out };
    leader.on_msg(&mut ctx, Msg::Transfer { to: Some(LEADER) });
    assert!(transferred(&out.effects), "no lease is out");
    assert!(out.wake_at > Some(now));
    let mut out = Outbox::default();
    let now = at(60_000);
    let mut ctx = Ctx { now, wall: Wall(0), rng: &mut rng, out: &mut out };
    election(48, at(0)).on_start(&mut ctx);
    assert!(runs(&out.effects) && out.wake_at > Some(now), "nobody leads for long");
}

#[test]
fn a_lease_that_was_denied_is_asked_for_again_soon() {
    let mut follower = election(48, at(0));
    let asked = tell(&mut follower, at(1_000), Msg::LeaseWanted);
    let Some((_, ElectionMessage::LeaseAsk { nonce })) = asked.into_iter().next() else {
        panic!("the leader is asked");
    };
    let denied = ElectionMessage::LeaseDenied { nonce, leader: Some(LEADER) };
    let (mut rng, mut out) = (Rng::from_seed([1; 32]), Outbox::default());
    let mut ctx = Ctx { now: at(1_001), wall: Wall(0), rng: &mut rng, out: &mut out };
    follower.on_msg(&mut ctx, from(peer(LEADER), denied));
    assert_eq!(out.wake_at, Some(at(1_011)));
}

#[test]
fn a_lease_that_nobody_can_grant_is_looked_for_later_and_not_at_once() {
    let mut alone = election(48, at(0));
    alone.role.leader = None;
    let (mut rng, mut out) = (Rng::from_seed([1; 32]), Outbox::default());
    let mut ctx = Ctx { now: at(1_000), wall: Wall(0), rng: &mut rng, out: &mut out };
    alone.on_msg(&mut ctx, Msg::LeaseWanted);
    assert!(out.wake_at.is_some_and(|wake| wake > at(1_000)), "{:?}", out.wake_at);
}

#[test]
fn a_node_that_nobody_writes_through_asks_now_and_then_whether_it_is_current() {
    let mut follower = election(48, at(0));
    let mut asks = |now| {
        let sent = tell(&mut follower, now, News::Links(BTreeMap::new()));
        sent.iter().any(|(_, message)| matches!(message, ElectionMessage::LeaseAsk { .. }))
    };
    assert!(asks(at(1_000)));
    assert!(!asks(at(1_500)), "it has asked a moment ago");
    assert!(asks(at(10_000)));
}
