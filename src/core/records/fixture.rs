//! What the tests of these machines share: a publication by one of the members.

use super::Envelope;
pub(super) use crate::core::fixture::{members, peer};
use crate::crypto::keyed::KeyedVault;
use crate::types::record::{DecisionKind, Hlc, Version};
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, MemberId, PlaceHash, RequestId};

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
