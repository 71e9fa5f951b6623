//! Thin drivers around the machines of `core/`.
//!
//! `driver` holds what they have in common: decode the mailbox, call one method, flush. An actor
//! takes no decision about a protocol, and never awaits another actor.

pub mod board;
pub mod directory;
pub mod driver;
pub mod env;
pub mod events;
pub mod network;
pub mod parked;
pub mod reach;
pub mod store;
pub mod storekeeper;
mod work;

pub use board::{ActorInfo, ActorState, Board};
pub use directory::{Directory, Slot};
pub use driver::{Driver, Mail};
pub use env::Env;
pub use events::EventLog;
pub use reach::{Reach, Unsent};
pub use store::Store;
pub use storekeeper::{StoreMsg, Storekeeper};
