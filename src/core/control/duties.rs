//! The part of the control state that says which duties of the leader are paused.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bounds::bounded;
use super::{Change, Decided, Moment, PartChange, View};
use crate::messages::command::{DutiesCommand, Outcome, Refused};
use crate::types::limits::{DUTIES_MAX, DUTY_NAME_LEN_MAX};

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
    bounded("bytes of a duty's name", duty.len(), DUTY_NAME_LEN_MAX)
}

pub(super) fn apply(
    view: &mut View,
    _moment: Moment,
    command: &DutiesCommand,
    changes: &mut Vec<Change>,
) -> Decided {
    // Which duties there are, builds differ about; what comes of a command must not differ with that.
    if let DutiesCommand::Pause { duty } = command
        && !view.duties.paused.contains(duty)
    {
        bounded("paused duties", view.duties.paused.len() + 1, DUTIES_MAX)?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogId, Wall};

    #[test]
    fn a_duty_of_another_release_can_be_paused_and_so_many_at_most() {
        let mut view = View::default();
        let moment = Moment { log_id: LogId::default(), at: Wall(0) };
        let mut decide = |duty: String| {
            let command = DutiesCommand::Pause { duty };
            check(&command).and_then(|()| apply(&mut view, moment, &command, &mut Vec::new()))
        };
        for number in 0..DUTIES_MAX {
            assert_eq!(decide(format!("of-a-later-release-{number}")), Ok(Outcome::Done));
        }
        assert_eq!(decide("of-a-later-release-0".into()), Ok(Outcome::Done), "it is paused");
        for too_much in ["one-more".into(), "n".repeat(DUTY_NAME_LEN_MAX + 1)] {
            assert!(matches!(decide(too_much), Err(Refused::Limit { .. })));
        }
    }
}
