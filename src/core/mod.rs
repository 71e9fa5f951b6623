//! Every protocol as a synchronous state machine: no async, no I/O, no clock, no randomness but
//! what a call is given.

pub mod cluster_time;
pub mod consensus;
pub mod control;
pub mod ctx;
pub mod decision;
pub mod duties;
pub mod election;
pub mod event;
pub mod fitness;
#[cfg(test)]
mod fixture;
pub mod follow;
pub mod front;
pub mod gossip;
pub mod init;
pub mod join;
pub mod keys;
pub mod machine;
pub mod machines;
pub mod news;
pub mod orchestrator;
pub mod overlay;
pub mod peers;
pub mod phi;
pub mod records;
pub mod refusal;
pub mod restart;
pub mod standing;
pub mod work;
