//! Reads of contents: where they are looked for, what is a good copy, and when there is none.

use super::*;
use crate::types::limits::{CONTENT_TIMEOUT_MS, READ_TIMEOUT_MS};
use std::collections::BTreeSet;

#[test]
fn a_content_comes_from_here_or_from_others_and_is_checked() {
    let content = Content::Raw(Bytes(vec![7; 10]));
    let hash = content.hash();
    let mut bench = Bench::new(3);
    bench.lease();
    bench.request(Request::Content { hash, named: false });
    let (members, id, _) = bench.round();
    assert_eq!(members, [1], "our own copy is the nearest");
    bench.answer(1, id, RecordsAnswer::Content(Some(Content::Raw(Bytes(vec![8])).encode())));
    let (members, id, _) = bench.round();
    assert_eq!(members, [1, 2, 3], "it was damaged");
    bench.answer(2, id, RecordsAnswer::Content(Some(content.encode())));
    let Some(Reply::Content(Ok(found))) = bench.replies.pop() else { panic!() };
    assert_eq!(found, Some(content.encode()));

    bench.request(Request::Content { hash, named: false });
    let (_, id, _) = bench.round();
    bench.answer(1, id, RecordsAnswer::Content(None));
    assert_eq!(bench.round().0, [2, 3]);
    bench.wait(500);
    bench.wait(5_010);
    let given_up = bench.replies.pop();
    assert!(matches!(given_up, Some(Reply::Content(Err(_)))), "one says that it has none");
    bench.lease();
    bench.request(Request::Content { hash, named: false });
    let (_, id, _) = bench.round();
    bench.wait(110);
    bench.lease();
    assert_eq!(bench.round().0, [1, 2, 3]);
    bench.wait(300);
    assert!(bench.replies.is_empty() && bench.asked.is_empty(), "it may be large");
    bench.lease();
    bench.answer(3, id, RecordsAnswer::Content(Some(content.encode())));
    assert!(matches!(bench.replies.pop(), Some(Reply::Content(Ok(Some(_))))));
    bench.request(Request::Content { hash, named: false });
    bench.wait(410);
    bench.lease();
    bench.wait(5_010);
    bench.lease();
    bench.asked.clear();
    assert!(matches!(bench.replies.pop(), Some(Reply::Content(Err(_)))), "not for ever");
    bench.request(Request::Content { hash, named: false });
    let (_, id_2, _) = bench.round();
    assert_ne!(id, id_2);
    bench.lease();
    (1..=3).for_each(|from| bench.answer(from, id_2, RecordsAnswer::Content(None)));
    assert!(matches!(bench.replies.pop(), Some(Reply::Content(Ok(None)))));
}

/// A content that two of three holders don't have: who asked for it, and the id of the question.
fn lacked_by_two(bench: &mut Bench, named: bool) -> (Content, u64) {
    let content = Content::Raw(Bytes(vec![7; 10]));
    bench.lease();
    bench.request(Request::Content { hash: content.hash(), named });
    let (_, id, _) = bench.round();
    (1..=2).for_each(|from| bench.answer(from, id, RecordsAnswer::Content(None)));
    (content, id)
}

#[test]
fn a_content_that_one_holder_alone_has_is_found() {
    for named in [true, false] {
        let mut bench = Bench::new(3);
        let (content, id) = lacked_by_two(&mut bench, named);
        assert!(bench.replies.is_empty(), "the third may have it");
        bench.answer(3, id, RecordsAnswer::Content(Some(content.encode())));
        assert!(matches!(bench.replies.pop(), Some(Reply::Content(Ok(Some(_))))));
        let (_, id) = lacked_by_two(&mut bench, named);
        bench.answer(3, id, RecordsAnswer::Content(None));
        assert!(matches!(bench.replies.pop(), Some(Reply::Content(Ok(None)))), "all say so");
    }
}

#[test]
fn a_content_that_a_version_names_is_not_gone_while_a_holder_has_not_said_so() {
    for (named, answers) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut bench = Bench::new(3);
        if !answers {
            bench.tell(News::Answering([MemberId(1), MemberId(2)].into()));
        }
        let (_, id) = lacked_by_two(&mut bench, named);
        if answers {
            // It failed, is busy, or may lack what it once had.
            bench.answer(3, id, RecordsAnswer::Unavailable);
        }
        assert_eq!(bench.replies.is_empty(), named || answers);
        bench.wait(390);
        bench.lease();
        bench.wait(20);
        if named && answers {
            assert!(bench.replies.is_empty(), "it may be on its way");
            bench.wait(4_990);
            bench.lease();
            bench.wait(20);
        }
        match bench.replies.pop() {
            Some(Reply::Content(Ok(None))) if !named => {}
            Some(Reply::Content(Err(refusal))) if named => {
                let expected =
                    Refusal::ReplicasUnavailable { reachable: 2, needed: 3, replicas: 3 };
                assert!(refusal == expected && refusal.is_retryable(), "{refusal:?}");
            }
            reply => panic!("named {named}, answers {answers}: {reply:?}"),
        }
    }
}

#[test]
fn a_content_that_its_signer_has_not_signed_is_no_answer() {
    let good = sealed(1, 9, DecisionKind::Code);
    let hash = good.hash();
    let altered = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = good.clone();
        change(&mut envelope);
        Content::Sealed(envelope).encode()
    };
    let lies = [
        altered(&|e| e.file.0[0] ^= 1),
        altered(&|e| e.signature = Bytes(vec![0; 64])),
        altered(&|e| *e = e.clone().sign(&KeyedVault(peer(3)))),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut bench = Bench::new(3);
        bench.lease();
        bench.request(Request::Content { hash, named: false });
        let (_, id, _) = bench.round();
        bench.answer(1, id, RecordsAnswer::Content(Some(lie)));
        assert!(bench.replies.is_empty(), "{number}");
        assert_eq!(bench.counts["bzzz_records_answers_rejected_total"], 1, "{number}");
        bench.answer(2, id, RecordsAnswer::Content(Some(Content::Sealed(good.clone()).encode())));
        assert!(matches!(bench.replies.pop(), Some(Reply::Content(Ok(Some(_))))), "{number}");
    }
}

/// A content was asked for, and these don't have it.
fn lacked_by(bench: &mut Bench, members: &[u64], named: bool) {
    bench.request(Request::Content { hash: mine().hash(), named });
    let (_, id, _) = bench.round();
    members.iter().for_each(|from| bench.answer(*from, id, RecordsAnswer::Content(None)));
}

/// Whether it was found, or the code of the refusal.
fn found(bench: &mut Bench) -> Option<Result<bool, &'static str>> {
    match bench.replies.pop() {
        Some(Reply::Content(found)) => {
            Some(found.map(|found| found.is_some()).map_err(|refusal| refusal.code()))
        }
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn that_one_holder_lacks_a_content_says_nothing_of_the_others() {
    let mut bench = Bench::new(3);
    lease_until(&mut bench, 10_000, 0);
    lacked_by(&mut bench, &[1], false);
    bench.asked.clear();
    bench.wait(2 * PROPOSAL_RETRY_MS);
    assert!(bench.asked.is_empty(), "what may be large is not asked for again so soon");
    bench.wait(READ_TIMEOUT_MS - 2 * PROPOSAL_RETRY_MS);
    assert_eq!(found(&mut bench), None, "it may be large, and on its way");
    bench.wait(CONTENT_TIMEOUT_MS - 1);
    assert_eq!(found(&mut bench), None);
    bench.wait(1);
    assert_eq!(found(&mut bench), Some(Err("TIMED_OUT")));
}

#[test]
fn that_a_content_is_nowhere_is_said_under_a_lease_only() {
    for (named, lacking) in [(false, 2), (true, 2), (false, 3), (true, 3)] {
        let mut bench = Bench::new(3);
        bench.tell(News::Answering((2..=lacking).map(MemberId).collect()));
        lacked_by(&mut bench, &[1, 2, 3][..lacking as usize], named);
        assert_eq!(found(&mut bench), None);
        bench.wait(READ_TIMEOUT_MS);
        assert_eq!(found(&mut bench), Some(Err("NO_LEADER")), "there is nobody to wait for");
    }
}

#[test]
fn a_content_that_all_lack_is_not_said_to_be_with_one_that_is_silent() {
    for (named, expected) in [(false, Ok(false)), (true, Err("TIMED_OUT"))] {
        let mut bench = Bench::new(3);
        lacked_by(&mut bench, &[1, 2, 3], named);
        bench.now = Mono(READ_TIMEOUT_MS * 1_000);
        lease_until(&mut bench, 1_000, 0);
        assert_eq!(found(&mut bench), Some(expected), "named {named}");
    }
}

#[test]
fn too_few_holders_are_not_waited_for() {
    for named in [false, true] {
        let mut bench = Bench::new(3);
        bench.tell(News::Answering(BTreeSet::new()));
        lease_until(&mut bench, 1_000, 0);
        lacked_by(&mut bench, &[], named);
        bench.wait(READ_TIMEOUT_MS);
        assert_eq!(found(&mut bench), Some(Err("REPLICAS_UNAVAILABLE")), "one of three is no help");
    }
}

#[test]
fn a_content_that_is_waited_for_longer_does_not_wake_all_the_time() {
    let mut bench = Bench::new(3);
    lease_until(&mut bench, 1_000, 0);
    lacked_by(&mut bench, &[], false);
    // It was late to wake.
    bench.wait(READ_TIMEOUT_MS);
    assert_eq!(found(&mut bench), None);
    assert!(bench.wake >= Some(bench.now + GRAIN));
}
