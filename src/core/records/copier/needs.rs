//! What has to be copied before a member may say that it has everything.

use std::collections::BTreeSet;

use crate::core::control::Layout;
use crate::core::records::placement::{replica_set, representatives};
use crate::types::MemberId;
use crate::types::limits::VOTERS_MAX;

/// Of how many of these it has to have copied.
pub(super) type Quorums = BTreeSet<(BTreeSet<MemberId>, usize)>;

/// What a layout asks of the copies of one member. Its partitions are many, but few of them are held by
/// different members, so it is worked out once for each layout.
#[derive(Default)]
pub(super) struct Needs {
    /// Of the layout; 0 if there is none.
    pub(super) version: u64,
    /// Invariant 2.
    pub(super) to_gain: Quorums,
    /// Invariant 4.
    pub(super) to_restore: Quorums,
}

impl Needs {
    /// What this layout asks of this member.
    pub(super) fn of(layout: &Layout, own: MemberId) -> Self {
        let (mut to_gain, mut to_restore) = (Quorums::new(), Quorums::new());
        for partition in representatives(layout) {
            let current = replica_set(&layout.current, partition);
            let next = layout.next.as_ref().map(|next| (next.len(), replica_set(next, partition)));
            for set in [Some(&current), next.as_ref().map(|(_, set)| set)].into_iter().flatten() {
                // A sole holder has nobody to ask.
                if set.members.contains(&own) && set.members.len() > 1 {
                    to_restore.insert((set.members.clone(), set.read_quorum()));
                }
            }
            if let Some((count, _)) = next.filter(|(_, next)| next.members.contains(&own)) {
                let parts = layout.current.len() <= VOTERS_MAX && count > VOTERS_MAX;
                let wanted = if parts { current.members.len() } else { current.read_quorum() };
                to_gain.insert((current.members, wanted));
            }
        }
        Self { version: layout.version, to_gain, to_restore }
    }
}
