//! Becoming a member.
//!
//! Problem: a node with nothing but an address and a token has to become a member exactly once,
//! although answers get lost, leaders change, and the address may belong to somebody else.
//!
//! Flow: the `joiner` dials, and asks one peer that the token names after the other; the asked node
//! looks in `admission` whether anybody else has the key of the newcomer, and has the leader commit
//! `Admit`, which checks the token, and answers with the roster. A node whose key is that of a
//! member that answers hears so from the asked node, or from the network of it, which lets but one
//! of both through.
//!
//! Invariants:
//! 1. The secret goes only to a peer that the token names.
//! 2. Asking again is harmless: the same peer with the same token gets the same member id.

mod admission;
mod joiner;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use admission::{Admission, Claim, SILENT_FOR, answer, has_made};
pub use joiner::{JoinError, Joined, Joiner, Msg, Request};

use crate::types::codec::Durable;
use crate::types::{Address, MemberId, PeerId};

/// Key under which a node stores the members that it knew last.
pub const ROSTER_KEY: &str = "roster";

/// Members and their addresses, as stored by a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Who they are and where they listen.
    pub members: BTreeMap<MemberId, (PeerId, Vec<Address>)>,
    /// True once this node was a voter: from then on its log is not empty, and an empty one means
    /// that the log was lost.
    pub voted: bool,
}

impl Durable for Roster {
    const NAME: &'static str = "roster";
    const KIND: u8 = 4;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::golden;

    #[test]
    fn golden_bytes() {
        let addresses = vec!["/ip4/10.0.0.1/tcp/4001".parse().unwrap()];
        let roster =
            Roster { members: [(MemberId(2), (PeerId([2; 32]), addresses))].into(), voted: true };
        golden::durable::<Roster>(include_str!("../../types/golden/roster"), &[roster]);
    }
}
