//! Writes and reads of records, to those that hold them.

use serde::{Deserialize, Serialize};

use super::Component;
use crate::messages::Lane;
use crate::types::record::Version;
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, ContentHash, Level, RequestId, Term};

/// To a replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReplicaMessage {
    /// A coordinator asks a replica.
    Ask {
        /// Copied into the answer.
        id: u64,
        /// Term of the coordinator's lease; 0 for a read.
        term: Term,
        /// Version of the layout that it goes by.
        layout: u64,
        /// What it asks.
        ask: RecordsAsk,
    },
}

/// What a coordinator asks a replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RecordsAsk {
    /// Keep a content.
    Put {
        /// Its hash.
        hash: ContentHash,
        /// It, as it is stored.
        content: Bytes,
    },
    /// Keep a version, if it is the newest.
    Add {
        /// Its address.
        address: DecisionAddress,
        /// It.
        version: Version,
        /// True once it names the content of another try of its publication: then it is kept whatever the
        /// tries here name, so that they do not turn each other away for ever.
        settled: bool,
    },
    /// Keep a content, and a version that names it if it is the newest: both or neither.
    Post {
        /// Address of the version.
        address: DecisionAddress,
        /// The version.
        version: Version,
        /// The content, as it is stored.
        content: Bytes,
        /// As with `Add`.
        settled: bool,
    },
    /// Keep a version that another replica has.
    Merge {
        /// Its address.
        address: DecisionAddress,
        /// It.
        version: Version,
        /// Its content, where the replicas of the version have to have that, too.
        content: Option<Bytes>,
    },
    /// A content.
    Content {
        /// Its hash.
        hash: ContentHash,
    },
    /// The newest version of an address.
    Newest {
        /// The address.
        address: DecisionAddress,
    },
    /// The newest version of one publication at an address, if it was above all others when it came here, or is now.
    Find {
        /// The address.
        address: DecisionAddress,
        /// The publication.
        request: RequestId,
    },
    /// All versions of an address.
    Versions {
        /// The address.
        address: DecisionAddress,
    },
    /// Addresses and their newest versions.
    Scan {
        /// What the addresses begin with.
        prefix: String,
        /// The last one of the page before.
        after: Option<DecisionAddress>,
        /// Rows wanted.
        limit: u32,
    },
}

impl Component for ReplicaMessage {
    const NAME: &'static str = "replica";
    const LANE: Lane = Lane::Control;
    const VERSIONS: &'static [(Level, u8)] = &[(Level(1), 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::Ask { .. } => "replica.ask",
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        super::samples::replica()
    }
}
