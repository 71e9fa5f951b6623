//! What is stamped has the time that it is by most clocks.

use std::collections::BTreeMap;
use std::time::Duration;

use bzzz::types::Wall;
use bzzz::types::limits::{CLUSTER_TIME_SPREAD_MS, WRITE_TIMEOUT_MS};

use super::{Invariant, Observation};

/// How far a stamp may be from the true time: the clocks that are right differ from it by less than a second.
const SPREAD: Duration = Duration::from_millis(CLUSTER_TIME_SPREAD_MS);
/// How old the stamp of a write may be by the time that it is acknowledged.
const AGE_MAX: Duration = Duration::from_millis(CLUSTER_TIME_SPREAD_MS + 2 * WRITE_TIMEOUT_MS);

/// Stamps are of a time that is right while the clocks of a minority are wrong; those of the control state fall only
/// where the one before was wrong.
#[derive(Default)]
pub struct Stamps {
    /// Stamps of the control state by the index of the log.
    control: BTreeMap<u64, Wall>,
}

impl Stamps {
    fn on_control(&mut self, index: u64, at: Wall, now: Wall) -> Result<(), String> {
        let before = self.control.range(..index).next_back().map(|(index, at)| (*index, *at));
        let after = self.control.range(index + 1..).next().map(|(index, at)| (*index, *at));
        let known = self.control.insert(index, at);
        if let Some(known) = known.filter(|known| *known != at) {
            return Err(format!(
                "entry {index} is stamped {known} on one node and {at} on another"
            ));
        }
        let is_wrong = |at: Wall| at > now.plus(SPREAD);
        let fell = |before: Wall, after: Wall| after < before && !is_wrong(before);
        if let Some((earlier, stamp)) = before.filter(|(_, before)| fell(*before, at)) {
            return Err(format!(
                "the stamp falls from {stamp} at entry {earlier} to {at} at {index}"
            ));
        }
        if let Some((later, stamp)) = after.filter(|(_, after)| fell(at, *after)) {
            return Err(format!(
                "the stamp falls from {at} at entry {index} to {stamp} at {later}"
            ));
        }
        // A leader that does not know what time it is goes on with the last stamp.
        let has_moved = before.is_some_and(|(_, before)| before < at);
        let is_new = known.is_none() && after.is_none() && has_moved;
        judge(&format!("entry {index}"), at, now, is_new)
    }
}

fn judge(what: &str, at: Wall, now: Wall, is_new: bool) -> Result<(), String> {
    let is_early = at > now.plus(SPREAD);
    let is_late = is_new && at.plus(AGE_MAX) < now;
    match is_early || is_late {
        true => Err(format!("{what} is stamped {at}, and it is {now}")),
        false => Ok(()),
    }
}

impl Invariant for Stamps {
    fn number(&self) -> u32 {
        17
    }

    fn statement(&self) -> &'static str {
        "no stamp is of a time that most clocks call wrong, nor below a right one before it"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::ControlStamp { index, at, now } => self.on_control(*index, *at, *now),
            Observation::Stamp { what, at, now, is_new } => judge(what, *at, *now, *is_new),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_000_000_000);

    #[test]
    fn a_stamp_of_another_time_is_seen() {
        let judge = |at: u64, is_new| {
            let stamp = Observation::Stamp { what: "it", at: Wall(at), now: NOW, is_new };
            Stamps::default().observe(&stamp).is_ok()
        };
        assert!(judge(NOW.0, true) && judge(NOW.0 + CLUSTER_TIME_SPREAD_MS, true));
        assert!(!judge(NOW.0 + CLUSTER_TIME_SPREAD_MS + 1, false));
        assert!(judge(0, false), "written long ago");
        assert!(!judge(NOW.0 - 3_600_000, true));
    }

    /// Whether the invariant holds for these stamps of the control state, by index.
    fn holds(stamps: &[(u64, u64)]) -> bool {
        let mut invariant = Stamps::default();
        let see = |&(index, at)| Observation::ControlStamp { index, at: Wall(at), now: NOW };
        stamps.iter().map(see).all(|stamp| invariant.observe(&stamp).is_ok())
    }

    #[test]
    fn a_control_state_whose_stamp_falls_is_seen() {
        let (right, hour) = (NOW.0, 3_600_000);
        assert!(holds(&[(1, right - 2), (5, right), (6, right)]));
        // Another node has applied fewer at once; one that was off applies what others have.
        assert!(holds(&[(1, right - 2), (5, right), (3, right - 1), (5, right), (1, right - 2)]));
        assert!(!holds(&[(1, right - 2), (5, right), (3, right + 1)]));
        assert!(!holds(&[(5, right), (3, right - 1), (3, right)]), "of two states");
        for fallen in [0, right - hour, right - 1] {
            assert!(!holds(&[(5, right), (6, fallen)]), "{fallen}");
        }
        assert!(!holds(&[(5, right - 2 * hour), (6, right - hour)]), "a new one of long ago");
        assert!(holds(&[(5, right - 2 * hour), (6, right - 2 * hour)]), "no new one");
    }

    #[test]
    fn a_stamp_that_was_wrong_is_left() {
        let mut invariant = Stamps::default();
        let hour = Wall(NOW.0 + 3_600_000);
        invariant.control.insert(5, hour);
        assert!(invariant.on_control(6, NOW, NOW).is_ok());
        invariant.control.insert(7, Wall(NOW.0 + CLUSTER_TIME_SPREAD_MS));
        assert!(invariant.on_control(8, NOW, NOW).is_err(), "it may have been right");
    }
}
