//! The part of the control state that says when the leader was evaluated last.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Change, Decided, Moment, PartChange, View};
use crate::messages::command::{EvaluationCommand, Outcome, Refused};
use crate::types::Wall;

/// The evaluation of the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// When it took place last.
    pub at: Wall,
}

/// What has changed about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvaluationChange {
    /// It took place.
    Done,
}

impl PartChange for EvaluationChange {}

pub(super) fn check(_command: &EvaluationCommand) -> Result<(), Refused> {
    Ok(())
}

pub(super) fn apply(
    view: &mut View,
    moment: Moment,
    EvaluationCommand::Done: &EvaluationCommand,
    changes: &mut Vec<Change>,
) -> Decided {
    Arc::make_mut(&mut view.evaluation).at = moment.at;
    changes.push(EvaluationChange::Done.into());
    Ok(Outcome::Done)
}
