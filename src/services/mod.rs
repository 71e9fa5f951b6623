//! What clients of a node can do with it, as async functions over the addresses of its actors. They
//! keep no state, and decide nothing about a protocol; the HTTP API and the simulator call the same.

pub mod decisions;

pub use decisions::Decisions;
