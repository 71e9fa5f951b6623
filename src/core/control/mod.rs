//! The control state: the little that every member must agree on.
//!
//! Problem: roster, voters, join tokens and configuration heads have to be the same everywhere,
//! survive any minority of failures, and change only by agreement.
//!
//! `bounds` holds what every command has to keep. `state` holds the state and `apply`, the only code that changes it, a pure function of log
//! order. `machine` is the node's keeper of the newest view: it takes what consensus tells, hands
//! it on to the machines of this node, and, on the leader, steers who votes.
//!
//! Invariants:
//! 1. Two members that applied the same log index have equal states, byte for byte.
//! 2. A member id is given out once.
//! 3. A proposal id is decided once; repeating it answers with the first outcome.
//! 4. A head changes only from the version that the writer named.

mod apply;
mod bounds;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod guards;
mod layout;
mod machine;
mod state;

pub use bounds::check;
pub use layout::{Holders, Layout, check_left};
pub use machine::{Control, Msg, Reply, Request, leads};
pub use state::{Change, Cluster, ControlState, Head, JoinToken, Member, View};
