//! The configuration as the rest of the program sees it.
//!
//! The names of the fields are the names in the table of keys; a test compares the two.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::error::ConfigError;
use super::value::Value;
use crate::types::Address;

/// The whole configuration, complete and in range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// The cluster.
    pub cluster: Cluster,
    /// Connections to other nodes.
    pub p2p: P2p,
    /// The HTTP API.
    pub api: Api,
    /// The choice of a leader.
    pub election: Election,
    /// What the node tells about itself.
    pub telemetry: Telemetry,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Display name, or `auto`.
    pub id: String,
    /// Install kind or agent role, as it was given.
    pub role: String,
    /// Where identity and journals are kept.
    pub data_dir: PathBuf,
    /// Labels announced to others.
    pub labels: BTreeMap<String, String>,
}

/// What a node was installed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// Runs work.
    Worker,
    /// Is known to nodes that join.
    Bootstrap,
    /// Holds data.
    Storage,
    /// Answers clients.
    Gateway,
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Name of the cluster.
    pub name: String,
    /// Whether this node takes part in a cluster.
    pub mode: bool,
    /// Whether this node founds a cluster when it has none.
    pub bootstrap: bool,
}

/// `[p2p]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct P2p {
    /// Addresses to listen on; the hosts are IP addresses.
    pub listen: Vec<Address>,
    /// Addresses told to others; empty for those listened on.
    pub announce: Vec<Address>,
    /// Nodes to contact first.
    pub bootstrap_peers: Vec<Address>,
    /// Connections at once.
    pub max_connections: usize,
    /// Whether peers are looked for in the local network.
    pub mdns: bool,
    /// Whether connections between members that can't reach each other are passed on.
    pub relay: bool,
}

impl P2p {
    /// True if peers are looked for in the local network: not if only this machine can reach the node.
    pub fn looks_around(&self) -> bool {
        self.mdns && self.listen.iter().any(|address| !address.is_loopback())
    }
}

/// `[api]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Socket of the API, always on loopback.
    pub listen: SocketAddr,
}

/// `[election]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Election {
    /// Time between two weighings.
    #[serde(with = "duration_text")]
    pub interval: Duration,
    /// Weights of the score.
    pub weights: Weights,
}

/// `[election.weights]`, which sum to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Uptime and past failures.
    pub stability: u8,
    /// Free processors, memory and disk.
    pub resources: u8,
    /// Latency to the other members.
    pub position: u8,
    /// Where the other members are.
    pub geography: u8,
    /// How little there is to do at present.
    pub load: u8,
}

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// The log.
    pub log: Log,
}

/// `[telemetry.log]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A level or a filter directive.
    pub level: String,
    /// Form of the log.
    pub format: LogFormat,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// JSON.
    Json,
}

impl NodeKind {
    /// The kind of that name.
    fn of(role: &str) -> Option<Self> {
        match role {
            "worker" => Some(Self::Worker),
            "bootstrap" => Some(Self::Bootstrap),
            "storage" => Some(Self::Storage),
            "gateway" => Some(Self::Gateway),
            _ => None,
        }
    }
}

impl Node {
    /// The display name, if one was chosen.
    pub fn chosen_id(&self) -> Option<&str> {
        (self.id != "auto").then_some(self.id.as_str())
    }

    /// What this node was installed as.
    pub fn kind(&self) -> NodeKind {
        NodeKind::of(&self.role).unwrap_or(NodeKind::Worker)
    }

    /// The role of the agent on this node, where `role` names no install kind.
    pub fn agent_role(&self) -> Option<&str> {
        NodeKind::of(&self.role).is_none().then_some(self.role.as_str())
    }
}

impl Config {
    /// Builds the configuration from one value for each key.
    pub(super) fn build<'a>(
        values: impl Iterator<Item = (&'a str, &'a Value)>,
    ) -> Result<Self, ConfigError> {
        let schema = |error: serde_json::Error| ConfigError::Schema(error.to_string());
        let mut root = Json::Object(Map::new());
        for (name, value) in values {
            // Indexing by a name makes the tables on the way.
            let place = name.split('.').fold(&mut root, |table, part| &mut table[part]);
            *place = serde_json::to_value(value).map_err(schema)?;
        }
        serde_json::from_value(root).map_err(schema)
    }

    /// The configuration as a file that, read again, gives the same one.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::Schema(error.to_string()))
    }
}

/// Durations as text in every serialised form.
mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::config::duration::{format_duration, parse_duration};

    pub(super) fn serialize<S: Serializer>(d: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(*d))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}
