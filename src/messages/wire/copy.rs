//! Copying of what a holder of records lacks.

use serde::{Deserialize, Serialize};

use super::Component;
use crate::messages::Lane;
use crate::types::Level;
use crate::types::record::{Partition, Record, RecordKey};

/// Between two holders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CopyMessage {
    /// Asks another holder.
    Ask {
        /// Copied into the answer.
        id: u64,
        /// Version of the layout that the asking node goes by. Whoever goes by another one does not
        /// answer.
        layout: u64,
        /// What it asks.
        ask: CopyAsk,
    },
    /// The other holder answers.
    Answer {
        /// From the question.
        id: u64,
        /// What it says.
        answer: CopyAnswer,
    },
}

/// What a holder asks another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CopyAsk {
    /// The digests of all partitions, unless the digest over them is this one.
    Digests {
        /// The asking holder's digest over all its digests.
        root: u64,
    },
    /// Keys of a partition.
    Keys {
        /// Which.
        partition: Partition,
        /// The last one of the page before.
        after: Option<RecordKey>,
    },
    /// Records.
    Fetch {
        /// Their keys.
        keys: Vec<RecordKey>,
    },
}

/// What the other holder answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CopyAnswer {
    /// Both have the same.
    Same,
    /// The digest of each partition.
    Digests(Vec<u64>),
    /// Keys of a partition, and whether there are more.
    Keys(Vec<RecordKey>, bool),
    /// Records; those that are missing here did not fit or are not there.
    Records(Vec<Record>),
    /// It can't answer now.
    Unavailable,
}

impl Component for CopyMessage {
    const NAME: &'static str = "copy";
    const LANE: Lane = Lane::Control;
    const VERSIONS: &'static [(Level, u8)] = &[(Level(1), 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::Ask { .. } => "copy.ask",
            Self::Answer { .. } => "copy.answer",
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        super::samples::copy()
    }
}
