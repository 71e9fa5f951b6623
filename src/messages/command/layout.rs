//! Commands about who holds records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PartCommand;
use crate::types::MemberId;

/// A member that holds records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// How much it holds beside the others; 1 unless its label `weight` says more.
    pub weight: u8,
    /// Its label `zone`; copies are spread over zones.
    pub zone: String,
}

impl Default for Holder {
    fn default() -> Self {
        Self { weight: 1, zone: String::new() }
    }
}

/// A change of the state of this part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayoutCommand {
    /// Names who will hold records, once they have what they gain.
    Next {
        /// All of them.
        holders: BTreeMap<MemberId, Holder>,
    },
    /// The next holders have what they gain: they are the current ones from now on.
    Commit {
        /// Version of the layout that named them.
        version: u64,
    },
}

impl PartCommand for LayoutCommand {
    fn name(&self) -> &'static str {
        match self {
            Self::Next { .. } => "layout.next",
            Self::Commit { .. } => "layout.commit",
        }
    }
}
