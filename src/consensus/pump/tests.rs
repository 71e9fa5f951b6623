//! What operations of this node come to, one rule at a time: each of these fails where its rule is gone.

use super::*;
use crate::consensus::pump::bench::{Bench, blank, id, peer, with_member, won};
use crate::messages::command::HeadsCommand;
use crate::messages::command::{Command, Expect};
use crate::messages::wire::Rpc;
use crate::types::{Bytes, ProposalId, Wall};

/// Up to where a read has to wait, if it was said.
async fn read(bench: &Bench) -> Option<u64> {
    bench.op(Op::ReadIndex { nonce: 3 }).await;
    let read = bench.told().into_iter().find_map(|event| match event {
        ConsensusEvent::ReadReady { nonce: 3, index } => Some(index),
        _ => None,
    });
    read.expect("it is said")
}

#[test]
fn a_read_is_served_while_nobody_else_can_lead() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        assert_eq!(read(bench).await, None, "another one leads");
    });
    with_member(false, async |bench| {
        bench.leads().await;
        assert_eq!(read(bench).await, Some(2));
        bench.wait(LEASE_MS - 1).await;
        assert_eq!(read(bench).await, Some(2));
        bench.wait(1).await;
        assert_eq!(read(bench).await, None, "no majority has answered for long");
    });
    with_member(true, async |bench| {
        bench.is_alone().await;
        bench.wait(60_000).await;
        assert!(read(bench).await.is_some(), "it is the only one");
    });
}

#[test]
fn who_has_handed_leadership_over_serves_no_reads() {
    with_member(false, async |bench| {
        bench.leads().await;
        bench.op(Op::Transfer { to: MemberId(2) }).await;
        assert_eq!(read(bench).await, None);
    });
}

fn is_refused(bench: &Bench) -> bool {
    bench.told().iter().any(|event| matches!(event, ConsensusEvent::TransferRefused))
}

#[test]
fn leadership_goes_to_nobody_who_is_silent_or_behind() {
    with_member(false, async |bench| {
        bench.leads().await;
        bench.op(Op::Transfer { to: MemberId(9) }).await;
        assert!(is_refused(bench), "it is no voter");
        bench.wait(ELECTION_TIMEOUT_MAX_MS).await;
        bench.op(Op::Transfer { to: MemberId(2) }).await;
        assert!(is_refused(bench), "it has not answered for long");
    });
    with_member(false, async |bench| {
        bench.leads().await;
        let term = bench.pump.role().term;
        bench.op(Op::Propose { term, proposal: proposal() }).await;
        bench.op(Op::Transfer { to: MemberId(2) }).await;
        assert!(is_refused(bench), "it lacks the last entry");
        bench.agree().await;
        bench.op(Op::Transfer { to: MemberId(2) }).await;
        assert!(!is_refused(bench));
    });
}

fn proposal() -> Proposal {
    let (key, author) = ("monitoring/k".to_owned(), String::new());
    let command = Command::Heads(HeadsCommand::Set {
        key,
        expect: Expect::Absent,
        value: Bytes(vec![1]),
        author,
    });
    Proposal { id: ProposalId([5; 16]), at: Wall(1), command }
}

async fn propose(bench: &Bench, term: Term) -> Option<ProposalAnswer> {
    bench.op(Op::Propose { term, proposal: proposal() }).await;
    bench.told().into_iter().find_map(|event| match event {
        ConsensusEvent::Answered { answer, .. } => Some(answer),
        _ => None,
    })
}

#[test]
fn a_proposal_is_taken_by_the_leader_of_its_term_only() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        let refused = ProposalAnswer::Refused { leader: Some(MemberId(2)) };
        assert_eq!(propose(bench, 1).await, Some(refused));
    });
    with_member(false, async |bench| {
        bench.leads().await;
        let term = bench.pump.role().term;
        let other = propose(bench, term + 1).await;
        assert!(matches!(other, Some(ProposalAnswer::Refused { .. })), "{other:?}");
        assert_eq!(propose(bench, term).await, None, "nobody else has it yet");
        bench.agree().await;
        let answered = bench.told().into_iter().any(|event| {
            matches!(event, ConsensusEvent::Answered { answer: ProposalAnswer::Applied, .. })
        });
        assert!(answered);
    });
}

#[test]
fn one_that_may_have_promised_its_silence_does_not_campaign() {
    with_member(true, async |bench| {
        bench.led_by_2().await;
        bench.wait(ELECTION_TIMEOUT_MAX_MS - 1).await;
        bench.op(Op::Elect).await;
        assert!(bench.pump.is_quiet() && bench.questions().is_empty());
        bench.wait(ELECTION_TIMEOUT_MAX_MS).await;
        bench.op(Op::Elect).await;
        assert!(!bench.questions().is_empty());
    });
    with_member(true, async |bench| {
        bench.is_alone().await;
        assert!(!bench.pump.is_quiet(), "a sole voter has promised nothing to others");
    });
}

/// Who leads, as was told last.
fn role(bench: &Bench) -> Option<(Term, Option<MemberId>, bool)> {
    let role = |event| match event {
        ConsensusEvent::Role(role) => Some((role.term, role.leader, role.leading)),
        _ => None,
    };
    bench.told().into_iter().rev().find_map(role)
}

#[test]
fn who_leads_is_told_when_it_changes_and_again_when_asked() {
    with_member(false, async |bench| {
        drop(Runtime::spawn(bench.pump.clone().watch(|_| {})));
        bench.led_by_2().await;
        bench.append(won(1, 2), Some(id(1, 1)), vec![blank(1, 2)], None).await;
        assert_eq!(role(bench), None, "it is known");
        bench.append(won(4, 3), Some(id(1, 2)), vec![blank(4, 3)], None).await;
        assert_eq!(role(bench), Some((4, Some(MemberId(3)), false)));
        bench.op(Op::Resync).await;
        assert_eq!(role(bench), Some((4, Some(MemberId(3)), false)));
    });
}

/// Whether it asks for votes by itself once it has heard nobody for long.
async fn campaigns(bench: &Bench) -> bool {
    bench.questions();
    bench.wait(10_000).await;
    bench.idle(200).await;
    bench.questions().iter().any(|(_, _, rpc)| matches!(rpc, Rpc::PreVote { .. }))
}

#[test]
fn openraft_may_hold_elections_once_old_promises_are_over() {
    with_member(true, async |bench| {
        bench.led_by_2().await;
        bench.pump.let_elect();
        assert!(!campaigns(bench).await, "that was while it had to keep quiet");
        bench.pump.let_elect();
        assert!(campaigns(bench).await);
    });
    with_member(true, async |bench| {
        bench.led_by_2().await;
        drop(Runtime::spawn(bench.pump.clone().switch_elections_on()));
        bench.idle(ELECTION_TIMEOUT_MAX_MS - 250).await;
        assert!(!campaigns(bench).await);
        bench.idle(ELECTION_TIMEOUT_MAX_MS).await;
        assert!(campaigns(bench).await);
    });
}

#[test]
fn operations_are_taken_until_the_core_stops_and_then_it_is_said_why() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        let (queue, operations) = mpsc::channel(1);
        let (end, mut ended) = mpsc::unbounded_channel();
        let ended_by = move |reason| drop(end.send(reason));
        drop(Runtime::spawn(bench.pump.clone().run(operations, ended_by)));
        queue.send(Op::ReadIndex { nonce: 8 }).await.unwrap();
        bench.settle().await;
        let is_taken = |event: &ConsensusEvent| {
            matches!(event, ConsensusEvent::ReadReady { nonce: 8, index: None })
        };
        assert!(bench.told().iter().any(is_taken));
        assert!(ended.try_recv().is_err());
        bench.pump.raft().shutdown().await.unwrap();
        bench.settle().await;
        assert!(ended.try_recv().is_ok());
    });
}

/// Whether a voter change took place, if it has ended.
fn changed(bench: &Bench) -> Option<bool> {
    bench.told().into_iter().find_map(|event| match event {
        ConsensusEvent::VotersChanged { done } => Some(done),
        _ => None,
    })
}

fn voters_now(bench: &Bench) -> Vec<u64> {
    bench.pump.role().voters.iter().map(|voter| voter.0).collect()
}

#[test]
fn a_member_votes_once_it_has_caught_up() {
    with_member(false, async |bench| {
        bench.leads().await;
        bench.op(Op::Voters(VoterChange::Add(MemberId(4), peer(4)))).await;
        // All but the newcomer agree.
        for _ in 0..5 {
            bench.agree_but(4).await;
            bench.idle(20).await;
        }
        assert_eq!((changed(bench), voters_now(bench)), (None, vec![1, 2, 3]));
        for _ in 0..10 {
            bench.agree().await;
            bench.idle(20).await;
        }
        assert_eq!((changed(bench), voters_now(bench)), (Some(true), vec![1, 2, 3, 4]));
        bench.op(Op::Voters(VoterChange::Remove(MemberId(2)))).await;
        assert!(bench.pump.role().joint, "both sets have to agree");
        for _ in 0..5 {
            bench.agree().await;
        }
        assert_eq!((changed(bench), voters_now(bench)), (Some(true), vec![1, 3, 4]));
        assert!(!bench.pump.role().joint);
    });
}

#[test]
fn a_member_that_does_not_catch_up_is_forgotten() {
    with_member(false, async |bench| {
        bench.leads().await;
        bench.op(Op::Voters(VoterChange::Add(MemberId(4), peer(4)))).await;
        bench.agree_but(4).await;
        bench.idle(u64::try_from(VOTERS_TIMEOUT.as_millis()).unwrap()).await;
        for _ in 0..20 {
            bench.agree_but(4).await;
            bench.idle(10).await;
        }
        assert_eq!((changed(bench), voters_now(bench)), (Some(false), vec![1, 2, 3]));
        let metrics = bench.pump.raft().metrics();
        let membership = metrics.borrow_watched().membership_config.membership().clone();
        assert!(membership.get_node(&4).is_none());
    });
    with_member(false, async |bench| {
        bench.led_by_2().await;
        bench.op(Op::Voters(VoterChange::Remove(MemberId(2)))).await;
        assert_eq!(changed(bench), Some(false), "it does not lead");
    });
}

/// Of all that was told since the last call: the voters, and whether two sets have to agree.
fn roles(bench: &Bench) -> Vec<(usize, bool)> {
    let role = |event| match event {
        ConsensusEvent::Role(role) => Some((role.voters.len(), role.joint)),
        _ => None,
    };
    bench.told().into_iter().filter_map(role).collect()
}

#[test]
fn each_step_of_a_change_of_voters_is_told() {
    with_member(false, async |bench| {
        drop(Runtime::spawn(bench.pump.clone().watch(|_| {})));
        bench.leads().await;
        bench.op(Op::Voters(VoterChange::Remove(MemberId(2)))).await;
        assert_eq!(roles(bench), [(3, true)]);
        for _ in 0..5 {
            bench.agree().await;
        }
        assert_eq!(roles(bench), [(2, false)]);
    });
}

/// When a majority was told to have answered.
fn quorums(bench: &Bench) -> Vec<Mono> {
    let quorum = |event| match event {
        ConsensusEvent::Quorum(quorum) => Some(quorum.acked_at),
        _ => None,
    };
    bench.told().into_iter().filter_map(quorum).collect()
}

#[test]
fn that_a_majority_answers_is_told_now_and_then_and_known() {
    with_member(false, async |bench| {
        drop(Runtime::spawn(bench.pump.clone().watch(|_| {})));
        bench.leads().await;
        let interval = u64::try_from(NEWS_INTERVAL.as_millis()).unwrap();
        let round = async |bench: &Bench, ms| {
            bench.wait(ms).await;
            // With something to replicate the leader does not wait for its next round.
            let term = bench.pump.role().term;
            bench.op(Op::Propose { term, proposal: proposal() }).await;
            for _ in 0..3 {
                bench.agree().await;
            }
            quorums(bench)
        };
        assert_eq!(round(bench, 5_000).await, [bench.now()]);
        assert_eq!(round(bench, interval - 1).await, [], "it was told just now");
        assert_eq!(round(bench, 1).await, [bench.now()]);
        assert!(bench.pump.hears_majority());
    });
}

#[test]
fn one_that_nobody_has_told_anything_goes_by_what_consensus_knows() {
    with_member(false, async |bench| {
        assert!(bench.pump.news().is_some(), "it has followed nobody who could know better");
    });
}
