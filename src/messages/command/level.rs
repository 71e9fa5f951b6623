//! Commands about what the cluster speaks.

use serde::{Deserialize, Serialize};

use super::PartCommand;
use crate::types::Level;

/// A change of the state of this part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LevelCommand {
    /// Every member understands this, so that it is spoken from now on.
    Raise {
        /// The level.
        to: Level,
    },
}

impl PartCommand for LevelCommand {
    fn name(&self) -> &'static str {
        match self {
            Self::Raise { .. } => "level.raise",
        }
    }
}
