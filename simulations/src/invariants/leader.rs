//! 1: at most one leader per term.

use std::collections::BTreeMap;

use bzzz::core::consensus::ConsensusEvent;
use bzzz::types::{MemberId, Term};

use super::{Invariant, Observation};

/// Remembers who led in each term.
#[derive(Default)]
pub struct OneLeaderPerTerm {
    leaders: BTreeMap<Term, MemberId>,
}

impl Invariant for OneLeaderPerTerm {
    fn number(&self) -> u32 {
        1
    }

    fn statement(&self) -> &'static str {
        "at most one leader per term"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Consensus { member, event: ConsensusEvent::Role(role), .. } = observation
        else {
            return Ok(());
        };
        if !role.leading {
            return Ok(());
        }
        let first = *self.leaders.entry(role.term).or_insert(*member);
        if first == *member {
            Ok(())
        } else {
            Err(format!("members {first} and {member} both led in term {}", role.term))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{consensus, role};
    use super::*;

    #[test]
    fn two_leaders_in_one_term_are_seen() {
        let mut invariant = OneLeaderPerTerm::default();
        assert!(invariant.observe(&consensus(0, &role(0, 3, true))).is_ok());
        assert!(invariant.observe(&consensus(0, &role(0, 3, true))).is_ok());
        assert!(invariant.observe(&consensus(1, &role(1, 3, false))).is_ok());
        assert!(invariant.observe(&consensus(1, &role(1, 4, true))).is_ok());
        assert!(invariant.observe(&consensus(1, &role(1, 3, true))).is_err());
    }
}
