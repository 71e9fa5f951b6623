//! Commands about configuration values.

use serde::{Deserialize, Serialize};

use super::PartCommand;
use crate::types::Bytes;

/// What a head must be for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// The key must not exist yet.
    Absent,
    /// The key must stand at this version.
    Version(u64),
}

/// A change of the state of this part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeadsCommand {
    /// Writes a configuration value, if it stands where the writer saw it.
    Set {
        /// Key below `ucxl://bzzz.cluster.config/`.
        key: String,
        /// What must hold.
        expect: Expect,
        /// The value.
        value: Bytes,
        /// Who wrote it, for people.
        author: String,
    },
}

impl PartCommand for HeadsCommand {
    fn name(&self) -> &'static str {
        match self {
            Self::Set { .. } => "heads.set",
        }
    }
}
