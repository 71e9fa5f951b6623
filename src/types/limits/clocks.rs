//! Clocks.

/// How far a stamp may be ahead of a replica's own time of day.
pub const CLOCK_AHEAD_MAX_MS: u64 = 60_000;
/// By how many milliseconds the times of two nodes may differ that both go by the same clocks.
pub const CLUSTER_TIME_SPREAD_MS: u64 = 2 * CLOCK_AHEAD_MAX_MS;
/// Clocks may run apart by this many parts in a thousand before a lease is at risk.
pub const CLOCK_DRIFT_PERMILLE_MAX: u64 = 100;
