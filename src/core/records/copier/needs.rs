//! What has to be copied before a member may say that it has everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::control::{Member, View};
use crate::core::records::placement::{ReplicaSet, replica_set, representatives};
use crate::types::MemberId;
use crate::types::limits::VOTERS_MAX;

/// Of how many of these it has to have copied, or of all of them that are still members.
pub(super) type Quorums = BTreeSet<(BTreeSet<MemberId>, usize)>;

/// What a layout asks of the copies of one member. Its partitions are many, but few of them are held by
/// different members, so it is worked out once for each layout.
#[derive(Default)]
pub(super) struct Needs {
    /// Of the layout; 0 if there is none.
    version: u64,
    /// The roster that it was worked out with.
    members: Arc<BTreeMap<MemberId, Arc<Member>>>,
    /// Invariant 2.
    pub(super) to_gain: Quorums,
    /// Invariant 4.
    pub(super) to_restore: Quorums,
}

impl Needs {
    /// True if this is what the layout and the roster of a view ask.
    pub(super) fn fits(&self, view: &View) -> bool {
        self.version == view.layout.version && Arc::ptr_eq(&self.members, &view.members)
    }

    /// What the layout asks of this member. Nobody is asked for who is no member any more: the roster does not lose
    /// so many holders that it matters, unless an operator has given up what they had.
    pub(super) fn of(view: &View, own: MemberId) -> Self {
        let layout = &view.layout;
        let there = |set: &ReplicaSet| -> BTreeSet<MemberId> {
            set.members.iter().copied().filter(|id| view.members.contains_key(id)).collect()
        };
        let (mut to_gain, mut to_restore) = (Quorums::new(), Quorums::new());
        for partition in representatives(layout) {
            let current = replica_set(&layout.current, partition);
            let next = layout.next.as_ref().map(|next| (next.len(), replica_set(next, partition)));
            for set in [Some(&current), next.as_ref().map(|(_, set)| set)].into_iter().flatten() {
                // A sole holder has nobody to ask.
                if set.members.contains(&own) && set.members.len() > 1 {
                    let there = there(set);
                    let others = there.iter().filter(|id| **id != own).count();
                    to_restore.insert((there, set.read_quorum().min(others)));
                }
            }
            if let Some((count, _)) = next.filter(|(_, next)| next.members.contains(&own)) {
                let parts = layout.current.len() <= VOTERS_MAX && count > VOTERS_MAX;
                let wanted = if parts { current.members.len() } else { current.read_quorum() };
                let there = there(&current);
                let wanted = wanted.min(there.len());
                to_gain.insert((there, wanted));
            }
        }
        let members = view.members.clone();
        Self { version: layout.version, members, to_gain, to_restore }
    }
}
