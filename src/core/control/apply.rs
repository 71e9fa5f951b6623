//! `apply`: the only code that changes replicated state.
//!
//! Everything in here depends on the state and the proposal alone. What a command claims is
//! checked again here, although an honest leader has checked it before: a log outlives its bugs.

use std::sync::Arc;

use super::state::ControlState;
use super::{Change, Moment, check, decide};
use crate::messages::command::{Outcome, Proposal, Refused};
use crate::types::limits::{CLUSTER_TIME_SPREAD_MS, OUTCOMES_MAX};
use crate::types::{LogId, ProposalId, Wall};

impl ControlState {
    /// Passes over an entry that changes nothing here.
    pub fn skip(&mut self, log_id: LogId) {
        Arc::make_mut(&mut self.view).applied = Some(log_id);
    }

    /// Decides a proposal. Entries must come in log order.
    pub fn apply(
        &mut self,
        log_id: LogId,
        proposal: &Proposal,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        assert!(
            self.view.applied.is_none_or(|applied| applied.index < log_id.index),
            "entries are applied in log order, each once"
        );
        if let Some(outcome) = self.repeated(proposal.id) {
            self.skip(log_id);
            changes.push(Change::Decided { id: proposal.id, outcome: outcome.clone(), log_id });
            return outcome;
        }
        let view = Arc::make_mut(&mut self.view);
        view.applied = Some(log_id);
        let at = stamp(view.stamp, proposal.at);
        view.stamp = at;
        let (needed, level) = (proposal.command.since(), view.level.level);
        let moment = Moment { log_id, at };
        let outcome = if needed > level {
            Err(Refused::LevelTooLow { needed, level })
        } else {
            check(&proposal.command).and_then(|()| decide(view, moment, &proposal.command, changes))
        };
        let outcome = outcome.unwrap_or_else(Outcome::Refused);
        self.remember(proposal.id, outcome.clone());
        changes.push(Change::Decided { id: proposal.id, outcome: outcome.clone(), log_id });
        outcome
    }

    /// What comes of a proposal under a key that was used: what came of the first one if it is the same.
    fn repeated(&self, id: ProposalId) -> Option<Outcome> {
        let (first, outcome) = self.outcomes.of_key(id)?;
        Some(match first == id {
            true => outcome.clone(),
            false => Outcome::Refused(Refused::KeyReused),
        })
    }

    fn remember(&mut self, id: ProposalId, outcome: Outcome) {
        self.outcomes.order.push_back(id);
        self.outcomes.by_id.insert(id, outcome);
        if self.outcomes.order.len() > OUTCOMES_MAX
            && let Some(oldest) = self.outcomes.order.pop_front()
        {
            self.outcomes.by_id.remove(&oldest);
        }
    }
}

/// The time at which a command is decided. Leaders differ a little, and none of them turns time back
/// by that. What is further ahead than they can differ comes of a clock that was wrong: it is over.
fn stamp(last: Wall, at: Wall) -> Wall {
    if at == Proposal::NO_TIME {
        return last;
    }
    if last.0 > at.0.saturating_add(CLUSTER_TIME_SPREAD_MS) { at } else { last.max(at) }
}

#[cfg(test)]
mod tests;
