//! 20: no member is made to speak what its build does not understand.

use super::{Invariant, Observation};

/// Compares the level of the cluster with the builds of its members.
#[derive(Default)]
pub struct LevelsFitBuilds;

impl Invariant for LevelsFitBuilds {
    fn number(&self) -> u32 {
        20
    }

    fn statement(&self) -> &'static str {
        "no member is made to speak what its build does not understand"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Spoken { node, build, level } = observation else { return Ok(()) };
        if level > build {
            return Err(format!("node {node} of level {build} is in a cluster of level {level}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bzzz::types::Level;

    use super::*;

    #[test]
    fn a_level_above_a_build_is_seen() {
        let mut invariant = LevelsFitBuilds;
        let spoken = |build, level| Observation::Spoken {
            node: 0,
            build: Level(build),
            level: Level(level),
        };
        assert!(invariant.observe(&spoken(2, 1)).is_ok());
        assert!(invariant.observe(&spoken(2, 2)).is_ok());
        assert!(invariant.observe(&spoken(1, 2)).is_err());
    }
}
