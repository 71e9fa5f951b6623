//! Actors as they run in a node: what a machine writes is on disk before anybody is answered, and
//! what fails is started again.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "actors/durability.rs"]
mod durability;
#[path = "actors/supervision.rs"]
mod supervision;
#[path = "actors/work.rs"]
mod work;
#[path = "actors/world.rs"]
mod world;
