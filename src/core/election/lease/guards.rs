//! What leases go by, one rule at a time: each of these fails where its rule is gone.

use super::*;

const MS: u64 = 1_000;
const LEADER: PeerId = PeerId([9; 32]);

fn ms(ms: u64) -> Mono {
    Mono(ms * MS)
}

fn grant(term: Term, remaining_us: u64) -> Grant {
    Grant { term, committed: 9, remaining_us }
}

fn quorum(term: Term, at_ms: u64) -> Quorum {
    Quorum { term, acked_at: ms(at_ms), committed: 9 }
}

#[test]
fn a_lease_is_over_at_its_end() {
    let lease = Lease { term: 3, until: Mono(10), committed: 0 };
    assert!(lease.is_valid(Mono(9)) && !lease.is_valid(Mono(10)));
    let mut holder = Holder::default();
    holder.hold(lease);
    assert_eq!((holder.lease(Mono(9)), holder.lease(Mono(10))), (Some(lease), None));
    assert_eq!(holder.pass_on(Mono(9), 3).map(|grant| grant.remaining_us), Some(1));
}

#[test]
fn an_answer_may_grant_a_whole_lease_and_no_more_and_has_to_be_there_in_time() {
    let whole_us = LEASE_MS * MS;
    let granted = |remaining_us: u64, now: Mono| {
        let mut holder = Holder::default();
        holder.ask(1, Mono(0), LEADER);
        holder.on_granted(now, (LEADER, 1), &grant(3, remaining_us), 3).map(|lease| lease.until)
    };
    assert_eq!(granted(whole_us, Mono(1)), Some(Mono(whole_us)));
    assert_eq!(granted(whole_us + 1, Mono(1)), None);
    assert_eq!(granted(10, Mono(9)), Some(Mono(10)));
    assert_eq!(granted(10, Mono(10)), None);
}

#[test]
fn a_newer_term_is_taken_and_an_older_one_is_not() {
    let mut holder = Holder::default();
    holder.ask(1, Mono(0), LEADER);
    let taken = holder.on_granted(Mono(1), (LEADER, 1), &grant(4, 100), 3);
    assert_eq!(taken.map(|lease| (lease.term, lease.committed)), Some((4, 9)));
    holder.ask(2, Mono(0), LEADER);
    assert_eq!(holder.on_granted(Mono(1), (LEADER, 2), &grant(2, 100), 3), None);
}

#[test]
fn an_answer_that_was_overtaken_shortens_nothing() {
    let mut holder = Holder::default();
    holder.hold(Lease { term: 3, until: Mono(100), committed: 9 });
    let until = |holder: &mut Holder, term: Term, us: u64| {
        holder.ask(1, Mono(0), LEADER);
        let lease = holder.on_granted(Mono(1), (LEADER, 1), &grant(term, us), 3).unwrap();
        (lease.term, lease.until)
    };
    assert_eq!(until(&mut holder, 3, 99), (3, Mono(100)));
    assert_eq!(until(&mut holder, 3, 101), (3, Mono(101)));
    assert_eq!(until(&mut holder, 4, 50), (4, Mono(50)), "what is of an older term is over");
}

#[test]
fn as_many_questions_are_open_as_said_the_newest_and_a_denial_closes_one() {
    let mut holder = Holder::default();
    assert_eq!(holder.asked_at(), None);
    for nonce in 0..=ASKS_OPEN_MAX as u64 {
        holder.ask(nonce, Mono(nonce), LEADER);
    }
    assert_eq!(holder.asked.len(), ASKS_OPEN_MAX);
    assert_eq!(holder.asked_at(), Some(Mono(ASKS_OPEN_MAX as u64)));
    assert!(!holder.on_denied(LEADER, 0), "too old");
    assert!(holder.on_denied(LEADER, 1));
    assert!(!holder.on_denied(LEADER, 1), "once");
    holder.drop_through(0);
    assert_eq!(holder.asked_at(), None, "what was asked before is answered too late");
}

#[test]
fn what_can_be_granted_is_what_is_left_of_the_newest_majority_of_the_term() {
    let mut grantor = Grantor::default();
    grantor.on_quorum(quorum(3, 100));
    let left = |grantor: &Grantor, now: Mono, term: Term| {
        grantor.grant(now, term, false).map(|grant| grant.remaining_us)
    };
    assert_eq!(left(&grantor, ms(100), 3), Some(LEASE_MS * MS));
    assert_eq!(left(&grantor, Mono(ms(100 + LEASE_MS).0 - 1), 3), Some(1));
    assert_eq!(left(&grantor, ms(100 + LEASE_MS), 3), None, "nothing is left");
    assert_eq!(left(&grantor, ms(1_000), 3), None);
    grantor.on_quorum(quorum(2, 150));
    assert_eq!(left(&grantor, ms(100), 3), Some(LEASE_MS * MS), "of a term that is over");
    grantor.on_quorum(Quorum { committed: 10, ..quorum(3, 100) });
    assert_eq!(grantor.grant(ms(100), 3, false).map(|grant| grant.committed), Some(10));
    grantor.on_quorum(quorum(4, 50));
    assert_eq!(left(&grantor, ms(50), 3), None);
    assert_eq!(left(&grantor, ms(50), 4), Some(LEASE_MS * MS));
    // A sole voter is a majority at any time, and knows what it has committed.
    let sole = grantor.grant(ms(10_000), 4, true).unwrap();
    assert_eq!((sole.remaining_us, sole.committed), (LEASE_MS * MS, 9));
}

#[test]
fn a_transfer_waits_for_what_can_still_be_held_and_grants_go_on_without_one() {
    let holder = |id: u8| PeerId([id; 32]);
    let mut grantor = Grantor::default();
    grantor.on_quorum(quorum(3, 100));
    grantor.note(holder(1), ms(100));
    grantor.note(holder(2), ms(101));
    let over = ms(100) + HELD_FOR;
    assert_eq!(grantor.held_until(Mono(over.0 - 1)), Some(ms(101) + HELD_FOR), "the last one");
    assert_eq!(grantor.close(over), [holder(2)], "the first one has run out");
    assert_eq!(grantor.grant(ms(101), 3, true), None, "nothing while it is closed");
    grantor.on_revoked(holder(2));
    assert_eq!(grantor.held_until(over), None);
    grantor.reopen();
    assert!(grantor.grant(ms(101), 3, false).is_some());

    // What has run out is forgotten with the next grant.
    grantor.note(holder(1), ms(0));
    grantor.note(holder(2), ms(0) + HELD_FOR);
    assert_eq!(grantor.granted.len(), 1);
    grantor.close(ms(101));
    grantor.reset();
    assert_eq!(grantor.held_until(ms(101)), None);
    grantor.on_quorum(quorum(3, 100));
    assert!(grantor.grant(ms(101), 3, false).is_some(), "in a new term it grants again");
}

#[test]
fn what_is_of_a_term_is_dropped_through_it() {
    let mut holder = Holder::default();
    for (through, is_kept) in [(2, true), (3, false), (4, false)] {
        holder.hold(Lease { term: 3, until: Mono(10), committed: 0 });
        holder.drop_through(through);
        assert_eq!(holder.lease(Mono(1)).is_some(), is_kept, "{through}");
    }
}
