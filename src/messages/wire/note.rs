//! Notes, which go from member to member until all have them.

use serde::{Deserialize, Serialize};

use super::Announcement;
use crate::messages::Topic;
use crate::types::codec::Durable;
use crate::types::record::Version;
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, PeerId, Term, Wall};

/// What one member tells all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Who tells it.
    pub publisher: PeerId,
    /// Which start of the publisher.
    pub run: u64,
    /// Counts up within a run; there may be gaps.
    pub seq: u64,
    /// When, by the publisher's clock.
    pub at: Wall,
    /// What.
    pub body: NoteBody,
}

impl Durable for Note {
    const NAME: &'static str = "note";
    const KIND: u8 = 10;
    const VERSION: u8 = 1;
}

/// What a note says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NoteBody {
    /// What the publisher is.
    Announcement(Announcement),
    /// The publisher leads.
    Leads {
        /// Since this term.
        term: Term,
    },
    /// The publisher turned read-only, or can write again.
    ReadOnly {
        /// Whether it is read-only.
        read_only: bool,
        /// Code of the reason.
        reason: String,
        /// Writes that were refused while it was.
        refused: u64,
    },
    /// An actor of the publisher was restarted.
    ActorRestarted {
        /// Path in the tree.
        actor: String,
        /// Why.
        reason: String,
    },
    /// Decisions that the publisher has coordinated and acknowledged.
    Published(Vec<(DecisionAddress, Version)>),
    /// An event of an application.
    Event {
        /// Its name, such as `deploy.finished`.
        name: String,
        /// JSON.
        data: String,
    },
}

impl NoteBody {
    /// The topic that it belongs to.
    pub fn topic(&self) -> Topic {
        match self {
            Self::Announcement(_) => Topic::Announce,
            Self::Leads { .. } => Topic::Election,
            Self::ReadOnly { .. } | Self::ActorRestarted { .. } => Topic::Admin,
            Self::Published(_) => Topic::Decisions,
            Self::Event { .. } => Topic::Events,
        }
    }
}

/// A note that anybody can check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedNote {
    /// The note, encoded; the signature covers exactly these bytes.
    pub note: Bytes,
    /// The publisher's signature.
    pub signature: Bytes,
}
