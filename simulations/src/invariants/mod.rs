//! What must hold in every run, one file each.
//!
//! An invariant is fed observations of the world: what consensus tells, what clients were
//! answered, who can reach whom. It judges from those alone, never from what a node believes of
//! itself.

mod acknowledged;
mod committed;
mod events;
mod fence;
mod identity;
mod intensity;
pub mod isolated;
mod leader;
mod levels;
mod listings;
mod publications;
mod reads;
mod refused;
mod stamps;
mod terms;

use bzzz::core::consensus::ConsensusEvent;
use bzzz::core::event::EventBody;
use bzzz::types::record::Version;
use bzzz::types::ucxl::DecisionAddress;
use bzzz::types::{Bytes, ContentHash, Level, LogId, MemberId, RequestId, Term, Wall};

/// Something that happened in the world.
pub enum Observation<'a> {
    /// Consensus of a node told something.
    Consensus {
        /// Which node.
        node: usize,
        /// As which member.
        member: MemberId,
        /// What.
        event: &'a ConsensusEvent,
    },
    /// A node told an event of its own, or one of an application.
    Event {
        /// When, in virtual microseconds.
        at_us: u64,
        /// Which node.
        node: usize,
        /// Which incarnation of it.
        incarnation: u64,
        /// What.
        body: &'a EventBody,
    },
    /// A node has applied what its cluster speaks.
    Spoken {
        /// Which node.
        node: usize,
        /// What its build understands.
        build: Level,
        /// What the cluster speaks.
        level: Level,
    },
    /// A node can, or can't, reach a majority of the voters in both directions, or the leader that can.
    Reach {
        /// Which node.
        node: usize,
        /// Since when it can't, in virtual microseconds.
        cut_since_us: Option<u64>,
    },
    /// A client got an acknowledgement.
    Ack(&'a Ack),
    /// A client asked for a value now; the answer will be judged by what was acknowledged before.
    ReadBegins {
        /// Which read.
        read: u64,
        /// Which key.
        key: &'a str,
    },
    /// A client got an answer that was not marked stale.
    ReadEnds {
        /// Which read.
        read: u64,
        /// Version found, 0 if there was none.
        version: u64,
    },
    /// A client publishes now; what comes of it will be judged by what was there before.
    PublishBegins {
        /// Which operation.
        token: u64,
        /// Where.
        address: &'a DecisionAddress,
        /// The publication; a repeated one has the same.
        request: RequestId,
    },
    /// A client got an acknowledgement of a publication.
    Published {
        /// Which operation.
        token: u64,
        /// What was acknowledged.
        publication: &'a Publication,
    },
    /// A replica says that it has stored what a coordinator wrote.
    ReplicaStored {
        /// When, in virtual microseconds.
        at_us: u64,
        /// Which node.
        node: usize,
    },
    /// A client was told that its event is published.
    EventPublished {
        /// Which one it is.
        id: &'a str,
        /// What it says.
        data: &'a str,
    },
    /// A node has applied the log up to here.
    ControlStamp {
        /// Index of the last entry.
        index: u64,
        /// The stamp of the control state.
        at: Wall,
        /// The true time.
        now: Wall,
    },
    /// Something else has a stamp.
    Stamp {
        /// What.
        what: &'a str,
        /// The stamp.
        at: Wall,
        /// The true time.
        now: Wall,
        /// True if it was just made.
        is_new: bool,
    },
    /// A client asks for the latest version now.
    LatestBegins {
        /// Which operation.
        token: u64,
        /// Of what.
        address: &'a DecisionAddress,
    },
    /// A client got an answer that was not marked stale.
    LatestEnds {
        /// Which operation.
        token: u64,
        /// What was found.
        version: Option<Version>,
    },
    /// A client asks for a content now.
    ContentBegins {
        /// Which operation.
        token: u64,
        /// Which content.
        hash: ContentHash,
    },
    /// A client was answered about a content.
    ContentRead {
        /// Which operation.
        token: u64,
        /// Which node answered.
        node: usize,
        /// Which content.
        hash: ContentHash,
        /// What was found.
        found: Option<&'a Bytes>,
    },
    /// A client was told that something of its has no effect.
    Refused(Sight<'a>),
    /// A client was shown something, stale or not, or it is there at the end.
    Seen {
        /// Which node shows it.
        node: usize,
        /// What.
        sight: Sight<'a>,
    },
    /// A client begins to list all addresses.
    ListingBegins {
        /// Which operation.
        token: u64,
    },
    /// A client has listed all addresses, and no page was marked stale.
    ListingEnds {
        /// Which operation.
        token: u64,
        /// The rows of all pages, as they came.
        rows: &'a [(DecisionAddress, Version)],
    },
    /// At the end, with everything healed: which versions a node says there are.
    FinalVersions {
        /// Which node.
        node: usize,
        /// Of what.
        address: &'a DecisionAddress,
        /// They, oldest first.
        versions: &'a [Version],
    },
    /// At the end, with everything healed: what a node holds.
    Final {
        /// Which node.
        node: usize,
        /// Which key.
        key: &'a str,
        /// Version and value, if there is one.
        found: Option<(u64, &'a [u8])>,
    },
}

/// What a client wrote or published, and clients may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight<'a> {
    /// A value; every write writes another one.
    Value {
        /// Key.
        key: &'a str,
        /// The value.
        value: &'a [u8],
    },
    /// A publication.
    Publication(RequestId),
}

/// An acknowledged write.
#[derive(Clone, Debug)]
pub struct Ack {
    /// When, in virtual microseconds.
    pub at_us: u64,
    /// Which node answered.
    pub node: usize,
    /// As which member.
    pub member: MemberId,
    /// From which disk.
    pub disk: u64,
    /// Where the write stands in the log.
    pub log_id: LogId,
    /// Term of the lease under which it was acknowledged.
    pub lease_term: Term,
    /// Key.
    pub key: String,
    /// Version that the write made.
    pub version: u64,
    /// Value.
    pub value: Vec<u8>,
}

/// An acknowledged publication.
#[derive(Clone, Debug)]
pub struct Publication {
    /// When, in virtual microseconds.
    pub at_us: u64,
    /// Which node answered.
    pub node: usize,
    /// As which member.
    pub member: MemberId,
    /// From which disk.
    pub disk: u64,
    /// Where.
    pub address: DecisionAddress,
    /// The version that it made.
    pub version: Version,
    /// Term of the lease under which it was acknowledged.
    pub lease_term: Term,
}

/// A rule that no run may break.
pub trait Invariant: Send {
    /// Its number, which a failure report names.
    fn number(&self) -> u32;

    /// What it says.
    fn statement(&self) -> &'static str;

    /// Looks at what happened. An error says how the rule was broken.
    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String>;
}

/// All invariants, in the order of their numbers.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(leader::OneLeaderPerTerm::default()),
        Box::new(committed::CommittedNeverChanges::default()),
        Box::new(acknowledged::NoAcknowledgedWriteLost::default()),
        Box::new(isolated::NoAckWhileCutOff::default()),
        Box::new(fence::WritesStayInTheLeasesTerm),
        Box::new(terms::TermsNeverFall::default()),
        Box::new(intensity::RestartIntensity::default()),
        Box::new(identity::OneHistoryPerMember::default()),
        Box::new(reads::ReadsSeeWhatWasAcknowledged::default()),
        Box::new(publications::NoPublicationLost::default()),
        Box::new(publications::PublicationsInOrder::default()),
        Box::new(publications::LatestIsTheLatest::default()),
        Box::new(isolated::NoReplicaWritesWhileCutOff::default()),
        Box::new(events::EventsToldOnce::default()),
        Box::new(fence::LeasesEndBeforeTheNextLeader::default()),
        Box::new(publications::RepeatsGoNotBack::default()),
        Box::new(stamps::Stamps::default()),
        Box::new(refused::RefusedIsNeverSeen::default()),
        Box::new(listings::ListingsAreWhole::default()),
        Box::new(levels::LevelsFitBuilds),
    ]
}

#[cfg(test)]
pub(crate) fn ack(at_us: u64, node: usize, key: &str, version: u64, value: &[u8]) -> Ack {
    Ack {
        at_us,
        node,
        member: MemberId(node as u64 + 1),
        disk: node as u64,
        log_id: LogId { term: 1, index: at_us },
        lease_term: 1,
        key: key.into(),
        version,
        value: value.to_vec(),
    }
}

#[cfg(test)]
pub(crate) fn role(node: usize, term: u64, leading: bool) -> ConsensusEvent {
    let member = MemberId(node as u64 + 1);
    let leader = leading.then_some(member);
    ConsensusEvent::Role(bzzz::core::consensus::Role {
        term,
        leader,
        leading,
        voters: [member].into(),
        joint: false,
    })
}

#[cfg(test)]
pub(crate) fn consensus<'a>(node: usize, event: &'a ConsensusEvent) -> Observation<'a> {
    Observation::Consensus { node, member: MemberId(node as u64 + 1), event }
}
