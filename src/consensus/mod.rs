//! Consensus: openraft, and everything about it that must be async.
//!
//! The only place below `adapters/` that awaits a library or spawns, and it does so through
//! `Runtime` alone, so it runs in the simulator as well. Core never sees it, actors never await
//! it: operations come in through `ports::Consensus`, events go out to the `control` actor.
//!
//! - `runtime`, `watch`: openraft's window on time, tasks and randomness; what makes it
//!   deterministic.
//! - `raft`: openraft's types for us, and their translation to and from the wire.
//! - `log`: vote and log on a journal. `machine`: the control state and its snapshots.
//! - `network`: calls of the protocol as our messages.
//! - `follow`: how members that do not vote get what was committed.
//! - `pump`: takes operations, awaits, casts events. `service`: the actor that owns all of it.
//!
//! Invariants:
//! 1. A vote or an entry is acknowledged to nobody before the journal has it.
//! 2. For one election timeout after a start with an old log, this node gives no votes and does
//!    not campaign, unless leadership is handed to it: it has forgotten whom it promised what.
//! 3. No proposal is reported as failed unless it is certain that it will not be applied.
//! 4. No type of openraft is written to disk or wire.

#[cfg(test)]
mod fixture;
mod follow;
mod log;
mod machine;
mod network;
mod pump;
mod raft;
mod runtime;
mod service;
mod watch;

pub use runtime::{NodeScope, Scope};
pub use service::{ConsensusService, Handle, Retention, ServiceMsg};
