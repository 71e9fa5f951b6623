//! Commands about the duties of the leader.

use serde::{Deserialize, Serialize};

use super::PartCommand;
use crate::types::Level;

/// A change of the state of this part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DutiesCommand {
    /// No leader takes a step of this duty until it is resumed.
    Pause {
        /// Its name.
        duty: String,
    },
    /// Leaders see to this duty again.
    Resume {
        /// Its name.
        duty: String,
    },
}

impl PartCommand for DutiesCommand {
    fn name(&self) -> &'static str {
        match self {
            Self::Pause { .. } => "duties.pause",
            Self::Resume { .. } => "duties.resume",
        }
    }

    fn since(&self) -> Level {
        Level(2)
    }
}
