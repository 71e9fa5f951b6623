//! What the members agree on, and how it is stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use crate::messages::Outcome;
use crate::types::codec::{CodecError, Durable, decode_durable, encode_durable};
use crate::types::role::Roles;
use crate::types::{
    Address, Bytes, ClusterId, LogId, MemberId, PeerId, ProposalId, Recipient, TokenId, Wall,
};

/// The cluster itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Drawn at random when the cluster was made.
    pub id: ClusterId,
    /// For people.
    pub name: String,
    /// When it was made.
    pub founded_at: Wall,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id, never used for anybody else.
    pub id: MemberId,
    /// Its key.
    pub peer: PeerId,
    /// Display name.
    pub name: String,
    /// Install kind or agent role.
    pub role: String,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Public half of its key for contents.
    pub content_key: Recipient,
    /// When it was admitted.
    pub joined_at: Wall,
}

/// A join token as the cluster knows it: without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// BLAKE3 of the secret.
    #[serde(with = "crate::types::bytes::fixed")]
    pub secret_hash: [u8; 32],
    /// From when on it is refused.
    pub expires_at: Wall,
    /// How many nodes may join with it.
    pub uses: u32,
    /// Who did, and as which member.
    pub used_by: BTreeMap<PeerId, MemberId>,
}

/// A configuration value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Counts the writes of this key, from 1.
    pub version: u64,
    /// The value.
    pub value: Bytes,
    /// Who wrote it.
    pub author: String,
    /// When it was written, as stamped by the leader.
    pub at: Wall,
    /// Where the write stands in the log.
    pub log_id: LogId,
}

/// What every part of a node reads. Never changed in place once it is handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Last entry applied, none before the first.
    pub applied: Option<LogId>,
    /// Highest time stamp applied.
    pub stamp: Wall,
    /// The cluster, once it is founded.
    pub cluster: Option<Cluster>,
    /// Members; they change seldom, so views of the same members share the map.
    pub members: Arc<BTreeMap<MemberId, Arc<Member>>>,
    /// Next member id to give out.
    pub next_member: u64,
    /// Join tokens.
    pub tokens: BTreeMap<TokenId, JoinToken>,
    /// Configuration values by key. Views share what is equal: a write copies one path of the tree.
    pub heads: OrdMap<Arc<str>, Arc<Head>>,
    /// When the leader was last evaluated.
    pub evaluated_at: Wall,
    /// Who holds records.
    pub layout: Layout,
    /// Holders of the current layout that are gone, and whose records an operator has given up.
    #[serde(default)]
    pub given_up: BTreeSet<MemberId>,
    /// Roles and the public halves of their keys; views of the same roles share the map.
    pub roles: Arc<Roles>,
}

impl View {
    /// The member with this key.
    pub fn member_of(&self, peer: PeerId) -> Option<&Arc<Member>> {
        self.members.values().find(|member| member.peer == peer)
    }

    /// The key of this member.
    pub fn peer_of(&self, member: MemberId) -> Option<PeerId> {
        self.members.get(&member).map(|member| member.peer)
    }

    /// Index of the last entry applied, 0 before the first.
    pub fn index(&self) -> u64 {
        self.applied.map_or(0, |log_id| log_id.index)
    }

    /// The keys of all members.
    pub fn roster(&self) -> BTreeSet<PeerId> {
        self.members.values().map(|member| member.peer).collect()
    }
}

/// What changed by one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A proposal was decided.
    Decided {
        /// Which.
        id: ProposalId,
        /// What came of it.
        outcome: Outcome,
        /// Where it stands in the log.
        log_id: LogId,
    },
    /// The roster changed.
    Roster,
    /// A member was added.
    Joined(MemberId),
    /// A member was removed.
    Removed(MemberId, PeerId),
    /// A head was written.
    HeadSet(Arc<str>, u64),
    /// The leader was evaluated.
    Evaluated,
    /// The layout changed.
    Layout,
    /// The whole state was replaced by a snapshot.
    Installed,
}

impl Change {
    /// True for changes that only concern the front.
    pub fn is_routine(&self) -> bool {
        matches!(self, Self::Decided { .. } | Self::HeadSet(..))
    }
}

/// First outcomes of recent proposals, oldest forgotten first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcomes {
    pub(super) order: VecDeque<ProposalId>,
    pub(super) by_id: BTreeMap<ProposalId, Outcome>,
}

/// The replicated state of the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlState {
    pub(super) view: Arc<View>,
    pub(super) outcomes: Outcomes,
}

impl Durable for ControlState {
    const NAME: &'static str = "control state";
    const KIND: u8 = 1;
    const VERSION: u8 = 1;
}

impl ControlState {
    /// The part that everybody may read.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The state as a durable record.
    pub fn encode(&self) -> Vec<u8> {
        encode_durable(self)
    }

    /// Reads a durable record.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        decode_durable(bytes)
    }

    /// Hash over the whole state; equal on all members at the same index.
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(&self.encode()).as_bytes()
    }
}
