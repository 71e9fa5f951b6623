//! One run from its seed to its report.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::book::Violation;
use crate::heap;
use crate::nemesis::Nemesis;
use crate::workload::Workload;
use crate::world::{Settings, World};

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The first broken rule.
    pub violation: Option<Violation>,
    /// Hash over the trace.
    pub hash: String,
    /// Steps of the trace.
    pub steps: u64,
    /// The last notable steps.
    pub last: Vec<String>,
    /// Virtual seconds that passed.
    pub virtual_s: f64,
    /// Operations begun.
    pub operations: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Writes with an unknown outcome.
    pub unknown: u64,
    /// Reads answered as current.
    pub reads: u64,
}

/// A runtime of one thread, whose time moves only when nothing else is to be done.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_unpark(heap::time_moved)
        .build()
        .expect("a runtime without I/O can always be made")
}

/// Runs a simulation to its end.
pub fn run(settings: Settings, trace_file: Option<std::fs::File>) -> Report {
    let runtime = runtime();
    let report = runtime.block_on(simulate(settings, trace_file));
    // Tasks of dead incarnations are never polled again; they are dropped with the runtime.
    drop(runtime);
    report
}

async fn simulate(settings: Settings, trace_file: Option<std::fs::File>) -> Report {
    let world = World::new(settings.clone(), trace_file);
    tokio::spawn(world.heap.clone().run());
    let workload = Workload::new(world.clone());
    match world.form().await {
        Err(how) => world.book.fail("a cluster forms", how),
        Ok(()) => phases(&world, &workload).await,
    }
    let (hash, steps) = world.trace.hash();
    let report = Report {
        violation: world.book.violation(),
        hash,
        steps,
        last: world.trace.last(),
        virtual_s: world.heap.now_us() as f64 / 1e6,
        operations: workload.counts.begun.load(Ordering::Relaxed),
        acknowledged: workload.counts.acknowledged.load(Ordering::Relaxed),
        unknown: workload.counts.unknown.load(Ordering::Relaxed),
        reads: workload.counts.reads.load(Ordering::Relaxed),
    };
    world.end();
    report
}

async fn phases(world: &World, workload: &Workload) {
    let end_us = world.heap.now_us() + world.settings.seconds * 1_000_000;
    let clients = workload.clone();
    let writing = tokio::spawn(async move { clients.run(end_us).await });
    let nemesis = Nemesis::new(world.clone(), workload.clone());
    if world.settings.faults {
        nemesis.run(end_us).await;
    }
    drop(writing.await);
    if world.book.violation().is_some() {
        return;
    }
    nemesis.heal();
    tokio::time::sleep(Duration::from_secs(5)).await;
    workload.every_node_writes().await;
    workload.new_commands_go_through().await;
    workload.read_everything().await;
    workload.goes_on_without_a_minority().await;
    workload.every_node_publishes().await;
    workload.read_all_versions().await;
    workload.list_everything().await;
    workload.replicas_converge().await;
    workload.events_converge().await;
    world.connections_become_few().await;
}
