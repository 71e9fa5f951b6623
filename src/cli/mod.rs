//! The command line.
#![allow(clippy::disallowed_methods, reason = "the daemon's shell runs on real time")]

pub mod config;
