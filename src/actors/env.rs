//! What the actors of one node share.

use std::sync::{Arc, Mutex, PoisonError};

use crate::actors::{Board, Directory, EventLog, Store};
use crate::consensus::Handle;
use crate::core::ctx::{Halt, Rng};
use crate::ports::{Ports, Sink};
use crate::types::MemberId;

/// Shared by all actors of one node.
pub struct Env {
    /// The world.
    pub ports: Ports,
    /// Addresses of the actors.
    pub directory: Directory,
    /// The node's own values.
    pub store: Arc<Store>,
    /// The way to consensus.
    pub consensus: Arc<Handle>,
    /// Events.
    pub events: EventLog,
    /// The supervision tree as a table.
    pub board: Board,
    /// Counters of the machines.
    pub counters: Counters,
    /// Seed of this run's generators.
    pub seed: [u8; 32],
    /// This member, none while joining.
    pub member: Option<MemberId>,
    /// Called when the node must stop.
    pub halt: Sink<Halt>,
}

impl Env {
    /// The generator of the actor `name`.
    pub fn rng(&self, name: &str) -> Rng {
        Rng::split(&self.seed, name)
    }
}

/// Counters by name.
#[derive(Default)]
pub struct Counters(Mutex<std::collections::BTreeMap<&'static str, u64>>);

impl Counters {
    /// Adds to a counter.
    pub fn add(&self, name: &'static str, by: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += by;
    }

    /// All counters.
    pub fn all(&self) -> std::collections::BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
