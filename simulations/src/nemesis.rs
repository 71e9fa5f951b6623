//! The nemesis: faults, drawn from the seed.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::network::Weather;
use crate::rng::Stream;
use crate::world::World;

/// Brings faults to a world.
pub struct Nemesis {
    world: World,
    rng: Stream,
}

impl Nemesis {
    /// A nemesis that has not begun.
    pub fn new(world: World) -> Self {
        let rng = world.stream("nemesis");
        Self { world, rng }
    }

    /// A fault every few seconds until `end_us`, each healed before the one after the next.
    pub async fn run(&self, end_us: u64) {
        while self.world.heap.now_us() < end_us && self.world.book.violation().is_none() {
            self.fault().await;
            tokio::time::sleep(self.rng.micros(200_000, 2_500_000)).await;
        }
    }

    /// Everything works from now on.
    pub fn heal(&self) {
        self.world.set_cut(BTreeSet::new());
        self.world.wires.set_weather(Weather::FAIR);
        for node in 0..self.world.settings.nodes {
            self.world.restart(node);
        }
    }

    fn some_node(&self) -> usize {
        self.rng.pick(self.world.settings.nodes)
    }

    /// A node that leads, if there is one, so that faults hit where it hurts.
    fn leader_or_some(&self) -> usize {
        let leading = |node: &usize| {
            self.world.node(*node).is_some_and(|node| node.env().consensus.is_leading())
        };
        (0..self.world.settings.nodes).find(leading).unwrap_or_else(|| self.some_node())
    }

    async fn fault(&self) {
        let length = self.rng.micros(300_000, 4_000_000);
        match self.rng.below(10) {
            0 | 1 => self.crash(self.leader_or_some(), length).await,
            2 => self.crash(self.some_node(), length).await,
            3 => self.crash_several(length).await,
            4 => self.partition(length).await,
            5 => self.isolate(self.leader_or_some(), length, true, true).await,
            6 => self.isolate(self.some_node(), length, true, false).await,
            7 => self.isolate(self.some_node(), length, false, true).await,
            8 => self.weather(length).await,
            _ => self.bounce(self.leader_or_some()).await,
        }
    }

    async fn crash(&self, node: usize, length: Duration) {
        self.world.crash(node);
        tokio::time::sleep(length).await;
        self.world.restart(node);
    }

    /// Off and on at once: the node has forgotten its promises before they have run out.
    async fn bounce(&self, node: usize) {
        for _ in 0..2 {
            self.world.crash(node);
            tokio::time::sleep(self.rng.micros(1_000, 40_000)).await;
            self.world.restart(node);
            tokio::time::sleep(self.rng.micros(5_000, 150_000)).await;
        }
        let others: Vec<usize> =
            (0..self.world.settings.nodes).filter(|other| *other != node).collect();
        let other = others.get(self.rng.pick(others.len().max(1))).copied().unwrap_or(node);
        self.world.crash(other);
        self.world.restart(other);
    }

    /// All voters at the same time, or many of them.
    async fn crash_several(&self, length: Duration) {
        let nodes = self.world.settings.nodes;
        let chosen: Vec<usize> = (0..nodes).filter(|_| self.rng.chance(600)).collect();
        for node in &chosen {
            self.world.crash(*node);
        }
        tokio::time::sleep(length / 4).await;
        for node in chosen {
            self.world.restart(node);
        }
    }

    async fn partition(&self, length: Duration) {
        let nodes = self.world.settings.nodes;
        let side: Vec<bool> = (0..nodes).map(|_| self.rng.chance(500)).collect();
        let cut = (0..nodes)
            .flat_map(|a| (0..nodes).map(move |b| (a, b)))
            .filter(|(a, b)| side[*a] != side[*b])
            .collect();
        self.world.set_cut(cut);
        tokio::time::sleep(length).await;
        self.world.set_cut(BTreeSet::new());
    }

    async fn isolate(&self, node: usize, length: Duration, outbound: bool, inbound: bool) {
        let others = (0..self.world.settings.nodes).filter(|other| *other != node);
        let mut cut = BTreeSet::new();
        for other in others {
            if outbound {
                cut.insert((node, other));
            }
            if inbound {
                cut.insert((other, node));
            }
        }
        self.world.set_cut(cut);
        tokio::time::sleep(length).await;
        self.world.set_cut(BTreeSet::new());
    }

    async fn weather(&self, length: Duration) {
        self.world.trace.note("the weather turns bad");
        self.world.wires.set_weather(Weather {
            loss_permille: self.rng.below(200),
            duplicate_permille: self.rng.below(100),
            latency_us: 200 + self.rng.below(30_000),
            jitter_us: 300 + self.rng.below(20_000),
            stall_permille: self.rng.below(100),
        });
        tokio::time::sleep(length).await;
        self.world.wires.set_weather(Weather::FAIR);
    }
}
