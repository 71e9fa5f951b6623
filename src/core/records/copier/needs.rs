//! What has to be copied before a member may say that it has everything.

use std::collections::BTreeSet;

use crate::core::control::{View, is_whole};
use crate::core::records::placement::{ReplicaSet, replica_set, representatives};
use crate::types::MemberId;
use crate::types::limits::VOTERS_MAX;
use crate::types::record::PARTITIONS;

/// Of how many of these it has to have copied.
pub(super) type Quorums = BTreeSet<(BTreeSet<MemberId>, usize)>;

/// What a layout asks of the copies of one member. Its partitions are many, but few of them are held by
/// different members, so it is worked out once for each layout.
#[derive(Default)]
pub(super) struct Needs {
    /// Of the layout; 0 if there is none.
    version: u64,
    /// Whom it does not ask for.
    given_up: BTreeSet<MemberId>,
    /// Invariant 2.
    pub(super) to_gain: Quorums,
    /// Invariant 4.
    pub(super) to_restore: Quorums,
    /// Partitions that nobody else holds who is there: what this member has lost of them is lost.
    pub(super) alone: u16,
}

impl Needs {
    /// True if this is what a view asks.
    pub(super) fn fits(&self, view: &View) -> bool {
        self.version == view.layout.version && self.given_up == view.layout.given_up
    }

    /// What the layout asks of this member. Holders are waited for until an operator has given up what they had; then
    /// those that are left are all asked.
    pub(super) fn of(view: &View, own: MemberId) -> Self {
        let layout = &view.layout;
        let there =
            |set: &ReplicaSet| -> BTreeSet<MemberId> { &set.members - &view.layout.given_up };
        let (mut to_gain, mut to_restore) = (Quorums::new(), Quorums::new());
        let (mut alone, mut looked_at) = (0, 0);
        for partition in representatives(layout) {
            looked_at += 1;
            let current = replica_set(&layout.current, partition);
            let next = layout.next.as_ref().map(|next| (next.len(), replica_set(next, partition)));
            let is_alone = there(&current).iter().all(|id| *id == own);
            let is_alone = is_alone && current.members.contains(&own);
            alone += u16::from(is_alone);
            for set in [Some(&current), next.as_ref().map(|(_, set)| set)].into_iter().flatten() {
                // A sole holder has nobody to ask: those who gain from it have nothing else.
                if !is_alone && set.members.contains(&own) {
                    let there = there(set);
                    let others = there.iter().filter(|id| **id != own).count();
                    to_restore.insert((there, set.read_quorum().min(others)));
                }
            }
            if let Some((count, _)) = next.filter(|(_, next)| next.members.contains(&own)) {
                let parts = is_whole(&layout.current) && count > VOTERS_MAX;
                let wanted = if parts { current.members.len() } else { current.read_quorum() };
                let there = there(&current);
                let wanted = wanted.min(there.len());
                to_gain.insert((there, wanted));
            }
        }
        // One partition may have stood for all.
        let alone = if looked_at == 1 { alone * PARTITIONS } else { alone };
        let given_up = view.layout.given_up.clone();
        Self { version: layout.version, given_up, to_gain, to_restore, alone }
    }
}

#[cfg(test)]
mod guards;
