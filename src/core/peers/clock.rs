//! Whether this machine's time of day can be right, by those of its peers.
//!
//! A stamp from the future would stay the newest for as long, so nobody stores one that is more than
//! `CLOCK_AHEAD_MAX_MS` ahead of its own time of day. A node whose clock is that far from the others' can neither
//! have its publications stored nor follow theirs: it has to say so instead of trying.

use crate::types::Wall;
use crate::types::limits::CLOCK_AHEAD_MAX_MS;

/// By how many milliseconds a peer's time of day is ahead of this node's, if it was read in the middle of a round trip
/// of so many microseconds.
pub(super) fn offset_ms(theirs: Wall, ours: Wall, round_trip_us: u64) -> i64 {
    let since_ms = i64::try_from(round_trip_us / 2_000).unwrap_or(i64::MAX);
    let ms = |wall: Wall| i64::try_from(wall.0).unwrap_or(i64::MAX);
    ms(theirs).saturating_sub(ms(ours)).saturating_add(since_ms)
}

/// By how much this node's clock is ahead of that of most of its peers, in milliseconds, if that is more than it may be.
pub(super) fn wrong_by_ms(offsets: impl Iterator<Item = i64>) -> Option<i64> {
    let mut offsets: Vec<i64> = offsets.collect();
    offsets.sort_unstable();
    let middle = offsets.len() / 2;
    // Of two in the middle the one that accuses less.
    let pair = [offsets.len().checked_sub(1).map(|last| last / 2), Some(middle)];
    let median = pair
        .into_iter()
        .flatten()
        .filter_map(|at| offsets.get(at))
        .min_by_key(|ms| ms.unsigned_abs())?;
    (median.unsigned_abs() > CLOCK_AHEAD_MAX_MS).then_some(median.saturating_neg())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: i64 = CLOCK_AHEAD_MAX_MS as i64 + 1;

    #[test]
    fn a_clock_is_wrong_if_most_of_the_others_differ_from_it() {
        let wrong = |offsets: &[i64]| wrong_by_ms(offsets.iter().copied());
        assert_eq!(wrong(&[]), None, "nobody to compare with");
        assert_eq!(wrong(&[FAR]), Some(-FAR));
        assert_eq!(wrong(&[-FAR]), Some(FAR), "this one is ahead");
        assert_eq!(wrong(&[FAR - 1]), None);
        assert_eq!(wrong(&[0, FAR]), None, "one of two");
        assert_eq!(wrong(&[-FAR, 0]), None);
        assert_eq!(wrong(&[5, FAR, FAR + 9]), Some(-FAR));
        assert_eq!(wrong(&[i64::MIN, i64::MIN]), Some(i64::MAX), "a hostile one overflows nothing");
    }

    #[test]
    fn the_way_there_and_back_is_taken_off() {
        assert_eq!(offset_ms(Wall(1_000), Wall(1_100), 200_000), 0);
        assert_eq!(offset_ms(Wall(5_000), Wall(1_000), 0), 4_000);
        assert_eq!(offset_ms(Wall(u64::MAX), Wall(0), u64::MAX), i64::MAX);
    }
}
