//! What is stamped has the time that it is by most clocks.

use std::time::Duration;

use bzzz::types::limits::{CLUSTER_TIME_SPREAD_MS, WRITE_TIMEOUT_MS};

use super::{Invariant, Observation};

/// How far a stamp may be from the true time: the clocks that are right differ from it by less than a second.
const SPREAD: Duration = Duration::from_millis(CLUSTER_TIME_SPREAD_MS);
/// How old the stamp of a write may be by the time that it is acknowledged.
const AGE_MAX: Duration = Duration::from_millis(CLUSTER_TIME_SPREAD_MS + 2 * WRITE_TIMEOUT_MS);

/// Stamps are of a time that is right while the clocks of a minority are wrong.
pub struct Stamps;

impl Invariant for Stamps {
    fn number(&self) -> u32 {
        17
    }

    fn statement(&self) -> &'static str {
        "no stamp is of a time that most clocks call wrong"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Stamp { what, at, now, is_new } = observation else { return Ok(()) };
        let is_early = *at > now.plus(SPREAD);
        let is_late = *is_new && at.plus(AGE_MAX) < *now;
        match is_early || is_late {
            true => Err(format!("{what} is stamped {at}, and it is {now}")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bzzz::types::Wall;

    use super::*;

    #[test]
    fn a_stamp_of_another_time_is_seen() {
        let now = Wall(1_000_000_000);
        let judge = |at: u64, is_new| {
            let stamp = Observation::Stamp { what: "it", at: Wall(at), now, is_new };
            Stamps.observe(&stamp).is_ok()
        };
        assert!(judge(now.0, true) && judge(now.0 + CLUSTER_TIME_SPREAD_MS, true));
        assert!(!judge(now.0 + CLUSTER_TIME_SPREAD_MS + 1, false));
        assert!(judge(0, false), "written long ago");
        assert!(!judge(now.0 - 3_600_000, true));
    }
}
