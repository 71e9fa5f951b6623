//! openraft's types for us, and their translation to and from our own messages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use openraft::EntryPayload;
use openraft::type_config::alias::{EntryOf, LogIdOf, StoredMembershipOf, VoteOf};
use openraft::vote::RaftLeaderId as _;

use super::runtime::Runtime;
use crate::messages::Proposal;
use crate::messages::wire::{Entry, Payload, VoteId, VoterConfig};
use crate::types::{LogId, MemberId, PeerId};

/// A command in openraft's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppData(pub Proposal);

impl fmt::Display for AppData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.0.command.name(), self.0.id)
    }
}

/// The answer to a command is a change of the view, so openraft carries none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied;

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("applied")
    }
}

/// How openraft is used here.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct Config;

impl openraft::RaftTypeConfig for Config {
    type D = AppData;
    type R = Applied;
    type NodeId = u64;
    type Node = PeerId;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<AppData, u64, PeerId>;
    type Entry =
        openraft::Entry<<Self::LeaderId as openraft::vote::RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = openraft::impls::OneshotResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// The log id that openraft uses.
pub type RaftLogId = LogIdOf<Config>;
/// The vote that openraft uses.
pub type RaftVote = VoteOf<Config>;
/// The entry that openraft uses.
pub type RaftEntry = EntryOf<Config>;
/// The membership that openraft uses, with where it stands in the log.
pub type RaftMembership = StoredMembershipOf<Config>;

/// To openraft.
pub fn to_log_id(id: LogId) -> RaftLogId {
    RaftLogId::new_term_index(id.term, id.index)
}

/// From openraft.
pub fn log_id(id: &RaftLogId) -> LogId {
    LogId { term: **id.committed_leader_id(), index: id.index() }
}

/// To openraft.
pub fn to_vote(vote: VoteId) -> RaftVote {
    let leader_id = openraft::impls::leader_id_std::LeaderId::new(vote.term, vote.candidate.0);
    RaftVote { leader_id, committed: vote.committed }
}

/// From openraft.
pub fn vote(vote: &RaftVote) -> VoteId {
    VoteId {
        term: vote.leader_id.term,
        candidate: MemberId(vote.leader_id.voted_for),
        committed: vote.committed,
    }
}

/// To openraft. One that is not sound (`is_sound`) becomes empty; the callers check before.
fn to_membership(config: &VoterConfig) -> openraft::Membership<u64, PeerId> {
    let configs: Vec<BTreeSet<u64>> =
        config.configs.iter().map(|set| set.iter().map(|id| id.0).collect()).collect();
    let nodes: BTreeMap<u64, PeerId> =
        config.nodes.iter().map(|(id, peer)| (id.0, *peer)).collect();
    openraft::Membership::new(configs, nodes).unwrap_or_default()
}

/// From openraft.
pub fn voter_config(membership: &openraft::Membership<u64, PeerId>) -> VoterConfig {
    VoterConfig {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|set| set.iter().map(|id| MemberId(*id)).collect())
            .collect(),
        nodes: membership.nodes().map(|(id, peer)| (MemberId(*id), *peer)).collect(),
    }
}

/// To openraft.
pub fn to_stored_membership(at: Option<LogId>, config: &VoterConfig) -> RaftMembership {
    RaftMembership::new(at.map(to_log_id), to_membership(config))
}

/// To openraft.
pub fn to_entry(entry: Entry) -> RaftEntry {
    let payload = match entry.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Proposal(proposal) => EntryPayload::Normal(AppData(proposal)),
        Payload::Membership(config) => EntryPayload::Membership(to_membership(&config)),
    };
    RaftEntry { log_id: to_log_id(entry.id), payload }
}

/// From openraft.
pub fn entry(entry: &RaftEntry) -> Entry {
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(AppData(proposal)) => Payload::Proposal(proposal.clone()),
        EntryPayload::Membership(membership) => Payload::Membership(voter_config(membership)),
    };
    Entry { id: log_id(&entry.log_id), payload }
}

/// Everybody who votes, in one set or the other.
pub fn voters(membership: &openraft::Membership<u64, PeerId>) -> BTreeSet<MemberId> {
    membership.voter_ids().map(MemberId).collect()
}
