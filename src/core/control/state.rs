//! What the members agree on, and how it is stored.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::View;
use crate::messages::Outcome;
use crate::types::ProposalId;
use crate::types::codec::{CodecError, Durable, decode_durable, encode_durable};

/// First outcomes of recent proposals, oldest forgotten first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcomes {
    pub(super) order: VecDeque<ProposalId>,
    pub(super) by_id: BTreeMap<ProposalId, Outcome>,
}

impl Outcomes {
    /// The proposal that came first under the key of this one, and what came of it.
    pub(super) fn of_key(&self, id: ProposalId) -> Option<(ProposalId, &Outcome)> {
        let (first, outcome) = self.by_id.range(id.of_key()).next()?;
        Some((*first, outcome))
    }
}

/// The replicated state of the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlState {
    pub(super) view: Arc<View>,
    pub(super) outcomes: Outcomes,
}

impl Durable for ControlState {
    const NAME: &'static str = "control state";
    const KIND: u8 = 1;
    const VERSION: u8 = 1;
}

impl ControlState {
    /// The part that everybody may read.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The state as a durable record.
    pub fn encode(&self) -> Vec<u8> {
        encode_durable(self)
    }

    /// Reads a durable record.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        decode_durable(bytes)
    }

    /// Hash over the whole state; equal on all members at the same index.
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(&self.encode()).as_bytes()
    }
}
