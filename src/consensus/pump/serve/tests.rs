//! What peers are answered, one rule at a time: each of these fails where its rule is gone.

use super::*;
use crate::consensus::pump::bench::{Bench, blank, id, vote, voters, with_member, won};
use crate::core::control::{Change, ControlState};
use crate::messages::wire::{VoteId, VoterConfig};
use crate::types::Bytes;
use crate::types::codec::encode_durable;
use crate::types::limits::{ELECTION_TIMEOUT_MAX_MS, SNAPSHOT_LEN_MAX};

fn ask_vote(term: u64, candidate: u64, transfer: bool) -> Rpc {
    Rpc::Vote { vote: vote(term, candidate), last: Some(id(1, 1)), transfer }
}

fn pre_vote(term: u64, candidate: u64) -> Rpc {
    Rpc::PreVote { vote: vote(term, candidate), last: Some(id(1, 1)) }
}

fn beat(leader: VoteId) -> Rpc {
    Rpc::Append { vote: leader, prev: Some(id(1, 1)), entries: vec![], commit: None, age_ms: 0 }
}

#[test]
fn one_that_may_have_promised_its_vote_gives_none_for_an_election_timeout() {
    with_member(true, async |bench| {
        bench.led_by_2().await;
        bench.wait(ELECTION_TIMEOUT_MAX_MS - 1).await;
        assert_eq!(bench.ask(3, ask_vote(2, 3, false)).await, None);
        assert_eq!(bench.ask(3, pre_vote(2, 3)).await, None);
        bench.wait(1).await;
        assert!(bench.ask(3, pre_vote(2, 3)).await.is_some());
        assert!(bench.ask(3, ask_vote(2, 3, false)).await.is_some());
    });
    // The leader itself has asked for it, so there is nobody whom it could have promised silence.
    with_member(true, async |bench| {
        bench.led_by_2().await;
        let granted = bench.ask(3, ask_vote(2, 3, true)).await;
        assert!(matches!(granted, Some(RpcReply::Vote { granted: true, .. })), "{granted:?}");
    });
    with_member(false, async |bench| {
        bench.led_by_2().await;
        assert!(bench.ask(3, pre_vote(2, 3)).await.is_some(), "it has promised nothing");
    });
}

#[test]
fn nobody_speaks_for_another_member() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        bench.wait(1_000).await;
        let snapshot = |vote| Rpc::Snapshot {
            vote,
            last: None,
            total: 10,
            offset: 0,
            part: Bytes(vec![0; 4]),
        };
        let transfer = |vote| Rpc::Transfer { vote, to: MemberId(1), last: None };
        for rpc in [
            beat(won(1, 2)),
            pre_vote(2, 2),
            ask_vote(2, 2, false),
            snapshot(won(1, 2)),
            transfer(won(1, 2)),
        ] {
            assert_eq!(bench.ask(3, rpc.clone()).await, None, "{rpc:?}");
            assert!(bench.ask(2, rpc.clone()).await.is_some(), "{rpc:?}");
        }
        assert!(bench.ask(9, pre_vote(9, 9)).await.is_some(), "a member that votes by now");
    });
}

#[test]
fn entries_with_a_gap_are_not_taken() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        let gap = vec![blank(1, 2), blank(1, 4)];
        assert_eq!(bench.append(won(1, 2), Some(id(1, 1)), gap, None).await, None);
        let next = vec![blank(1, 2), blank(1, 3)];
        let taken = bench.append(won(1, 2), Some(id(1, 1)), next, None).await;
        assert_eq!(taken, Some(RpcReply::Append(AppendReply::Success)));
        let beyond = bench.append(won(1, 2), Some(id(1, 9)), vec![], None).await;
        assert_eq!(beyond, Some(RpcReply::Append(AppendReply::Conflict)));
    });
}

#[test]
fn a_peer_has_so_many_questions_in_work_and_others_have_theirs() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        for _ in 0..CONSENSUS_INFLIGHT_MAX + 3 {
            bench.send(2, beat(won(1, 2)));
        }
        bench.send(3, pre_vote(2, 3));
        bench.settle().await;
        assert_eq!(bench.answers().len(), CONSENSUS_INFLIGHT_MAX + 1);
        assert!(bench.ask(2, beat(won(1, 2))).await.is_some(), "they are done");
    });
}

#[test]
fn only_the_one_that_is_named_takes_leadership_over() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        let transfer =
            |to| Rpc::Transfer { vote: won(1, 2), to: MemberId(to), last: Some(id(1, 1)) };
        assert_eq!(bench.ask(2, transfer(3)).await, None);
        let accepted = Some(RpcReply::Transfer { accepted: true });
        assert_eq!(bench.ask(2, transfer(1)).await, accepted);
    });
}

/// When the leader was heard.
fn heard(bench: &Bench) -> Vec<(Term, MemberId, Mono)> {
    let heard = bench.told().into_iter().filter_map(|event| match event {
        ConsensusEvent::Heard { term, leader, at } => Some((term, leader, at)),
        _ => None,
    });
    heard.collect()
}

#[test]
fn that_the_leader_calls_is_told_now_and_then() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        bench.wait(500).await;
        bench.ask(2, beat(won(1, 2))).await;
        assert_eq!(heard(bench), [(1, MemberId(2), bench.now())]);
        let interval = u64::try_from(NEWS_INTERVAL.as_millis()).unwrap();
        bench.wait(interval - 1).await;
        bench.ask(2, beat(won(1, 2))).await;
        assert_eq!(heard(bench), [], "it was told just now");
        bench.wait(1).await;
        bench.ask(2, beat(won(1, 2))).await;
        assert_eq!(heard(bench), [(1, MemberId(2), bench.now())]);
        bench.wait(1_000).await;
        bench.ask(3, ask_vote(5, 3, false)).await;
        let reply = bench.ask(2, beat(won(1, 2))).await;
        assert!(matches!(reply, Some(RpcReply::Append(AppendReply::HigherVote(_)))), "{reply:?}");
        assert_eq!(heard(bench), [], "it leads no longer");
    });
}

fn follow(after: Option<LogId>, probe: bool) -> Rpc {
    Rpc::Follow { after, offset: 0, probe }
}

/// A leader that has last heard of a majority so long ago.
fn beat_of(age_ms: u32, commit: u64) -> Rpc {
    let (prev, commit) = (Some(id(1, 1)), Some(id(1, commit)));
    Rpc::Append { vote: won(1, 2), prev, entries: vec![], commit, age_ms }
}

#[test]
fn a_voter_tells_others_what_was_committed_while_that_is_recent() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        let stale_ms = u32::try_from(FOLLOW_STALE_MS).unwrap();
        bench.wait(10_000).await;
        let unavailable = Some(RpcReply::Unavailable);
        assert_eq!(bench.ask(9, follow(None, false)).await, unavailable, "it has heard nothing");
        bench.ask(2, beat_of(u32::MAX, 1)).await;
        assert_eq!(bench.ask(9, follow(None, false)).await, unavailable, "a leader of nobody");
        bench.ask(2, beat_of(stale_ms, 1)).await;
        assert_eq!(bench.ask(9, follow(None, false)).await, unavailable);
        bench.ask(2, beat_of(stale_ms - 1, 1)).await;
        let reply = bench.ask(9, follow(Some(id(1, 0)), false)).await;
        let Some(RpcReply::Follow { term, leader, fed, age_ms, upto, voters, body, .. }) = reply
        else {
            panic!("{reply:?}")
        };
        assert_eq!((term, leader, fed), (1, Some(MemberId(2)), false));
        assert_eq!((age_ms, upto), (stale_ms - 1, Some(id(1, 1))));
        assert_eq!(voters, [1, 2, 3].map(MemberId));
        assert_eq!(body, FollowBody::Entries(vec![blank(1, 1)]));
        let reply = bench.ask(3, follow(None, true)).await;
        let Some(RpcReply::Follow { fed: true, body, .. }) = reply else { panic!("{reply:?}") };
        assert_eq!(body, FollowBody::Entries(vec![]), "it only wants to know whether it votes");
    });
}

#[test]
fn a_voter_that_lacks_what_was_committed_tells_of_no_more_than_it_knew() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        bench.wait(10_000).await;
        bench.ask(2, beat_of(0, 1)).await;
        assert!(bench.pump.hears_majority() && bench.pump.is_current());
        bench.wait(FOLLOW_STALE_MS - 1).await;
        // The leader has committed 5, and this one has 1.
        bench.ask(2, beat_of(0, 5)).await;
        assert!(bench.pump.hears_majority() && bench.pump.is_current());
        bench.wait(1).await;
        assert!(bench.pump.hears_majority() && !bench.pump.is_current());
        let rest = (2..6).map(|index| blank(1, index)).collect();
        bench.append(won(1, 2), Some(id(1, 1)), rest, Some(id(1, 5))).await;
        assert!(bench.pump.is_current(), "it has all of it");
        bench.wait(FOLLOW_STALE_MS).await;
        assert!(!bench.pump.hears_majority());
    });
}

#[test]
fn a_sole_voter_is_its_own_majority() {
    with_member(true, async |bench| {
        bench.is_alone().await;
        bench.wait(60_000).await;
        assert!(bench.pump.hears_majority() && bench.pump.is_current());
    });
}

fn part(from: (u64, u64), total: u64, offset: u64, part: &[u8]) -> Rpc {
    let (vote, last) = (won(3, from.0), Some(id(2, from.1)));
    Rpc::Snapshot { vote, last, total, offset, part: Bytes(part.to_vec()) }
}

fn snapshot(last: LogId, voters: VoterConfig) -> Vec<u8> {
    encode_durable(&StoredSnapshot {
        last: Some(last),
        voters_at: Some(id(1, 0)),
        voters,
        state: Bytes(ControlState::default().encode()),
    })
}

#[test]
fn a_snapshot_is_put_together_from_parts_that_belong_together() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        let whole = snapshot(id(2, 9), voters(&[1, 2, 3]));
        let total = whole.len() as u64;
        let (first, second) = whole.split_at(100);
        let more = |reply: Option<RpcReply>| matches!(reply, Some(RpcReply::Snapshot { .. }));
        assert_eq!(bench.ask(2, part((2, 9), total, 100, second)).await, None, "nothing was begun");
        assert!(more(bench.ask(2, part((2, 9), total, 0, first)).await));
        for (what, from, rpc) in [
            ("of another sender", 3, part((3, 9), total, 100, second)),
            ("of another snapshot", 2, part((2, 8), total, 100, second)),
            ("of another length", 2, part((2, 9), total + 1, 100, second)),
            ("with a gap", 2, part((2, 9), total, 101, &second[1..])),
            ("once more", 2, part((2, 9), total, 99, &whole[99..])),
            ("beyond its end", 2, part((2, 9), total, 100, &[second, &[0]].concat())),
        ] {
            assert_eq!(bench.ask(from, rpc).await, None, "{what}");
        }
        assert_eq!(bench.machine.applied(), Some(id(1, 1)));
        assert!(more(bench.ask(2, part((2, 9), total, 100, second)).await));
        assert_eq!(bench.machine.applied(), Some(id(2, 9)));
        let too_long = SNAPSHOT_LEN_MAX as u64 + 1;
        assert_eq!(bench.ask(2, part((2, 9), too_long, 0, first)).await, None);
        assert!(more(bench.ask(2, part((2, 9), too_long - 1, 0, first)).await));
    });
}

#[test]
fn a_snapshot_that_can_not_be_is_not_installed() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        let mut strange = voters(&[1, 2, 3]);
        strange.nodes.remove(&MemberId(3));
        let garbage = vec![7; 100];
        for (what, whole) in [
            ("garbage", garbage),
            ("a voter without a key", snapshot(id(2, 9), strange)),
            ("newer than its leader", snapshot(id(4, 9), voters(&[1, 2, 3]))),
        ] {
            let rpc = part((2, 9), whole.len() as u64, 0, &whole);
            assert_eq!(bench.ask(2, rpc).await, None, "{what}");
            assert_eq!(bench.machine.applied(), Some(id(1, 1)), "{what}");
        }
        let goes_on = bench.ask(2, beat(won(3, 2))).await;
        assert_eq!(goes_on, Some(RpcReply::Append(AppendReply::Success)));
    });
}

#[test]
fn a_snapshot_of_what_the_log_holds_is_not_installed() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        let more = (2..5).map(|index| blank(1, index)).collect();
        bench.append(won(1, 2), Some(id(1, 1)), more, None).await;
        bench.told();
        let whole = snapshot(id(1, 3), voters(&[1, 2, 3]));
        let rpc = Rpc::Snapshot {
            vote: won(1, 2),
            last: Some(id(1, 3)),
            total: whole.len() as u64,
            offset: 0,
            part: Bytes(whole),
        };
        let reply = bench.ask(2, rpc).await;
        assert!(matches!(reply, Some(RpcReply::Snapshot { .. })), "{reply:?}");
        assert_eq!(bench.machine.applied(), Some(id(1, 3)), "that it is committed is known now");
        let installed = bench.told().into_iter().any(|event| match event {
            ConsensusEvent::Applied { changes, .. } => changes.contains(&Change::Installed),
            _ => false,
        });
        assert!(!installed);
        bench.append(won(1, 2), Some(id(1, 4)), vec![], Some(id(1, 4))).await;
        assert_eq!(bench.machine.applied(), Some(id(1, 4)));
    });
}

#[test]
fn who_has_all_is_told_so_after_a_while_and_who_has_more_nothing() {
    with_member(false, async |bench| {
        bench.led_by_2().await;
        bench.wait(10_000).await;
        bench.ask(2, beat_of(0, 1)).await;
        for (after, expected) in [(1, Some(FollowBody::Entries(vec![]))), (2, None)] {
            let number = bench.send(9, follow(Some(id(1, after)), false));
            bench.settle().await;
            assert!(bench.answers().is_empty(), "there may be more in a moment");
            bench.idle(FOLLOW_WAIT_MS).await;
            let body = match bench.answers().pop() {
                Some((of, RpcReply::Follow { body, .. })) if of == number => Some(body),
                Some((of, RpcReply::Unavailable)) if of == number => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(body, expected);
        }
    });
}
