//! Cluster time: what time of day it is, by the clocks of those that vote.
//!
//! Problem: the time of day stands in what lasts (when a join token ends, when something was decided), and a
//! machine's clock can be wrong, for a moment or for good. A clock that is wrong on a minority of the voters may
//! neither hurt the others nor leave anything behind.
//!
//! Flow: each answer to a ping says what time it is there. Taken as an *offset* to the asking node's monotonic clock,
//! it stays true when the asking node's own time of day jumps. Once a second, and as soon as a majority of the voters
//! is known, [`Middle`] takes the median of the voters' offsets, this node's among them. From then on every machine
//! but the one that compares is given [`Middle::time`]: the node's own time of day where that is within
//! `CLOCK_AHEAD_MAX_MS` of the middle, else the middle itself.
//!
//! Invariants:
//! 1. While the clocks of a majority of the voters are right, the time that a settled node goes by is at most
//!    `CLOCK_AHEAD_MAX_MS` from theirs, whatever its own clock and those of the others say.
//! 2. Two settled nodes differ by at most `CLUSTER_TIME_SPREAD_MS`.
//! 3. It may run backwards, and nothing's safety rests on it.

use std::collections::BTreeMap;

use crate::types::limits::CLOCK_AHEAD_MAX_MS;
use crate::types::{MemberId, Mono, Wall};

/// By how many milliseconds a time of day is ahead of a node's monotonic clock.
pub fn offset_ms(wall: Wall, now: Mono) -> i64 {
    let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    ms(wall.0).saturating_sub(ms(now.0 / 1_000))
}

/// The middle of the voters' clocks, as offsets to this node's monotonic clock: of an even number of clocks there are
/// two in the middle, and whatever lies between them is as good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Middle {
    low_ms: i64,
    high_ms: i64,
}

impl Middle {
    /// Of some clocks; none if there are none.
    pub fn of(offsets: impl IntoIterator<Item = i64>) -> Option<Self> {
        let mut offsets: Vec<i64> = offsets.into_iter().collect();
        offsets.sort_unstable();
        let low_ms = *offsets.get(offsets.len().checked_sub(1)? / 2)?;
        let high_ms = *offsets.get(offsets.len() / 2)?;
        Some(Self { low_ms, high_ms })
    }

    /// By how much a clock is ahead of the middle; below zero if it is behind.
    pub fn ahead_ms(self, offset_ms: i64) -> i64 {
        offset_ms.saturating_sub(offset_ms.clamp(self.low_ms, self.high_ms))
    }

    /// True for a clock that can't be right if the middle is.
    pub fn is_wrong(self, offset_ms: i64) -> bool {
        self.ahead_ms(offset_ms).unsigned_abs() > CLOCK_AHEAD_MAX_MS
    }

    /// The time to go by at `now`, when it is `own` by this node's clock.
    pub fn time(self, own: Wall, now: Mono) -> Wall {
        let offset = offset_ms(own, now);
        if !self.is_wrong(offset) {
            return own;
        }
        let middle = offset.clamp(self.low_ms, self.high_ms);
        Wall((now.0 / 1_000).saturating_add_signed(middle))
    }
}

/// What a node knows of the clocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// True once the clocks of a majority of the voters were compared.
    pub is_settled: bool,
    /// Members whose clock is wrong, and by how many milliseconds it is ahead.
    pub wrong: BTreeMap<MemberId, i64>,
    /// By how much this node's time is ahead of that of most others, if no majority agrees with it.
    pub split_ms: Option<i64>,
}

impl Clocks {
    /// True if it is known what time it is: a majority of the clocks was compared, and agrees.
    pub fn is_known(&self) -> bool {
        self.is_settled && self.split_ms.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: i64 = CLOCK_AHEAD_MAX_MS as i64 + 1;

    fn middle(offsets: &[i64]) -> Middle {
        Middle::of(offsets.iter().copied()).unwrap()
    }

    #[test]
    fn the_clocks_of_a_minority_do_not_move_the_middle() {
        assert_eq!(Middle::of([]), None);
        for far in [2 * FAR, -2 * FAR, i64::MAX, i64::MIN] {
            let middle = middle(&[0, far, 5, far, 7]);
            assert!((0..=7).all(|right| !middle.is_wrong(right)), "{far}");
            assert!(middle.is_wrong(far), "{far}");
        }
        assert_eq!(middle(&[1, 2, 3]), Middle { low_ms: 2, high_ms: 2 });
    }

    #[test]
    fn of_two_clocks_neither_is_accused() {
        let middle = middle(&[0, 10 * FAR]);
        assert_eq!([0, 10 * FAR].map(|offset| middle.is_wrong(offset)), [false, false]);
        assert_eq!(middle.ahead_ms(-FAR), -FAR);
        assert_eq!(middle.ahead_ms(11 * FAR), FAR);
    }

    #[test]
    fn a_wrong_clock_goes_by_the_middle_and_a_right_one_by_itself() {
        let now = Mono(5_000_000);
        let middle = middle(&[1_000_000; 3]);
        let right = Wall(1_005_000);
        assert_eq!(middle.time(right, now), right);
        let near = right.0 + CLOCK_AHEAD_MAX_MS;
        assert_eq!(middle.time(Wall(near), now), Wall(near));
        for wrong in [near + 1, right.0 - CLOCK_AHEAD_MAX_MS - 1, 0, u64::MAX] {
            assert_eq!(middle.time(Wall(wrong), now), right, "{wrong}");
        }
        // As time goes on, so does the middle.
        assert_eq!(middle.time(Wall(u64::MAX), Mono(6_000_000)), Wall(1_006_000));
    }
}
