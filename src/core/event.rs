//! Events: one schema for the API's streams, the dashboard and the simulator's recordings.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::types::record::{DecisionKind, Version};
use crate::types::ucxl::DecisionAddress;
use crate::types::{MemberId, Term, Wall};

/// JSON that is kept as its text: taken apart, it needs many times the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText(pub Arc<str>);

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: serde_json::Value =
            serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(value.to_string().into()))
    }
}

/// An event as clients see it.
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up on the node that tells it.
    pub seq: u64,
    /// When it happened, by that node's clock.
    #[cfg_attr(feature = "daemon", schema(value_type = u64))]
    pub at: Wall,
    /// The member that tells it, none while it is not a member.
    #[cfg_attr(feature = "daemon", schema(value_type = Option<String>))]
    pub node: Option<MemberId>,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened.
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum EventBody {
    /// A node sees a leader, or none.
    #[serde(rename = "election.leader")]
    Leader {
        /// Term.
        #[cfg_attr(feature = "daemon", schema(value_type = u64))]
        term: Term,
        /// Leader, if there is one.
        #[cfg_attr(feature = "daemon", schema(value_type = Option<String>))]
        leader: Option<MemberId>,
    },
    /// The leader starts to hand over.
    #[serde(rename = "election.handover")]
    Handover {
        /// To whom.
        #[cfg_attr(feature = "daemon", schema(value_type = String))]
        to: MemberId,
        /// Why.
        reason: String,
    },
    /// A node turned read-only, or can write again.
    #[serde(rename = "cluster.read_only")]
    ReadOnly {
        /// Whether it is read-only.
        read_only: bool,
        /// Code of the reason.
        reason: String,
        /// Writes that were refused while it was.
        refused: u64,
    },
    /// A member joined.
    #[serde(rename = "member.joined")]
    Joined {
        /// Who.
        #[cfg_attr(feature = "daemon", schema(value_type = String))]
        member: MemberId,
        /// Display name.
        name: String,
    },
    /// A member was removed.
    #[serde(rename = "member.removed")]
    Removed {
        /// Who.
        #[cfg_attr(feature = "daemon", schema(value_type = String))]
        member: MemberId,
    },
    /// Who votes has changed.
    #[serde(rename = "member.voters")]
    Voters {
        /// Voters now.
        #[cfg_attr(feature = "daemon", schema(value_type = Vec<String>))]
        voters: Vec<MemberId>,
    },
    /// A peer answers again.
    #[serde(rename = "peer.up")]
    PeerUp {
        /// Who.
        #[cfg_attr(feature = "daemon", schema(value_type = String))]
        member: MemberId,
    },
    /// A peer does not answer.
    #[serde(rename = "peer.down")]
    PeerDown {
        /// Who.
        #[cfg_attr(feature = "daemon", schema(value_type = String))]
        member: MemberId,
    },
    /// The clock of a member, perhaps of this node itself, is not that of most of the voters.
    #[serde(rename = "clock.wrong")]
    ClockWrong {
        /// Whose.
        #[cfg_attr(feature = "daemon", schema(value_type = String))]
        member: MemberId,
        /// By how many seconds it is ahead; below zero if it is behind.
        ahead_s: i64,
    },
    /// The clock of a member is right again.
    #[serde(rename = "clock.right")]
    ClockRight {
        /// Whose.
        #[cfg_attr(feature = "daemon", schema(value_type = String))]
        member: MemberId,
    },
    /// A configuration value was written.
    #[serde(rename = "head.set")]
    HeadSet {
        /// Key.
        key: String,
        /// Its new version.
        version: u64,
    },
    /// Who holds records has changed, or is about to.
    #[serde(rename = "records.layout")]
    Layout {
        /// Counts the changes.
        version: u64,
        /// Who holds records.
        #[cfg_attr(feature = "daemon", schema(value_type = Vec<String>))]
        holders: Vec<MemberId>,
        /// Who will hold them, once they have what they gain.
        #[cfg_attr(feature = "daemon", schema(value_type = Option<Vec<String>>))]
        next: Option<Vec<MemberId>>,
    },
    /// The record store of the member that tells it has lost what no other member has.
    #[serde(rename = "records.lost")]
    RecordsLost {
        /// Of how many partitions of the records.
        partitions: u16,
    },
    /// A decision was published, and acknowledged.
    #[serde(rename = "decision.published")]
    Published {
        /// Where.
        #[cfg_attr(feature = "daemon", schema(value_type = String))]
        address: DecisionAddress,
        /// Its type.
        #[serde(rename = "type")]
        kind: DecisionKind,
        /// Hash of its content.
        content: String,
        /// The member that coordinated it.
        #[cfg_attr(feature = "daemon", schema(value_type = String))]
        writer: MemberId,
        /// When, in RFC 3339.
        published_at: String,
    },
    /// An event of an application.
    #[serde(rename = "application.event")]
    Application {
        /// Which, in the whole cluster; the same on every node.
        id: String,
        /// Its name.
        name: String,
        /// What it says.
        #[cfg_attr(feature = "daemon", schema(value_type = serde_json::Value))]
        data: JsonText,
    },
    /// An actor was restarted.
    #[serde(rename = "actor.restarted")]
    ActorRestarted {
        /// Path in the tree.
        actor: String,
        /// Why.
        reason: String,
    },
    /// This node took or gave up the duties of the leader.
    #[serde(rename = "orchestrator.duty")]
    Duty {
        /// Whether it has them now.
        on_duty: bool,
        /// Term.
        #[cfg_attr(feature = "daemon", schema(value_type = u64))]
        term: Term,
    },
}

impl EventBody {
    /// A publication that was acknowledged.
    pub fn published(address: DecisionAddress, version: &Version) -> Self {
        let Version { at, writer, content, kind, .. } = *version;
        let content = content.to_string();
        let published_at = Wall(at.ms).to_string();
        Self::Published { address, kind, content, writer, published_at }
    }

    /// Bytes beyond what every event takes up.
    pub fn extra_len(&self) -> usize {
        match self {
            Self::Application { id, name, data } => id.len() + name.len() + data.0.len(),
            _ => 0,
        }
    }

    /// True for what clients cause, as often as they like.
    pub fn is_traffic(&self) -> bool {
        matches!(self, Self::HeadSet { .. } | Self::Published { .. } | Self::Application { .. })
    }

    /// Every topic.
    pub const TOPICS: [&str; 11] = [
        "election",
        "cluster",
        "member",
        "peer",
        "clock",
        "head",
        "records",
        "decision",
        "application",
        "actor",
        "orchestrator",
    ];

    /// The first part of the type, which clients filter by.
    pub fn topic(&self) -> &'static str {
        match self {
            Self::Leader { .. } | Self::Handover { .. } => "election",
            Self::ReadOnly { .. } => "cluster",
            Self::Joined { .. } | Self::Removed { .. } | Self::Voters { .. } => "member",
            Self::PeerUp { .. } | Self::PeerDown { .. } => "peer",
            Self::ClockWrong { .. } | Self::ClockRight { .. } => "clock",
            Self::HeadSet { .. } => "head",
            Self::Layout { .. } | Self::RecordsLost { .. } => "records",
            Self::Published { .. } => "decision",
            Self::Application { .. } => "application",
            Self::ActorRestarted { .. } => "actor",
            Self::Duty { .. } => "orchestrator",
        }
    }
}
