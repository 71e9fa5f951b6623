//! The objects of `/api/v1/decisions`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::core::decision::Body;
use crate::types::record::DecisionKind;

/// Answer of `POST /api/v1/decisions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionPublished {
    /// Version of this object.
    pub schema: u32,
    /// The version that stands for it.
    #[serde(flatten)]
    pub version: DecisionInfo,
    /// Address of its content.
    pub content_address: String,
    /// The roles that can read it.
    pub roles: Vec<String>,
    /// Term under which it was acknowledged.
    pub term: u64,
}

/// One version of a decision, as everybody can see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionInfo {
    /// Where it stands.
    pub address: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: DecisionKind,
    /// Who decided: the agent in its address.
    pub author: String,
    /// When it was published.
    pub published_at: String,
    /// Orders the versions of an address: the time, and a counter within its millisecond.
    pub version: String,
    /// The member that coordinated the publication.
    pub writer: String,
    /// Hash of its content, in hexadecimal.
    pub content: String,
}

/// `GET /api/v1/decisions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionPage {
    /// Version of this object.
    pub schema: u32,
    /// The latest version of each decision that was asked for, by address.
    pub items: Vec<DecisionInfo>,
    /// Where to go on; null at the end.
    pub next_cursor: Option<String>,
    /// True if a publication that was acknowledged before may be missing.
    pub stale: bool,
}

/// `GET /api/v1/decisions/{address}/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionHistory {
    /// Version of this object.
    pub schema: u32,
    /// Where the versions stand.
    pub address: String,
    /// All of them, oldest first.
    pub items: Vec<DecisionInfo>,
    /// True if a publication that was acknowledged before may be missing.
    pub stale: bool,
}

/// `GET /api/v1/decisions/{address}` and `GET /api/v1/decisions/{hash}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecisionRead {
    /// Version of this object.
    pub schema: u32,
    /// Where it stands.
    pub address: String,
    /// When it was taken in, by the clock of the node that signed it.
    pub at: String,
    /// The node that signed it.
    pub signer: String,
    /// Hash of its content, in hexadecimal.
    pub content: String,
    /// Address of its content.
    pub content_address: String,
    /// The roles that can read it.
    pub roles: Vec<String>,
    /// The version that was read; null where it was read by its hash.
    pub version: Option<DecisionInfo>,
    /// True if a later version that was acknowledged before may be missing.
    pub stale: bool,
    /// What it says.
    #[serde(flatten)]
    pub body: Body,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleInfo {
    /// Its name.
    pub name: String,
    /// How much it may decide: `master`, `decision`, `suggestion` or `read_only`.
    pub authority: String,
    /// What is encrypted to it is encrypted to this age recipient.
    pub recipient: String,
}

/// `GET /api/v1/roles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolePage {
    /// Version of this object.
    pub schema: u32,
    /// All roles, by name.
    pub items: Vec<RoleInfo>,
    /// True if this node holds the private halves of their keys, so that it can decrypt.
    pub keys_held: bool,
}
