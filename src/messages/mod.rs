//! What crosses a border: the replicated commands, and what nodes say to each other.
//!
//! Everything in here is plain data with serde on it. `command` is stored in the replicated log
//! and travels; `wire` only travels. Mailbox messages, which may hold reply ports, are in
//! `actors/`; the inputs of each machine stand beside the machine in `core/`.

pub mod command;
pub mod lane;
pub mod topic;
pub mod wire;

pub use command::{Command, Outcome, Proposal, Refused};
pub use lane::Lane;
pub use topic::{GossipId, Topic, Verdict};
