//! Deterministic simulation of BZZZ clusters: the product's own actors over a simulated network,
//! disk and clock. One seed gives one run, bit for bit.

#![allow(
    clippy::disallowed_methods,
    reason = "one thread with virtual time: what would break determinism in a node is the simulator's own business"
)]

pub mod book;
pub mod bulk;
pub mod clock;
pub mod clocks;
pub mod disk;
pub mod heap;
pub mod invariants;
pub mod keyring;
pub mod machine;
pub mod nemesis;
pub mod network;
pub mod records;
pub mod rng;
pub mod run;
pub mod trace;
pub mod workload;
pub mod world;
