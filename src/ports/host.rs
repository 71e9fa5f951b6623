//! Probes of this machine.

pub use crate::types::host::{Capabilities, Load};

/// Probes this machine. Answers come from a cache that the adapter refreshes.
pub trait Host: Send + Sync + 'static {
    /// What the machine is.
    fn capabilities(&self) -> Capabilities;

    /// How busy it is now.
    fn load(&self) -> Load;
}
