//! The node's own key, which never leaves its port.

pub use crate::crypto::{Signature, Vault};
