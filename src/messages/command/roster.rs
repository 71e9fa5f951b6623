//! Commands about members.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PartCommand;
use crate::types::{Address, Level, MemberId, PeerId, Recipient};

/// A node that wants to be, or became, a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its key.
    pub peer: PeerId,
    /// Its display name.
    pub name: String,
    /// What kind of node it is: worker, bootstrap, storage, gateway, or an agent's role.
    pub role: String,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Labels from its configuration.
    pub labels: BTreeMap<String, String>,
    /// Public half of its key for contents.
    pub content_key: Recipient,
    /// What its build understands.
    pub level: Level,
}

/// A change of the state of this part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RosterCommand {
    /// Ends a membership. The member id is never used again.
    Remove {
        /// Who.
        member: MemberId,
        /// Give up the records that only this member and others that are gone have.
        lost: bool,
    },
    /// Sets and removes labels of a member.
    Label {
        /// Whose.
        member: MemberId,
        /// Labels to set.
        set: BTreeMap<String, String>,
        /// Labels to remove.
        unset: Vec<String>,
    },
    /// A member listens elsewhere now.
    Moved {
        /// Who.
        member: MemberId,
        /// All its addresses.
        addresses: Vec<Address>,
    },
    /// A member runs another build than before.
    Upgraded {
        /// Who.
        member: MemberId,
        /// What that understands.
        level: Level,
    },
}

impl PartCommand for RosterCommand {
    fn name(&self) -> &'static str {
        match self {
            Self::Remove { .. } => "roster.remove",
            Self::Label { .. } => "roster.label",
            Self::Moved { .. } => "roster.moved",
            Self::Upgraded { .. } => "roster.upgraded",
        }
    }
}
