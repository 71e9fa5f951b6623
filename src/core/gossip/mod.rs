//! Gossip: what one member tells all the others without writing it into the control state.
//!
//! Problem: in a large cluster most pairs of members have no connection, and some can't be reached for
//! a while. What a member is, that it leads, that it has turned read-only, what was decided, and what
//! applications tell each other still has to reach every node, without a central server, without a
//! disk write for each, and without anybody being able to speak for another or to flood the rest.
//!
//! A *note* is what a member tells: publisher, run, number, time, body; signed by the publisher. The
//! network carries notes along a mesh (gossipsub) that holds back each one until this machine has
//! judged it. Notes on topics that are *kept* (administration, events of applications) also go from
//! member to member by comparing digests (anti-entropy, Demers et al. 1987, "Epidemic algorithms for
//! replicated database maintenance"), so that one that was cut off gets what it missed.
//!
//! `streams` remembers which notes were heard, and keeps those of kept topics. `reconcile` compares
//! with one other member. `checks` says what a note may say, and how many may come from one member.
//! `machine` drives them and says what becomes of each note.
//!
//! Flow of an event: a client publishes -> note with the next number -> handed to the mesh, and
//! directly to two members that answer -> one of them confirms, or a second passes -> the client
//! hears how many nodes have it. Elsewhere: heard -> judged -> told to whoever it is for.
//!
//! States of a note on a node: not heard; heard; kept (until `GOSSIP_WINDOW`, or until newer notes of
//! the same publisher need the room); forgotten, and refused by its time or its number.
//!
//! What is promised for events of applications: at least once on every node that within
//! `GOSSIP_WINDOW` can be reached, through any chain of members, from a node that has it and runs;
//! once in the stream of one run of a node (`EventLog` knows those that it keeps, also after this
//! machine was restarted). No order between events; the numbers of one publisher rise.
//!
//! Invariants:
//! 1. A note is handed on, or passed on, only if a member of the cluster signed exactly these bytes.
//! 2. A note is handed on once: the number of one that was heard is remembered at least as long as its
//!    time lets it in.
//! 3. Nothing grows without bound: not the notes of one publisher, not all together, not an answer.
//! 4. A member that tells more than its share is not passed on, whichever way it tells; nobody else is
//!    affected, and what is said in its name without its signature does not count against it.
//! 5. The mesh passes a note on once, whichever way it came first.
//! 6. Nobody is offered what it would not take, so every page that is sent brings something.

mod checks;
mod machine;
mod reconcile;
mod streams;
#[cfg(test)]
mod tests;

pub use machine::{EventId, Gossip, Msg, Reply, Request, Verdict, greet, published, run_of, tell};
