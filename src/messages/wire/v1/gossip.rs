//! Gossip between two members.

use serde::{Deserialize, Serialize};

use super::SignedNote;
use crate::messages::Topic;
use crate::types::PeerId;

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

/// What a member has of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamDigest {
    /// Which stream.
    pub stream: StreamId,
    /// It takes nothing with this number or a lower one any more.
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
        /// True if there are more; the receiver says what it has then.
        more: bool,
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
    /// What the sender has of the streams from `from` up to `to`; it has nothing of those in between
    /// that are not listed.
    Digest {
        /// The first stream that this is about; none for all from the beginning.
        from: Option<StreamId>,
        /// The last stream that this is about; none for all up to the end.
        to: Option<StreamId>,
        /// What it has.
        streams: Vec<StreamDigest>,
        /// True for an answer, which is not answered with another digest.
        answer: bool,
    },
}
