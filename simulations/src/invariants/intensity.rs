//! 7: no supervisor restarts more often within a period than its intensity allows.

use std::collections::{BTreeMap, VecDeque};

use bzzz::core::event::EventBody;
use bzzz::types::limits::{RESTART_INTENSITY, RESTART_PERIOD};

use super::{Invariant, Observation};

/// Remembers the restarts of each supervisor.
#[derive(Default)]
pub struct RestartIntensity {
    restarts: BTreeMap<(usize, u64, String), VecDeque<u64>>,
}

impl Invariant for RestartIntensity {
    fn number(&self) -> u32 {
        7
    }

    fn statement(&self) -> &'static str {
        "restarts stay within the intensity of their supervisor"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Event {
            at_us,
            node,
            incarnation,
            body: EventBody::ActorRestarted { actor, .. },
        } = observation
        else {
            return Ok(());
        };
        let supervisor =
            actor.rsplit_once('/').map_or(actor.as_str(), |(supervisor, _)| supervisor);
        // What it takes along begins anew, the supervisors among it as well.
        let below = format!("{supervisor}/");
        let taken_along =
            |(n, _, path): &(usize, u64, String)| *n == *node && path.starts_with(&below);
        self.restarts.retain(|key, _| !taken_along(key));
        let recent = self.restarts.entry((*node, *incarnation, supervisor.to_owned())).or_default();
        // The node measures the period on a clock of its own.
        let period =
            RESTART_PERIOD.as_micros() as u64 * (1_000 - super::isolated::DRIFT_PERMILLE) / 1_000;
        while recent.front().is_some_and(|first| at_us - first >= period) {
            recent.pop_front();
        }
        recent.push_back(*at_us);
        if recent.len() > RESTART_INTENSITY as usize {
            return Err(format!(
                "{supervisor} of node {node} restarted {} times in a period",
                recent.len()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_restarts_are_seen() {
        let mut invariant = RestartIntensity::default();
        let body = EventBody::ActorRestarted {
            actor: "root/services/peers".into(),
            reason: String::new(),
        };
        let mut restart = |at_us| {
            invariant.observe(&Observation::Event { at_us, node: 0, incarnation: 1, body: &body })
        };
        for second in 0..u64::from(RESTART_INTENSITY) {
            assert!(restart(second * 1_000_000).is_ok());
        }
        assert!(restart(60_000_000).is_ok());
        for _ in 1..RESTART_INTENSITY {
            assert!(restart(60_000_001).is_ok());
        }
        assert!(restart(60_000_002).is_err());
    }
}
