//! The control state: the little that every member must agree on.
//!
//! Problem: roster, voters, join tokens and configuration heads have to be the same everywhere,
//! survive any minority of failures, and change only by agreement.
//!
//! The state is made of parts, each in a file of its own: what it holds, what every command has to
//! keep (`check`), what a command changes (`apply`), and what others are told of that. A part may
//! change others, as a member that leaves changes the layout. `apply` is the only code that changes
//! the state, a pure function of log order. `machine` is the node's keeper of the newest view: it
//! takes what consensus tells, and tells it as news. Who votes is for `core::duties::voters` to say.
//!
//! Invariants:
//! 1. Two members that applied the same log index have equal states, byte for byte.
//! 2. A member id is given out once.
//! 3. A proposal id is decided once; repeating it answers with the first outcome.
//! 4. A head changes only from the version that the writer named.
//! 5. No command is decided that takes a higher level than that of the cluster.

mod apply;
mod bounds;
pub mod cluster;
pub mod duties;
pub mod evaluation;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod guards;
pub mod heads;
pub mod layout;
pub mod level;
mod machine;
pub mod roster;
pub mod snapshot;
mod state;
pub mod tokens;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use cluster::Cluster;
pub use heads::Head;
pub use layout::{Holders, Layout, check_left, is_whole};
pub use machine::{Control, Msg, Reply, Request, leads};
pub use roster::Member;
pub use snapshot::StoredSnapshot;
pub use state::ControlState;
pub use tokens::JoinToken;

use crate::core::event::EventBody;
use crate::messages::command::{Command, Outcome, Refused};
use crate::types::{LogId, MemberId, PeerId, ProposalId, Wall};

/// Where a command stands in the log, and its time.
#[derive(Clone, Copy, Debug)]
struct Moment {
    log_id: LogId,
    at: Wall,
}

/// What comes of a command.
type Decided = Result<Outcome, Refused>;

/// What a part tells of its changes.
pub trait PartChange {
    /// True for what changes with every write of clients, and concerns nobody but them.
    fn is_routine(&self) -> bool {
        false
    }

    /// What people are told of it.
    fn event(&self, _view: &View) -> Option<EventBody> {
        None
    }
}

macro_rules! parts {
    ($($module:ident: $part:ident, $change:ident;)*) => {
        $(pub use $module::$change;)*

        /// What every part of a node reads. Never changed in place once it is handed out; views share
        /// the parts that are equal.
        ///
        /// A part that a stored state lacks is what it is without any command: the release that wrote it
        /// did not have it.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct View {
            /// Last entry applied, none before the first.
            pub applied: Option<LogId>,
            /// Highest time stamp applied.
            pub stamp: Wall,
            $(
                #[doc = concat!("What `control::", stringify!($module), "` holds.")]
                pub $module: Arc<$module::State>,
            )*
        }

        /// What changed by one entry.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Change {
            /// A proposal was decided.
            Decided {
                /// Which.
                id: ProposalId,
                /// What came of it.
                outcome: Outcome,
                /// Where it stands in the log.
                log_id: LogId,
            },
            /// The whole state was replaced by a snapshot.
            Installed,
            $(
                #[doc = concat!("Of the part `", stringify!($module), "`.")]
                $part($module::$change),
            )*
        }

        impl Change {
            /// True for what concerns nobody but whoever writes or reads values.
            pub fn is_routine(&self) -> bool {
                match self {
                    Self::Decided { .. } => true,
                    Self::Installed => false,
                    $(Self::$part(change) => change.is_routine(),)*
                }
            }

            /// What people are told of it.
            pub fn event(&self, view: &View) -> Option<EventBody> {
                match self {
                    Self::Decided { .. } | Self::Installed => None,
                    $(Self::$part(change) => change.event(view),)*
                }
            }
        }

        $(
            impl From<$module::$change> for Change {
                fn from(change: $module::$change) -> Self {
                    Self::$part(change)
                }
            }
        )*

        /// Checks what every command has to keep, whatever the state: before it is proposed, so that
        /// the log takes nothing oversize, and again when it is applied, because a log outlives its
        /// bugs.
        pub fn check(command: &Command) -> Result<(), Refused> {
            match command {
                $(Command::$part(command) => $module::check(command),)*
            }
        }

        /// Changes the state as a command says. What it claims is checked again, although an honest
        /// leader has checked it before.
        fn decide(
            view: &mut View,
            moment: Moment,
            command: &Command,
            changes: &mut Vec<Change>,
        ) -> Decided {
            match command {
                $(Command::$part(command) => $module::apply(view, moment, command, changes),)*
            }
        }
    };
}

parts! {
    cluster: Cluster, ClusterChange;
    tokens: Tokens, TokensChange;
    roster: Roster, RosterChange;
    heads: Heads, HeadsChange;
    layout: Layout, LayoutChange;
    evaluation: Evaluation, EvaluationChange;
    level: Level, LevelChange;
    duties: Duties, DutiesChange;
}

impl View {
    /// The member with this key.
    pub fn member_of(&self, peer: PeerId) -> Option<&Arc<Member>> {
        self.roster.member_of(peer)
    }

    /// The key of this member.
    pub fn peer_of(&self, member: MemberId) -> Option<PeerId> {
        self.roster.members.get(&member).map(|member| member.peer)
    }

    /// Index of the last entry applied, 0 before the first.
    pub fn index(&self) -> u64 {
        self.applied.map_or(0, |log_id| log_id.index)
    }
}
