//! Proposals and reads on their way to the leader.

use serde::{Deserialize, Serialize};

use super::Component;
use crate::messages::Lane;
use crate::messages::command::{Command, Refused};
use crate::types::Level;
use crate::types::{MemberId, ProposalId};

/// Proposals and reads on their way to the leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FrontMessage {
    /// Asks the leader to propose a command.
    Propose {
        /// Id of the proposal.
        id: ProposalId,
        /// The command.
        command: Command,
    },
    /// The receiver did not propose it; nothing has happened.
    NotProposed {
        /// Id of the proposal.
        id: ProposalId,
        /// Who leads, if known.
        leader: Option<MemberId>,
    },
    /// Asks the leader up to where a read must wait to see every acknowledged write.
    ReadIndex {
        /// Copied into the answer.
        nonce: u64,
    },
    /// Answer to `ReadIndex`; none if the receiver does not lead or can't be sure that it does.
    ReadReady {
        /// From the question.
        nonce: u64,
        /// The index.
        index: Option<u64>,
    },
    /// Asks the leader to hand over.
    Transfer {
        /// To whom; the fittest voter if none is named.
        to: Option<MemberId>,
    },
    /// The leader did not propose it, and will not: it knows what the sender could not.
    Declined {
        /// Id of the proposal.
        id: ProposalId,
        /// Why.
        reason: Refused,
    },
}

impl Component for FrontMessage {
    const NAME: &'static str = "front";
    const LANE: Lane = Lane::Control;
    const VERSIONS: &'static [(Level, u8)] = &[(Level(1), 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::Propose { .. } => "front.propose",
            Self::NotProposed { .. } => "front.not_proposed",
            Self::ReadIndex { .. } => "front.read_index",
            Self::ReadReady { .. } => "front.read_ready",
            Self::Transfer { .. } => "front.transfer",
            Self::Declined { .. } => "front.declined",
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        super::samples::front()
    }
}
