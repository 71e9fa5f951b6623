//! Liveness, identity and announcements.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Component;
use crate::messages::Lane;
use crate::types::Level;
use crate::types::host::Capabilities;
use crate::types::{BootId, ClusterId, MemberId, Wall};

/// What keeps two members in touch.
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

impl Component for PeersMessage {
    const NAME: &'static str = "peers";
    const LANE: Lane = Lane::Control;
    const VERSIONS: &'static [(Level, u8)] = &[(Level(1), 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "peers.hello",
            Self::Welcome { .. } => "peers.welcome",
            Self::Turned { .. } => "peers.turned",
            Self::Ping { .. } => "peers.ping",
            Self::Pong { .. } => "peers.pong",
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        super::samples::peers()
    }
}
