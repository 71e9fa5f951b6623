//! How long things take, for whoever watches.

use std::time::Duration;

use crate::types::metrics::Family;

/// Takes in durations.
pub trait Meter: Send + Sync {
    /// Takes in one; of a family without labels.
    fn took(&self, family: &'static Family, took: Duration);
}

/// Nobody watches.
pub struct NoMeter;

impl Meter for NoMeter {
    fn took(&self, _: &'static Family, _: Duration) {}
}
