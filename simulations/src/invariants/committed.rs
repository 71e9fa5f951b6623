//! 2: what is committed never changes.

use std::collections::BTreeMap;

use bzzz::core::consensus::ConsensusEvent;
use bzzz::core::control::Change;
use bzzz::messages::Outcome;
use bzzz::types::{LogId, ProposalId};

use super::{Invariant, Observation};

/// Remembers what was decided at each index.
#[derive(Default)]
pub struct CommittedNeverChanges {
    decided: BTreeMap<u64, (LogId, ProposalId, Outcome)>,
    applied: BTreeMap<u64, LogId>,
}

impl Invariant for CommittedNeverChanges {
    fn number(&self) -> u32 {
        2
    }

    fn statement(&self) -> &'static str {
        "what is committed never changes"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let Observation::Consensus {
            member,
            event: ConsensusEvent::Applied { log_id, changes, .. },
            ..
        } = observation
        else {
            return Ok(());
        };
        let first = *self.applied.entry(log_id.index).or_insert(*log_id);
        if first != *log_id {
            return Err(format!("member {member} applied {log_id}, another member {first}"));
        }
        for change in changes {
            let Change::Decided { id, outcome, log_id } = change else { continue };
            let ours = (*log_id, *id, outcome.clone());
            let first = self.decided.entry(log_id.index).or_insert_with(|| ours.clone());
            if *first != ours {
                return Err(format!(
                    "at index {} member {member} decided {ours:?}, another {first:?}",
                    log_id.index
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::consensus;
    use super::*;

    fn applied(term: u64, outcome: Outcome) -> ConsensusEvent {
        let log_id = LogId { term, index: 7 };
        let changes = vec![Change::Decided { id: ProposalId([1; 16]), outcome, log_id }];
        ConsensusEvent::Applied { log_id, view: Arc::default(), changes }
    }

    #[test]
    fn different_entries_at_one_index_are_seen() {
        let mut invariant = CommittedNeverChanges::default();
        assert!(invariant.observe(&consensus(0, &applied(2, Outcome::Done))).is_ok());
        assert!(invariant.observe(&consensus(1, &applied(2, Outcome::Done))).is_ok());
        assert!(invariant.observe(&consensus(2, &applied(3, Outcome::Done))).is_err());
        assert!(
            invariant.observe(&consensus(2, &applied(2, Outcome::HeadSet { version: 1 }))).is_err()
        );
    }
}
