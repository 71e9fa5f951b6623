//! What a voter knows of a majority, and of how old that is which it holds.
//!
//! A voter that hears the leader does not know by that whether the leader hears a majority: both may be cut
//! off together. So every call of the leader says how long before it a majority answered, and the
//! voter counts on from there. What it has applied is as old as the last call up to whose commit index it has
//! applied everything.

use std::time::Duration;

use crate::types::Mono;

/// What the leader's calls have told.
#[derive(Debug, Default)]
pub struct Heard {
    /// A majority followed the leader at this time, or later.
    majority_at: Option<Mono>,
    /// All that was committed at this time has been applied.
    current_at: Option<Mono>,
    /// The highest index that was ever said to be committed; a new leader may not know of it yet.
    committed: u64,
    /// A call that told of more than had been applied: the time it vouches for, and what was committed.
    waiting: Option<(Mono, u64)>,
}

impl Heard {
    /// The leader called: it knew of a majority `age` before, or of none, and of what is committed.
    pub fn on_call(&mut self, now: Mono, age: Option<Duration>, committed: u64, applied: u64) {
        // A leader that has just begun knows of none, and what the last one told still holds.
        self.majority_at = self.majority_at.max(age.map(|age| now - age));
        self.committed = self.committed.max(committed);
        self.resolve(applied);
        let Some(at) = self.majority_at else { return };
        if self.committed <= applied {
            (self.current_at, self.waiting) = (Some(at), None);
        } else if self.waiting.is_none() {
            self.waiting = Some((at, self.committed));
        }
    }

    fn resolve(&mut self, applied: u64) {
        if let Some((at, _)) = self.waiting.take_if(|(_, committed)| *committed <= applied) {
            self.current_at = self.current_at.max(Some(at));
        }
    }

    /// When a majority followed the leader for the last time, as far as is known.
    pub fn majority_at(&self) -> Option<Mono> {
        self.majority_at
    }

    /// All that was committed at this time is in what has been applied.
    pub fn current_at(&mut self, applied: u64) -> Option<Mono> {
        self.resolve(applied);
        self.current_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    fn at(ms: u64) -> Option<Mono> {
        Some(Mono(ms * MS))
    }

    #[test]
    fn a_leader_without_a_majority_tells_of_an_older_and_older_one() {
        let mut heard = Heard::default();
        heard.on_call(Mono(10 * MS), None, 7, 7);
        assert_eq!((heard.majority_at(), heard.current_at(7)), (None, None), "none was heard of");
        heard.on_call(Mono(1_000 * MS), ms(3), 7, 7);
        assert_eq!(heard.majority_at(), at(997));
        for passed in [100, 2_000, 60_000] {
            heard.on_call(Mono((1_000 + passed) * MS), ms(3 + passed), 7, 7);
            assert_eq!((heard.majority_at(), heard.current_at(7)), (at(997), at(997)));
        }
        heard.on_call(Mono(70_000 * MS), None, 7, 7);
        assert_eq!(heard.majority_at(), at(997), "a new leader knows of none yet");
        heard.on_call(Mono(70_100 * MS), ms(1), 7, 7);
        assert_eq!(heard.majority_at(), at(70_099));
    }

    #[test]
    fn what_is_applied_is_as_old_as_the_last_call_that_it_covers() {
        let mut heard = Heard::default();
        heard.on_call(Mono(100 * MS), ms(0), 5, 5);
        heard.on_call(Mono(150 * MS), ms(0), 8, 5);
        heard.on_call(Mono(200 * MS), ms(0), 12, 6);
        assert_eq!(heard.majority_at(), at(200));
        assert_eq!(heard.current_at(7), at(100));
        assert_eq!(heard.current_at(8), at(150), "the call at 150 told of 8");
        heard.on_call(Mono(250 * MS), ms(0), 13, 9);
        assert_eq!(heard.current_at(12), at(150));
        assert_eq!(heard.current_at(13), at(250));
        heard.on_call(Mono(300 * MS), ms(0), 13, 13);
        assert_eq!(heard.current_at(13), at(300));
    }

    #[test]
    fn a_leader_that_does_not_know_what_is_committed_takes_nothing_back() {
        let mut heard = Heard::default();
        heard.on_call(Mono(100 * MS), ms(0), 10, 10);
        heard.on_call(Mono(150 * MS), ms(0), 20, 10);
        heard.on_call(Mono(200 * MS), None, 10, 10);
        heard.on_call(Mono(250 * MS), ms(0), 0, 10);
        assert_eq!(heard.current_at(10), at(100), "20 was committed at 150");
        assert_eq!(heard.current_at(20), at(150));
    }

    #[test]
    fn one_that_never_catches_up_grows_old_while_it_hears_of_a_majority() {
        let mut heard = Heard::default();
        heard.on_call(Mono(100 * MS), ms(0), 5, 5);
        for step in 1..100 {
            heard.on_call(Mono((100 + step * 100) * MS), ms(0), 5 + step, 5);
        }
        assert_eq!(heard.current_at(5), at(100));
        assert_eq!(heard.majority_at(), at(10_000));
    }
}
