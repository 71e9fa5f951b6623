//! Messages about records: writes and reads, and copying between holders.

use serde::{Deserialize, Serialize};

use crate::types::record::{Partition, Record, RecordKey, Version};
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, ContentHash, RequestId, Term};

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

/// To a coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RecordsMessage {
    /// The replica answers.
    Answer {
        /// From the question.
        id: u64,
        /// What it says.
        answer: RecordsAnswer,
    },
    /// A member has all that it gains with the next layout; to the leader, once a second.
    Gained {
        /// Version of the layout that names it.
        layout: u64,
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

/// What a replica answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RecordsAnswer {
    /// It is on disk.
    Stored,
    /// The address has this version, and the one that was to be kept is not greater.
    NotGreater(Version),
    /// The publication was made already, with this version; and its content, if it is there.
    Repeated(Version, Option<Bytes>),
    /// The address has as many versions as it may have.
    Full,
    /// The replica's lease is of this term; 0 if it has none.
    OtherTerm(Term),
    /// The replica goes by this version of the layout.
    OtherLayout(u64),
    /// The stamp is too far ahead of the replica's time of day.
    ClockAhead,
    /// The replica can't do it now.
    Unavailable,
    /// The replica won't do it: something about the question is wrong.
    Rejected,
    /// To `Content`.
    Content(Option<Bytes>),
    /// To `Newest` and `Find`.
    Newest(Option<Version>),
    /// To `Versions`: oldest first.
    Versions(Vec<Version>),
    /// To `Scan`: rows in order, and whether there are more.
    Page(Vec<(DecisionAddress, Version)>, bool),
}

/// Copying of what a holder of records lacks.
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
