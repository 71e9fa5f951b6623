//! The part of the control state that says which duties of the leader are paused.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Change, Decided, Moment, PartChange, View};
use crate::core::duties::NAMES;
use crate::messages::command::{DutiesCommand, Outcome, Refused};

/// What is paused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Names of duties that no leader takes a step of.
    pub paused: BTreeSet<String>,
}

/// What has changed about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DutiesChange {
    /// A duty was paused, or is seen to again.
    Changed,
}

impl PartChange for DutiesChange {}

pub(super) fn check(command: &DutiesCommand) -> Result<(), Refused> {
    let (DutiesCommand::Pause { duty } | DutiesCommand::Resume { duty }) = command;
    match NAMES.contains(&duty.as_str()) {
        true => Ok(()),
        false => Err(Refused::NoSuchDuty(duty.chars().take(64).collect())),
    }
}

pub(super) fn apply(
    view: &mut View,
    _moment: Moment,
    command: &DutiesCommand,
    changes: &mut Vec<Change>,
) -> Decided {
    let paused = &mut Arc::make_mut(&mut view.duties).paused;
    let has_changed = match command {
        DutiesCommand::Pause { duty } => paused.insert(duty.clone()),
        DutiesCommand::Resume { duty } => paused.remove(duty),
    };
    if has_changed {
        changes.push(DutiesChange::Changed.into());
    }
    Ok(Outcome::Done)
}
