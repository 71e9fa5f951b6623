//! The control state as it is stored and sent: whole, with where it stands in the log and who votes.

use serde::{Deserialize, Serialize};

use super::ControlState;
use crate::core::consensus::is_sound;
use crate::messages::wire::VoterConfig;
use crate::types::codec::{CodecError, Durable, decode_durable};
use crate::types::{Bytes, LogId};

/// A snapshot as it is stored and sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredSnapshot {
    /// Last entry that it covers.
    pub last: Option<LogId>,
    /// Where the voter configuration stands in the log.
    pub voters_at: Option<LogId>,
    /// Who votes, as of `last`.
    pub voters: VoterConfig,
    /// The control state, encoded.
    pub state: Bytes,
}

impl Durable for StoredSnapshot {
    const NAME: &'static str = "control state snapshot";
    const KIND: u8 = 6;
    const VERSION: u8 = 1;
}

impl StoredSnapshot {
    /// Reads a snapshot completely before anything is changed by it.
    pub fn read(bytes: &[u8]) -> Result<(Self, ControlState), CodecError> {
        let stored: Self = decode_durable(bytes)?;
        if !stored.voters.configs.is_empty() && !is_sound(&stored.voters) {
            return Err(CodecError::Malformed("a voter without a key".into()));
        }
        let state = ControlState::decode(&stored.state.0)?;
        Ok((stored, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::golden;
    use crate::types::{MemberId, PeerId};

    #[test]
    fn golden_bytes() {
        let snapshot = StoredSnapshot {
            last: Some(LogId { term: 2, index: 9 }),
            voters_at: Some(LogId { term: 1, index: 3 }),
            voters: VoterConfig {
                configs: vec![vec![MemberId(1)], vec![MemberId(1), MemberId(2)]],
                nodes: [(MemberId(1), PeerId([1; 32])), (MemberId(2), PeerId([2; 32]))].into(),
            },
            state: Bytes(vec![1, 2, 3]),
        };
        golden::durable::<StoredSnapshot>(include_str!("../../types/golden/snapshot"), &[snapshot]);
    }
}
