//! Replication and votes: Raft, with pre-vote and leadership transfer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Component;
use crate::messages::Lane;
use crate::types::Level;
use crate::types::{Bytes, LogId, MemberId, PeerId, Term};

/// Consensus, asked and answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConsensusMessage {
    /// A request.
    Request {
        /// Copied into the response.
        correlation: u64,
        /// What is asked.
        rpc: Rpc,
    },
    /// The answer.
    Response {
        /// From the request.
        correlation: u64,
        /// What is answered.
        reply: RpcReply,
    },
}

/// Requests of the consensus protocol (Raft, with pre-vote and leadership transfer).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rpc {
    /// Replicates entries, or shows that the leader is alive.
    Append {
        /// Vote of the leader.
        vote: VoteId,
        /// Entry before the first one here.
        prev: Option<LogId>,
        /// Entries, in order.
        entries: Vec<Entry>,
        /// What is committed.
        commit: Option<LogId>,
        /// How long ago a majority last answered the leader, in milliseconds; `u32::MAX` if none has yet.
        age_ms: u32,
    },
    /// Asks for a vote.
    Vote {
        /// Vote asked for.
        vote: VoteId,
        /// End of the candidate's log.
        last: Option<LogId>,
        /// True if the leader itself asked for this election.
        transfer: bool,
    },
    /// Asks whether a vote would be given, without changing anything.
    PreVote {
        /// Vote that would be asked for.
        vote: VoteId,
        /// End of the candidate's log.
        last: Option<LogId>,
    },
    /// One part of a snapshot.
    Snapshot {
        /// Vote of the leader.
        vote: VoteId,
        /// Last entry that the snapshot covers.
        last: Option<LogId>,
        /// Bytes of the whole snapshot.
        total: u64,
        /// Where this part begins.
        offset: u64,
        /// The part.
        part: Bytes,
    },
    /// Asks the receiver to campaign at once.
    Transfer {
        /// Vote of the leader that steps back.
        vote: VoteId,
        /// Who shall take over.
        to: MemberId,
        /// End of the leader's log.
        last: Option<LogId>,
    },
    /// A member that does not vote asks its source, a voter or another such member, for what was committed.
    Follow {
        /// The last entry that it has applied.
        after: Option<LogId>,
        /// How much it has of the snapshot that it is being sent, in bytes.
        offset: u64,
        /// True if it only wants to know whether it still votes.
        probe: bool,
    },
}

impl Rpc {
    /// Name for traces and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Append { .. } => "consensus.append",
            Self::Vote { .. } => "consensus.vote",
            Self::PreVote { .. } => "consensus.pre_vote",
            Self::Snapshot { .. } => "consensus.snapshot",
            Self::Transfer { .. } => "consensus.transfer",
            Self::Follow { .. } => "consensus.follow",
        }
    }
}

/// Answers of the consensus protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RpcReply {
    /// To `Append`.
    Append(AppendReply),
    /// To `Vote` and `PreVote`.
    Vote {
        /// Vote of the answering node.
        vote: VoteId,
        /// Whether it was given.
        granted: bool,
        /// End of the answering node's log.
        last: Option<LogId>,
    },
    /// To `Snapshot`.
    Snapshot {
        /// Vote of the answering node.
        vote: VoteId,
    },
    /// To `Transfer`: whether the receiver campaigns.
    Transfer {
        /// False if its log is behind or its vote has changed.
        accepted: bool,
    },
    /// The receiver can't answer now.
    Unavailable,
    /// To `Follow`.
    Follow {
        /// Current term.
        term: Term,
        /// Its leader, as far as whoever answers knows.
        leader: Option<MemberId>,
        /// Who votes.
        voters: Vec<MemberId>,
        /// Where that stands in the log.
        voters_at: Option<LogId>,
        /// True if the leader replicates to the member that asked.
        fed: bool,
        /// For how long what whoever answers has applied may have been out of date when it was asked, in
        /// milliseconds.
        age_ms: u32,
        /// What it has applied; the body may reach less far.
        upto: Option<LogId>,
        /// What was committed.
        body: FollowBody,
    },
}

/// What a member that does not vote is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FollowBody {
    /// Entries that follow directly on the one that was named; none if there are none yet.
    Entries(Vec<Entry>),
    /// The log does not reach back so far: one part of a snapshot.
    Snapshot {
        /// Last entry that the snapshot covers.
        last: Option<LogId>,
        /// Bytes of the whole snapshot.
        total: u64,
        /// Where this part begins.
        offset: u64,
        /// The part.
        part: Bytes,
    },
}

/// Answer to a replication request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AppendReply {
    /// Everything was stored.
    Success,
    /// Stored up to here.
    Partial(Option<LogId>),
    /// The entry before the first one is not there.
    Conflict,
    /// The receiver has seen a higher vote.
    HigherVote(VoteId),
}

/// A vote: for whom, in which term, and whether it was won.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteId {
    /// Term.
    pub term: Term,
    /// Candidate, or leader.
    pub candidate: MemberId,
    /// True once a majority granted it.
    pub committed: bool,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Position.
    pub id: LogId,
    /// Content.
    pub payload: Payload,
}

/// Content of a log entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing; a new leader writes it.
    Blank,
    /// A change of the control state.
    Proposal(crate::messages::Proposal),
    /// Who votes.
    Membership(VoterConfig),
}

/// Voters and learners, as the consensus protocol keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterConfig {
    /// One set of voters, or two while a change is under way.
    pub configs: Vec<Vec<MemberId>>,
    /// Every node that gets the log, with its key.
    pub nodes: BTreeMap<MemberId, PeerId>,
}

impl Component for ConsensusMessage {
    const NAME: &'static str = "consensus";
    const LANE: Lane = Lane::Consensus;
    const VERSIONS: &'static [(Level, u8)] = &[(Level(1), 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::Request { rpc, .. } => rpc.name(),
            Self::Response { .. } => "consensus.response",
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        super::samples::consensus()
    }
}
