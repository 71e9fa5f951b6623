//! Records: contents, versions of addresses, and the clock that orders them.
//!
//! The name of an encrypted content says what it is, who signed it, where it was published, and as what. So nobody can
//! pass another content off under its name, a version that belongs to another address is known without its
//! content, and only its signer can encrypt something else under it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::limits::CLOCK_AHEAD_MAX_MS;
use crate::types::ucxl::DecisionAddress;
use crate::types::{BodyHash, Bytes, ContentHash, MemberId, PeerId, PlaceHash, RequestId, Wall};

/// A reading of a hybrid logical clock (Kulkarni and others, "Logical Physical Clocks", 2014): the
/// time of day as long as that moves on, and a counter for what happens within a millisecond or
/// while the time of day stands still.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Hlc {
    /// Milliseconds since 1970, of whichever clock was furthest ahead.
    pub ms: u64,
    /// Counts readings with the same milliseconds.
    pub counter: u32,
}

impl Hlc {
    /// True if no clock that is right can have made this reading yet: it is more than
    /// `CLOCK_AHEAD_MAX_MS` after `wall`.
    pub fn is_ahead_of(self, wall: Wall) -> bool {
        self.ms > wall.0.saturating_add(CLOCK_AHEAD_MAX_MS)
    }

    /// From when on it is not ahead of the time of day any more.
    pub fn fits_from(self) -> Wall {
        Wall(self.ms.saturating_sub(CLOCK_AHEAD_MAX_MS))
    }

    /// The next reading: after this one, and not before `wall`.
    #[must_use]
    pub fn next(self, wall: Wall) -> Self {
        if wall.0 > self.ms {
            return Self { ms: wall.0, counter: 0 };
        }
        match self.counter.checked_add(1) {
            Some(counter) => Self { ms: self.ms, counter },
            None => Self { ms: self.ms.saturating_add(1), counter: 0 },
        }
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", Wall(self.ms), self.counter)
    }
}

/// What a decision is about.
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// A change of code.
    Code,
    /// The shape of a system.
    Architecture,
    /// Tests and their results.
    Test,
    /// The running of systems.
    System,
    /// Anything else.
    Generic,
}

impl DecisionKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Code, Self::Architecture, Self::Test, Self::System, Self::Generic];

    /// Name in texts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Architecture => "architecture",
            Self::Test => "test",
            Self::System => "system",
            Self::Generic => "generic",
        }
    }
}

/// One publication at an address. The greatest is the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// When, as the coordinator stamped it.
    pub at: Hlc,
    /// The member that coordinated it.
    pub writer: MemberId,
    /// Where its content is.
    pub content: ContentHash,
    /// The publication that it is part of: the same one may be stamped more than once.
    pub request: RequestId,
    /// What it is about. Stands in the clear, so that it can be searched for.
    pub kind: DecisionKind,
    /// What its content is a hash of, beside where it is published.
    pub body: BodyHash,
}

impl Version {
    /// Of a publication, with this stamp.
    pub fn new(
        (at, writer): (Hlc, MemberId),
        address: &DecisionAddress,
        request: RequestId,
        kind: DecisionKind,
        body: BodyHash,
    ) -> Self {
        let place = PlaceHash::of(address, &request, kind);
        let content = ContentHash::of_publication(&body, &place);
        Self { at, writer, content, request, kind, body }
    }

    /// True if it is a version of this address: whatever comes from another node may be one of another.
    pub fn is_of(&self, address: &DecisionAddress) -> bool {
        let place = PlaceHash::of(address, &self.request, self.kind);
        self.content == ContentHash::of_publication(&self.body, &place)
    }
}

impl BodyHash {
    /// Of what was signed, by its hash.
    pub fn of(signer: PeerId, plain: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("bzzz body v1");
        hasher.update(&signer.0).update(plain);
        Self(*hasher.finalize().as_bytes())
    }
}

impl PlaceHash {
    /// Of a publication.
    pub fn of(address: &DecisionAddress, request: &RequestId, kind: DecisionKind) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("bzzz place v1");
        // Only the last part has no fixed length but for the name, which ends where an address can't begin.
        hasher.update(&request.0).update(kind.name().as_bytes()).update(&[0]);
        hasher.update(address.as_str().as_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

impl ContentHash {
    /// The name of an encrypted content.
    pub fn of_publication(body: &BodyHash, place: &PlaceHash) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("bzzz publication v1");
        hasher.update(&body.0).update(&place.0);
        Self(*hasher.finalize().as_bytes())
    }
}

/// Names one record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RecordKey {
    /// A content, in this generation of its envelope.
    Content(ContentHash, u32),
    /// A version at an address.
    Version(DecisionAddress, Version),
}

/// A record with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A content as it is stored.
    Content(ContentHash, Bytes),
    /// A version at an address.
    Version(DecisionAddress, Version),
}

/// Partitions of the key space.
pub const PARTITIONS: u16 = 4_096;

/// A part of the key space: what is placed, compared and copied together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition(pub u16);

impl Partition {
    fn of_hash(hash: &[u8; 32]) -> Self {
        // The first twelve bits.
        Self(u16::from_be_bytes([hash[0], hash[1]]) >> 4)
    }

    /// The partition that a content is in.
    pub fn of_content(hash: &ContentHash) -> Self {
        Self::of_hash(&hash.0)
    }

    /// The partition that the versions of an address are in.
    pub fn of_address(address: &DecisionAddress) -> Self {
        Self::of_hash(blake3::hash(address.as_str().as_bytes()).as_bytes())
    }

    /// True if there is such a partition.
    pub fn is_valid(self) -> bool {
        self.0 < PARTITIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_stands_still_or_runs_back() {
        let first = Hlc::default().next(Wall(5));
        assert_eq!(first, Hlc { ms: 5, counter: 0 });
        let second = first.next(Wall(5));
        let third = second.next(Wall(1));
        assert!(first < second && second < third);
        assert_eq!(third, Hlc { ms: 5, counter: 2 });
        assert_eq!(third.next(Wall(6)), Hlc { ms: 6, counter: 0 });
        let full = Hlc { ms: 5, counter: u32::MAX };
        assert!(full.next(Wall(5)) > full);
        let last = Hlc { ms: u64::MAX, counter: u32::MAX };
        assert_eq!(last.next(Wall(5)).ms, u64::MAX, "a hostile reading overflows nothing");
        assert!(last.is_ahead_of(Wall(5)) && !full.is_ahead_of(Wall(0)));
    }

    #[test]
    fn a_version_says_what_it_is_of() {
        let address: DecisionAddress = "a/b/c/d/e".parse().unwrap();
        let (request, kind) = (RequestId([1; 16]), DecisionKind::Code);
        let body = BodyHash::of(PeerId([2; 32]), &[3; 32]);
        let stamp = (Hlc { ms: 1, counter: 0 }, MemberId(1));
        let good = Version::new(stamp, &address, request, kind, body);
        assert!(good.is_of(&address));
        assert!(Version { at: Hlc::default(), writer: MemberId(2), ..good }.is_of(&address));
        assert!(!good.is_of(&"a/b/c/d/f".parse().unwrap()));
        assert!(!Version { request: RequestId([9; 16]), ..good }.is_of(&address));
        assert!(!Version { kind: DecisionKind::Test, ..good }.is_of(&address));
        assert!(!Version { content: ContentHash([0; 32]), ..good }.is_of(&address));
        assert!(!Version { body: BodyHash([0; 32]), ..good }.is_of(&address));
        assert_ne!(BodyHash::of(PeerId([4; 32]), &[3; 32]), body);
    }

    #[test]
    fn every_key_is_in_one_partition() {
        assert_eq!(Partition::of_content(&ContentHash([0xff; 32])), Partition(4_095));
        assert_eq!(Partition::of_content(&ContentHash([0; 32])), Partition(0));
        let address: DecisionAddress = "a/b/c/d/e".parse().unwrap();
        assert!(Partition::of_address(&address).is_valid());
    }
}
