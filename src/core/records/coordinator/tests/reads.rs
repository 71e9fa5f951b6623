//! Reads of versions: whom they ask, whose answers count, and what is made of these.

use super::*;
use crate::core::fixture::applied;
use crate::types::journal::DiskState;
use crate::types::limits::READ_TIMEOUT_MS;
use std::collections::BTreeSet;

#[test]
fn a_publication_is_found_once_as_many_have_it_as_a_write_takes() {
    let (_, then) = theirs(5);
    let find = Request::Find { address: here(), request: then.request };
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(find);
    let (members, id, ask) = bench.round();
    assert!(matches!(ask, RecordsAsk::Find { .. }), "{ask:?}");
    let other = Version { request: RequestId([4; 16]), ..then };
    bench.answer(members[1], id, RecordsAnswer::Newest(Some(other)));
    assert_eq!(bench.round().0.len(), 3, "another publication is no answer");
    members.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Newest(Some(then))));
    let Some(Reply::Found(Ok(Some(found)))) = bench.replies.pop() else { panic!() };
    assert_eq!((found.version, found.lease_term), (Some(then), 4));
    assert!(bench.asked.is_empty(), "it was acknowledged, so nothing is written");

    bench.request(Request::Find { address: here(), request: then.request });
    let (members, id, _) = bench.round();
    let third = 5 - members[1];
    bench.answer(1, id, RecordsAnswer::Newest(Some(then)));
    bench.answer(members[1], id, RecordsAnswer::Newest(None));
    bench.answer(third, id, RecordsAnswer::Newest(None));
    let found = bench.replies.pop();
    assert!(matches!(found, Some(Reply::Found(Ok(None)))), "it has to be made again: {found:?}");
    bench.asked.clear();

    bench.request(Request::Find { address: here(), request: then.request });
    let (_, id, _) = bench.round();
    bench.answer(1, id, RecordsAnswer::Newest(None));
    bench.wait(500);
    assert!(matches!(bench.replies.pop(), Some(Reply::Found(Err(_)))), "another one may know it");
}

#[test]
fn versions_of_another_address_count_for_nobody() {
    let mut bench = Bench::new(3);
    bench.lease();
    let foreign = version_at(&"a/b/c/d/f".parse().unwrap(), 9);
    bench.request(Request::Newest { address: here() });
    let (members, id, _) = bench.round();
    bench.answer(members[1], id, RecordsAnswer::Newest(Some(foreign)));
    let (all, id, _) = bench.round();
    assert_eq!(all.len(), 3, "the others are asked instead");
    let third = 5 - members[1];
    [1, third].iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Newest(None)));
    let Some(Reply::Newest(Ok(fresh))) = bench.replies.pop() else { panic!() };
    assert_eq!(fresh, Fresh { value: None, stale: false });

    bench.request(Request::Versions { address: here() });
    let (members, id, _) = bench.round();
    bench.answer(members[1], id, RecordsAnswer::Versions(vec![version(5), foreign]));
    bench.wait(500);
    assert!(matches!(bench.replies.pop(), Some(Reply::Versions(Err(_)))));
}

#[test]
fn a_read_asks_as_few_as_may_do_and_the_others_if_one_of_those_is_silent() {
    let mut bench = Bench::new(4);
    bench.tell(applied(view(4, 4, &[1, 2, 3, 4], None), &[]));
    bench.lease();
    let mut first = BTreeSet::new();
    for _ in 0..20 {
        bench.request(Request::Newest { address: here() });
        let (members, id, _) = bench.round();
        assert_eq!(members.len(), 3, "a write is on three of four: {members:?}");
        assert_eq!(members[0], 1, "our own replica is the nearest");
        let value = RecordsAnswer::Newest(Some(version(5)));
        bench.answer(members[1], id, value.clone());
        bench.answer(1, id, value.clone());
        assert!(bench.replies.is_empty() && bench.asked.is_empty(), "the third may have it");
        first.insert(members[1..].to_vec());
        bench.wait(110);
        bench.lease();
        assert!(bench.round().0.contains(&members[2]), "one is silent, the others are asked");
        bench.answer(members[2], id, value);
        assert!(bench.replies.pop().is_some());
        bench.asked.clear();
    }
    assert_eq!(first.len(), 3, "each pair of the others has had its turn: {first:?}");
}

#[test]
fn without_a_lease_or_a_quorum_an_answer_is_stale() {
    for answers in [1, 2] {
        let mut bench = Bench::new(3);
        if answers == 1 {
            bench.lease();
        }
        bench.request(Request::Newest { address: here() });
        let (_, id, _) = bench.round();
        for from in 1..=answers {
            bench.answer(from, id, RecordsAnswer::Newest(Some(version(5))));
        }
        bench.wait(500);
        let Some(Reply::Newest(Ok(fresh))) = bench.replies.pop() else { panic!() };
        assert_eq!(fresh, Fresh { value: Some(version(5)), stale: true });
    }
}

#[test]
fn answers_from_before_a_change_of_the_layout_do_not_count() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(Request::Newest { address: here() });
    let (_, id, _) = bench.round();
    bench.answer(2, id, RecordsAnswer::Newest(None));
    bench.tell(applied(view(3, 4, &[1, 2, 3], Some(&[1, 2])), &[]));
    let (_, again, _) = bench.round();
    assert_ne!(again, id);
    bench.answer(3, id, RecordsAnswer::Newest(None));
    assert!(bench.replies.is_empty());
}

#[test]
fn a_full_disk_is_no_reason_not_to_read() {
    let mut bench = Bench::new(3);
    bench.tell(News::Disk(DiskState::Full));
    bench.lease();
    bench.request(Request::Newest { address: here() });
    let (members, id, _) = bench.round();
    members.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Newest(None)));
    let read = bench.replies.pop();
    assert!(matches!(read, Some(Reply::Newest(Ok(Fresh { value: None, stale: false })))));
    bench.request(Request::Newest { address: here() });
    bench.wait(390);
    bench.lease();
    bench.wait(20);
    let read = bench.replies.pop();
    assert!(matches!(read, Some(Reply::Newest(Err(Refusal::TimedOut)))), "{read:?}");
    bench.publish();
    let written = bench.replies.pop();
    assert!(matches!(written, Some(Reply::Written(Err(Refusal::DiskFull)))), "{written:?}");
}

#[test]
fn pages_are_merged_up_to_where_all_of_them_are_known() {
    let at = |task: u64| -> DecisionAddress { format!("a/b/c/t{task}/n").parse().unwrap() };
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(Request::Scan { prefix: "a/".into(), after: None, limit: 3 });
    let (_, id, _) = bench.round();
    let row = |task: u64, ms| (at(task), version_at(&at(task), ms));
    let rows = |tasks: &[u64], ms| tasks.iter().map(|task| row(*task, ms)).collect();
    bench.answer(1, id, RecordsAnswer::Page(rows(&[1, 2, 4], 5), true));
    let foreign = vec![("z/b/c/d/e".parse().unwrap(), version(5))];
    bench.answer(3, id, RecordsAnswer::Page(foreign, false));
    let swapped = vec![(at(1), version_at(&at(2), 5))];
    bench.answer(3, id, RecordsAnswer::Page(swapped, false));
    assert!(bench.replies.is_empty(), "that was not what was asked");
    bench.answer(2, id, RecordsAnswer::Page(rows(&[2, 3, 5], 6), false));
    let Some(Reply::Page(Ok(page))) = bench.replies.pop() else { panic!() };
    let (rows, more) = page.value;
    let tasks: Vec<&str> = rows.iter().map(|(address, _)| address.task()).collect();
    assert_eq!((tasks, more), (vec!["t1", "t2", "t3"], true));
    assert_eq!(rows[1], row(2, 6), "the newest of all");
}

fn newest() -> Request {
    Request::Newest { address: here() }
}

fn find() -> Request {
    Request::Find { address: here(), request: theirs(5).1.request }
}

fn listing() -> Request {
    Request::Scan { prefix: "a/".into(), after: None, limit: 3 }
}

/// The code of the refusal of the last read.
fn refused(bench: &mut Bench) -> Option<&'static str> {
    match bench.replies.pop() {
        Some(Reply::Newest(Err(refusal)) | Reply::Found(Err(refusal))) => Some(refusal.code()),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_read_that_is_one_too_many_is_refused_as_what_it_is() {
    let mut bench = Bench::new(3);
    (0..REQUESTS_MAX).for_each(|_| bench.request(newest()));
    assert!(bench.replies.is_empty());
    bench.request(newest());
    bench.request(find());
    bench.request(listing());
    bench.request(Request::Versions { address: here() });
    bench.request(Request::Content { hash: mine().hash(), named: false });
    let refused = matches!(
        bench.replies.as_slice(),
        [
            Reply::Newest(Err(Refusal::Busy)),
            Reply::Found(Err(Refusal::Busy)),
            Reply::Page(Err(Refusal::Busy)),
            Reply::Versions(Err(Refusal::Busy)),
            Reply::Content(Err(Refusal::Busy)),
        ]
    );
    assert!(refused, "{:?}", bench.replies);
}

#[test]
fn a_refusal_says_whether_too_few_replicas_answer_or_those_that_do_said_nothing() {
    for (answering, code) in
        [(&[] as &[u64], "REPLICAS_UNAVAILABLE"), (&[2], "TIMED_OUT"), (&[2, 3], "TIMED_OUT")]
    {
        let mut bench = Bench::new(3);
        bench.tell(News::Answering(answering.iter().copied().map(MemberId).collect()));
        lease_until(&mut bench, 1_000, 0);
        bench.request(newest());
        bench.wait(READ_TIMEOUT_MS - 1);
        assert_eq!(refused(&mut bench), None);
        bench.wait(1);
        assert_eq!(refused(&mut bench), Some(code), "{answering:?}");
    }
}

#[test]
fn a_read_that_is_nearly_over_does_not_wake_all_the_time() {
    let mut bench = Bench::new(3);
    bench.request(newest());
    bench.now = Mono(READ_TIMEOUT_MS * 1_000 - 300);
    bench.wait(0);
    assert!(bench.wake >= Some(bench.now + GRAIN));
}

#[test]
fn who_goes_by_another_layout_is_asked_again_soon_and_has_not_lied() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(newest());
    let (members, id, _) = bench.round();
    bench.answer(members[1], id, RecordsAnswer::OtherLayout(4));
    assert!(bench.asked.is_empty(), "it may take a moment");
    let soon = bench.wake.unwrap();
    assert!(bench.now < soon && soon < bench.now + Duration::from_millis(PROPOSAL_RETRY_MS));
    bench.now = soon;
    bench.wait(0);
    assert_eq!(bench.round().0, [1, 2, 3]);
    assert!(bench.counts.is_empty(), "{:?}", bench.counts);
}

#[test]
fn for_one_that_can_not_help_the_others_are_asked_at_once() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(newest());
    let (members, id, _) = bench.round();
    bench.answer(members[1], id, RecordsAnswer::Unavailable);
    assert_eq!(bench.round().0, [1, 2, 3]);
    assert!(bench.counts.is_empty(), "that is no lie: {:?}", bench.counts);
}

#[test]
fn a_listing_needs_all_but_one_where_records_have_few_holders() {
    for (holders, needed) in [(7, 4), (8, 7)] {
        let mut bench = Bench::new(holders);
        bench.lease();
        bench.request(listing());
        let (members, id, _) = bench.round();
        assert_eq!(members.len(), needed);
        for from in members {
            assert!(bench.replies.is_empty());
            bench.answer(from, id, RecordsAnswer::Page(vec![], false));
        }
        let page = bench.replies.pop();
        assert!(matches!(page, Some(Reply::Page(Ok(Fresh { stale: false, .. })))), "{page:?}");
    }
}

#[test]
fn when_time_is_up_a_publication_was_not_found_whatever_was_answered() {
    for (disk, code) in [(DiskState::Writable, "TIMED_OUT"), (DiskState::Full, "DISK_FULL")] {
        let mut bench = Bench::new(3);
        bench.tell(News::Disk(disk));
        bench.request(find());
        let (members, id, _) = bench.round();
        bench.answer(1, id, RecordsAnswer::Newest(Some(theirs(5).1)));
        bench.answer(members[1], id, RecordsAnswer::Newest(None));
        bench.now = Mono(READ_TIMEOUT_MS * 1_000);
        lease_until(&mut bench, 1_000, 0);
        assert_eq!(refused(&mut bench), Some(code), "whoever asks wants to publish");
    }
}

#[test]
fn a_publication_that_all_have_stamped_far_ahead_tells_how_far() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(find());
    let (_, id, _) = bench.round();
    let mut ahead = theirs(bench.wall.0 + 61_500).1;
    ahead.at.counter = 7;
    (1..=3).for_each(|from| bench.answer(from, id, RecordsAnswer::Newest(Some(ahead))));
    bench.wait(READ_TIMEOUT_MS);
    let reply = bench.replies.pop();
    let is_told = matches!(reply, Some(Reply::Found(Err(Refusal::ClockWrong { ahead_s: -61 }))));
    assert!(is_told, "{reply:?}");
}

#[test]
fn a_node_that_lacks_what_was_committed_says_so() {
    let mut bench = Bench::new(3);
    bench.request(newest());
    bench.now = Mono(READ_TIMEOUT_MS * 1_000);
    lease_until(&mut bench, 1_000, 5);
    assert_eq!(refused(&mut bench), Some("NODE_BEHIND"));
}

#[test]
fn another_publication_at_the_address_is_no_answer() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(Request::Find { address: here(), request: RequestId([8; 16]) });
    let (members, id, _) = bench.round();
    bench.answer(members[1], id, RecordsAnswer::Newest(Some(theirs(5).1)));
    assert_eq!(bench.round().0.len(), 3);
    assert_eq!(bench.counts.get("bzzz_records_answers_rejected_total"), Some(&1));
}
