//! Messages about the keys of roles.

use serde::{Deserialize, Serialize};

use crate::types::Bytes;

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
