//! Commands of the replicated control state, by the part of it that they change, and what comes of
//! them.
//!
//! A command is decided by `apply` alone, in log order, on every member alike. So it carries
//! whatever its decision needs, the time included.

pub mod cluster;
pub mod duties;
pub mod evaluation;
pub mod heads;
pub mod layout;
pub mod level;
pub mod roster;
pub mod tokens;

use serde::{Deserialize, Serialize};

pub use heads::Expect;
pub use layout::Holder;
pub use roster::Candidate;

use crate::types::record::PARTITIONS;
use crate::types::{Level, MemberId, ProposalId, Wall};

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

/// What the commands of one part have in common.
pub trait PartCommand {
    /// Name for traces and metrics.
    fn name(&self) -> &'static str;

    /// The level of the cluster from which on it may be proposed.
    fn since(&self) -> Level {
        Level::FIRST
    }
}

macro_rules! commands {
    ($($part:ident($module:ident::$command:ident);)*) => {
        $(pub use $module::$command;)*

        /// A change of the control state.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Command {
            $(
                #[doc = concat!("Of the part `", stringify!($module), "`.")]
                $part($module::$command),
            )*
        }

        impl Command {
            /// Name for traces and metrics.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$part(command) => command.name(),)*
                }
            }

            /// The level of the cluster from which on it may be proposed: members of an older build
            /// could not apply it.
            pub fn since(&self) -> Level {
                match self {
                    $(Self::$part(command) => command.since(),)*
                }
            }
        }

        $(
            impl From<$module::$command> for Command {
                fn from(command: $module::$command) -> Self {
                    Self::$part(command)
                }
            }
        )*
    };
}

// The log keeps commands by these names: a new part goes below the others.
commands! {
    Cluster(cluster::ClusterCommand);
    Tokens(tokens::TokensCommand);
    Roster(roster::RosterCommand);
    Heads(heads::HeadsCommand);
    Layout(layout::LayoutCommand);
    Evaluation(evaluation::EvaluationCommand);
    Level(level::LevelCommand);
    Duties(duties::DutiesCommand);
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
    /// No such duty.
    #[error("there is no duty {0:?}; `bzzz slurp status` shows them")]
    NoSuchDuty(String),
    /// The command makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Not every member understands the command yet.
    #[error(
        "this takes level {needed} of the cluster, which is at {level}: some members run an older build; upgrade them, `bzzz node list` shows which"
    )]
    LevelTooLow {
        /// The level that it takes.
        needed: Level,
        /// That of the cluster.
        level: Level,
    },
    /// The build of the node is too old, or too new, for this cluster.
    #[error(
        "this node is of level {build} and the cluster speaks {level}; a member may be ahead of it by one, and never behind, so install the version that the others run"
    )]
    OtherLevel {
        /// That of the build.
        build: Level,
        /// That of the cluster.
        level: Level,
    },
    /// The key of the node is that of a member that answers. Said before anything is decided.
    #[error(
        "another machine runs with the key of this node and is a member (DUPLICATE_IDENTITY), so this one is a copy of it; give it a key of its own: remove node.key from its data directory, which holds no membership, or start it with an empty one"
    )]
    DuplicateIdentity,
    /// Another command came under the key of this one.
    #[error(
        "the Idempotency-Key came with another write at this path before, and that one was answered"
    )]
    KeyReused,
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
            Self::NoSuchDuty(_) => "NO_SUCH_DUTY",
            Self::Invalid(_) => "INVALID",
            Self::LevelTooLow { .. } => "LEVEL_TOO_LOW",
            Self::OtherLevel { .. } => "OTHER_LEVEL",
            Self::DuplicateIdentity => "DUPLICATE_IDENTITY",
            Self::KeyReused => "IDEMPOTENCY_KEY_REUSED",
        }
    }
}
