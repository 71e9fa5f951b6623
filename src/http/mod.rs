//! The HTTP API of a node.
//!
//! Problem: people and programs on this machine must see and steer the cluster through one node,
//! with errors that say what to do, and without being able to hurt the node by being slow, many
//! or wrong.
//!
//! Flow: `server` accepts connections on loopback and at a socket in the data directory, and counts
//! them -> `router` gives the request an id, checks the token, finds the handler -> the handler asks
//! an actor through the directory and builds an object of `api` -> the router turns a failure into
//! a problem of `problem`.
//!
//! Invariants:
//! 1. Nothing under `/api/` and `/metrics` is answered without the token, but to the operator of
//!    this machine at the socket.
//! 2. A handler never touches the state of the node; it asks an actor and waits.
//! 3. Connections, heads, bodies, listeners and waiting events are bounded.
//! 4. What leaves is an object with a schema version, a problem, or a stream of events.
//!
//! `api` depends on nothing here, so that the command line shares it.
#![expect(clippy::disallowed_methods, reason = "connections are tasks of their own, on real time")]

pub mod api;

mod actors;
mod decisions;
mod dht;
mod election;
mod events;
mod faults;
mod metrics;
mod nodes;
mod problem;
mod request;
mod router;
mod server;
mod slurp;
mod status;
mod token;
mod tokens;
mod ucxl;

pub use problem::ApiError;
pub use router::{App, Sources};
pub use server::{Bound, Running, ServeError};
pub use token::{ApiToken, TokenFileError};
