//! Leases, reports and the score table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Component;
use crate::messages::Lane;
use crate::types::Level;
use crate::types::host::{Capabilities, Load};
use crate::types::{MemberId, Term};

/// Leases, reports and the score table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ElectionMessage {
    /// Asks for a lease. The asker notes when it sent this.
    LeaseAsk {
        /// Copied into the answer.
        nonce: u64,
    },
    /// A lease.
    LeaseGranted {
        /// From the ask.
        nonce: u64,
        /// The lease's content.
        grant: Grant,
    },
    /// No lease.
    LeaseDenied {
        /// From the ask.
        nonce: u64,
        /// Who leads, as far as the answering node knows.
        leader: Option<MemberId>,
    },
    /// The leader is about to hand over: the lease of this term ends now.
    LeaseRevoke {
        /// Term of the leases that end.
        term: Term,
    },
    /// Answer to `LeaseRevoke`.
    LeaseRevoked {
        /// From the revocation.
        term: Term,
    },
    /// What a voter measured of the others, to the leader.
    Report(Report),
    /// The leader's score table, in answer to a report.
    Table(ScoreTable),
}

/// Content of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Term of the leader.
    pub term: Term,
    /// Committed index when it was granted.
    pub committed: u64,
    /// What is left of it, counted from when the ask was sent, in microseconds.
    pub remaining_us: u64,
}

/// What one voter measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How busy the reporter is.
    pub load: Load,
    /// What the reporter is, as it claims.
    pub capabilities: Capabilities,
    /// What it measured of each member that it talks to.
    pub links: BTreeMap<MemberId, LinkReport>,
}

/// What one node measured of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u32,
    /// For how long it has answered without a gap, in seconds.
    pub up_s: u32,
    /// Share of the last window in which it answered, in parts of a thousand.
    pub availability_permille: u16,
}

/// Score of one member; each figure from 0 to 100, in hundredths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scores {
    /// Network stability.
    pub stability: u16,
    /// Hardware resources.
    pub hardware: u16,
    /// Network position.
    pub position: u16,
    /// Geographic latency.
    pub geography: u16,
    /// Load capacity.
    pub load: u16,
    /// The weighted sum.
    pub overall: u16,
}

/// The leader's view of everybody's fitness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreTable {
    /// Term of the leader that computed it.
    pub term: Term,
    /// Counts up within a term.
    pub version: u64,
    /// Score of each voter.
    pub scores: BTreeMap<MemberId, Scores>,
}

impl Component for ElectionMessage {
    const NAME: &'static str = "election";
    const LANE: Lane = Lane::Consensus;
    const VERSIONS: &'static [(Level, u8)] = &[(Level(1), 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::LeaseAsk { .. } => "election.lease_ask",
            Self::LeaseGranted { .. } => "election.lease_granted",
            Self::LeaseDenied { .. } => "election.lease_denied",
            Self::LeaseRevoke { .. } => "election.lease_revoke",
            Self::LeaseRevoked { .. } => "election.lease_revoked",
            Self::Report(_) => "election.report",
            Self::Table(_) => "election.table",
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        super::samples::election()
    }
}
