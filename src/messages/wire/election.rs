//! Leases, reports and the score table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Component;
use crate::messages::Lane;
use crate::types::Level;
use crate::types::codec::{CodecError, decode_body, encode_body};
use crate::types::host::{Capabilities, Load};
use crate::types::limits::{DUTIES_MAX, DUTY_TEXT_MAX};
use crate::types::{MemberId, Term, Wall};

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
    /// What the leader tells everybody alike, in answer to a report.
    Table {
        /// The score table that all rank by.
        scores: ScoreTable,
        /// What its duties have done and plan.
        duties: DutyTable,
    },
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

/// What the duties of a leader have done, and plan; each text is for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutyTable {
    /// Term of the leader.
    pub term: Term,
    /// Counts up within a term.
    pub version: u64,
    /// One for each duty.
    pub rows: Vec<DutyRow>,
}

/// One duty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutyRow {
    /// Its name.
    pub name: String,
    /// What it did last.
    pub last: Option<DutyStep>,
    /// What it plans.
    pub plan: String,
    /// Why.
    pub why: String,
    /// When it looks again, if time alone can bring something.
    pub again_at: Option<Wall>,
}

/// A step that a duty has taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutyStep {
    /// What it was.
    pub what: String,
    /// Term of the leader that took it.
    pub term: Term,
    /// When it ended.
    pub at: Wall,
    /// What came of it.
    pub outcome: String,
}

impl DutyTable {
    /// True if nothing in it is longer than a leader makes it.
    pub fn is_bounded(&self) -> bool {
        let short = |text: &str| text.len() <= DUTY_TEXT_MAX;
        let step = |step: &DutyStep| short(&step.what) && short(&step.outcome);
        self.rows.len() <= DUTIES_MAX
            && self.rows.iter().all(|row| {
                short(&row.name)
                    && short(&row.plan)
                    && short(&row.why)
                    && row.last.as_ref().is_none_or(step)
            })
    }
}

impl Component for ElectionMessage {
    const NAME: &'static str = "election";
    const LANE: Lane = Lane::Consensus;
    const VERSIONS: &'static [(Level, u8)] = &[(Level(1), 1), (Level(2), 2)];

    fn name(&self) -> &'static str {
        match self {
            Self::LeaseAsk { .. } => "election.lease_ask",
            Self::LeaseGranted { .. } => "election.lease_granted",
            Self::LeaseDenied { .. } => "election.lease_denied",
            Self::LeaseRevoke { .. } => "election.lease_revoke",
            Self::LeaseRevoked { .. } => "election.lease_revoked",
            Self::Report(_) => "election.report",
            Self::Table { .. } => "election.table",
        }
    }

    fn write_older(&self, version: u8) -> Option<Result<Vec<u8>, CodecError>> {
        (version == 1).then(|| encode_body(&[], &v1::ElectionMessage::from(self)))
    }

    fn read_older(version: u8, body: &[u8]) -> Result<Self, CodecError> {
        match version {
            1 => decode_body::<v1::ElectionMessage>(body).map(Self::from),
            found => Err(CodecError::Version { found, ours: 2 }),
        }
    }

    #[cfg(test)]
    fn golden_of_before() -> &'static [(u8, &'static str)] {
        &[(1, include_str!("golden/election.v1"))]
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        super::samples::election()
    }
}

/// Version 1: without the duties.
mod v1 {
    use serde::{Deserialize, Serialize};

    use super::{DutyTable, Grant, Report, ScoreTable};
    use crate::types::{MemberId, Term};

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

    impl From<&super::ElectionMessage> for ElectionMessage {
        fn from(message: &super::ElectionMessage) -> Self {
            use super::ElectionMessage as Now;
            match message.clone() {
                Now::LeaseAsk { nonce } => Self::LeaseAsk { nonce },
                Now::LeaseGranted { nonce, grant } => Self::LeaseGranted { nonce, grant },
                Now::LeaseDenied { nonce, leader } => Self::LeaseDenied { nonce, leader },
                Now::LeaseRevoke { term } => Self::LeaseRevoke { term },
                Now::LeaseRevoked { term } => Self::LeaseRevoked { term },
                Now::Report(report) => Self::Report(report),
                Now::Table { scores, .. } => Self::Table(scores),
            }
        }
    }

    impl From<ElectionMessage> for super::ElectionMessage {
        fn from(message: ElectionMessage) -> Self {
            match message {
                ElectionMessage::LeaseAsk { nonce } => Self::LeaseAsk { nonce },
                ElectionMessage::LeaseGranted { nonce, grant } => {
                    Self::LeaseGranted { nonce, grant }
                }
                ElectionMessage::LeaseDenied { nonce, leader } => {
                    Self::LeaseDenied { nonce, leader }
                }
                ElectionMessage::LeaseRevoke { term } => Self::LeaseRevoke { term },
                ElectionMessage::LeaseRevoked { term } => Self::LeaseRevoked { term },
                ElectionMessage::Report(report) => Self::Report(report),
                ElectionMessage::Table(scores) => {
                    Self::Table { scores, duties: DutyTable::default() }
                }
            }
        }
    }
}
