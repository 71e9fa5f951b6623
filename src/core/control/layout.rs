//! The layout: which members hold records.
//!
//! Joining makes a member; a change of the layout makes a holder. A change has two steps, each an
//! entry of the log: a *next* set of holders is named, and once they have what they gain it becomes
//! the *current* one. What is between the two is `core::records`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bounds::bounded;
use super::{Change, Decided, Moment, PartChange, View};
use crate::core::event::EventBody;
use crate::core::records::placement::replica_set;
use crate::messages::command::{Holder, LayoutCommand, Outcome, Refused};
use crate::types::MemberId;
use crate::types::limits::{HOLDER_WEIGHT_MAX, LABEL_LEN_MAX, MEMBERS_MAX, VOTERS_MAX};
use crate::types::record::{PARTITIONS, Partition};

/// Members that hold records, with how much of them.
pub type Holders = BTreeMap<MemberId, Holder>;

/// Who holds records, and who will.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Counts every change of what follows; 0 before there is a cluster.
    pub version: u64,
    /// Who holds records.
    pub current: Holders,
    /// Who will hold them once they have what they gain.
    pub next: Option<Holders>,
    /// Holders of the current layout that are gone, and whose records an operator has given up.
    pub given_up: BTreeSet<MemberId>,
}

/// True if so few hold records that each of them holds all.
pub fn is_whole(holders: &Holders) -> bool {
    holders.len() <= VOTERS_MAX
}

impl Layout {
    /// True while everybody holds everything, and will.
    pub fn is_whole(&self) -> bool {
        std::iter::once(&self.current).chain(&self.next).all(is_whole)
    }
}

/// The state of this part.
pub type State = Layout;

/// What has changed about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutChange {
    /// Other holders are named, or hold records.
    Changed,
}

impl PartChange for LayoutChange {
    fn event(&self, view: &View) -> Option<EventBody> {
        let ids = |holders: &Holders| holders.keys().copied().collect();
        let Layout { version, current, next, .. } = &*view.layout;
        Some(EventBody::Layout {
            version: *version,
            holders: ids(current),
            next: next.as_ref().map(ids),
        })
    }
}

pub(super) fn check(command: &LayoutCommand) -> Result<(), Refused> {
    let LayoutCommand::Next { holders } = command else { return Ok(()) };
    bounded("members that hold records", holders.len(), MEMBERS_MAX)?;
    holders.values().try_for_each(|holder| {
        bounded("bytes in a zone", holder.zone.len(), LABEL_LEN_MAX)?;
        bounded("weight", usize::from(holder.weight), usize::from(HOLDER_WEIGHT_MAX))
    })
}

pub(super) fn apply(
    view: &mut View,
    _moment: Moment,
    command: &LayoutCommand,
    changes: &mut Vec<Change>,
) -> Decided {
    match command {
        LayoutCommand::Next { holders } => name_next(view, holders, changes),
        LayoutCommand::Commit { version } => commit(view, *version, changes),
    }
}

/// The cluster begins: its founder holds everything.
pub(super) fn found(view: &mut View, founder: MemberId, changes: &mut Vec<Change>) {
    let current = [(founder, Holder::default())].into();
    view.layout = Arc::new(Layout { version: 1, current, ..Layout::default() });
    changes.push(LayoutChange::Changed.into());
}

/// Names the holders of the next layout, in place of any that were named before.
fn name_next(view: &mut View, holders: &Holders, changes: &mut Vec<Change>) -> Decided {
    if let Some(stranger) = holders.keys().find(|id| !view.roster.members.contains_key(id)) {
        return Err(Refused::NoSuchMember(*stranger));
    }
    if holders.is_empty() {
        return Err(Refused::Invalid("somebody has to hold the records".into()));
    }
    let layout = Arc::make_mut(&mut view.layout);
    // Going back to what is current needs no copying, but a version of its own: some may know `next`.
    let wanted = (*holders != layout.current).then(|| holders.clone());
    if wanted != layout.next {
        layout.next = wanted;
        layout.version += 1;
        changes.push(LayoutChange::Changed.into());
    }
    Ok(Outcome::Done)
}

/// Partitions of the records of which, without this member, fewer of the current holders are left than it takes to
/// tell what there was. Those who gain a partition copy it from that many.
fn at_risk(view: &View, without: MemberId, is_left: impl Fn(MemberId) -> bool) -> u16 {
    let current = &view.layout.current;
    if !current.contains_key(&without) {
        return 0;
    }
    let left = |id: &&MemberId| **id != without && is_left(**id);
    let is_short = |partition: &Partition| {
        let set = replica_set(current, *partition);
        set.members.contains(&without)
            && set.members.iter().filter(left).count() < set.read_quorum()
    };
    if is_whole(current) {
        return if is_short(&Partition(0)) { PARTITIONS } else { 0 };
    }
    let short = (0..PARTITIONS).map(Partition).filter(is_short).count();
    u16::try_from(short).unwrap_or(PARTITIONS)
}

/// Why a member can't go, if its records can't be told without it.
pub(super) fn check_leaving(view: &View, member: MemberId) -> Result<(), Refused> {
    check_left(view, member, |id| view.roster.members.contains_key(&id))
}

/// The same, where only these of the others are left.
pub fn check_left(
    view: &View,
    member: MemberId,
    is_left: impl Fn(MemberId) -> bool,
) -> Result<(), Refused> {
    let is_there = |id: &&MemberId| view.roster.members.contains_key(*id);
    let Layout { current, next, .. } = &*view.layout;
    let changes = next.is_some() || !current.keys().all(|id| is_there(&id));
    // Nobody takes over from one that is gone for as long as it is.
    let mut taking_over = next.as_ref().unwrap_or(current).keys().filter(is_there);
    let moving = changes && taking_over.all(|id| is_left(*id));
    match at_risk(view, member, is_left) {
        0 => Ok(()),
        partitions => Err(Refused::RecordsAtRisk { member, partitions, moving }),
    }
}

/// Holders that are no members any more are not waited for: an operator says that they are lost.
pub(super) fn give_up(view: &mut View) {
    let gone = view.layout.current.keys().filter(|id| !view.roster.members.contains_key(id));
    let given_up = gone.copied().collect();
    Arc::make_mut(&mut view.layout).given_up = given_up;
}

/// The next layout becomes the current one, if it is still the one that was meant.
fn commit(view: &mut View, version: u64, changes: &mut Vec<Change>) -> Decided {
    let layout = Arc::make_mut(&mut view.layout);
    let is_there = |id: &MemberId| view.roster.members.contains_key(id);
    // Somebody may have gone since the leader proposed it: then another one is named first, and copied for.
    let complete = layout.next.as_ref().is_some_and(|next| next.keys().all(is_there));
    if layout.version == version
        && complete
        && let Some(next) = layout.next.take()
    {
        layout.current = next;
        layout.version += 1;
        layout.given_up.clear();
        changes.push(LayoutChange::Changed.into());
    }
    Ok(Outcome::Done)
}
