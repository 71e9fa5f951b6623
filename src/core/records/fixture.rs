//! What the tests of these machines share: members, and a publication by one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Envelope;
use crate::core::control::Member;
use crate::crypto::keyed::KeyedVault;
use crate::types::record::{DecisionKind, Hlc, Version};
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, MemberId, PeerId, PlaceHash, RequestId, Wall};

/// The key of a member.
pub(super) fn peer(id: u64) -> PeerId {
    PeerId([id as u8; 32])
}

/// Members 1 to `count`.
pub(super) fn members(count: u64) -> Arc<BTreeMap<MemberId, Arc<Member>>> {
    let member = |id: u64| Member {
        id: MemberId(id),
        peer: peer(id),
        name: String::new(),
        role: String::new(),
        addresses: vec![],
        labels: BTreeMap::new(),
        content_key: Default::default(),
        joined_at: Wall(0),
    };
    Arc::new((1..=count).map(|id| (MemberId(id), Arc::new(member(id)))).collect())
}

/// Where it was published.
pub(super) fn here() -> DecisionAddress {
    "a/b/c/d/e".parse().unwrap()
}

/// What member 3 published there, with a stamp of member 2.
pub(super) fn publication() -> (Envelope, Version) {
    let (request, kind) = (RequestId([9; 16]), DecisionKind::Code);
    let envelope = Envelope {
        plain: [1; 32],
        place: PlaceHash::of(&here(), &request, kind),
        generation: 1,
        roles: vec!["admin".into()],
        signer: peer(3),
        file: Bytes(vec![1, 2, 3]),
        signature: Bytes::default(),
    };
    let envelope = envelope.sign(&KeyedVault(peer(3)));
    let stamp = (Hlc { ms: 900_000, counter: 0 }, MemberId(2));
    let version = Version::new(stamp, &here(), request, kind, envelope.body());
    (envelope, version)
}
