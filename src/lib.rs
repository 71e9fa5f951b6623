//! BZZZ: a cluster runtime without a central server.
//!
//! ARCHITECTURE.md describes the layers; who may import whom is checked by `tests/tidy.rs`.

// Standard output and error may be closed, full, or read by nobody; `cli` has writers that bear it.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod actors;
#[cfg(feature = "daemon")]
pub mod adapters;
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
pub mod consensus;
pub mod core;
pub mod crypto;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod http;
pub mod messages;
pub mod node;
pub mod ports;
pub mod services;
pub mod supervisors;
pub mod types;
