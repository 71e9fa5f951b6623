//! What is stamped while clocks differ, and what is shown of others' stamps.

use super::*;
use crate::types::limits::{CLOCK_AHEAD_MAX_MS, LEASE_WAIT_MS};

#[test]
fn what_a_clock_says_that_is_far_ahead_is_shown_as_stale_and_a_wrong_clock_publishes_nothing() {
    let mut bench = Bench::new(3);
    bench.lease();
    let future = version(1_000 + CLOCK_AHEAD_MAX_MS + 1);
    for answer in
        [RecordsAnswer::Newest(Some(future)), RecordsAnswer::Versions(vec![version(5), future])]
    {
        let request = match answer {
            RecordsAnswer::Newest(_) => Request::Newest { address: here() },
            _ => Request::Versions { address: here() },
        };
        bench.request(request);
        let (_, id, _) = bench.round();
        (1..=3).for_each(|from| bench.answer(from, id, answer.clone()));
        assert!(bench.replies.is_empty());
        bench.wait(500);
        match bench.replies.pop() {
            Some(Reply::Newest(Ok(found))) => {
                assert_eq!(found, Fresh { value: Some(future), stale: true });
            }
            Some(Reply::Versions(Ok(found))) => {
                assert_eq!(found, Fresh { value: vec![future], stale: true }, "stamped twice");
            }
            reply => panic!("{reply:?}"),
        }
        bench.lease();
        bench.asked.clear();
    }
    bench.tell(News::Clocks(Clocks { split_ms: Some(61_000), ..settled() }));
    bench.publish();
    let refused = bench.replies.pop();
    let Some(Reply::Written(Err(Refusal::ClockWrong { ahead_s: 61 }))) = refused else {
        panic!("{refused:?}")
    };
    assert!(bench.asked.is_empty());
    bench.tell(News::Clocks(settled()));
    bench.publish();
    assert!(!bench.asked.is_empty());
}

#[test]
fn a_clock_that_ran_ahead_comes_back_and_what_it_stamped_is_stamped_anew() {
    const HOUR: u64 = 3_600_000;
    let stamped = |bench: &mut Bench| {
        let (_, id, ask) = bench.round();
        let RecordsAsk::Post { version, .. } = ask else { panic!("{ask:?}") };
        (id, version.at.ms)
    };
    let mut bench = Bench::new(3);
    bench.lease();
    bench.wall = Wall(HOUR);
    bench.publish();
    let (id, ms) = stamped(&mut bench);
    assert_eq!(ms, HOUR);
    bench.wall = Wall(2_000);
    bench.answer(2, id, RecordsAnswer::ClockAhead);
    let (id, ms) = stamped(&mut bench);
    assert_eq!(ms, 2_000, "the one that is under way");
    [1, 2].into_iter().for_each(|from| bench.answer(from, id, RecordsAnswer::Stored));
    assert!(matches!(bench.replies.pop(), Some(Reply::Written(Ok(_)))));
    bench.publish();
    assert_eq!(stamped(&mut bench).1, 2_000, "the next one");
}

#[test]
fn nothing_is_stamped_before_the_clocks_were_compared() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.tell(News::Clocks(Clocks::default()));
    bench.publish();
    assert!(bench.asked.is_empty());
    // The clock turns out to be far behind.
    bench.wall = Wall(30 * 86_400_000);
    bench.tell(News::Clocks(settled()));
    let (_, _, ask) = bench.round();
    let RecordsAsk::Post { version, .. } = ask else { panic!("{ask:?}") };
    assert_eq!(version.at.ms, bench.wall.0);
}

#[test]
fn a_publication_that_waits_for_the_time_in_vain_says_so() {
    let mut bench = Bench::new(3);
    for clocks in [
        Clocks::default(),
        Clocks { is_settled: true, split_ms: Some(90_000), ..Clocks::default() },
    ] {
        bench.tell(News::Clocks(Clocks::default()));
        bench.publish();
        bench.tell(News::Clocks(clocks));
        bench.now = bench.now + Duration::from_millis(LEASE_WAIT_MS);
        bench.lease();
        let refused = bench.replies.pop();
        let Some(Reply::Written(Err(refusal))) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.code(), "CLOCK_WRONG");
        assert!(bench.asked.is_empty());
    }
}

/// One node alone, whose clock was ahead when it published here, and is right now.
#[test]
fn an_address_whose_latest_version_is_of_the_future_says_until_when() {
    const HOUR: u64 = 3_600_000;
    let mut bench = Bench::new(1);
    bench.lease();
    let future = version(bench.wall.0 + HOUR);
    bench.publish();
    let (_, id, _) = bench.round();
    bench.answer(1, id, RecordsAnswer::NotGreater(future));
    let Some(Reply::Written(Err(refusal))) = bench.replies.pop() else { panic!() };
    let until = Wall(bench.wall.0 + HOUR - CLOCK_AHEAD_MAX_MS);
    assert_eq!(refusal, Refusal::AddressAhead(until));

    // From then on the next one is stamped above it.
    bench.wall = until;
    bench.publish();
    let (_, id, _) = bench.round();
    bench.answer(1, id, RecordsAnswer::NotGreater(future));
    let (_, _, ask) = bench.round();
    let RecordsAsk::Post { version, .. } = ask else { panic!("{ask:?}") };
    assert!(version.at > future.at && version.at.ms == future.at.ms);

    // As long as one of the replicas may have it, it is not refused.
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    let (_, id, _) = bench.round();
    let elsewhere = version_at(&"a/b/c/d/f".parse().unwrap(), future.at.ms);
    for (from, newest) in [(1, future), (2, future), (3, elsewhere)] {
        bench.answer(from, id, RecordsAnswer::NotGreater(newest));
        assert!(bench.replies.is_empty(), "{from}");
    }
    bench.wait(5_100);
    assert!(matches!(bench.replies.pop(), Some(Reply::Written(Err(Refusal::OutcomeUnknown)))));
}
