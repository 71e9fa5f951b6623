//! Commands about the evaluation of the leader.

use serde::{Deserialize, Serialize};

use super::PartCommand;

/// A change of the state of this part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EvaluationCommand {
    /// Records that the daily evaluation of the leader took place.
    Done,
}

impl PartCommand for EvaluationCommand {
    fn name(&self) -> &'static str {
        match self {
            Self::Done => "evaluation.done",
        }
    }
}
