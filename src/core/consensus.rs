//! The border to consensus, in words that machines can use.
//!
//! Going in: an `Op`, handed over without waiting. Coming out: a `ConsensusEvent`, cast to the
//! `control` actor. What is behind the border is in `consensus/` and may await; nothing here does.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::control::{Change, View};
use crate::messages::Proposal;
use crate::messages::wire::{ConsensusMessage, Entry, Payload, VoterConfig};
use crate::types::limits::APPEND_ENTRIES_MAX;
use crate::types::{LogId, MemberId, Mono, PeerId, ProposalId, Term};

/// A wish to consensus.
#[derive(Debug)]
pub enum Op {
    /// Append a command to the log, if this node leads in exactly this term.
    Propose {
        /// Term in which the proposer saw itself lead.
        term: Term,
        /// What to append.
        proposal: Proposal,
    },
    /// Find out up to where a read has to wait.
    ReadIndex {
        /// Copied into the answer.
        nonce: u64,
    },
    /// Campaign, unless a leader is known to be alive.
    Elect,
    /// Hand leadership over.
    Transfer {
        /// To whom.
        to: MemberId,
    },
    /// Change who votes, by one member.
    Voters(VoterChange),
    /// Tell everything once more: the listener has just started.
    Resync,
    /// A message of the protocol arrived.
    Inbound {
        /// Authenticated sender.
        from: PeerId,
        /// The message.
        message: ConsensusMessage,
    },
}

/// One step towards the wanted set of voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoterChange {
    /// Let a member catch up, then vote.
    Add(MemberId, PeerId),
    /// Take the vote from a member.
    Remove(MemberId),
    /// End a change that an earlier leader has left half done.
    Settle,
}

/// What consensus tells.
#[derive(Debug)]
pub enum ConsensusEvent {
    /// Entries were applied; this is the state after them.
    Applied {
        /// The last of them.
        log_id: LogId,
        /// State after it.
        view: Arc<View>,
        /// What changed, in order.
        changes: Vec<Change>,
    },
    /// A proposal of this node did not get into the log, or nobody knows whether it did.
    Answered {
        /// Which.
        id: ProposalId,
        /// What is known.
        answer: ProposalAnswer,
    },
    /// Answer to `Op::ReadIndex`.
    ReadReady {
        /// From the question.
        nonce: u64,
        /// The index, none if this node can't say.
        index: Option<u64>,
    },
    /// Who leads and who votes, whenever one of them changes.
    Role(Role),
    /// The leader of this term was heard. At most one per few milliseconds.
    Heard {
        /// Its term.
        term: Term,
        /// Who it is.
        leader: MemberId,
        /// When its message arrived.
        at: Mono,
    },
    /// This node leads, and a majority has acknowledged a round.
    Quorum(Quorum),
    /// A transfer was not started: the target is not connected or its log is behind.
    TransferRefused,
    /// This node leads, and a member refuses what it has acknowledged in this term: its data
    /// directory was put back to an older state.
    LogLost {
        /// Which member.
        member: MemberId,
    },
    /// A voter change ended.
    VotersChanged {
        /// Whether it took place.
        done: bool,
    },
}

/// What is known of a proposal that consensus does not hold any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposalAnswer {
    /// It is applied; the outcome came as a change.
    Applied,
    /// It was not appended.
    Refused {
        /// Who leads, if known.
        leader: Option<MemberId>,
    },
    /// It may or may not become part of the log.
    Unknown,
}

/// Who leads and who votes, as consensus on this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Current term.
    pub term: Term,
    /// Its leader, once known.
    pub leader: Option<MemberId>,
    /// Who votes; the union of both sets while a change is under way.
    pub voters: BTreeSet<MemberId>,
    /// True if this node is the leader and able to commit.
    pub leading: bool,
    /// True while two sets of voters have to agree, because a change is under way.
    pub joint: bool,
}

/// Proof that this node led at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Term in which it led.
    pub term: Term,
    /// When the round that the majority acknowledged was sent.
    pub acked_at: Mono,
    /// Committed index.
    pub committed: u64,
}

/// True if a voter configuration from outside can be used: every voter is a known node.
pub fn is_sound(config: &VoterConfig) -> bool {
    let known = |set: &Vec<MemberId>| set.iter().all(|id| config.nodes.contains_key(id));
    !config.configs.is_empty() && config.configs.len() <= 2 && config.configs.iter().all(known)
}

/// Entries follow each other without a gap, and every voter in them has a key. openraft asserts
/// the first, and what comes from the network is never asserted.
pub fn entries_are_sound(prev: Option<LogId>, entries: &[Entry]) -> bool {
    let mut expected = prev.map_or(Some(0), |prev| prev.index.checked_add(1));
    entries.len() as u64 <= APPEND_ENTRIES_MAX
        && entries.iter().all(|entry| {
            let in_order = Some(entry.id.index) == expected;
            expected = entry.id.index.checked_add(1);
            let sound = match &entry.payload {
                Payload::Membership(config) => is_sound(config),
                Payload::Blank | Payload::Proposal(_) => true,
            };
            in_order && sound
        })
}

#[cfg(test)]
mod guards;
