//! Becoming a member: the only messages that a stranger may send.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Component;
use crate::messages::Lane;
use crate::messages::command::{Candidate, Refused};
use crate::types::Level;
use crate::types::{Address, ClusterId, MemberId, PeerId, TokenId};

/// Becoming a member. The only messages that a stranger may send.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum JoinMessage {
    /// Asks to become a member.
    Request {
        /// Cluster that the token names.
        cluster: ClusterId,
        /// Public part of the token.
        token: TokenId,
        /// Secret part of the token.
        secret: [u8; 32],
        /// Who wants to join.
        candidate: Candidate,
    },
    /// The node is a member.
    Accepted {
        /// Its member id.
        member: MemberId,
        /// Cluster's name.
        cluster_name: String,
        /// Where the other members are.
        roster: BTreeMap<MemberId, (PeerId, Vec<Address>)>,
    },
    /// The node does not become a member with this token.
    Refused {
        /// Why.
        reason: Refused,
    },
    /// Not now: there is no leader, or it did not answer. Ask again.
    Retry {
        /// In words.
        reason: String,
    },
}

impl std::fmt::Debug for JoinMessage {
    /// Written by hand so that the secret can't reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request { token, candidate, .. } => f
                .debug_struct("Request")
                .field("token", token)
                .field("candidate", candidate)
                .finish_non_exhaustive(),
            Self::Accepted { member, .. } => {
                f.debug_struct("Accepted").field("member", member).finish_non_exhaustive()
            }
            Self::Refused { reason } => f.debug_struct("Refused").field("reason", reason).finish(),
            Self::Retry { reason } => f.debug_struct("Retry").field("reason", reason).finish(),
        }
    }
}

impl Component for JoinMessage {
    const NAME: &'static str = "join";
    const LANE: Lane = Lane::Join;
    const VERSIONS: &'static [(Level, u8)] = &[(Level(1), 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::Request { .. } => "join.request",
            Self::Accepted { .. } => "join.accepted",
            Self::Refused { .. } => "join.refused",
            Self::Retry { .. } => "join.retry",
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        super::samples::join()
    }
}
