//! What writes go by, one rule at a time: each of these fails where its rule is gone.

use super::*;
use crate::core::control::View;
use crate::core::fixture::applied;
use crate::types::LogId;
use crate::types::journal::DiskState;
use crate::types::limits::{LEASE_WAIT_MS, WRITE_TIMEOUT_MS};

/// How the last write was answered.
fn written(bench: &mut Bench) -> Option<Result<Term, &'static str>> {
    match bench.replies.pop() {
        Some(Reply::Written(Ok(done))) => Some(Ok(done.lease_term)),
        Some(Reply::Written(Err(refusal))) => Some(Err(refusal.code())),
        None => None,
        other => panic!("{other:?}"),
    }
}

fn put() -> Request {
    Request::Put { hash: mine().hash(), content: mine().encode() }
}

#[test]
fn as_many_writes_are_under_way_as_may_be() {
    let mut bench = Bench::new(3);
    (0..REQUESTS_MAX).for_each(|_| bench.request(put()));
    assert!(written(&mut bench).is_none());
    bench.request(put());
    assert_eq!(written(&mut bench), Some(Err("BUSY")));
}

#[test]
fn a_write_waits_for_a_lease_as_long_as_said() {
    let mut bench = Bench::new(3);
    bench.publish();
    bench.wait(LEASE_WAIT_MS - 1);
    assert_eq!(written(&mut bench), None);
    bench.wait(1);
    assert_eq!(written(&mut bench), Some(Err("NO_LEADER")));
    assert_eq!(bench.counts["bzzz_records_writes_refused_total"], 1);
}

#[test]
fn what_was_sent_is_unknown_in_time() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    assert!(!bench.asked.is_empty());
    bench.wait(WRITE_TIMEOUT_MS - 1);
    assert_eq!(written(&mut bench), None);
    bench.wait(1);
    assert_eq!(written(&mut bench), Some(Err("WRITE_OUTCOME_UNKNOWN")));
    assert_eq!(bench.counts["bzzz_records_writes_unknown_total"], 1);
}

#[test]
fn what_enough_replicas_have_is_acknowledged_under_a_lease_only() {
    let kept_without = || {
        let mut bench = Bench::new(3);
        lease_until(&mut bench, 50, 0);
        bench.publish();
        let (_, id, _) = bench.round();
        bench.answer(1, id, RecordsAnswer::Stored);
        bench.now = Mono(50_000);
        bench.answer(3, id, RecordsAnswer::Stored);
        assert_eq!(written(&mut bench), None, "the lease has run out");
        bench
    };
    let mut bench = kept_without();
    lease_until(&mut bench, 300, 0);
    assert_eq!(written(&mut bench), Some(Ok(4)));
    let mut bench = kept_without();
    bench.wait(2 * PROPOSAL_RETRY_MS - 1);
    assert_eq!(written(&mut bench), None);
    bench.wait(1);
    assert_eq!(written(&mut bench), Some(Err("WRITE_OUTCOME_UNKNOWN")));
}

#[test]
fn nothing_goes_out_before_everything_is_known_that_the_lease_says_is_committed() {
    let mut bench = Bench::new(3);
    lease_until(&mut bench, 1_000, 1);
    bench.publish();
    assert!(bench.asked.is_empty());
    let at = Some(LogId { term: 4, index: 1 });
    let view = View { applied: at, ..(*view(3, 3, &[1, 2, 3], None)).clone() };
    bench.tell(applied(Arc::new(view), &[]));
    assert_eq!(bench.round().0, [1, 2, 3]);
}

#[test]
fn nothing_is_begun_that_too_few_would_answer() {
    for (answering, is_begun) in [(&[] as &[u64], false), (&[2], true), (&[2, 3], true)] {
        let mut bench = Bench::new(3);
        bench.lease();
        bench.tell(News::Answering(answering.iter().copied().map(MemberId).collect()));
        bench.publish();
        assert_eq!(!bench.asked.is_empty(), is_begun, "{answering:?}");
    }
}

#[test]
fn who_has_not_answered_is_asked_again_and_nobody_else() {
    let mut bench = Bench::new(3);
    lease_until(&mut bench, 1_000, 0);
    bench.publish();
    let (_, id, _) = bench.round();
    bench.answer(2, id, RecordsAnswer::Stored);
    bench.wait(PROPOSAL_RETRY_MS - 1);
    assert!(bench.asked.is_empty());
    bench.wait(1);
    let (again, same, _) = bench.round();
    assert_eq!((again, same), (vec![1, 3], id));
}

#[test]
fn only_members_answer_and_only_questions_that_are_open() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    let (_, id, _) = bench.round();
    bench.answer(1, id, RecordsAnswer::Stored);
    let message = |id| RecordsMessage::Answer { id, answer: RecordsAnswer::Stored };
    for (from, id) in [(peer(1), id), (peer(9), id), (peer(2), id + 1)] {
        bench.tell(Msg::Message { from, message: message(id) });
        assert_eq!(written(&mut bench), None, "{from}");
    }
    bench.tell(Msg::Message { from: peer(2), message: message(id) });
    assert_eq!(written(&mut bench), Some(Ok(4)));
    // Somebody who was slower changes nothing any more.
    bench.tell(Msg::Message { from: peer(3), message: message(id) });
    assert_eq!(written(&mut bench), None);
}

#[test]
fn a_full_disk_takes_nothing_and_a_wrong_clock_only_what_has_no_stamp() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.tell(News::Disk(DiskState::Full));
    bench.publish();
    assert_eq!(written(&mut bench), Some(Err("DISK_FULL")));
    bench.request(put());
    assert_eq!(written(&mut bench), Some(Err("DISK_FULL")));
    bench.tell(News::Disk(DiskState::Writable));
    bench.tell(News::Clocks(Clocks { split_ms: Some(90_000), ..settled() }));
    bench.publish();
    assert_eq!(written(&mut bench), Some(Err("CLOCK_WRONG")));
    bench.request(put());
    assert_eq!((written(&mut bench), bench.asked.len()), (None, 3));
}

#[test]
fn what_is_large_is_waited_for_longer() {
    let content = |len: usize| Bytes(vec![0; len]);
    let put = |len: usize| RecordsAsk::Put { hash: mine().hash(), content: content(len) };
    let post = |len: usize| RecordsAsk::Post {
        address: here(),
        version: version(1),
        content: content(len),
        settled: false,
    };
    let merge = |content: Option<Bytes>| RecordsAsk::Merge {
        address: here(),
        version: version(1),
        content,
    };
    let find = RecordsAsk::Content { hash: mine().hash() };
    let largest_ms = u64::try_from(CONTENT_BODY_MAX / 1_024).unwrap();
    for (ask, more_ms) in [
        (put(1_023), 0),
        (put(10 * 1_024), 10),
        (post(10 * 1_024), 10),
        (merge(Some(content(10 * 1_024))), 10),
        (merge(None), 0),
        (find, largest_ms),
        (RecordsAsk::Newest { address: here() }, 0),
    ] {
        let expected = Duration::from_millis(PROPOSAL_RETRY_MS + more_ms);
        assert_eq!(retry_after(&ask), expected, "{more_ms}");
    }
}

#[test]
fn everybody_holds_everything_up_to_seven_now_and_next() {
    let eight = [1, 2, 3, 4, 5, 6, 7, 8];
    let (few, seven) = (&eight[..3], &eight[..7]);
    for (current, next, is_together) in [
        (seven, None, true),
        (&eight[..], None, false),
        (few, Some(seven), true),
        (few, Some(&eight[..]), false),
        (&eight[..], Some(few), false),
    ] {
        let mut bench = Bench::new(8);
        bench.tell(applied(view(8, 4, current, next), &[]));
        assert_eq!(bench.coordinator.is_together(), is_together, "{current:?} {next:?}");
    }
}

#[test]
fn a_write_is_looked_at_again_when_something_is_due() {
    let at = |ms: u64| Some(Mono(ms * 1_000));
    let mut bench = Bench::new(3);
    bench.publish();
    assert_eq!(bench.wake, at(LEASE_WAIT_MS), "till then it waits for a lease");
    bench.lease();
    assert_eq!(bench.wake, at(PROPOSAL_RETRY_MS), "then who has not answered is asked again");
}
