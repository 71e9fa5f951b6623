//! Peers: who is connected, who answers, who they claim to be.
//!
//! Problem: the roster says who belongs to the cluster; somebody has to keep connections to them,
//! notice who is silent, and notice a node that is not what it claims: a copied data directory, a
//! restored backup, a member that was removed.
//!
//! States of a link: absent, connected (hello sent), known (the peer's hello was accepted),
//! suspected (known, but silent for too long).
//!
//! Flow: `Up` -> hello both ways -> welcome, or turned away. Known peers are pinged at intervals;
//! the answers give round-trip times and feed the suspicion. Every second what was measured goes
//! to the election; whenever the set of answering members changes, the front and the election
//! are told.
//!
//! Invariants:
//! 1. The highest start of each peer that was accepted is on disk before the peer is welcomed.
//! 2. A peer whose start lies below that is turned away.
//! 3. This node stops only when a majority of the other voters turned it away, never on the word
//!    of one.
//! 4. Suspicion is never an input of safety.
//! 5. A member keeps connections to all others while they are few, and to at most `LINKS_MAX` in a large cluster:
//!    see [`crate::core::overlay`] for its neighbours and `reach` for the others.

mod clocks;
mod leaving;
mod link;
mod machine;
mod reach;

pub use link::PeerStatus;
pub use machine::{
    Identity, Msg, Peers, Reply, Request, SeenStart, announced, gossip_started, log_lost, want,
};
