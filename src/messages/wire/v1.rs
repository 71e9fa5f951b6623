//! Version 1 of the wire messages.
//!
//! One enum per component. No message carries its sender: the sender is whom the connection
//! authenticated. Nothing here is trusted; whoever receives a message checks it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::messages::Lane;
use crate::messages::command::{Candidate, Command, Refused};
use crate::types::host::{Capabilities, Load};
use crate::types::{
    Address, BootId, Bytes, ClusterId, LogId, MemberId, PeerId, ProposalId, Term, TokenId, Wall,
};

mod gossip;
mod keys;
mod note;
mod records;

pub use gossip::{GossipMessage, Part, StreamDigest, StreamId};
pub use keys::KeysMessage;
pub use note::{Note, NoteBody, SignedNote};
pub use records::{
    CopyAnswer, CopyAsk, CopyMessage, RecordsAnswer, RecordsAsk, RecordsMessage, ReplicaMessage,
};

/// Any message between two nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Liveness, identity and announcements.
    Peers(PeersMessage),
    /// Replication and votes.
    Consensus(ConsensusMessage),
    /// Leases, reports and the score table.
    Election(ElectionMessage),
    /// Proposals and reads on their way to the leader.
    Gateway(GatewayMessage),
    /// Becoming a member.
    Join(JoinMessage),
    /// Answers of those that hold records, and who has what it gains.
    Records(RecordsMessage),
    /// Copying of what a holder of records lacks.
    Copy(CopyMessage),
    /// Keys of roles.
    Keys(KeysMessage),
    /// Notes, and who lacks which.
    Gossip(GossipMessage),
    /// Writes and reads of records, to those that hold them.
    Replica(ReplicaMessage),
}

impl Message {
    /// The lane that the message travels on, unless it is large.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Consensus(_) | Self::Election(_) => Lane::Consensus,
            Self::Peers(_)
            | Self::Gateway(_)
            | Self::Records(_)
            | Self::Replica(_)
            | Self::Copy(_)
            | Self::Keys(_)
            | Self::Gossip(_) => Lane::Control,
            Self::Join(_) => Lane::Join,
        }
    }

    /// Name for traces and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Peers(PeersMessage::Hello(_)) => "peers.hello",
            Self::Peers(PeersMessage::Welcome { .. }) => "peers.welcome",
            Self::Peers(PeersMessage::Turned { .. }) => "peers.turned",
            Self::Peers(PeersMessage::Ping { .. }) => "peers.ping",
            Self::Peers(PeersMessage::Pong { .. }) => "peers.pong",
            Self::Consensus(ConsensusMessage::Request { rpc, .. }) => rpc.name(),
            Self::Consensus(ConsensusMessage::Response { .. }) => "consensus.response",
            Self::Election(ElectionMessage::LeaseAsk { .. }) => "election.lease_ask",
            Self::Election(ElectionMessage::LeaseGranted { .. }) => "election.lease_granted",
            Self::Election(ElectionMessage::LeaseDenied { .. }) => "election.lease_denied",
            Self::Election(ElectionMessage::LeaseRevoke { .. }) => "election.lease_revoke",
            Self::Election(ElectionMessage::LeaseRevoked { .. }) => "election.lease_revoked",
            Self::Election(ElectionMessage::Report(_)) => "election.report",
            Self::Election(ElectionMessage::Table(_)) => "election.table",
            Self::Gateway(GatewayMessage::Propose { .. }) => "gateway.propose",
            Self::Gateway(GatewayMessage::NotProposed { .. }) => "gateway.not_proposed",
            Self::Gateway(GatewayMessage::ReadIndex { .. }) => "gateway.read_index",
            Self::Gateway(GatewayMessage::ReadReady { .. }) => "gateway.read_ready",
            Self::Gateway(GatewayMessage::Transfer { .. }) => "gateway.transfer",
            Self::Gateway(GatewayMessage::Declined { .. }) => "gateway.declined",
            Self::Join(JoinMessage::Request { .. }) => "join.request",
            Self::Join(JoinMessage::Accepted { .. }) => "join.accepted",
            Self::Join(JoinMessage::Refused { .. }) => "join.refused",
            Self::Join(JoinMessage::Retry { .. }) => "join.retry",
            Self::Replica(ReplicaMessage::Ask { .. }) => "records.ask",
            Self::Records(RecordsMessage::Answer { .. }) => "records.answer",
            Self::Records(RecordsMessage::Gained { .. }) => "records.gained",
            Self::Keys(KeysMessage::Ask { .. }) => "keys.ask",
            Self::Keys(KeysMessage::Shared { .. }) => "keys.shared",
            Self::Copy(CopyMessage::Ask { .. }) => "copy.ask",
            Self::Copy(CopyMessage::Answer { .. }) => "copy.answer",
            Self::Gossip(GossipMessage::Notes { .. }) => "gossip.notes",
            Self::Gossip(GossipMessage::Hand { .. }) => "gossip.hand",
            Self::Gossip(GossipMessage::Taken { .. }) => "gossip.taken",
            Self::Gossip(GossipMessage::Digest { .. }) => "gossip.digest",
        }
    }
}

/// Liveness, identity and announcements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeersMessage {
    /// First thing on a new connection, both ways.
    Hello(Hello),
    /// Answer to a hello that was accepted.
    Welcome {
        /// The boot that was accepted.
        boot: BootId,
    },
    /// Answer to a hello that was not accepted; the connection is of no use.
    Turned {
        /// The run that was refused: an answer to an earlier run may come late.
        boot: BootId,
        /// Why.
        why: Turned,
    },
    /// Sent at intervals; the answer gives liveness and round-trip time.
    Ping {
        /// Copied into the answer.
        nonce: u64,
    },
    /// Answer to `Ping`.
    Pong {
        /// From the ping.
        nonce: u64,
        /// The run that answers.
        boot: BootId,
        /// Its time of day.
        wall: Wall,
    },
}

/// Who a node claims to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// Its member id.
    pub member: MemberId,
    /// How often this data directory has been started.
    pub boot_counter: u64,
    /// This run.
    pub boot: BootId,
}

/// Why a hello was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Turned {
    /// The peer belongs to another cluster.
    #[error("the peer belongs to another cluster")]
    OtherCluster,
    /// The node is not, or no longer, in the roster.
    #[error("this node is not a member any more; join again with a token")]
    NotAMember,
    /// Two processes use one identity.
    #[error("another process with the same identity is running; stop one of them")]
    DuplicateIdentity,
    /// The data directory is older than what the peer has seen of it.
    #[error(
        "the data directory is an older copy: peers have seen start {seen} of it, this is start {ours}; join again with a token and an empty data directory"
    )]
    OldCopy {
        /// Highest start that the peer has seen.
        seen: u64,
        /// The start that was refused.
        ours: u64,
    },
    /// The log is older than what this very member has acknowledged to the leader.
    #[error(
        "the data directory is an older copy: this node has acknowledged log entries that are not in it; join again with a token and an empty data directory"
    )]
    LogLost,
}

/// A node's description of itself, with the fields of the installation plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Display name, `node-<12 digit ip>-<yyyymmdd>` unless configured.
    pub node_id: String,
    /// What the machine is.
    pub capabilities: Capabilities,
    /// IP address that peers reach it at.
    pub ip_address: String,
    /// TCP port of the peer-to-peer protocol.
    pub p2p_port: u16,
    /// Services and their ports.
    pub services: BTreeMap<String, u16>,
    /// When the node joined.
    pub joined_at: Wall,
    /// Smoothed round-trip time to each member that it talks to, in microseconds.
    pub links: BTreeMap<MemberId, u32>,
}

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

/// Proposals and reads on their way to the leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GatewayMessage {
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

#[cfg(test)]
mod tests;
