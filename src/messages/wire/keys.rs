//! Messages about the keys of roles.

use serde::{Deserialize, Serialize};

use super::Component;
use crate::messages::Lane;
use crate::types::{Bytes, Level};

/// How a member comes by the private halves of roles' keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum KeysMessage {
    /// Asks another member for them.
    Ask {
        /// Copied into the answer.
        nonce: u64,
    },
    /// They, encrypted to the key of the member that asked.
    Shared {
        /// From the question.
        nonce: u64,
        /// An age file.
        file: Bytes,
    },
}

impl Component for KeysMessage {
    const NAME: &'static str = "keys";
    const LANE: Lane = Lane::Control;
    const VERSIONS: &'static [(Level, u8)] = &[(Level(1), 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::Ask { .. } => "keys.ask",
            Self::Shared { .. } => "keys.shared",
        }
    }

    #[cfg(test)]
    fn samples() -> Vec<Self> {
        super::samples::keys()
    }
}
