//! The part of the control state that says who the members are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bounds::bounded;
use super::{Change, Decided, Moment, PartChange, View, layout};
use crate::core::event::EventBody;
use crate::messages::command::{Candidate, Outcome, Refused, RosterCommand};
use crate::types::limits::{
    ADDRESS_LEN_MAX, ADDRESSES_MAX, LABEL_LEN_MAX, LABELS_MAX, MEMBERS_MAX, NODE_NAME_LEN_MAX,
};
use crate::types::{Address, Level, MemberId, PeerId, Recipient, Wall};

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id, never used for anybody else.
    pub id: MemberId,
    /// Its key.
    pub peer: PeerId,
    /// Display name.
    pub name: String,
    /// Install kind or agent role.
    pub role: String,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Public half of its key for contents.
    pub content_key: Recipient,
    /// When it was admitted.
    pub joined_at: Wall,
    /// What its build understands.
    pub level: Level,
}

/// The members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// By id.
    pub members: BTreeMap<MemberId, Arc<Member>>,
    /// Next member id to give out.
    pub next: u64,
}

impl State {
    /// The member with this key.
    pub fn member_of(&self, peer: PeerId) -> Option<&Arc<Member>> {
        self.members.values().find(|member| member.peer == peer)
    }

    /// The keys of all members.
    pub fn peers(&self) -> BTreeSet<PeerId> {
        self.members.values().map(|member| member.peer).collect()
    }
}

/// What has changed about the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RosterChange {
    /// A member was added.
    Joined(MemberId),
    /// A member was removed.
    Removed(MemberId, PeerId),
    /// Something about a member is new.
    Changed(MemberId),
}

impl PartChange for RosterChange {
    fn event(&self, view: &View) -> Option<EventBody> {
        match self {
            Self::Joined(member) => {
                let known = view.roster.members.get(member);
                let name = known.map_or_else(String::new, |member| member.name.clone());
                Some(EventBody::Joined { member: *member, name })
            }
            Self::Removed(member, _) => Some(EventBody::Removed { member: *member }),
            Self::Changed(_) => None,
        }
    }
}

/// An error if these labels are too many, too long, or without a name.
fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Refused> {
    bounded("labels", labels.len(), LABELS_MAX)?;
    for (key, value) in labels {
        bounded("bytes in a label", key.len().max(value.len()), LABEL_LEN_MAX)?;
        if key.is_empty() {
            return Err(Refused::Invalid("a label's key must not be empty".into()));
        }
    }
    Ok(())
}

fn check_addresses(addresses: &[Address]) -> Result<(), Refused> {
    bounded("addresses", addresses.len(), ADDRESSES_MAX)?;
    addresses
        .iter()
        .try_for_each(|a| bounded("bytes in an address", a.to_string().len(), ADDRESS_LEN_MAX))
}

/// An error if anything about a candidate is too much.
pub(super) fn check_candidate(candidate: &Candidate) -> Result<(), Refused> {
    check_addresses(&candidate.addresses)?;
    bounded("bytes in the name", candidate.name.len(), NODE_NAME_LEN_MAX)?;
    bounded("bytes in the role", candidate.role.len(), NODE_NAME_LEN_MAX)?;
    check_labels(&candidate.labels)
}

pub(super) fn check(command: &RosterCommand) -> Result<(), Refused> {
    match command {
        RosterCommand::Label { set, unset, .. } => {
            check_labels(set)?;
            bounded("labels to remove", unset.len(), LABELS_MAX)?;
            unset.iter().try_for_each(|key| bounded("bytes in a label", key.len(), LABEL_LEN_MAX))
        }
        RosterCommand::Moved { addresses, .. } => check_addresses(addresses),
        RosterCommand::Remove { .. } | RosterCommand::Upgraded { .. } => Ok(()),
    }
}

pub(super) fn apply(
    view: &mut View,
    _moment: Moment,
    command: &RosterCommand,
    changes: &mut Vec<Change>,
) -> Decided {
    match command {
        RosterCommand::Remove { member, lost } => remove(view, *member, *lost, changes),
        RosterCommand::Label { member, set, unset } => label(view, *member, set, unset, changes),
        RosterCommand::Moved { member, addresses } => {
            change_member(view, *member, changes, |member| member.addresses = addresses.clone())
        }
        RosterCommand::Upgraded { member, level } => {
            check_level(view, *level)?;
            change_member(view, *member, changes, |member| member.level = *level)
        }
    }
}

/// A member speaks the level of the cluster: with its build, or with the one before.
pub(super) fn check_level(view: &View, build: Level) -> Result<(), Refused> {
    let level = view.level.level;
    let speaks = build.oldest_spoken() <= level && level <= build;
    if speaks { Ok(()) } else { Err(Refused::OtherLevel { build, level }) }
}

/// Makes a node a member.
pub(super) fn add(
    view: &mut View,
    at: Wall,
    candidate: &Candidate,
    changes: &mut Vec<Change>,
) -> Result<MemberId, Refused> {
    bounded("members", view.roster.members.len() + 1, MEMBERS_MAX)?;
    let roster = Arc::make_mut(&mut view.roster);
    let id = MemberId(roster.next);
    roster.next += 1;
    let member = Member {
        id,
        peer: candidate.peer,
        name: candidate.name.clone(),
        role: candidate.role.clone(),
        addresses: candidate.addresses.clone(),
        labels: candidate.labels.clone(),
        content_key: candidate.content_key,
        joined_at: at,
        level: candidate.level,
    };
    roster.members.insert(id, Arc::new(member));
    changes.push(RosterChange::Joined(id).into());
    Ok(id)
}

/// Ends a membership.
pub(super) fn drop_member(view: &mut View, id: MemberId, changes: &mut Vec<Change>) {
    if let Some(member) = Arc::make_mut(&mut view.roster).members.remove(&id) {
        changes.push(RosterChange::Removed(id, member.peer).into());
    }
}

fn remove(view: &mut View, member: MemberId, lost: bool, changes: &mut Vec<Change>) -> Decided {
    if !view.roster.members.contains_key(&member) {
        return Err(Refused::NoSuchMember(member));
    }
    if view.roster.members.len() == 1 {
        return Err(Refused::LastMember);
    }
    if !lost {
        layout::check_leaving(view, member)?;
    }
    drop_member(view, member, changes);
    if lost {
        layout::give_up(view);
    }
    Ok(Outcome::Done)
}

fn change_member(
    view: &mut View,
    id: MemberId,
    changes: &mut Vec<Change>,
    change: impl FnOnce(&mut Member),
) -> Decided {
    let roster = Arc::make_mut(&mut view.roster);
    let member = roster.members.get_mut(&id).ok_or(Refused::NoSuchMember(id))?;
    change(Arc::make_mut(member));
    changes.push(RosterChange::Changed(id).into());
    Ok(Outcome::Done)
}

fn label(
    view: &mut View,
    id: MemberId,
    set: &BTreeMap<String, String>,
    unset: &[String],
    changes: &mut Vec<Change>,
) -> Decided {
    let member = view.roster.members.get(&id).ok_or(Refused::NoSuchMember(id))?;
    let mut labels = member.labels.clone();
    labels.retain(|key, _| !unset.contains(key));
    labels.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
    check_labels(&labels)?;
    change_member(view, id, changes, |member| member.labels = labels)
}
