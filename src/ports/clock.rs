//! Time as a node sees it.

use std::time::Duration;

use crate::types::{Mono, Wall};

/// A node's two clocks and its alarm.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time that goes on while the machine sleeps (CLOCK_BOOTTIME in the daemon).
    fn now(&self) -> Mono;

    /// Time of day; may jump.
    fn wall(&self) -> Wall;

    /// Calls `then` once, `after` from now on this node's monotonic clock. Alarms are not
    /// cancelled: whoever is woken looks at the clock and at what it is waiting for.
    fn alarm(&self, after: Duration, then: Box<dyn FnOnce() + Send>);
}
