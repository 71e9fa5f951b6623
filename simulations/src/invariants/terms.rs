//! 6: the term that a voter knows never falls, not across a restart either. A member that never voted
//! has promised nothing: it learns the term anew.

use std::collections::{BTreeMap, BTreeSet};

use bzzz::core::consensus::ConsensusEvent;
use bzzz::types::{MemberId, Term};

use super::{Invariant, Observation};

/// Remembers the highest term of each member.
#[derive(Default)]
pub struct TermsNeverFall {
    terms: BTreeMap<MemberId, Term>,
    voted: BTreeSet<MemberId>,
}

impl Invariant for TermsNeverFall {
    fn number(&self) -> u32 {
        6
    }

    fn statement(&self) -> &'static str {
        "the term of a voter never falls"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Consensus { member, event: ConsensusEvent::Role(role), .. } = observation
        else {
            return Ok(());
        };
        if role.voters.contains(member) {
            self.voted.insert(*member);
        }
        let highest = self.terms.entry(*member).or_default();
        if role.term < *highest && self.voted.contains(member) {
            return Err(format!("member {member} went from term {highest} to {}", role.term));
        }
        *highest = role.term;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{consensus, role};
    use super::*;

    #[test]
    fn a_falling_term_is_seen() {
        let mut invariant = TermsNeverFall::default();
        assert!(invariant.observe(&consensus(0, &role(0, 3, false))).is_ok());
        assert!(invariant.observe(&consensus(1, &role(1, 2, false))).is_ok());
        assert!(invariant.observe(&consensus(0, &role(0, 2, false))).is_err());
    }
}
