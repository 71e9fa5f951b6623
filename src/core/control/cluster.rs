//! The part of the control state that says which cluster this is, and which roles it has.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bounds::bounded;
use super::{Change, Decided, Moment, PartChange, View, layout, roster};
use crate::messages::command::{ClusterCommand, Outcome, Refused};
use crate::types::limits::{NODE_NAME_LEN_MAX, ROLES_MAX, UCXL_SEGMENT_MAX};
use crate::types::role::Roles;
use crate::types::{ClusterId, Wall};

/// The cluster itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Drawn at random when the cluster was made.
    pub id: ClusterId,
    /// For people.
    pub name: String,
    /// When it was made.
    pub founded_at: Wall,
}

/// The cluster, once it is founded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The cluster itself.
    pub made: Option<Cluster>,
    /// Its roles and the public halves of their keys.
    pub roles: Arc<Roles>,
}

/// What can change: nothing that anybody else has to be told apart from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterChange {
    /// The cluster was made.
    Founded,
}

impl PartChange for ClusterChange {}

pub(super) fn check(command: &ClusterCommand) -> Result<(), Refused> {
    let ClusterCommand::Found { name, founder, roles, .. } = command;
    bounded("bytes in the name of the cluster", name.len(), NODE_NAME_LEN_MAX)?;
    bounded("roles", roles.len(), ROLES_MAX)?;
    roles.keys().try_for_each(|role| {
        bounded("bytes in the name of a role", role.len(), UCXL_SEGMENT_MAX)
    })?;
    roster::check_candidate(founder)
}

pub(super) fn apply(
    view: &mut View,
    moment: Moment,
    command: &ClusterCommand,
    changes: &mut Vec<Change>,
) -> Decided {
    let ClusterCommand::Found { cluster, name, founder, roles } = command;
    if view.cluster.made.is_some() {
        return Err(Refused::AlreadyFounded);
    }
    let made = Some(Cluster { id: *cluster, name: name.clone(), founded_at: moment.at });
    view.cluster = Arc::new(State { made, roles: Arc::new(roles.clone()) });
    Arc::make_mut(&mut view.roster).next = 1;
    Arc::make_mut(&mut view.evaluation).at = moment.at;
    Arc::make_mut(&mut view.level).level = founder.level;
    let founder = roster::add(view, moment.at, founder, changes)?;
    layout::found(view, founder, changes);
    changes.push(ClusterChange::Founded.into());
    Ok(Outcome::Admitted(founder))
}
