//! The part of the control state that says what the cluster speaks.
//!
//! Invariants:
//! 1. The level never falls.
//! 2. Every member's build speaks it: its own level, or the one before, is that of the cluster.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Change, Decided, Moment, PartChange, View};
use crate::messages::command::{LevelCommand, Outcome, Refused};
use crate::types::Level;
use crate::types::fault::{Fault, planted};

/// What the cluster speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Messages are sent, and commands proposed, as of this level.
    pub level: Level,
}

impl Default for State {
    fn default() -> Self {
        Self { level: Level::FIRST }
    }
}

/// What has changed about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LevelChange {
    /// More is spoken from now on.
    Raised(Level),
}

impl PartChange for LevelChange {}

pub(super) fn check(_command: &LevelCommand) -> Result<(), Refused> {
    Ok(())
}

pub(super) fn apply(
    view: &mut View,
    _moment: Moment,
    LevelCommand::Raise { to }: &LevelCommand,
    changes: &mut Vec<Change>,
) -> Decided {
    // Somebody may have joined since the leader proposed it.
    let behind = view.roster.members.values().find(|member| member.level < *to);
    if let Some(member) = behind.filter(|_| !planted(Fault::LevelBeforeAll)) {
        return Err(Refused::OtherLevel { build: member.level, level: *to });
    }
    if *to > view.level.level {
        Arc::make_mut(&mut view.level).level = *to;
        changes.push(LevelChange::Raised(*to).into());
    }
    Ok(Outcome::Done)
}
