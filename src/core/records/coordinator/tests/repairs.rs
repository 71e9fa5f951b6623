//! What a read finds with too few replicas is written back before it is shown.

use super::*;

#[test]
fn a_read_writes_back_what_not_enough_replicas_have_with_its_content() {
    let (theirs, newest) = theirs(5);
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(Request::Newest { address: here() });
    let (members, id, _) = bench.round();
    let &[1, other] = members.as_slice() else { panic!("{members:?} were asked") };
    let third = 5 - other;
    bench.answer(1, id, RecordsAnswer::Newest(None));
    bench.answer(other, id, RecordsAnswer::Newest(Some(newest)));
    assert_eq!(bench.round().0, [third], "it may be on its way there");
    bench.answer(third, id, RecordsAnswer::Newest(None));
    assert!(bench.replies.is_empty(), "whoever asks 1 and the third next would see nothing");
    let (members, fetch, ask) = bench.round();
    assert_eq!((members, ask), (vec![other], RecordsAsk::Content { hash: newest.content }));
    let false_one = Content::Raw(Bytes(vec![3])).encode();
    bench.answer(other, fetch, RecordsAnswer::Content(Some(false_one)));
    let (members, fetch, _) = bench.round();
    assert_eq!(members, [1, 2, 3], "another one may have it");
    bench.answer(other, fetch, RecordsAnswer::Content(Some(Content::Raw(Bytes(vec![3])).encode())));
    assert!(bench.asked.is_empty(), "a false one does not make everybody be asked again at once");
    bench.answer(other, fetch, RecordsAnswer::Content(Some(theirs.encode())));
    let (members, repair, ask) = bench.round();
    assert_eq!(members, [1, third]);
    let content = Some(theirs.encode());
    assert_eq!(ask, RecordsAsk::Merge { address: here(), version: newest, content });
    bench.answer(third, repair, RecordsAnswer::Stored);
    let Some(Reply::Newest(Ok(fresh))) = bench.replies.pop() else { panic!() };
    assert_eq!(fresh, Fresh { value: Some(newest), stale: false });
}

#[test]
fn while_content_and_version_part_a_repair_places_the_content_first() {
    let (theirs, newest) = theirs(5);
    let mut bench = Bench::new(8);
    let (seven, eight) = ([1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 8]);
    bench.tell(applied(view(8, 4, &seven, Some(&eight)), &[]));
    bench.lease();
    bench.request(Request::Newest { address: here() });
    let (_, id, _) = bench.round();
    bench.answer(1, id, RecordsAnswer::Newest(Some(newest)));
    eight[1..].iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Newest(None)));
    let (_, fetch, ask) = bench.round();
    assert_eq!(ask, RecordsAsk::Content { hash: newest.content });
    bench.answer(1, fetch, RecordsAnswer::Content(Some(theirs.encode())));
    let (members, put, ask) = bench.round();
    assert!(matches!(ask, RecordsAsk::Put { .. }), "{ask:?}");
    members.iter().for_each(|from| bench.answer(*from, put, RecordsAnswer::Stored));
    let (members, merge, ask) = bench.round();
    assert_eq!(ask, RecordsAsk::Merge { address: here(), version: newest, content: None });
    members.iter().for_each(|from| bench.answer(*from, merge, RecordsAnswer::Stored));
    let Some(Reply::Newest(Ok(fresh))) = bench.replies.pop() else { panic!() };
    assert_eq!(fresh, Fresh { value: Some(newest), stale: false });
}

/// Up to where member 1 and the third lack what the other one of the two that were asked has: that one, the third, and
/// the id of the question.
fn lacked_by_two(bench: &mut Bench) -> (u64, u64, u64) {
    let newest = theirs(5).1;
    lease_until(bench, 1_000, 0);
    bench.request(Request::Newest { address: here() });
    let (members, id, _) = bench.round();
    let &[1, other] = members.as_slice() else { panic!("{members:?} were asked") };
    let third = 5 - other;
    bench.answer(1, id, RecordsAnswer::Newest(None));
    bench.answer(other, id, RecordsAnswer::Newest(Some(newest)));
    assert_eq!(bench.round().0, [third]);
    (other, third, id)
}

#[test]
fn a_version_is_waited_for_where_it_may_be_on_its_way_and_nowhere_else() {
    let is_fetched = |bench: &mut Bench, from: u64| {
        let (members, _, ask) = bench.round();
        (members, ask) == (vec![from], RecordsAsk::Content { hash: theirs(5).1.content })
    };
    let mut bench = Bench::new(3);
    let (other, ..) = lacked_by_two(&mut bench);
    bench.wait(PROPOSAL_RETRY_MS - 1);
    assert!(bench.asked.is_empty(), "the third may be about to say that it has it");
    bench.wait(1);
    assert!(is_fetched(&mut bench, other), "it has had its time");

    let mut bench = Bench::new(3);
    bench.tell(News::Answering([MemberId(2)].into()));
    bench.lease();
    bench.request(Request::Newest { address: here() });
    let (members, id, _) = bench.round();
    assert_eq!(members, [1, 2]);
    bench.answer(1, id, RecordsAnswer::Newest(None));
    bench.answer(2, id, RecordsAnswer::Newest(Some(theirs(5).1)));
    assert!(is_fetched(&mut bench, 2), "nobody hears from the third");
}

#[test]
fn where_few_hold_a_record_its_content_is_kept_already() {
    let newest = theirs(5).1;
    let mut bench = Bench::new(9);
    bench.lease();
    bench.request(Request::Newest { address: here() });
    let (members, id, _) = bench.round();
    bench.answer(members[0], id, RecordsAnswer::Newest(Some(newest)));
    bench.answer(members[1], id, RecordsAnswer::Newest(None));
    let (third, ..) = bench.round();
    bench.answer(third[0], id, RecordsAnswer::Newest(None));
    let (lacking, _, ask) = bench.round();
    assert_eq!(lacking.len(), 2);
    assert_eq!(ask, RecordsAsk::Merge { address: here(), version: newest, content: None });
}

#[test]
fn a_content_is_placed_once_a_majority_of_each_of_its_sets_has_it() {
    let (theirs, newest) = theirs(5);
    let mut bench = Bench::new(8);
    let (seven, eight) = ([1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 8]);
    bench.tell(applied(view(8, 4, &seven, Some(&eight)), &[]));
    bench.lease();
    bench.request(Request::Newest { address: here() });
    let (_, id, _) = bench.round();
    bench.answer(1, id, RecordsAnswer::Newest(Some(newest)));
    eight[1..].iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Newest(None)));
    let (_, fetch, _) = bench.round();
    bench.answer(1, fetch, RecordsAnswer::Content(Some(theirs.encode())));
    let (_, put, _) = bench.round();
    let sets = bench.coordinator.sets(Some(Partition::of_content(&newest.content)));
    let next: Vec<u64> = sets[1].members.iter().map(|member| member.0).collect();
    assert_eq!(next.len(), 3);
    let others = seven.into_iter().filter(|member| !next.contains(member)).take(4);
    for from in others.chain([next[0], next[0]]) {
        bench.answer(from, put, RecordsAnswer::Stored);
        assert!(bench.asked.is_empty(), "of the next set one has it at most");
    }
    bench.answer(next[1], put, RecordsAnswer::Stored);
    assert!(matches!(bench.round().2, RecordsAsk::Merge { .. }));
}

#[test]
fn a_replica_of_another_term_or_layout_is_asked_again_soon() {
    let retry = Duration::from_millis(PROPOSAL_RETRY_MS);
    for (answer, is_soon) in [
        (RecordsAnswer::OtherTerm(5), true),
        (RecordsAnswer::OtherLayout(5), true),
        (RecordsAnswer::Unavailable, false),
    ] {
        let mut bench = Bench::new(3);
        let (other, third, id) = lacked_by_two(&mut bench);
        bench.answer(third, id, RecordsAnswer::Newest(None));
        let (_, fetch, _) = bench.round();
        let content = Some(theirs(5).0.encode());
        bench.answer(other, fetch, RecordsAnswer::Content(content));
        let (lacking, repair, ask) = bench.round();
        bench.answer(third, repair, answer);
        assert!(bench.asked.is_empty(), "not at once");
        let again = bench.wake.unwrap();
        assert_eq!(again < bench.now + retry, is_soon);
        assert!(again > bench.now);
        bench.now = again;
        bench.wait(0);
        assert_eq!(bench.round(), (lacking, repair, ask));
    }
}
