//! Three nodes, of which one has a wrong clock for a few seconds while clients write and publish;
//! some time after it was set right: the seconds that each kind of work takes through every node.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use serde_json::json;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use crate::Fallible;
use crate::nodes::{Nodes, Outcomes, add, count};

const NODES: usize = 3;
/// For how long a clock is wrong.
const WRONG: Duration = Duration::from_secs(5);
/// How long after it was set right all has to work.
const AFTER: Duration = Duration::from_secs(10);
/// From one request of a client to the next, and from one try to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a kind of work may take in the end.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a handover may take until it is asked for again.
const HANDOVER_LIMIT: Duration = Duration::from_secs(5);

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;

/// Whether the leader's clock is wrong or that of another, how, and by how many seconds.
const CASES: [(bool, &str, i64); 4] = [
    (true, "30 days ahead", 30 * DAY_S),
    (true, "an hour behind", -HOUR_S),
    (false, "an hour ahead", HOUR_S),
    (false, "30 days behind", -30 * DAY_S),
];

/// Kinds of work.
#[derive(Clone, Copy, Debug)]
enum Work {
    Token,
    Value,
    Decision,
    Handover,
}

const WORKS: [Work; 4] = [Work::Token, Work::Value, Work::Decision, Work::Handover];

async fn set_ahead(nodes: &Nodes, node: usize, ahead_s: i64) -> Fallible<()> {
    let answer = nodes.post(node, "/api/v1/faults/clock", &json!({ "ahead_s": ahead_s })).await?;
    if answer.0 == 200 { Ok(()) } else { Err(format!("the clock can't be set: {answer:?}").into()) }
}

/// Writes values and publishes decisions through a node until `end`; what it was answered.
async fn write_on(nodes: Rc<Nodes>, node: usize, case: usize, end: Instant) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut number = 0;
    while Instant::now() < end {
        number += 1;
        let name = format!("wrong-{case}-{node}-{number}");
        count(&mut outcomes, &write(&nodes, node, &name).await);
        count(&mut outcomes, &publish(&nodes, node, &name).await);
        sleep(PAUSE).await;
    }
    outcomes
}

type Answer = Fallible<(u16, serde_json::Value)>;

async fn write(nodes: &Nodes, node: usize, name: &str) -> Answer {
    nodes.connect(node).await?.write(&format!("monitoring/clocks/{name}"), 0, "on time").await
}

async fn publish(nodes: &Nodes, node: usize, name: &str) -> Answer {
    let address = format!("bench/observer/clocks/{name}/node");
    let draft = json!({ "address": address, "decision": "on time" });
    nodes.post(node, "/api/v1/decisions", &draft).await
}

/// The term, and whether there is a leader, as a node sees it.
async fn term(nodes: &Nodes, node: usize) -> Fallible<(u64, bool)> {
    let (_, status) = nodes.get(node, "/api/v1/status").await?;
    let role = &status["role"];
    Ok((role["term"].as_u64().ok_or("no term in the status")?, role["leader"].is_string()))
}

async fn hand_over(nodes: &Nodes, node: usize) -> Fallible<bool> {
    let (before, _) = term(nodes, node).await?;
    let (status, _) = nodes.post(node, "/api/v1/election/transfer", &json!({})).await?;
    let began = Instant::now();
    while status == 202 && began.elapsed() < HANDOVER_LIMIT {
        let (now, leads) = term(nodes, node).await?;
        if now > before && leads {
            return Ok(true);
        }
        sleep(PAUSE).await;
    }
    Ok(false)
}

/// Does a kind of work once; true if it was done.
async fn once(nodes: &Nodes, node: usize, work: Work, name: &str) -> Fallible<bool> {
    let (status, _) = match work {
        Work::Handover => return hand_over(nodes, node).await,
        Work::Value => write(nodes, node, name).await?,
        Work::Decision => publish(nodes, node, name).await?,
        Work::Token => {
            let body = Bytes::from_static(br#"{"ttl_s":600,"uses":1}"#);
            nodes.connect(node).await?.call("POST", "/api/v1/join-tokens", body).await?
        }
    };
    Ok(status < 300)
}

/// Seconds until a kind of work is done through a node, however often it has to be tried.
async fn seconds(nodes: &Nodes, node: usize, work: Work, case: usize) -> Fallible<f64> {
    let began = Instant::now();
    let mut number = 0;
    loop {
        number += 1;
        let name = format!("right-{case}-{node}-{number}");
        if once(nodes, node, work, &name).await.unwrap_or(false) {
            return Ok(began.elapsed().as_secs_f64());
        }
        if began.elapsed() > LIMIT {
            return Err(format!("{work:?} does not work through node {node}").into());
        }
        sleep(PAUSE).await;
    }
}

async fn measure(nodes: &Rc<Nodes>, case: usize) -> Fallible<()> {
    let (leads, how, ahead_s) = CASES[case];
    let leader = nodes.leader().await?;
    let node = if leads { leader } else { (leader + 1) % NODES };
    set_ahead(nodes, node, ahead_s).await?;
    let end = Instant::now() + WRONG;
    let clients: Vec<_> =
        (0..NODES).map(|node| spawn_local(write_on(nodes.clone(), node, case, end))).collect();
    let mut wrong = Outcomes::new();
    for client in clients {
        add(&mut wrong, client.await?);
    }
    set_ahead(nodes, node, 0).await?;
    sleep(AFTER).await;
    let mut slowest = [0.0_f64; WORKS.len()];
    for node in 0..NODES {
        for (slowest, work) in slowest.iter_mut().zip(WORKS) {
            *slowest = slowest.max(seconds(nodes, node, work, case).await?);
        }
    }
    let who = if leads { "leader" } else { "follower" };
    let [token, value, decision, handover] = slowest;
    println!(
        "clocks: {who} {how} for {} s: {wrong:?}; {} s after it was right, through the slowest of \
         {NODES} nodes: token {token:.2} s, value {value:.2} s, decision {decision:.2} s, handover \
         {handover:.2} s",
        WRONG.as_secs(),
        AFTER.as_secs(),
    );
    Ok(())
}

/// Measures all cases; an error if something works no more.
pub async fn run(program: &Path) -> Fallible<()> {
    let nodes = Rc::new(Nodes::new(program, NODES, &["--enable-fault-injection"])?);
    nodes.form(NODES).await?;
    let local = LocalSet::new();
    local
        .run_until(async {
            for case in 0..CASES.len() {
                measure(&nodes, case).await?;
            }
            Ok(())
        })
        .await
}
