//! What the tests of machines share: members.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::control::Member;
use crate::types::{MemberId, PeerId, Recipient, Wall};

/// The key of a member: another one for each of as many as a cluster may have.
pub(in crate::core) fn peer(id: u64) -> PeerId {
    let mut key = [id as u8; 32];
    if id > u64::from(u8::MAX) {
        key[..8].copy_from_slice(&id.to_le_bytes());
    }
    PeerId(key)
}

/// A member.
pub(in crate::core) fn member(id: u64) -> Member {
    Member {
        id: MemberId(id),
        peer: peer(id),
        name: String::new(),
        role: String::new(),
        addresses: Vec::new(),
        labels: BTreeMap::new(),
        content_key: Recipient([id as u8; 32]),
        joined_at: Wall(0),
    }
}

/// These members.
pub(in crate::core) fn members(
    ids: impl IntoIterator<Item = u64>,
) -> Arc<BTreeMap<MemberId, Arc<Member>>> {
    Arc::new(ids.into_iter().map(|id| (MemberId(id), Arc::new(member(id)))).collect())
}
