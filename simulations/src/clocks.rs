//! Every way in which the clocks of a minority may be wrong, one after the other, and what still works afterwards.
//!
//! A run forms a calm cluster of five, sets some clocks wrong, has clients write all the while, sets them right again,
//! waits ten seconds, and then wants a join token, a value, a decision and the leadership through every node, at the
//! first try; at last a member joins with a token that was made before, and the stamps are right.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bzzz::actors::Mail;
use bzzz::core::election;
use bzzz::messages::command::Expect;

use crate::nemesis::CLOCK_ERRORS_MS;
use crate::run::runtime;
use crate::workload::{Workload, address};
use crate::world::{Settings, World};

const NODES: usize = 5;
/// For how long the clocks stay wrong.
const LENGTHS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];
/// After this everything has to work.
const GRACE: Duration = Duration::from_secs(10);
/// Whose clocks: the leader is node 0.
const WHOSE: [(&str, &[usize]); 3] = [("leader", &[0]), ("follower", &[1]), ("two", &[0, 2])];

/// What came of one case.
#[derive(Debug)]
pub struct Case {
    /// Whose clocks were wrong.
    pub whose: &'static str,
    /// By how many milliseconds.
    pub error_ms: i64,
    /// For how many seconds.
    pub seconds: u64,
    /// Writes and publications that were acknowledged, and that were not, meanwhile.
    pub meanwhile: (u64, u64),
    /// What did not work, if anything.
    pub failed: Option<String>,
}

/// Runs all cases, and hands each to `show`.
pub fn every_wrong_clock(seed: u64, mut show: impl FnMut(&Case)) -> bool {
    let mut is_fine = true;
    for (whose, nodes) in WHOSE {
        for error_ms in CLOCK_ERRORS_MS {
            for length in LENGTHS {
                let runtime = runtime();
                let (meanwhile, failed) = runtime.block_on(one(seed, nodes, error_ms, length));
                let case = Case { whose, error_ms, seconds: length.as_secs(), meanwhile, failed };
                is_fine &= case.failed.is_none();
                show(&case);
            }
        }
    }
    is_fine
}

async fn one(
    seed: u64,
    nodes: &[usize],
    error_ms: i64,
    length: Duration,
) -> ((u64, u64), Option<String>) {
    let settings = Settings { seed, nodes: NODES, seconds: 0, faults: false, only: None };
    let world = World::new(settings, None);
    tokio::spawn(world.heap.clone().run());
    let clients = Workload::new(world.clone());
    let failed = match world.form().await {
        Ok(()) => go_through(&world, &clients, nodes, error_ms, length).await.err(),
        Err(how) => Some(how),
    };
    let failed = failed.or_else(|| world.book.violation().map(|violation| violation.how));
    let counts = &clients.counts;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let meanwhile = (count(&counts.acknowledged), count(&counts.refused) + count(&counts.unknown));
    world.end();
    (meanwhile, failed)
}

async fn go_through(
    world: &World,
    clients: &Workload,
    nodes: &[usize],
    error_ms: i64,
    length: Duration,
) -> Result<(), String> {
    let before = world.token(1, 1).await?;
    world.set_clocks(nodes, error_ms);
    let end_us = world.heap.now_us() + length.as_micros() as u64;
    clients.run(end_us).await;
    world.look_at_stamps().await;
    world.set_clocks(nodes, 0);
    tokio::time::sleep(GRACE).await;
    world.look_at_stamps().await;

    let mut number = 5_000_000;
    for node in 0..NODES {
        let failed = |what: &str| format!("{what} through node {node}");
        number += 1;
        world.token(node, 1).await.map_err(|_| failed("no token"))?;
        let key = format!("monitoring/after/{number}");
        if !clients.write(node, key, Expect::Absent, number).await {
            return Err(failed("no value"));
        }
        let address = address(200 + node as u64);
        if !clients.publish(node, &address, number).await
            || !clients.read_latest(node, &address).await
        {
            return Err(failed("no decision"));
        }
        lead(world, node).await.map_err(|()| failed("no leadership"))?;
    }
    world.lose_disk_with(4, before).await
}

/// Hands the leadership to a node.
async fn lead(world: &World, node: usize) -> Result<(), ()> {
    let leads = |node: usize| world.node(node).is_some_and(|n| n.env().consensus.is_leading());
    let leader = (0..NODES).find(|node| leads(*node)).and_then(|leader| world.node(leader));
    let to = Some(world.node(node).ok_or(())?.member());
    if leads(node) {
        return Ok(());
    }
    leader.ok_or(())?.env().directory.election.mail(Mail::Msg(election::Msg::Transfer { to }));
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if leads(node) {
            // Its lease and those of the others follow.
            tokio::time::sleep(Duration::from_millis(200)).await;
            return Ok(());
        }
    }
    Err(())
}
