//! Commands of the replicated control state, and what comes of them.
//!
//! A command is decided by `apply` alone, in log order, on every member alike. So it carries
//! whatever its decision needs, the time included.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::record::PARTITIONS;
use crate::types::role::Roles;
use crate::types::{
    Address, Bytes, ClusterId, MemberId, PeerId, ProposalId, Recipient, TokenId, Wall,
};

/// A command with the id under which it is decided once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The same id is answered with the first outcome, however often it is proposed.
    pub id: ProposalId,
    /// When the leader proposed it, in cluster time, or [`Proposal::NO_TIME`].
    pub at: Wall,
    /// What to do.
    pub command: Command,
}

impl Proposal {
    /// Of a leader that does not know what time it is: whatever was stamped last, when this is decided, goes on. The
    /// leader can't say that itself, as it may not have applied its log yet.
    pub const NO_TIME: Wall = Wall(0);
}

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
}

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

/// What a head must be for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// The key must not exist yet.
    Absent,
    /// The key must stand at this version.
    Version(u64),
}

/// A change of the control state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes the cluster; only the first one does anything.
    Found {
        /// The new cluster's id.
        cluster: ClusterId,
        /// Its name.
        name: String,
        /// Its first member.
        founder: Candidate,
        /// Its roles.
        roles: Roles,
    },
    /// Registers a join token. The secret itself is known to nobody but who holds the token.
    CreateToken {
        /// Public part.
        token: TokenId,
        /// BLAKE3 of the secret.
        #[serde(with = "crate::types::bytes::fixed")]
        secret_hash: [u8; 32],
        /// From when on it is refused.
        expires_at: Wall,
        /// How many nodes may join with it.
        uses: u32,
    },
    /// Makes a token useless from now on.
    RevokeToken {
        /// Which.
        token: TokenId,
    },
    /// Makes a node a member.
    Admit {
        /// Token that it shows.
        token: TokenId,
        /// BLAKE3 of the secret that it showed.
        #[serde(with = "crate::types::bytes::fixed")]
        secret_hash: [u8; 32],
        /// Who.
        candidate: Candidate,
    },
    /// Ends a membership. The member id is never used again.
    Remove {
        /// Who.
        member: MemberId,
        /// Give up the records that only this member and others that are gone have.
        #[serde(default)]
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
    /// Writes a configuration value, if it stands where the writer saw it.
    SetHead {
        /// Key below `ucxl://bzzz.cluster.config/`.
        key: String,
        /// What must hold.
        expect: Expect,
        /// The value.
        value: Bytes,
        /// Who wrote it, for people.
        author: String,
    },
    /// Records that the daily evaluation of the leader took place.
    Evaluated,
    /// Names who will hold records, once they have what they gain.
    NextLayout {
        /// All of them.
        holders: BTreeMap<MemberId, Holder>,
    },
    /// The next holders have what they gain: they are the current ones from now on.
    CommitLayout {
        /// Version of the layout that named them.
        version: u64,
    },
}

impl Command {
    /// Name for traces and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Found { .. } => "found",
            Self::CreateToken { .. } => "create_token",
            Self::RevokeToken { .. } => "revoke_token",
            Self::Admit { .. } => "admit",
            Self::Remove { .. } => "remove",
            Self::Label { .. } => "label",
            Self::Moved { .. } => "moved",
            Self::SetHead { .. } => "set_head",
            Self::Evaluated => "evaluated",
            Self::NextLayout { .. } => "next_layout",
            Self::CommitLayout { .. } => "commit_layout",
        }
    }
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done, nothing more to say.
    Done,
    /// The node is a member under this id.
    Admitted(MemberId),
    /// The head stands at this version.
    HeadSet {
        /// Its version.
        version: u64,
    },
    /// Not done.
    Refused(Refused),
}

/// Why a command was not carried out. Decided by `apply`, so it is final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// A cluster exists already.
    #[error("this cluster was made already")]
    AlreadyFounded,
    /// No such token, or the secret does not fit it.
    #[error("the join token is not known here; make a new one with `bzzz join-token create`")]
    TokenUnknown,
    /// The token has been used as often as it may.
    #[error("the join token is used up; make a new one with `bzzz join-token create`")]
    TokenUsed,
    /// The token is too old.
    #[error("the join token has expired; make a new one with `bzzz join-token create`")]
    TokenExpired,
    /// The peer is a member already, under another token.
    #[error("this node is member {0} already; remove it first with `bzzz node remove {0}`")]
    AlreadyMember(MemberId),
    /// No such member.
    #[error("there is no member {0}; `bzzz node list` shows them")]
    NoSuchMember(MemberId),
    /// Without the member too few holders are left of some records to tell what there was.
    #[error(
        "without member {member} too few of those that hold them would be left of {partitions} of {PARTITIONS} partitions of the records{}",
        if *moving { "; the last change of who holds them is under way, so try again in a moment" } else { "; bring others back, or give up with `bzzz node remove ID --lost` what only those had that are gone for good" }
    )]
    RecordsAtRisk {
        /// Who.
        member: MemberId,
        /// Partitions with too few holders without it.
        partitions: u16,
        /// True while others are about to take over.
        moving: bool,
    },
    /// The last member cannot be removed.
    #[error("the last member can't be removed")]
    LastMember,
    /// The key stands at another version.
    #[error(
        "the value stands at version {current}, not where the write expected it; read it again"
    )]
    VersionMismatch {
        /// Version now, 0 if there is none.
        current: u64,
    },
    /// A bound of the control state is reached.
    #[error("{what} would be more than the {limit} allowed")]
    Limit {
        /// What there is too much of.
        what: String,
        /// How many there may be.
        limit: u64,
    },
    /// The command makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The key of the node is that of a member that answers. Said before anything is decided.
    #[error(
        "another machine runs with the key of this node and is a member (DUPLICATE_IDENTITY), so this one is a copy of it; give it a key of its own: remove node.key from its data directory, which holds no membership, or start it with an empty one"
    )]
    DuplicateIdentity,
}

impl Refused {
    /// True if the same command can succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::RecordsAtRisk { moving: true, .. })
    }

    /// Code in API answers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AlreadyFounded => "ALREADY_FOUNDED",
            Self::TokenUnknown => "TOKEN_UNKNOWN",
            Self::TokenUsed => "TOKEN_USED",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::AlreadyMember(_) => "ALREADY_MEMBER",
            Self::NoSuchMember(_) => "NO_SUCH_MEMBER",
            Self::RecordsAtRisk { .. } => "RECORDS_AT_RISK",
            Self::LastMember => "LAST_MEMBER",
            Self::VersionMismatch { .. } => "VERSION_MISMATCH",
            Self::Limit { .. } => "LIMIT_REACHED",
            Self::Invalid(_) => "INVALID",
            Self::DuplicateIdentity => "DUPLICATE_IDENTITY",
        }
    }
}
