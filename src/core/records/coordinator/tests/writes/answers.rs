//! What replicas say of a write, one answer at a time: each of these fails where its rule is gone.

use super::*;
use crate::types::limits::CLOCK_AHEAD_MAX_MS;

/// A publication of which three replicas were asked; the id of the question.
fn published(bench: &mut Bench) -> u64 {
    lease_until(bench, 1_000, 0);
    bench.publish();
    bench.round().1
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
        let id = published(&mut bench);
        bench.answer(2, id, answer);
        assert!(bench.asked.is_empty(), "not at once");
        let again = bench.wake.unwrap();
        assert!(again > bench.now);
        assert_eq!(again < bench.now + retry, is_soon);
        bench.now = again;
        bench.wait(0);
        assert_eq!(bench.round().0, [1, 2, 3]);
        assert_eq!(bench.counts.contains_key("bzzz_records_replica_refused_total"), !is_soon);
    }
}

#[test]
fn nothing_is_stamped_above_what_a_wrong_clock_has_stamped() {
    let mut bench = Bench::new(3);
    let id = published(&mut bench);
    let ahead = version(bench.wall.0 + CLOCK_AHEAD_MAX_MS + 1);
    bench.answer(2, id, RecordsAnswer::NotGreater(ahead));
    assert!(bench.asked.is_empty());
    assert_eq!(bench.counts, BTreeMap::from([("bzzz_records_clock_ahead_total", 1)]));
}

#[test]
fn what_another_publication_was_first_is_none_of_this_ones() {
    let mut bench = Bench::new(3);
    let id = published(&mut bench);
    let (content, other) = theirs(5);
    bench.answer(2, id, RecordsAnswer::Repeated(other, Some(content.encode())));
    assert!(bench.asked.is_empty(), "it is not made again with that content");
}
