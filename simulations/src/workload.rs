//! Clients: they write, compare-and-set and read through random nodes, and tell the book what they
//! were answered.

use bzzz::messages::command::HeadsCommand;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bzzz::core::front::{Query, Reply, Request};
use bzzz::core::refusal::Refusal;
use bzzz::messages::command::Expect;
use bzzz::messages::{Command, Outcome};
use bzzz::types::ucxl::DecisionAddress;
use bzzz::types::{Bytes, ContentHash, Lock};

mod events;
mod listings;
mod minority;
mod records;
mod upgrades;

pub use records::{ADDRESSES, address};

use crate::invariants::{Ack, Observation, Sight};
use crate::rng::Stream;
use crate::world::World;

/// Keys that are written once each; beyond it only the registers are written.
const UNIQUE_KEYS_MAX: u64 = 3_000;
/// Keys that are compared and set.
const REGISTERS: u64 = 2;

/// What the clients counted.
#[derive(Default)]
pub struct Counts {
    /// Operations begun.
    pub begun: AtomicU64,
    /// Writes acknowledged.
    pub acknowledged: AtomicU64,
    /// Writes refused.
    pub refused: AtomicU64,
    /// Writes with an unknown outcome.
    pub unknown: AtomicU64,
    /// Reads answered as current.
    pub reads: AtomicU64,
    /// Reads answered as stale.
    pub stale: AtomicU64,
}

/// The clients of one run.
#[derive(Clone)]
pub struct Workload {
    world: World,
    rng: Stream,
    /// What happened.
    pub counts: Arc<Counts>,
    keys: Arc<Mutex<BTreeSet<String>>>,
    published: Arc<Mutex<BTreeSet<DecisionAddress>>>,
    /// Contents of what was read as the latest last.
    shown: Arc<Mutex<VecDeque<ContentHash>>>,
    silent: Arc<AtomicBool>,
}

impl Workload {
    /// Clients that have not begun.
    pub fn new(world: World) -> Self {
        let rng = world.stream("clients");
        Self {
            world,
            rng,
            counts: Arc::default(),
            keys: Arc::default(),
            published: Arc::default(),
            shown: Arc::default(),
            silent: Arc::default(),
        }
    }

    /// Every key that was acknowledged.
    pub fn keys(&self) -> Vec<String> {
        self.keys.locked().iter().cloned().collect()
    }

    /// Begins no operations of its own while `silent`.
    pub fn be_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// Begins operations at random distances, 17 a second on average, until `end_us`.
    pub async fn run(&self, end_us: u64) {
        while self.world.heap.now_us() < end_us && self.world.book.violation().is_none() {
            tokio::time::sleep(self.rng.micros(2_000, 118_000)).await;
            let alive = self.world.alive();
            if alive.is_empty() || self.silent.load(Ordering::Relaxed) {
                continue;
            }
            let node = alive[self.rng.pick(alive.len())];
            let number = self.counts.begun.fetch_add(1, Ordering::Relaxed);
            let (client, kind) = (self.clone(), self.rng.below(19));
            match kind {
                0..4 if number < UNIQUE_KEYS_MAX => {
                    tokio::spawn(async move { client.create(node, number).await });
                }
                0..7 => {
                    tokio::spawn(async move { client.compare_and_set(node, number).await });
                }
                7..10 => {
                    tokio::spawn(async move { client.read(node, number).await });
                }
                10..13 => {
                    tokio::spawn(async move { client.publish_somewhere(node, number).await });
                }
                13..15 => {
                    tokio::spawn(async move { client.read_latest_somewhere(node).await });
                }
                15..17 => {
                    tokio::spawn(async move { client.read_shown(node).await });
                }
                17 => {
                    tokio::spawn(async move { client.list(node).await });
                }
                _ => {
                    tokio::spawn(async move { client.publish_event(node).await });
                }
            }
        }
    }

    /// Writes through one node, one every few milliseconds, for as long as `length`.
    pub async fn write_through(&self, node: usize, length: Duration) {
        let end_us = self.world.heap.now_us() + length.as_micros() as u64;
        while self.world.heap.now_us() < end_us {
            let number = self.counts.begun.fetch_add(1, Ordering::Relaxed);
            let client = self.clone();
            tokio::spawn(async move { client.compare_and_set(node, number).await });
            tokio::time::sleep(self.rng.micros(2_000, 12_000)).await;
        }
    }

    /// Writes values through one node that nobody else writes.
    pub async fn create_through(&self, node: usize, length: Duration) {
        let end_us = self.world.heap.now_us() + length.as_micros() as u64;
        while self.world.heap.now_us() < end_us {
            let number = self.counts.begun.fetch_add(1, Ordering::Relaxed);
            if number >= UNIQUE_KEYS_MAX {
                return;
            }
            let client = self.clone();
            tokio::spawn(async move { client.create(node, number).await });
            tokio::time::sleep(self.rng.micros(1_000, 4_000)).await;
        }
    }

    /// Reads through one node while another one is written through.
    pub async fn race(&self, reader: usize, writer: usize, length: Duration) {
        let client = self.clone();
        let writing = tokio::spawn(async move { client.write_through(writer, length).await });
        let end_us = self.world.heap.now_us() + length.as_micros() as u64;
        while self.world.heap.now_us() < end_us {
            let number = self.counts.begun.fetch_add(1, Ordering::Relaxed);
            let client = self.clone();
            tokio::spawn(async move { client.read(reader, number).await });
            tokio::time::sleep(self.rng.micros(2_000, 12_000)).await;
        }
        drop(writing.await);
    }

    fn register(&self) -> String {
        format!("ai_models/register-{}", self.rng.below(REGISTERS))
    }

    async fn create(&self, node: usize, number: u64) {
        let key = format!("monitoring/created/{number}");
        self.write(node, key, Expect::Absent, number).await;
    }

    async fn compare_and_set(&self, node: usize, number: u64) {
        let key = self.register();
        let Some(version) = self.version(node, &key, true).await else { return };
        let expect = if version.0 == 0 { Expect::Absent } else { Expect::Version(version.0) };
        self.write(node, key, expect, number).await;
    }

    /// Version that a node answers with, and whether it was marked stale.
    async fn version(&self, index: usize, key: &str, stale_ok: bool) -> Option<(u64, bool)> {
        let node = self.world.node(index)?;
        let request = Request::Read { query: Query::Key(key.to_owned()), stale_ok };
        match node.env().directory.front.ask(request).await {
            Ok(Reply::Read(answer)) => {
                let found = answer.page.entries.first();
                if let Some(entry) = found {
                    let sight = Sight::Value { key, value: &entry.head.value.0 };
                    self.world.book.observe(&Observation::Seen { node: index, sight });
                }
                let version = found.map_or(0, |entry| entry.head.version);
                Some((version, answer.staleness.stale))
            }
            _ => None,
        }
    }

    async fn read(&self, node: usize, number: u64) {
        let key = self.register();
        self.world.book.observe(&Observation::ReadBegins { read: number, key: &key });
        match self.version(node, &key, false).await {
            Some((version, false)) => {
                self.counts.reads.fetch_add(1, Ordering::Relaxed);
                self.world.book.observe(&Observation::ReadEnds { read: number, version });
            }
            _ => {
                self.counts.stale.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Writes through a node. Returns true if it was acknowledged.
    pub async fn write(&self, index: usize, key: String, expect: Expect, number: u64) -> bool {
        let Some(node) = self.world.node(index) else { return false };
        let value = number.to_le_bytes().to_vec();
        let command = Command::Heads(HeadsCommand::Set {
            key: key.clone(),
            expect,
            value: Bytes(value.clone()),
            author: "sim".into(),
        });
        let disk = self.world.disk_id(index);
        let answer = node.env().directory.front.ask(Request::Write { id: None, command }).await;
        let count = match answer {
            Ok(Reply::Written(Ok(written))) => {
                if let Outcome::HeadSet { version } = written.outcome {
                    let ack = Ack {
                        at_us: self.world.heap.now_us(),
                        node: index,
                        member: node.member(),
                        disk,
                        log_id: written.log_id,
                        lease_term: written.lease_term,
                        key: key.clone(),
                        version,
                        value,
                    };
                    self.world.trace.step("ack", index, 0, written.log_id.index);
                    self.world.book.observe(&Observation::Ack(&ack));
                    self.keys.locked().insert(key);
                }
                self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            Ok(Reply::Written(Err(Refusal::OutcomeUnknown))) => &self.counts.unknown,
            Ok(Reply::Written(Err(_))) => {
                self.world.trace.step("refused", index, 0, number);
                let sight = Sight::Value { key: &key, value: &value };
                self.world.book.observe(&Observation::Refused(sight));
                &self.counts.refused
            }
            // What became of it nobody says.
            _ => &self.counts.unknown,
        };
        count.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// The liveness phase: every node takes a write within half a minute.
    pub async fn every_node_writes(&self) {
        for node in 0..self.world.settings.nodes {
            let mut done = false;
            for attempt in 0..150 {
                let number = 1_000_000 + node as u64 * 1_000 + attempt;
                if self
                    .write(node, format!("monitoring/alive/{number}"), Expect::Absent, number)
                    .await
                {
                    done = true;
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            if !done {
                let how =
                    format!("node {node} takes no write half a minute after everything was healed");
                self.world.book.fail("the cluster comes back to life", how);
            }
        }
    }

    /// Shows the book what every node holds in the end.
    pub async fn read_everything(&self) {
        for index in 0..self.world.settings.nodes {
            let Some(node) = self.world.node(index) else { continue };
            for key in self.keys() {
                let request = Request::Read { query: Query::Key(key.clone()), stale_ok: false };
                let Ok(Reply::Read(answer)) = node.env().directory.front.ask(request).await else {
                    continue;
                };
                let found = answer.page.entries.first();
                let found = found.map(|entry| (entry.head.version, entry.head.value.0.as_slice()));
                self.world.book.observe(&Observation::Final { node: index, key: &key, found });
            }
        }
    }
}
