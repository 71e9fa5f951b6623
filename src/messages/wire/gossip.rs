//! Gossip between two members.

use serde::{Deserialize, Serialize};

use super::{Component, SignedNote};
use crate::messages::{Lane, Topic};
use crate::types::{Level, PeerId};

/// Whose notes on which topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamId {
    /// Topic.
    pub topic: Topic,
    /// Publisher.
    pub publisher: PeerId,
    /// Its start.
    pub run: u64,
}

/// Some streams, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The first one; none for all from the beginning.
    pub from: Option<StreamId>,
    /// The last one; none for all up to the end.
    pub to: Option<StreamId>,
}

/// What a member has of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamDigest {
    /// Which stream.
    pub stream: StreamId,
    /// It wants nothing with this number or a lower one.
    pub floor: u64,
    /// It has these, first and last of each run of numbers, rising.
    pub ranges: Vec<(u64, u64)>,
}

/// Gossip between two members, beside the mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GossipMessage {
    /// Notes that the receiver lacks.
    Notes {
        /// The notes.
        notes: Vec<SignedNote>,
        /// The part that there is more of; the receiver says what it has of it then.
        rest: Option<Part>,
    },
    /// A fresh note, which the receiver is to confirm.
    Hand {
        /// The note.
        note: SignedNote,
    },
    /// Answer to `Hand`: the receiver has it.
    Taken {
        /// Its stream.
        stream: StreamId,
        /// Its number.
        seq: u64,
    },
    /// What the sender has of a part of the streams; it has nothing of those in it that are not listed.
    Digest {
        /// The part.
        part: Part,
        /// What it has.
        streams: Vec<StreamDigest>,
        /// True for an answer, which is not answered with another digest.
        answer: bool,
    },
}

impl Component for GossipMessage {
    const NAME: &'static str = "gossip";
    const LANE: Lane = Lane::Control;
    const VERSIONS: &'static [(Level, u8)] = &[(Level(1), 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::Notes { .. } => "gossip.notes",
            Self::Hand { .. } => "gossip.hand",
            Self::Taken { .. } => "gossip.taken",
            Self::Digest { .. } => "gossip.digest",
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        super::samples::gossip()
    }
}
