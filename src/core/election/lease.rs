//! The lease: who may write, for how long, without asking a clock of anybody else's.
//!
//! Problem: a node cut off from the majority must stop acknowledging writes before the majority
//! can have elected another leader, although it does not know that it is cut off.
//!
//! Flow: the *holder* notes t0 on its own clock and asks the leader. The *grantor* (the leader)
//! answers with what is left of the last round that a majority acknowledged, counted from the
//! sending of that round. The lease ends at t0 + remaining on the holder's clock: time in transit
//! only ever shortens it. A leader is a holder too and asks itself.
//!
//! In a large cluster not everybody can ask the leader. A holder *passes on* what is left of its own lease to
//! those whose source it is (`core::overlay::Overlay`); they count from the sending of their own question, so
//! theirs ends no later than the lease that it comes from.
//!
//! Invariants:
//! 1. A lease ends before the earliest time at which another leader can have been elected without
//!    a transfer: `LEASE_MS` is 0.8 of the time for which a voter that heard a leader grants no
//!    vote.
//! 2. Before a transfer, every lease granted in the term has been given back or has run out. A holder that has
//!    passed its lease on does not give it back: it lets it run out.
//! 3. A lease is used in its own term only.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::core::consensus::Quorum;
use crate::messages::wire::Grant;
use crate::types::fault::{Fault, planted};
use crate::types::limits::{CLOCK_DRIFT_PERMILLE_MAX, ELECTION_TIMEOUT_MAX_MS, LEASE_MS};
use crate::types::{Mono, PeerId, Term};

/// Full length of a lease.
pub const LEASE: Duration = Duration::from_millis(LEASE_MS);

/// For how long a grantor takes a lease for held that it is not given back: `LEASE` on a clock that is as slow as
/// clocks may be, by one that is as fast.
pub const HELD_FOR: Duration = Duration::from_millis(ELECTION_TIMEOUT_MAX_MS);

const _: () = assert!(
    LEASE_MS * (1_000 + CLOCK_DRIFT_PERMILLE_MAX)
        <= ELECTION_TIMEOUT_MAX_MS * (1_000 - CLOCK_DRIFT_PERMILLE_MAX),
    "a lease is over when its grantor takes it for over"
);

/// Questions that one holder keeps open; an answer to an older one comes too late to be of use.
const ASKS_OPEN_MAX: usize = 16;

/// The right to coordinate and acknowledge writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Term of the leader that granted it.
    pub term: Term,
    /// End, on this node's clock.
    pub until: Mono,
    /// Committed index when it was granted.
    pub committed: u64,
}

impl Lease {
    /// True while it may be used.
    pub fn is_valid(&self, now: Mono) -> bool {
        now < self.until
    }
}

/// The side that asks.
#[derive(Debug, Default)]
pub struct Holder {
    /// Open questions, oldest first, and whom they went to: on a slow link several are under way at once.
    asked: VecDeque<(u64, Mono, PeerId)>,
    lease: Option<Lease>,
}

impl Holder {
    /// The lease, if it is still good.
    pub fn lease(&self, now: Mono) -> Option<Lease> {
        self.lease.filter(|lease| lease.is_valid(now))
    }

    /// When the newest open question was sent.
    pub fn asked_at(&self) -> Option<Mono> {
        self.asked.back().map(|(_, at, _)| *at)
    }

    /// Notes that a question goes out now.
    pub fn ask(&mut self, nonce: u64, now: Mono, to: PeerId) {
        if self.asked.len() == ASKS_OPEN_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((nonce, now, to));
    }

    /// Takes an answer. A wrong nonce, another sender than the one that was asked, an older term or a span that
    /// no leader may grant is ignored.
    pub fn on_granted(
        &mut self,
        now: Mono,
        (from, nonce): (PeerId, u64),
        grant: &Grant,
        term: Term,
    ) -> Option<Lease> {
        let asked_at = self.take(from, nonce)?;
        let remaining = Duration::from_micros(grant.remaining_us);
        if grant.term < term || remaining > LEASE {
            return None;
        }
        let start = if planted(Fault::LeaseFromArrival) { now } else { asked_at };
        let lease =
            Lease { term: grant.term, until: start + remaining, committed: grant.committed };
        if !lease.is_valid(now) {
            return None;
        }
        // An answer that was overtaken must not shorten what a later one gave.
        let held = self.lease(now);
        self.lease = held.into_iter().chain([lease]).max_by_key(|lease| (lease.term, lease.until));
        self.lease
    }

    /// The question was answered with no.
    pub fn on_denied(&mut self, from: PeerId, nonce: u64) -> bool {
        self.take(from, nonce).is_some()
    }

    /// When the question was sent; it is open no more.
    fn take(&mut self, from: PeerId, nonce: u64) -> Option<Mono> {
        let is_it = |(asked, _, to): &(u64, Mono, PeerId)| (*asked, *to) == (nonce, from);
        let position = self.asked.iter().position(is_it)?;
        self.asked.remove(position).map(|(_, at, _)| at)
    }

    /// What can be passed on of the lease of `term`: what is left of it.
    pub fn pass_on(&self, now: Mono, term: Term) -> Option<Grant> {
        let lease = self.lease(now).filter(|lease| lease.term == term)?;
        let left = if planted(Fault::PassOnWholeLease) { LEASE } else { lease.until.since(now) };
        let remaining_us = u64::try_from(left.as_micros()).unwrap_or(0);
        Some(Grant { term, committed: lease.committed, remaining_us })
    }

    /// Takes a lease that this node, as leader, grants itself.
    pub fn hold(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// Gives up every lease of `term` and before, and the open question.
    pub fn drop_through(&mut self, term: Term) {
        self.asked.clear();
        if self.lease.is_some_and(|lease| lease.term <= term) {
            self.lease = None;
        }
    }
}

/// The side that answers, on the leader.
#[derive(Debug, Default)]
pub struct Grantor {
    quorum: Option<Quorum>,
    /// Ends of what was granted, on this node's clock and rounded up.
    granted: BTreeMap<PeerId, Mono>,
    /// Until then something may be held that was granted before this machine was started.
    unknown_until: Mono,
    closed: bool,
}

impl Grantor {
    /// A grantor that has just started, perhaps again, and does not know what it has granted before.
    pub fn new(now: Mono) -> Self {
        Self { unknown_until: now + HELD_FOR, ..Self::default() }
    }

    /// A majority acknowledged a round.
    pub fn on_quorum(&mut self, quorum: Quorum) {
        if self
            .quorum
            .is_none_or(|known| (known.term, known.acked_at) <= (quorum.term, quorum.acked_at))
        {
            self.quorum = Some(quorum);
        }
    }

    /// This node does not lead any more, or leads in a new term.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// What can be granted in `term` at `now`; `sole` if this node is the only voter.
    pub fn grant(&self, now: Mono, term: Term, sole: bool) -> Option<Grant> {
        if self.closed {
            return None;
        }
        let quorum = self.quorum.filter(|quorum| quorum.term == term);
        let (age, committed) = match quorum {
            Some(quorum) if sole => (Duration::ZERO, quorum.committed),
            Some(quorum) => (now.since(quorum.acked_at), quorum.committed),
            None if sole => (Duration::ZERO, 0),
            None => return None,
        };
        let remaining = LEASE.checked_sub(age).filter(|left| !left.is_zero())?;
        let remaining_us = u64::try_from(remaining.as_micros()).unwrap_or(0);
        Some(Grant { term, committed, remaining_us })
    }

    /// Remembers what was granted to whom. The holder's lease ends at its t0 + remaining, and its
    /// t0 lies before now; but its clock may be slower than this one.
    pub fn note(&mut self, holder: PeerId, now: Mono) {
        self.granted.retain(|_, until| *until > now);
        self.granted.insert(holder, now + HELD_FOR);
    }

    /// Grants nothing more in this term, and names those who may still hold something.
    pub fn close(&mut self, now: Mono) -> Vec<PeerId> {
        self.closed = true;
        self.granted.retain(|_, until| *until > now);
        self.granted.keys().copied().collect()
    }

    /// Grants again: the transfer did not take place.
    pub fn reopen(&mut self) {
        self.closed = false;
    }

    /// A holder gave back what it had.
    pub fn on_revoked(&mut self, holder: PeerId) {
        self.granted.remove(&holder);
    }

    /// When the last lease will have been given back or run out; none if that is now.
    pub fn held_until(&self, now: Mono) -> Option<Mono> {
        let granted = self.granted.values().copied();
        granted.chain([self.unknown_until]).filter(|until| *until > now).max()
    }
}

#[cfg(test)]
mod guards;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;
    const LEADER: PeerId = PeerId([9; 32]);

    fn quorum(at_ms: u64) -> Quorum {
        Quorum { term: 3, acked_at: Mono(at_ms * MS), committed: 9 }
    }

    #[test]
    fn transit_only_shortens_a_lease() {
        let mut grantor = Grantor::default();
        grantor.on_quorum(quorum(100));
        let grant = grantor.grant(Mono(140 * MS), 3, false).unwrap();
        assert_eq!(grant.remaining_us, 200 * MS);

        let mut holder = Holder::default();
        holder.ask(1, Mono(1_000 * MS), LEADER);
        let lease = holder.on_granted(Mono(1_150 * MS), (LEADER, 1), &grant, 3).unwrap();
        assert_eq!(lease.until, Mono(1_200 * MS));
        holder.ask(2, Mono(2_000 * MS), LEADER);
        assert_eq!(
            holder.on_granted(Mono(2_300 * MS), (LEADER, 2), &grant, 3),
            None,
            "it ran out on the way"
        );
    }

    #[test]
    fn an_answer_counts_from_its_own_question() {
        let mut holder = Holder::default();
        let grant = Grant { term: 3, committed: 0, remaining_us: 200 * MS };
        holder.ask(1, Mono(1_000 * MS), LEADER);
        holder.ask(2, Mono(1_040 * MS), LEADER);
        let lease = holder.on_granted(Mono(1_060 * MS), (LEADER, 1), &grant, 3).unwrap();
        assert_eq!(lease.until, Mono(1_200 * MS));
        let lease = holder.on_granted(Mono(1_070 * MS), (LEADER, 2), &grant, 3).unwrap();
        assert_eq!(lease.until, Mono(1_240 * MS));
        assert_eq!(
            holder.on_granted(Mono(1_080 * MS), (LEADER, 2), &grant, 3),
            None,
            "answered already"
        );
    }

    #[test]
    fn what_is_passed_on_ends_no_later_than_what_it_comes_from() {
        let (mut source, mut below) = (Holder::default(), Holder::default());
        let ends = Mono(1_200 * MS);
        source.hold(Lease { term: 3, until: ends, committed: 8 });
        below.ask(1, Mono(1_050 * MS), LEADER);
        assert_eq!(source.pass_on(Mono(1_100 * MS), 4), None, "not into another term");
        let grant = source.pass_on(Mono(1_100 * MS), 3).unwrap();
        let lease = below.on_granted(Mono(1_110 * MS), (LEADER, 1), &grant, 3).unwrap();
        assert_eq!((lease.until, lease.committed), (Mono(1_150 * MS), 8));
        assert!(lease.until <= ends);
        assert_eq!(source.pass_on(ends, 3), None, "nothing is left");
    }

    #[test]
    fn only_whoever_was_asked_can_grant() {
        let mut holder = Holder::default();
        let grant = Grant { term: 3, committed: 0, remaining_us: 100 * MS };
        holder.ask(1, Mono(0), LEADER);
        let other = PeerId([8; 32]);
        assert_eq!(holder.on_granted(Mono(1), (other, 1), &grant, 3), None);
        assert!(!holder.on_denied(other, 1));
        assert!(holder.on_granted(Mono(1), (LEADER, 1), &grant, 3).is_some());
    }

    #[test]
    fn nothing_is_granted_without_a_recent_majority() {
        let mut grantor = Grantor::default();
        assert_eq!(grantor.grant(Mono(0), 3, false), None);
        assert!(grantor.grant(Mono(0), 3, true).is_some(), "a sole voter is its own majority");
        grantor.on_quorum(quorum(100));
        assert_eq!(grantor.grant(Mono(340 * MS), 3, false), None);
        assert_eq!(grantor.grant(Mono(140 * MS), 4, false), None, "another term's majority");
        grantor.on_quorum(Quorum { acked_at: Mono(50 * MS), ..quorum(0) });
        assert!(grantor.grant(Mono(330 * MS), 3, false).is_some(), "older news do not count");
    }

    #[test]
    fn foreign_and_impossible_answers_are_ignored() {
        let mut holder = Holder::default();
        holder.ask(1, Mono(0), LEADER);
        let grant = Grant { term: 3, committed: 0, remaining_us: 100 * MS };
        assert_eq!(holder.on_granted(Mono(1), (LEADER, 9), &grant, 3), None);
        assert_eq!(holder.on_granted(Mono(1), (LEADER, 1), &grant, 4), None, "a term that is over");
        holder.ask(2, Mono(0), LEADER);
        let long = Grant { remaining_us: 10_000 * MS, ..grant };
        assert_eq!(holder.on_granted(Mono(1), (LEADER, 2), &long, 3), None);
    }

    #[test]
    fn a_transfer_waits_for_every_lease() {
        let mut grantor = Grantor::default();
        grantor.on_quorum(quorum(100));
        let (a, b) = (PeerId([1; 32]), PeerId([2; 32]));
        grantor.note(a, Mono(110 * MS));
        grantor.note(b, Mono(120 * MS));
        assert_eq!(grantor.close(Mono(130 * MS)), vec![a, b]);
        assert_eq!(grantor.grant(Mono(130 * MS), 3, false), None);
        grantor.on_revoked(b);
        assert_eq!(grantor.held_until(Mono(130 * MS)), Some(Mono(410 * MS)));
        assert_eq!(grantor.held_until(Mono(410 * MS)), None);
    }

    #[test]
    fn a_grantor_that_was_restarted_waits_for_what_it_does_not_know_of() {
        let mut grantor = Grantor::new(Mono(100 * MS));
        grantor.on_quorum(quorum(100));
        assert!(grantor.close(Mono(110 * MS)).is_empty());
        assert_eq!(grantor.held_until(Mono(110 * MS)), Some(Mono(400 * MS)));
        assert_eq!(grantor.held_until(Mono(400 * MS)), None);
    }

    #[test]
    fn a_revoked_term_is_over() {
        let mut holder = Holder::default();
        holder.hold(Lease { term: 3, until: Mono(10), committed: 0 });
        holder.drop_through(2);
        assert!(holder.lease(Mono(1)).is_some());
        holder.drop_through(3);
        assert!(holder.lease(Mono(1)).is_none());
    }
}
