//! The front: where clients meet the cluster.
//!
//! Problem: a client may ask any node. A write has to reach the leader, survive its death, be
//! acknowledged only by a node that holds a lease, and never be reported as failed when it may
//! have happened. A read has to see every write that was acknowledged before it, or say that it
//! might not.
//!
//! States of a write: *waiting* for a lease (nothing has happened, it can still be refused);
//! *proposed* (it may happen); decided. States of a read: waiting for an index, waiting until this
//! node has applied it.
//!
//! Flow of a write: lease -> proposal to the leader, again after every change of leader or after a
//! while, always under the same id -> the node's own log shows the outcome -> lease again ->
//! answer. Flow of a read: the leader names an index -> applied here -> answer; without a leader
//! the answer comes from what is here, marked stale with index and age.
//!
//! Invariants:
//! 1. A write is refused only if it was never proposed; that of a joiner also if the leader
//!    declines it.
//! 2. An acknowledgement leaves only while this node holds a lease.
//! 3. A read that is not marked stale saw an index that a leader named after the read arrived.
//! 4. Open requests are bounded; more are refused as busy before anything is kept.

mod machine;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use machine::{Front, Mode, Msg, Reply, Request, Status, answered, proposed, read_indexed};
pub use read::{Entry, Page, Query, ReadAnswer, Staleness};
pub use write::Written;
