//! The HTTP API of a node.
//!
//! Problem: people and programs on this machine must see and steer the cluster through one node,
//! with errors that say what to do, and without being able to hurt the node by being slow, many
//! or wrong.
//!
//! Flow: `server` accepts connections on loopback and at a socket in the data directory, and counts
//! them -> `router` gives the request an id, finds its row in the table of `routes`, and checks by it all that can be
//! checked -> the route asks an actor through the directory and builds its object -> the router turns a failure
//! into a problem of `problem`. `openapi` puts the same table into the words of OpenAPI.
//!
//! Invariants:
//! 1. Nothing under `/api/` and `/metrics` is answered without the token, but to the operator of
//!    this machine at the socket.
//! 2. A route never touches the state of the node; it asks an actor and waits.
//! 3. Connections, heads, bodies, listeners and waiting events are bounded.
//! 4. What leaves is an object with a schema version, a problem, or a stream of events.
//! 5. What a row does not declare is refused: paths, methods, parameters, headers that promise something, bodies.
//!
//! The command line reads the objects where they stand: beside their routes, and in `api` what all share.
#![expect(clippy::disallowed_methods, reason = "connections are tasks of their own, on real time")]

use std::sync::{Arc, OnceLock};

use crate::adapters::meter::Registry;

pub mod api;

pub mod codes;
pub mod routes;

mod answer;
mod app;
mod call;
mod counts;
mod host;
mod json;
mod media;
mod openapi;
mod params;
mod problem;
mod request;
mod route;
mod router;
mod schema;
mod server;
mod token;

pub use app::{Api, App, Sources};
pub use problem::ApiError;
pub use server::{Bound, ServeError, Server};
pub use token::{ApiToken, TokenFileError};

/// The API of a process that has just started.
pub fn api(token: ApiToken, meter: Arc<Registry>) -> Arc<Api> {
    Arc::new(Api::new(token, meter, document))
}

fn document() -> &'static [u8] {
    static DOCUMENT: OnceLock<Vec<u8>> = OnceLock::new();
    let make = || serde_json::to_vec(&openapi::document(routes::all())).unwrap_or_default();
    DOCUMENT.get_or_init(make)
}
