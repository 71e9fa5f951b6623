//! What the tests of the control state share: a log of which every entry is applied.

use super::{Change, ControlState};
use crate::core::fixture;
use crate::messages::command::{Candidate, Command, Outcome, Proposal};
use crate::messages::command::{ClusterCommand, TokensCommand};
use crate::types::Level;
use crate::types::role::{Authority, RoleKey, Roles};
use crate::types::{ClusterId, LogId, MemberId, ProposalId, Recipient, TokenId, Wall};

pub(super) const TOKEN: TokenId = TokenId([9; 8]);
const SECRET_HASH: [u8; 32] = [5; 32];

/// A log of which every entry is applied.
pub(super) struct Log {
    pub(super) state: ControlState,
    pub(super) index: u64,
    /// What the last one changed.
    pub(super) changes: Vec<Change>,
}

impl Log {
    /// Of a cluster that was just made.
    pub(super) fn founded() -> Self {
        let mut log = Self { state: ControlState::default(), index: 0, changes: vec![] };
        assert_eq!(log.at(1_000, found(1)), Outcome::Admitted(MemberId(1)));
        log
    }

    pub(super) fn at(&mut self, ms: u64, command: Command) -> Outcome {
        let id = ProposalId(u128::from(self.index + 1).to_le_bytes());
        self.propose(ms, id, command)
    }

    pub(super) fn propose(&mut self, ms: u64, id: ProposalId, command: Command) -> Outcome {
        self.index += 1;
        let log_id = LogId { term: 1, index: self.index };
        self.changes.clear();
        let proposal = Proposal { id, at: Wall(ms), command };
        self.state.apply(log_id, &proposal, &mut self.changes)
    }

    pub(super) fn token(&mut self, ms: u64, expires: u64, uses: u32) -> TokenId {
        assert_eq!(self.at(ms, create(TOKEN, Wall(expires), uses)), Outcome::Done);
        TOKEN
    }
}

pub(super) fn candidate(number: u64) -> Candidate {
    Candidate {
        peer: fixture::peer(number),
        name: format!("node-{number}"),
        role: "worker".into(),
        addresses: vec![],
        labels: [].into(),
        content_key: Recipient([number as u8; 32]),
        level: Level::FIRST,
    }
}

fn roles() -> Roles {
    let key = RoleKey { authority: Authority::Master, recipient: Recipient([8; 32]) };
    [("admin".to_owned(), key)].into()
}

pub(super) fn found(founder: u64) -> Command {
    let (cluster, name) = (ClusterId([7; 16]), "c".to_owned());
    Command::Cluster(ClusterCommand::Found {
        cluster,
        name,
        founder: candidate(founder),
        roles: roles(),
    })
}

pub(super) fn create(token: TokenId, expires_at: Wall, uses: u32) -> Command {
    Command::Tokens(TokensCommand::Create { token, secret_hash: SECRET_HASH, expires_at, uses })
}

pub(super) fn admit(token: TokenId, number: u64) -> Command {
    Command::Tokens(TokensCommand::Admit {
        token,
        secret_hash: SECRET_HASH,
        candidate: candidate(number),
    })
}
