//! Worlds in which nothing happens but what a test does.

use bzzz_sim::workload::Workload;
use bzzz_sim::world::{Settings, World};

/// A cluster that has just formed, and its clients.
pub async fn formed(seed: u64, nodes: usize) -> (World, Workload) {
    let settings = Settings { seed, nodes, seconds: 0, faults: false, only: None };
    let world = World::new(settings, None);
    tokio::spawn(world.heap.clone().run());
    let clients = Workload::new(world.clone());
    world.form().await.unwrap();
    (world, clients)
}
