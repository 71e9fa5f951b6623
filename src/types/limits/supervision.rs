//! Supervision.

use std::time::Duration;

/// Restarts of one child that are tolerated within `RESTART_PERIOD`.
pub const RESTART_INTENSITY: u32 = 5;
/// The period over which restarts are counted.
pub const RESTART_PERIOD: Duration = Duration::from_secs(10);
/// How long a child may take from its start until it reports that it has loaded.
pub const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long a child may take to stop before it is killed.
pub const STOP_DEADLINE: Duration = Duration::from_secs(5);
