//! The node's own keys, which never leave their ports.

pub use crate::crypto::{Keyring, OpenError, SealError, Signature, Vault};
