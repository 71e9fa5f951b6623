//! The duty to steer who votes.
//!
//! States: idle, or one change under way.
//!
//! Flow: the roster is compared with the voters after every change of either, and one step at a time is
//! taken; a step that failed is tried again a little later.
//!
//! Invariants:
//! 1. At most one voter change of this node is under way.
//! 2. The vote of a member that is silent is taken only when another one can have it, never to get a
//!    majority back.
//! 3. A step is taken only with a majority's acknowledgement younger than a lease, and only a member
//!    that answers becomes a voter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Duty, Look, Sight, Step, named};
use crate::core::consensus::VoterChange;
use crate::core::control::Member;
use crate::types::limits::{LEASE_MS, VOTER_SILENT_MS, VOTERS_MAX};
use crate::types::{MemberId, Mono};

/// What people call it.
pub const NAME: &str = "voters";

/// A step that nothing is heard of for this long did not reach consensus, or its end was lost.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a voter is silent before another member votes in its place.
const VOTER_SILENT: Duration = Duration::from_millis(VOTER_SILENT_MS);
/// How long after a failed step the voters are looked at again.
const RETRY: Duration = Duration::from_millis(100);

/// Steers who votes.
#[derive(Debug, Default)]
pub struct Voters {
    /// Since when each voter has not answered.
    silent_since: BTreeMap<MemberId, Mono>,
    /// The member that was to vote last; after a failure another one gets its turn.
    tried: MemberId,
    /// Until then nothing is tried, as a step has just failed.
    not_before: Mono,
}

impl Voters {
    fn note_silence(&mut self, sight: &Sight<'_>) {
        let own = sight.standing.own;
        let silent = |voter: &MemberId| *voter != own && !sight.linked.contains(voter);
        let since = |voter: MemberId| (voter, *self.silent_since.get(&voter).unwrap_or(&sight.now));
        let voters = sight.standing.role.voters.iter().copied();
        self.silent_since = voters.filter(silent).map(since).collect();
    }

    /// The next step from the voters that are to the voters that should be, and why.
    fn next_step(&self, sight: &Sight<'_>) -> Option<(VoterChange, &'static str)> {
        let (role, view) = (&sight.standing.role, &sight.standing.view);
        if role.joint {
            return Some((VoterChange::Settle, "an earlier leader has left a change half done"));
        }
        let members: BTreeSet<MemberId> = view.roster.members.keys().copied().collect();
        // Leaving comes first: a dead voter that is no member any more only raises the majority.
        let own = sight.standing.own;
        if let Some(gone) = role.voters.iter().find(|v| !members.contains(v) && **v != own) {
            return Some((VoterChange::Remove(*gone), "it is no member any more"));
        }
        // Whoever does not answer would only raise the majority.
        let fit = |member: &&Arc<Member>| {
            !role.voters.contains(&member.id) && sight.linked.contains(&member.id)
        };
        let mut newcomers = view.roster.members.values().filter(fit);
        let first = newcomers.clone().next()?;
        if role.voters.len() >= VOTERS_MAX {
            // The one that is to vote instead gets its vote in the next step.
            let overdue = |since: Mono| sight.now.since(since) >= VOTER_SILENT;
            let silent = self.silent_since.iter().find(|(_, since)| overdue(**since));
            let why = "it has been silent for long, and another member can vote";
            return silent.map(|(voter, _)| (VoterChange::Remove(*voter), why));
        }
        let next = newcomers.find(|member| member.id > self.tried).unwrap_or(first);
        Some((VoterChange::Add(next.id, next.peer), "it answers, and one more may vote"))
    }
}

impl Duty for Voters {
    fn name(&self) -> &'static str {
        NAME
    }

    fn step_timeout(&self) -> Duration {
        STEP_TIMEOUT
    }

    fn begin(&mut self, sight: &Sight<'_>) {
        self.not_before = sight.now;
        // Whoever was silent in an earlier term may have answered since.
        self.silent_since.clear();
        self.note_silence(sight);
    }

    fn sees(&mut self, sight: &Sight<'_>) {
        self.note_silence(sight);
    }

    fn look(&mut self, sight: &Sight<'_>) -> Look {
        let role = &sight.standing.role;
        if role.voters.is_empty() {
            return Look::rest("nobody votes yet");
        }
        let Some((change, why)) = self.next_step(sight) else {
            let overdue = self.silent_since.values().map(|since| *since + VOTER_SILENT);
            let again = overdue.filter(|at| *at > sight.now).min();
            let silent = self.silent_since.keys().filter(|voter| role.voters.contains(voter));
            let why = match (role.voters.len(), named(silent)) {
                (count, silent) if silent.is_empty() => format!("{count} vote, and all answer"),
                (count, silent) => format!("{count} vote, and nobody could instead of {silent}"),
            };
            return Look { again, ..Look::rest(why) };
        };
        let what = match change {
            VoterChange::Add(member, _) => format!("member {member} gets a vote"),
            VoterChange::Remove(member) => format!("member {member} loses its vote"),
            VoterChange::Settle => "end a change of the voters".to_owned(),
        };
        if self.not_before > sight.now {
            return Look::wait(what, "the last step failed a moment ago", self.not_before);
        }
        let is_fresh = sight.quorum.is_some_and(|quorum| {
            quorum.term == role.term
                && sight.now.since(quorum.acked_at) < Duration::from_millis(LEASE_MS)
        });
        if !is_fresh && role.voters.len() > 1 {
            return Look::wait(what, "no majority has answered just now", sight.now + RETRY);
        }
        if let VoterChange::Add(member, _) = change {
            self.tried = member;
        }
        Look::act(Step::Voters(change), what, why)
    }

    fn ended(&mut self, now: Mono, done: bool) {
        self.not_before = if done { now } else { now + RETRY };
    }
}

#[cfg(test)]
mod tests;
