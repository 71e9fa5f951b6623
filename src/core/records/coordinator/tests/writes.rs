//! Writes: what goes out, in which order, and when it is acknowledged, refused or unknown.

use super::*;
use crate::core::fixture::applied;
use crate::core::records::store::tests::Memory;
use crate::core::records::store::{StoreAnswer, StoreOp};

mod answers;
mod guards;

#[test]
fn a_publication_is_acknowledged_when_a_majority_has_content_and_version() {
    let mut bench = Bench::new(3);
    bench.publish();
    assert!(bench.asked.is_empty(), "nothing goes out without a lease");
    bench.lease();
    let (members, id, ask) = bench.round();
    assert_eq!(members, [1, 2, 3]);
    let RecordsAsk::Post { version, content, .. } = ask else { panic!("{ask:?}") };
    assert_eq!((version.at.ms, version.writer), (1_000, MemberId(1)));
    assert_eq!(content, mine().encode());
    bench.answer(1, id, RecordsAnswer::Stored);
    bench.answer(1, id, RecordsAnswer::Stored);
    assert!(bench.replies.is_empty(), "one replica is one, however often it answers");
    bench.answer(3, id, RecordsAnswer::Stored);
    let Some(Reply::Written(Ok(done))) = bench.replies.pop() else { panic!() };
    assert_eq!((done.version, done.lease_term), (Some(version), 4));
    assert_eq!(bench.told, [version]);
}

#[test]
fn where_others_hold_the_content_it_goes_first() {
    let mut bench = Bench::new(9);
    bench.lease();
    bench.publish();
    let (holders, id, ask) = bench.round();
    assert_eq!(holders.len(), 3);
    assert!(matches!(ask, RecordsAsk::Put { .. }));
    holders[..2].iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Stored));
    let (others, id, ask) = bench.round();
    assert_ne!(others, holders);
    let RecordsAsk::Add { version, .. } = ask else { panic!("{ask:?}") };
    assert_eq!((version.at.ms, version.writer), (1_000, MemberId(1)));
    bench.answer(others[1], id, RecordsAnswer::Stored);
    assert!(bench.replies.is_empty());
    bench.answer(others[2], id, RecordsAnswer::Stored);
    let Some(Reply::Written(Ok(done))) = bench.replies.pop() else { panic!() };
    assert_eq!(done.version, Some(version));
}

#[test]
fn where_few_hold_a_record_the_content_goes_first_even_to_the_same_few() {
    let mut bench = Bench::new(8);
    bench.lease();
    let of = |partition| sets(&bench.coordinator.standing.view.layout, partition);
    let mut numbered =
        (0..).map(|n| format!("a/b/c/task-{n}/e").parse::<DecisionAddress>().unwrap());
    let is_same = |address: &DecisionAddress| {
        let hash = sealed_at(address).hash();
        of(Partition::of_address(address)) == of(Partition::of_content(&hash))
    };
    let address = numbered.find(is_same).unwrap();
    bench.publish_at(address);
    assert!(matches!(bench.round().2, RecordsAsk::Put { .. }));
}

#[test]
fn a_version_that_was_posted_is_written_anew_once_content_and_version_part() {
    let mut bench = Bench::new(8);
    let seven = [1, 2, 3, 4, 5, 6, 7];
    bench.tell(applied(view(8, 4, &seven, None), &[]));
    bench.lease();
    bench.publish();
    let (_, id, ask) = bench.round();
    assert!(matches!(ask, RecordsAsk::Post { .. }));
    bench.answer(2, id, RecordsAnswer::Stored);
    bench.tell(applied(view(8, 5, &seven, Some(&[1, 2, 3, 4, 5, 6, 7, 8])), &[]));
    let (members, id, ask) = bench.round();
    assert!(matches!(ask, RecordsAsk::Put { .. }), "{ask:?}");
    members.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Stored));
    let (members, id, ask) = bench.round();
    assert!(matches!(ask, RecordsAsk::Add { .. }), "{ask:?}");
    members.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Stored));
    assert!(matches!(bench.replies.pop(), Some(Reply::Written(Ok(_)))));
}

#[test]
fn a_version_below_the_newest_is_stamped_above_it_and_asked_of_all_again() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    let (_, first, _) = bench.round();
    bench.answer(1, first, RecordsAnswer::Stored);
    bench.answer(2, first, RecordsAnswer::NotGreater(version(9_000)));
    let (members, second, ask) = bench.round();
    assert_eq!(members, [1, 2, 3]);
    let RecordsAsk::Post { version: stamped, .. } = ask else { panic!("{ask:?}") };
    assert!(stamped.at > version(9_000).at);
    bench.answer(3, first, RecordsAnswer::Stored);
    assert!(bench.replies.is_empty(), "that was said of the version before");
    (2..=3).for_each(|from| bench.answer(from, second, RecordsAnswer::Stored));
    let Some(Reply::Written(Ok(done))) = bench.replies.pop() else { panic!() };
    assert_eq!(done.version, Some(stamped));
}

#[test]
fn what_all_replicas_turn_away_as_too_much_is_refused() {
    for stamped_anew in [false, true] {
        let mut bench = Bench::new(3);
        bench.lease();
        bench.publish();
        let (_, mut id, _) = bench.round();
        if stamped_anew {
            bench.answer(1, id, RecordsAnswer::NotGreater(version(9_000)));
            id = bench.round().1;
        }
        (1..=2).for_each(|from| bench.answer(from, id, RecordsAnswer::Full));
        assert!(bench.replies.is_empty(), "the third may have it");
        bench.answer(3, id, RecordsAnswer::Full);
        match bench.replies.pop() {
            Some(Reply::Written(Err(Refusal::AddressFull))) if !stamped_anew => {}
            None if stamped_anew => {}
            reply => panic!("{reply:?}"),
        }
    }
}

#[test]
fn who_turned_it_away_under_another_layout_says_nothing_of_who_kept_it() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    let (_, id, _) = bench.round();
    (2..=3).for_each(|from| bench.answer(from, id, RecordsAnswer::Full));
    bench.tell(applied(view(3, 4, &[2, 3], None), &[]));
    bench.wait(110);
    bench.lease();
    let (members, id, _) = bench.round();
    members.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Full));
    assert!(bench.replies.is_empty(), "1 may have it, and have handed it on");
}

#[test]
fn a_write_that_waits_for_a_lease_does_not_wake_all_the_time() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    bench.now = bench.now + Duration::from_millis(250);
    let mut wakes = 0;
    let end = bench.now + Duration::from_millis(100);
    while bench.now < end {
        bench.wait(0);
        bench.now = bench.wake.expect("it is looked at again");
        wakes += 1;
    }
    assert!(wakes <= 21, "{wakes}");
}

#[test]
fn a_publication_that_was_made_before_is_made_again_with_the_content_of_then() {
    let first = sealed(2, 9, DecisionKind::Test);
    let stamp = (Hlc { ms: 5_000, counter: 0 }, MemberId(2));
    let request = RequestId([9; 16]);
    let then = Version::new(stamp, &here(), request, DecisionKind::Test, first.body());
    let first = Content::Sealed(first);
    for (members, holds_content) in [(3, true), (3, false), (9, true)] {
        let mut bench = Bench::new(members);
        bench.lease();
        bench.publish();
        let (mut holders, mut id, _) = bench.round();
        if members > 3 {
            holders.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Stored));
            (holders, id, _) = bench.round();
        }
        let other = Some(Content::Raw(Bytes(vec![3])).encode());
        bench.answer(holders[2], id, RecordsAnswer::Repeated(then, other));
        assert!(bench.asked.is_empty(), "that was another content");
        let foreign = version_at(&"a/b/c/d/f".parse().unwrap(), 5_000);
        let foreign = Version { request, ..foreign };
        bench.answer(holders[2], id, RecordsAnswer::Repeated(foreign, None));
        assert!(bench.asked.is_empty(), "that is of another address");
        let content = holds_content.then(|| first.encode());
        bench.answer(holders[1], id, RecordsAnswer::Repeated(then, content.clone()));
        let mut ask;
        (holders, id, ask) = bench.round();
        if members > 3 {
            assert!(matches!(ask, RecordsAsk::Put { .. }), "{ask:?}");
            holders.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Stored));
            (holders, id, ask) = bench.round();
        }
        let again = match ask {
            RecordsAsk::Post { version, content: sent, settled, .. } => {
                assert_eq!((Some(sent), settled), (content, true));
                version
            }
            RecordsAsk::Add { version, settled: true, .. } if !holds_content || members > 3 => {
                version
            }
            ask => panic!("{ask:?}"),
        };
        assert_eq!((again.content, again.kind), (then.content, then.kind));
        assert!(again > then && again.is_of(&here()));
        holders[..2].iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Stored));
        let Some(Reply::Written(Ok(done))) = bench.replies.pop() else { panic!() };
        assert_eq!(done.version, Some(again));
        assert_eq!(bench.told, [again]);
    }
}

#[test]
fn what_a_replica_has_instead_has_to_be_of_the_address_and_greater() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    let (_, id, _) = bench.round();
    let elsewhere = version_at(&"a/b/c/d/f".parse().unwrap(), 9_000);
    for lie in [elsewhere, version(900)] {
        bench.answer(2, id, RecordsAnswer::NotGreater(lie));
        assert!(bench.asked.is_empty(), "nothing is stamped anew for it");
    }
    assert_eq!(bench.counts["bzzz_records_answers_rejected_total"], 2);
    bench.answer(2, id, RecordsAnswer::NotGreater(version(9_000)));
    assert_eq!(bench.round().0, [1, 2, 3]);
}

#[test]
fn tries_of_which_two_replicas_have_different_contents_come_to_be_one() {
    let mut bench = Bench::new(2);
    bench.lease();
    let mut stores = [Memory::default(), Memory::default()];
    let keep = |ask: RecordsAsk| match ask {
        RecordsAsk::Post { address, version, content, settled } => {
            StoreOp::Post { address, version, generation: 1, content, settled, vouched: None }
        }
        RecordsAsk::Add { address, version, settled } => {
            StoreOp::Add { address, version, settled, vouched: None }
        }
        ask => panic!("{ask:?}"),
    };
    let earlier = sealed(2, 9, DecisionKind::Code);
    let stamp = (Hlc { ms: 900, counter: 0 }, MemberId(2));
    let version =
        Version::new(stamp, &here(), RequestId([9; 16]), DecisionKind::Code, earlier.body());
    let content = Content::Sealed(earlier).encode();
    let ask = RecordsAsk::Post { address: here(), version, content, settled: false };
    stores[1].one(keep(ask));
    bench.publish();
    for _ in 0..8 {
        for (to, id, ask) in std::mem::take(&mut bench.asked) {
            let store = &mut stores[usize::try_from(to.0).unwrap() - 1];
            let answer = match store.one(keep(ask)) {
                StoreAnswer::Stored => RecordsAnswer::Stored,
                StoreAnswer::NotGreater(newest) => RecordsAnswer::NotGreater(newest),
                StoreAnswer::Repeated(first, content) => RecordsAnswer::Repeated(first, content),
                answer => panic!("{answer:?}"),
            };
            bench.answer(to.0, id, answer);
        }
    }
    let Some(Reply::Written(Ok(done))) = bench.replies.pop() else { panic!("{:?}", bench.counts) };
    assert_eq!(
        done.version.map(|done| done.content),
        Some(version.content),
        "the first one counts"
    );
}

/// Found by seed 44 of five nodes over 60 seconds: the acknowledgement waited for a lease when a
/// replica refused the version that the others had, and named one that nobody had.
#[test]
fn what_is_acknowledged_is_what_the_replicas_have() {
    let mut bench = Bench::new(3);
    bench.lease();
    bench.publish();
    let (_, id, ask) = bench.round();
    let RecordsAsk::Post { version: kept, .. } = ask else { panic!("{ask:?}") };
    bench.now = bench.now + Duration::from_millis(250);
    (1..=2).for_each(|from| bench.answer(from, id, RecordsAnswer::Stored));
    assert!(bench.replies.is_empty(), "the lease has run out");
    bench.answer(3, id, RecordsAnswer::NotGreater(version(9_000)));
    bench.lease();
    let Some(Reply::Written(Ok(done))) = bench.replies.pop() else { panic!() };
    assert_eq!(done.version, Some(kept));
}

#[test]
fn a_write_is_refused_before_and_unknown_after_it_was_sent() {
    let mut bench = Bench::new(3);
    bench.publish();
    bench.wait(700);
    assert!(matches!(bench.replies.pop(), Some(Reply::Written(Err(Refusal::NoLeader)))));
    bench.lease();
    bench.tell(News::Answering([MemberId(1)].into()));
    bench.publish();
    assert!(bench.asked.is_empty(), "two of three do not answer");
    bench.wait(700);
    let refused = bench.replies.pop();
    assert!(matches!(refused, Some(Reply::Written(Err(Refusal::Minority { .. })))), "{refused:?}");
    bench.tell(News::Answering([MemberId(2)].into()));
    bench.lease();
    bench.publish();
    let (_, id, _) = bench.round();
    bench.answer(1, id, RecordsAnswer::Stored);
    bench.wait(5_100);
    assert!(matches!(bench.replies.pop(), Some(Reply::Written(Err(Refusal::OutcomeUnknown)))));
}

#[test]
fn while_the_layout_changes_both_sets_have_to_have_it() {
    let mut bench = Bench::new(5);
    bench.tell(applied(view(5, 4, &[1, 2, 3], Some(&[3, 4, 5])), &[]));
    bench.lease();
    bench.publish();
    let (members, id, _) = bench.round();
    assert_eq!(members, [1, 2, 3, 4, 5]);
    (1..=3).for_each(|from| bench.answer(from, id, RecordsAnswer::Stored));
    assert!(bench.replies.is_empty(), "of the next set only one has it");
    bench.answer(5, id, RecordsAnswer::Stored);
    assert!(matches!(bench.replies.pop(), Some(Reply::Written(Ok(_)))));
}
