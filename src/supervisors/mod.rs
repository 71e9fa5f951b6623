//! Supervision, in the words and with the meaning of Erlang/OTP.
//!
//! `core::restart` decides; `supervisor` carries out. `tree` says who is whose child.

pub mod supervisor;

pub use supervisor::{ChildSpec, Supervisor, SupervisorMsg, SupervisorSpec};
