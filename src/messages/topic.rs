//! Topics of gossip.

use serde::{Deserialize, Serialize};

/// What a note is about, and with that who subscribes to it and for how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Topic {
    /// What members say of themselves.
    Announce,
    /// Who leads.
    Election,
    /// What operators want to know wherever they are: nodes that turn read-only, failed actors.
    Admin,
    /// Decisions that were published.
    Decisions,
    /// Events of applications.
    Events,
}

impl Topic {
    /// All topics, in a fixed order.
    pub const ALL: [Topic; 5] =
        [Topic::Announce, Topic::Election, Topic::Admin, Topic::Decisions, Topic::Events];

    /// Name in topic names on the network, traces and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Announce => "announce",
            Topic::Election => "election",
            Topic::Admin => "admin",
            Topic::Decisions => "decisions",
            Topic::Events => "events",
        }
    }

    /// True for topics whose notes are kept for members that could not be reached. A note on one of
    /// the others is replaced by the next one, or what it tells can be asked for.
    pub fn is_kept(self) -> bool {
        matches!(self, Topic::Admin | Topic::Events)
    }
}

/// Which message of the mesh: a hash of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GossipId(pub [u8; 32]);

/// What becomes of a message of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on.
    Accept,
    /// Drop it; whoever sent it did nothing wrong.
    Ignore,
    /// Drop it: whoever sent it wrote it, and writes more than its share.
    Excess,
    /// Drop it, and trust whoever sent it less.
    Reject,
}
