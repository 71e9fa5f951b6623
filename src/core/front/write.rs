//! Writes that are under way.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::ctx::ReplyTo;
use crate::messages::{Command, Outcome};
use crate::types::limits::{LEASE_WAIT_MS, PROPOSAL_RETRY_MS, WRITE_TIMEOUT_MS};
use crate::types::{LogId, Mono, PeerId, ProposalId, Term};

/// A write that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What came of it.
    pub outcome: Outcome,
    /// Where it stands in the log; its term fences it.
    pub log_id: LogId,
    /// Term of the lease under which it was acknowledged; 0 until it is.
    pub lease_term: Term,
}

/// Who waits for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client of this node.
    Client(ReplyTo),
    /// A node that wants to join through this one.
    Joiner(PeerId),
    /// The machine of this name.
    Machine(&'static str),
}

/// A write that is under way.
#[derive(Debug)]
pub struct Pending {
    /// Who waits.
    pub asker: Asker,
    /// The command; it goes out again after a change of leader.
    pub command: Command,
    /// When it was asked for.
    pub asked_at: Mono,
    /// When it is refused if it could not be proposed, or acknowledged after its decision.
    pub lease_by: Mono,
    /// When its outcome is reported as unknown.
    pub deadline: Mono,
    /// When it goes out again. None while it waits for a lease.
    pub again_at: Option<Mono>,
    /// Term of the leader that it went to last.
    pub sent_in: Term,
    /// Set once it may have reached a leader: from then on it is never refused.
    pub proposed: bool,
    /// Set once it is decided and only the acknowledgement waits for a lease.
    pub decided: Option<Written>,
}

impl Pending {
    /// A write that has just been asked for.
    pub fn new(asker: Asker, command: Command, now: Mono) -> Self {
        Self {
            asker,
            command,
            asked_at: now,
            lease_by: now + Duration::from_millis(LEASE_WAIT_MS),
            deadline: now + Duration::from_millis(WRITE_TIMEOUT_MS),
            again_at: None,
            sent_in: 0,
            proposed: false,
            decided: None,
        }
    }

    /// It goes out now, to the leader of `term`.
    pub fn sent(&mut self, now: Mono, term: Term) {
        self.proposed = true;
        self.sent_in = term;
        self.again_at = Some(now + Duration::from_millis(PROPOSAL_RETRY_MS));
    }

    /// The next time at which something has to be done about it.
    pub fn next_at(&self) -> Mono {
        let lease_by =
            if self.proposed && self.decided.is_none() { self.deadline } else { self.lease_by };
        self.again_at.map_or(lease_by, |again| again.min(lease_by)).min(self.deadline)
    }
}

/// All writes that are under way, by the id of their proposal.
pub type PendingWrites = BTreeMap<ProposalId, Pending>;
