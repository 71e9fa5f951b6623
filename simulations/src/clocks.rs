//! Every way in which the clocks of a minority may be wrong, one after the other, and what still works afterwards.
//!
//! A run forms a calm cluster of five, sets some clocks wrong, has clients write all the while, perhaps switches those
//! nodes off and on again in the middle of it, sets the clocks right, waits ten seconds, and then wants a join token, a
//! value, a decision and the leadership through every node, at the first try; at last a member joins with a token that
//! was made before. What is stamped, the invariants judge.

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

/// For how long a node is off that is restarted.
const OFF: Duration = Duration::from_secs(1);

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Whose clocks are wrong.
    pub whose: &'static str,
    nodes: &'static [usize],
    /// By how many milliseconds.
    pub error_ms: i64,
    /// For how long.
    pub length: Duration,
    /// True if they are restarted meanwhile.
    pub is_restarted: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Writes and publications that were acknowledged, and that were not, meanwhile.
    pub meanwhile: (u64, u64),
    /// What did not work, if anything.
    pub failed: Option<String>,
}

/// All cases, those that take as long beside each other.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in LENGTHS {
        for is_restarted in [false, true] {
            for (whose, nodes) in WHOSE {
                let errors = CLOCK_ERRORS_MS.iter();
                cases.extend(errors.map(|error_ms| Case {
                    whose,
                    nodes,
                    error_ms: *error_ms,
                    length,
                    is_restarted,
                }));
            }
        }
    }
    // A long log makes a difference to one that starts; who it is, and how wrong, then does not.
    cases.retain(|case| {
        !case.is_restarted || case.length == LENGTHS[0] || case.error_ms.abs() == 3_600_000
    });
    cases
}

/// Runs all cases, two side by side, and hands each to `show`.
pub fn every_wrong_clock(seed: u64, mut show: impl FnMut(&Case, &Report)) -> bool {
    let run = |case: Case| move || runtime().block_on(one(seed, case));
    let mut is_fine = true;
    for cases in cases().chunks(2) {
        let reports = std::thread::scope(|scope| {
            let running: Vec<_> = cases.iter().map(|case| scope.spawn(run(*case))).collect();
            running.into_iter().map(|run| run.join().ok()).collect::<Vec<_>>()
        });
        for (case, report) in cases.iter().zip(reports) {
            let report = report.unwrap_or_else(|| Report {
                meanwhile: (0, 0),
                failed: Some("the simulator panicked".to_owned()),
            });
            is_fine &= report.failed.is_none();
            show(case, &report);
        }
    }
    is_fine
}

async fn one(seed: u64, case: Case) -> Report {
    let settings = Settings { seed, nodes: NODES, seconds: 0, faults: false, only: None };
    let world = World::new(settings, None);
    tokio::spawn(world.heap.clone().run());
    let clients = Workload::new(world.clone());
    let failed = match world.form().await {
        Ok(()) => go_through(&world, &clients, case).await.err(),
        Err(how) => Some(how),
    };
    let failed = failed.or_else(|| world.book.violation().map(|violation| violation.how));
    let counts = &clients.counts;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let meanwhile = (count(&counts.acknowledged), count(&counts.refused) + count(&counts.unknown));
    world.end();
    Report { meanwhile, failed }
}

async fn go_through(world: &World, clients: &Workload, case: Case) -> Result<(), String> {
    let before = world.token(1, 1).await?;
    world.set_clocks(case.nodes, case.error_ms);
    let end_us = world.heap.now_us() + case.length.as_micros() as u64;
    if case.is_restarted {
        clients.run(end_us - case.length.as_micros() as u64 / 2).await;
        case.nodes.iter().for_each(|node| world.crash(*node));
        tokio::time::sleep(OFF).await;
        case.nodes.iter().for_each(|node| world.restart(*node));
    }
    clients.run(end_us).await;
    world.set_clocks(case.nodes, 0);
    tokio::time::sleep(GRACE).await;

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
