//! What the leader has to know for its duties.

use serde::{Deserialize, Serialize};

use super::Component;
use crate::messages::Lane;
use crate::types::Level;

/// To the leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OrchestratorMessage {
    /// A member has all that it gains with the next layout; to the leader, once a second.
    Gained {
        /// Version of the layout that names it.
        layout: u64,
    },
}

impl Component for OrchestratorMessage {
    const NAME: &'static str = "orchestrator";
    const LANE: Lane = Lane::Control;
    const VERSIONS: &'static [(Level, u8)] = &[(Level(1), 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::Gained { .. } => "orchestrator.gained",
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        vec![Self::Gained { layout: 6 }]
    }
}
