//! Election: who leads, who should, and how leadership changes hands without losing a write.
//!
//! Problem: consensus elects *a* leader; we want the fittest one, quickly, and a planned change
//! must pass the lease on safely.
//!
//! `candidacy` decides when a voter runs: in the order of the last score table, the fittest first,
//! so that the first one to ask finds every voter free to grant. `handover` is the leader's side:
//! when somebody else should lead, and the steps by which leadership is handed over. `machine`
//! joins both with the lease (`core::election::lease`) and the reports that the scores come from.
//!
//! Flow on a voter: the leader's messages push the candidacy into the future. When they stop, the
//! voter's turn comes at last heard + election timeout + rank x step; it asks for votes (pre-vote
//! first) and goes on asking until somebody leads. Flow on the leader: reports come in once a
//! second, the table goes out with the answers; a voter that has been clearly fitter for a whole
//! stability window takes over.
//!
//! Invariants:
//! 1. Fitness never makes a vote count: terms, majorities and persisted votes do.
//! 2. Leadership is transferred only after every lease of the term was given back or ran out.
//! 3. After a restart nothing is granted from before it.

mod candidacy;
mod handover;
pub mod lease;
mod machine;

pub use handover::evaluation_due;
pub use machine::{
    Election, Msg, Reply, Request, Settings, Status, resign, transfer, transfer_refused, want_lease,
};
