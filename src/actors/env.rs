//! What the actors of one node share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::actors::{Board, Directory, EventLog, Reach, Store, Unsent};
use crate::consensus::Handle;
use crate::core::cluster_time::Middle;
use crate::core::ctx::{Halt, Rng};
use crate::messages::wire::Speech;
use crate::ports::records::{Done, Kept, OpenedRecords, StoreFault, StoreOp};
use crate::ports::{Ports, RecordStore, RecordStores, Sink};
use crate::types::fault::{Fault, planted};
use crate::types::metrics::{self, Family};
use crate::types::{Level, Lock, MemberId, Wall};

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
    /// The way to other members.
    pub reach: Arc<Reach>,
    /// Which versions of messages are spoken.
    pub speech: Arc<Speech>,
    /// The way to the record store.
    pub records: Records,
    /// Events.
    pub events: EventLog,
    /// The supervision tree as a table.
    pub board: Board,
    /// Counters of the machines.
    pub counters: Counters,
    /// Seed of this run's generators.
    pub seed: [u8; 32],
    /// How often each actor was started.
    pub starts: Starts,
    /// This member, none while joining.
    pub member: Option<MemberId>,
    /// Called when the node must stop.
    pub halt: Sink<Halt>,
    /// The middle of the voters' clocks, once it is known.
    pub middle: Mutex<Option<Middle>>,
}

/// Who hears what the actors of a node can't see to.
pub struct EnvSinks {
    /// Called when the node must stop.
    pub halt: Sink<Halt>,
    /// Takes what can't be sent yet.
    pub unsent: Sink<Unsent>,
}

impl Env {
    /// What the actors of a node share that starts now; a node that has yet to join has no member id.
    pub fn new(
        ports: Ports,
        store: Arc<Store>,
        member: Option<MemberId>,
        sinks: EnvSinks,
        events: EventLog,
        build: Level,
    ) -> Self {
        Self {
            seed: ports.entropy.seed(),
            starts: Starts::default(),
            reach: Arc::new(Reach::new(ports.network.clone(), sinks.unsent)),
            ports,
            directory: Directory::default(),
            store,
            consensus: Arc::new(Handle::default()),
            speech: Arc::new(Speech::new(build)),
            records: Records::default(),
            events,
            board: Board::default(),
            counters: Counters::default(),
            member,
            halt: sinks.halt,
            middle: Mutex::default(),
        }
    }

    /// Time of day as most of the cluster has it.
    pub fn wall(&self) -> Wall {
        let (now, own) = (self.ports.clock.now(), self.ports.clock.wall());
        if planted(Fault::OwnClock) {
            return own;
        }
        let middle = *self.middle.locked();
        middle.map_or(own, |middle| middle.time(own, now))
    }

    /// The same, once it was compared with the clocks of others.
    pub fn known_wall(&self) -> Option<Wall> {
        let is_known = self.middle.locked().is_some();
        is_known.then(|| self.wall())
    }

    /// From now on, what most of the cluster has is this.
    pub fn go_by(&self, middle: Middle) {
        *self.middle.locked() = Some(middle);
    }

    /// A generator for an actor that starts now. Every start gets another one: an actor that was
    /// restarted must not draw the ids again that it gave out before.
    pub fn rng(&self, name: &'static str) -> Rng {
        let start = self.starts.next(name);
        Rng::split(&self.seed, &format!("{name} {start}"))
    }
}

/// The record store of the node, once its replica has opened it.
#[derive(Default)]
pub struct Records(Mutex<Option<Arc<dyn RecordStore>>>);

impl Records {
    /// Opens it; what was opened before takes nothing more. Says how much it has of what it once
    /// had.
    pub fn open(&self, stores: &dyn RecordStores) -> Result<Kept, StoreFault> {
        let mut opened = self.0.locked();
        // Closed first: a store has one writer.
        *opened = None;
        let OpenedRecords { store, kept } = stores.open()?;
        *opened = Some(store);
        Ok(kept)
    }

    /// It has everything again.
    pub fn restored(&self) {
        if let Some(store) = &*self.0.locked() {
            store.restored();
        }
    }

    /// Has something done; with no store open it is busy.
    pub fn run(&self, ops: Vec<StoreOp>, done: Done) {
        let opened = self.0.locked().clone();
        match opened {
            Some(store) => store.run(ops, done),
            None => done(Err(StoreFault::Busy)),
        }
    }
}

/// What machines and actors have counted in this run.
#[derive(Default)]
pub struct Counters(Mutex<BTreeMap<&'static str, u64>>);

impl Counters {
    /// Adds to a counter.
    pub fn add(&self, metric: &'static Family, by: u64) {
        // No other one is on the page by what is counted here.
        debug_assert!(metrics::COUNTED.contains(&metric), "{}", metric.name);
        *self.0.locked().entry(metric.name).or_default() += by;
    }

    /// A counter, 0 if nothing was added to it.
    pub fn get(&self, metric: &Family) -> u64 {
        self.0.locked().get(metric.name).copied().unwrap_or_default()
    }
}

/// How often each actor was started.
#[derive(Default)]
pub struct Starts(Mutex<BTreeMap<&'static str, u64>>);

impl Starts {
    /// Counts one more, and returns the new count.
    pub fn next(&self, actor: &'static str) -> u64 {
        let mut starts = self.0.locked();
        let count = starts.entry(actor).or_default();
        *count += 1;
        *count
    }

    /// How often each was started.
    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.locked().clone()
    }

    /// How often this one was started.
    pub fn get(&self, actor: &str) -> u64 {
        self.0.locked().get(actor).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_of_an_actor_has_a_number_of_its_own() {
        let starts = Starts::default();
        assert_eq!([starts.next("front"), starts.next("front"), starts.next("peers")], [1, 2, 1]);
    }
}
