//! Histograms by powers of two, in place of the crate of this name.
//!
//! openraft counts sizes of batches in such histograms and shows them to whoever asks. BZZZ does not
//! ask. The published crate (0.2.3) makes the tables of all sixteen precisions that it offers when the
//! first histogram is made, 26 MiB, and openraft uses one of them. This one holds what openraft calls,
//! and tells values apart by their number of bits: a percentile is the lowest value of its bucket.

use std::fmt;
use std::marker::PhantomData;

const BUCKETS: usize = u64::BITS as usize + 1;

/// How many values there were of each number of bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    slot: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], slot: PhantomData }
    }
}

impl<T> Histogram<T> {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value that came several times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bits = u64::BITS - value.leading_zeros();
        if let Some(bucket) = self.counts.get_mut(bits as usize) {
            *bucket = bucket.saturating_add(count);
        }
    }

    /// How many values there were.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// The lowest value of the bucket below which this share of the values lies, in parts of a thousand.
    fn permille(&self, share: u64) -> u64 {
        let rank = self.total().saturating_mul(share).div_ceil(1_000).max(1);
        let mut seen: u64 = 0;
        for (bits, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if seen >= rank {
                return if bits == 0 { 0 } else { 1 << (bits - 1) };
            }
        }
        0
    }

    /// Where the values lie.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.permille(1),
            p1: self.permille(10),
            p5: self.permille(50),
            p10: self.permille(100),
            p50: self.permille(500),
            p90: self.permille(900),
            p99: self.permille(990),
            p99_9: self.permille(999),
        }
    }
}

/// Where the values of a histogram lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many there were.
    pub samples: u64,
    /// 0.1 % are below.
    pub p0_1: u64,
    /// 1 %.
    pub p1: u64,
    /// 5 %.
    pub p5: u64,
    /// 10 %.
    pub p10: u64,
    /// Half of them.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p0_1, p1, p5, p10, p50, p90, p99, p99_9 } = self;
        write!(
            f,
            "[{samples} values: {p0_1} {p1} {p5} {p10} {p50} {p90} {p99} {p99_9} at 0.1, 1, 5, 10, 50, 90, 99 and 99.9 %]"
        )
    }
}

/// Histograms with names, to be shown one below the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsciiChart {
    rows: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    #[must_use]
    pub fn add<T>(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.rows.push((name.to_owned(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|(name, stats)| writeln!(f, "{name} {stats}"))
    }
}
