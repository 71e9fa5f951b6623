//! How many join frames of strangers are looked at.
//!
//! Problem: each costs this node, and the leader, some work, so there is a limit. Were it one for
//! all strangers, a single host could use it up and keep everybody else from joining.
//!
//! Invariants:
//! 1. At most `JOINS_PER_SOURCE_MAX` of one source and `JOINS_PER_SECOND_MAX` of all are taken in a
//!    second, and once as many at once.
//! 2. At most `JOIN_SOURCES_MAX` sources are remembered. One that is forgotten has used least of
//!    its share.

use std::collections::BTreeMap;

use super::arrivals::Source;
use super::bounds::JOIN_SOURCES_MAX;
use super::queue::Bucket;
use crate::types::limits::{JOINS_PER_SECOND_MAX, JOINS_PER_SOURCE_MAX};

/// See the module.
pub(super) struct JoinRates {
    all: Bucket,
    of: BTreeMap<Source, Bucket>,
}

impl Default for JoinRates {
    fn default() -> Self {
        Self { all: Bucket::new(JOINS_PER_SECOND_MAX), of: BTreeMap::new() }
    }
}

impl JoinRates {
    /// True if a join frame from this source may be looked at.
    pub(super) fn try_take(&mut self, source: Source) -> bool {
        if self.of.len() >= JOIN_SOURCES_MAX && !self.of.contains_key(&source) {
            let levels = self.of.iter_mut().map(|(source, bucket)| (*source, bucket.level()));
            if let Some((fullest, _)) = levels.max_by(|(_, a), (_, b)| a.total_cmp(b)) {
                self.of.remove(&fullest);
            }
        }
        let own = self.of.entry(source).or_insert_with(|| Bucket::new(JOINS_PER_SOURCE_MAX));
        own.try_take() && self.all.try_take()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::*;

    fn host(number: u32) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)))
    }

    #[tokio::test(start_paused = true)]
    async fn one_source_does_not_use_up_the_share_of_the_others() {
        let mut rates = JoinRates::default();
        let take = |rates: &mut JoinRates, from, tries: u32| {
            (0..tries).filter(|_| rates.try_take(host(from))).count() as u32
        };
        assert_eq!(take(&mut rates, 1, 1_000), JOINS_PER_SOURCE_MAX);
        assert_eq!(take(&mut rates, 2, 1), 1);
        let taken: u32 = (3..100).map(|from| take(&mut rates, from, 1_000)).sum();
        assert_eq!(taken, JOINS_PER_SECOND_MAX - JOINS_PER_SOURCE_MAX - 1, "and there is a total");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(take(&mut rates, 1, 1_000), JOINS_PER_SOURCE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_sources_are_bounded_and_whoever_asks_most_is_remembered() {
        let mut rates = JoinRates::default();
        while rates.try_take(host(0)) {}
        for from in 1..3 * JOIN_SOURCES_MAX as u32 {
            rates.try_take(host(from));
            assert!(rates.of.len() <= JOIN_SOURCES_MAX);
        }
        // The total has tokens again; this one would have, too, had it been forgotten.
        tokio::time::advance(Duration::from_millis(50)).await;
        assert!(!rates.try_take(host(0)));
        assert!(rates.try_take(host(1_000)));
    }
}
