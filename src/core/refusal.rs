//! Why a request was not served.

use crate::messages::Refused;
use crate::types::limits::VERSIONS_MAX;
use crate::types::{MemberId, Wall};

/// Why a request was not served, and what is known of its outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An election is due; enough voters answer.
    #[error("there is no leader at the moment, an election is under way; try again shortly")]
    NoLeader,
    /// Too few voters answer.
    #[error(
        "this side of the cluster reaches {reachable} of {voters} voters and needs {needed}; it can be read but not written"
    )]
    Minority {
        /// Voters that answer, this node included.
        reachable: usize,
        /// Voters that are needed.
        needed: usize,
        /// All voters.
        voters: usize,
    },
    /// This node is too far behind the cluster.
    #[error("this node is catching up with the cluster; try again shortly, or ask another node")]
    Behind,
    /// The disk of this node is full.
    #[error("the disk of this node is full; free some room, writes then go on by themselves")]
    DiskFull,
    /// The disk of this node refused a write or a sync.
    #[error(
        "the disk of this node refused a write, so it takes no more of them; look into the disk, then restart the node, and write through another one meanwhile"
    )]
    DiskFailed,
    /// Without this member the rest has no majority.
    #[error(
        "without member {member} only {reachable} of {voters} voters would answer, and {needed} are needed; bring the others back first"
    )]
    NoMajorityLeft {
        /// Whom to remove.
        member: MemberId,
        /// Voters that answer, without it.
        reachable: usize,
        /// Voters that are needed, without it.
        needed: usize,
        /// All voters, without it.
        voters: usize,
    },
    /// The same, but only until voters that are no members any more vote no more.
    #[error(
        "the voters are still changing after the last removal, and member {0} is needed for that; try again in a moment"
    )]
    VotersChanging(MemberId),
    /// Too few of the members that hold the record answer.
    #[error(
        "{reachable} of the {replicas} members that hold this record answer, and {needed} are needed; bring more of them back"
    )]
    ReplicasUnavailable {
        /// Holders that answer, this node included.
        reachable: usize,
        /// Holders that are needed.
        needed: usize,
        /// All holders.
        replicas: usize,
    },
    /// The time of day of this node, or of those that hold the record, is wrong.
    #[error(
        "the clock of this machine and those of other members are too far apart ({ahead_s} s ahead, below zero if it is behind); set the time on those where it is wrong, best by NTP, or ask another node"
    )]
    ClockWrong {
        /// By how many seconds this node's clock is ahead of most of the others'.
        ahead_s: i64,
    },
    /// This node has not found out yet what time it is.
    #[error(
        "this node could not compare its clock with those of a majority of the voters yet, and this needs the time of day; try again shortly, or ask another node"
    )]
    ClockUnknown,
    /// The latest version of the address is stamped with a time that is still to come. The next one has to be above it.
    #[error(
        "the latest version of this address was stamped by a clock that was ahead, so it takes no more before {0}; publish at another address until then, or set the clock of this machine if that is behind"
    )]
    AddressAhead(Wall),
    /// The members that hold the record answer, but not this in time.
    #[error(
        "the members that hold this record did not answer in time; try again, and see whether their disks or the ways to them are slow"
    )]
    TimedOut,
    /// The address has as many versions as it may have.
    #[error("the address has {VERSIONS_MAX} versions already and takes no more; use another one")]
    AddressFull,
    /// A handover can't begin.
    #[error("{0}")]
    NoHandover(&'static str),
    /// Too many requests are open.
    #[error("this node has as many open requests as it takes; try again shortly")]
    Busy,
    /// The write may or may not have happened.
    #[error(
        "the outcome of the write is not known; read the value, or repeat the write under the same idempotency key"
    )]
    OutcomeUnknown,
    /// The cluster decided against it.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// There is nothing at this key.
    #[error("there is nothing at {0}")]
    NotFound(String),
}

impl Refusal {
    /// Code in API answers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoLeader => "NO_LEADER",
            Self::Minority { .. } => "READ_ONLY_MINORITY",
            Self::Behind => "NODE_BEHIND",
            Self::DiskFull => "DISK_FULL",
            Self::DiskFailed => "DISK_FAILED",
            Self::NoMajorityLeft { .. } => "NO_MAJORITY_LEFT",
            Self::VotersChanging(_) => "VOTERS_CHANGING",
            Self::ReplicasUnavailable { .. } => "REPLICAS_UNAVAILABLE",
            Self::TimedOut => "TIMED_OUT",
            Self::ClockWrong { .. } | Self::ClockUnknown | Self::AddressAhead(_) => "CLOCK_WRONG",
            Self::AddressFull => "ADDRESS_FULL",
            Self::NoHandover(_) => "NO_HANDOVER",
            Self::Busy => "BUSY",
            Self::OutcomeUnknown => "WRITE_OUTCOME_UNKNOWN",
            Self::Refused(refused) => refused.code(),
            Self::NotFound(_) => "NOT_FOUND",
        }
    }

    /// True if the same request can succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        if let Self::Refused(refused) = self {
            return refused.is_retryable();
        }
        !matches!(
            self,
            Self::DiskFailed | Self::AddressFull | Self::NoHandover(_) | Self::NotFound(_)
        )
    }
}
