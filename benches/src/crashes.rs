//! Five nodes of which one after another is killed and started again, while clients publish
//! decisions; then every decision that was acknowledged is read back through another node.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::Fallible;
use crate::nodes::{Connection, Nodes, Outcomes, add, code};

const NODES: usize = 5;
const CLIENTS: usize = 32;
const READERS: usize = 16;
/// How long a node stays away after it was killed.
const OFF: Duration = Duration::from_millis(1_500);
/// How long all of them run before the next one is killed.
const REST: Duration = Duration::from_secs(3);
/// Nobody is killed in the last part, so that what is slow has ended when the clients stop.
const QUIET: Duration = Duration::from_secs(10);
/// Tries to read a decision, and the pause between them.
const READ_TRIES: usize = 20;
const READ_PAUSE: Duration = Duration::from_millis(100);

/// A decision that was acknowledged.
struct Acknowledged {
    node: usize,
    address: String,
    text: String,
    content: String,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    kills: u64,
    acknowledged: usize,
    published: Outcomes,
    read: Outcomes,
}

/// Kills one after another until `until`; returns how many it were.
async fn kill_in_turn(nodes: &Nodes, until: Instant) -> Fallible<u64> {
    let mut kills = 0;
    for node in (0..NODES).cycle() {
        sleep(REST).await;
        if Instant::now() >= until {
            break;
        }
        nodes.kill(node);
        kills += 1;
        sleep(OFF).await;
        nodes.start(node, &[])?;
        nodes.wait_ready(node).await?;
    }
    Ok(kills)
}

/// Connections of one client, made when they are needed.
struct Connections {
    nodes: Rc<Nodes>,
    open: Vec<Option<Connection>>,
}

impl Connections {
    fn new(nodes: Rc<Nodes>) -> Self {
        Self { nodes, open: (0..NODES).map(|_| None).collect() }
    }

    async fn call(
        &mut self,
        node: usize,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> Fallible<(u16, Value)> {
        let mut connection = match self.open[node].take() {
            Some(connection) => connection,
            None => self.nodes.connect(node).await?,
        };
        let answer = connection.call(method, path, body).await?;
        self.open[node] = Some(connection);
        Ok(answer)
    }
}

/// Publishes through all nodes in turn until `end`.
async fn publish(nodes: Rc<Nodes>, client: usize, end: Instant) -> (Vec<Acknowledged>, Outcomes) {
    let mut connections = Connections::new(nodes);
    let (mut acknowledged, mut outcomes) = (Vec::new(), Outcomes::new());
    let mut count = client;
    while Instant::now() < end {
        count += 1;
        let node = count % NODES;
        let address = format!("bench/observer/crashes/client-{client}-{count}/node");
        let text = format!("decision {count} of client {client}; ").repeat(20);
        let body = json!({ "address": address, "decision": text }).to_string();
        let answer = connections.call(node, "POST", "/api/v1/decisions", body.into()).await;
        let outcome = match &answer {
            Ok((201, answer)) => {
                let content = answer["content"].as_str().unwrap_or_default().to_owned();
                acknowledged.push(Acknowledged { node, address, text, content });
                "acknowledged".to_owned()
            }
            Ok((_, problem)) => code(problem),
            Err(_) => "connection lost".to_owned(),
        };
        if answer.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        *outcomes.entry(outcome).or_default() += 1;
    }
    (acknowledged, outcomes)
}

/// Reads decisions back through the node after the one that has acknowledged them.
async fn read_back(nodes: Rc<Nodes>, all: Rc<RefCell<Vec<Acknowledged>>>) -> Outcomes {
    let mut connections = Connections::new(nodes);
    let mut outcomes = Outcomes::new();
    loop {
        let Some(wanted) = all.borrow_mut().pop() else { return outcomes };
        let node = (wanted.node + 1) % NODES;
        let path = format!("/api/v1/decisions/{}", wanted.address);
        let mut outcome = String::new();
        for _ in 0..READ_TRIES {
            outcome = match connections.call(node, "GET", &path, Bytes::new()).await {
                Ok((200, found)) if found["stale"] == true => "stale".to_owned(),
                Ok((200, found)) => {
                    let same = found["decision"] == wanted.text.as_str()
                        && found["content"] == wanted.content.as_str();
                    if same { SAME } else { "different" }.to_owned()
                }
                Ok((_, problem)) => code(&problem),
                Err(_) => "connection lost".to_owned(),
            };
            if outcome == SAME || outcome == "different" {
                break;
            }
            sleep(READ_PAUSE).await;
        }
        *outcomes.entry(outcome).or_default() += 1;
    }
}

/// What a decision was read back as, if all is well.
const SAME: &str = "read back";

/// Runs it for so long.
pub async fn run(program: &Path, length: Duration) -> Fallible<Outcome> {
    let nodes = Rc::new(Nodes::new(program, NODES, &[])?);
    nodes.form(NODES).await?;
    eprintln!("crashes: {NODES} nodes are ready; clients publish for {} s", length.as_secs());
    let local = LocalSet::new();
    local.run_until(measure(nodes, length)).await
}

async fn measure(nodes: Rc<Nodes>, length: Duration) -> Fallible<Outcome> {
    let end = Instant::now() + length;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::task::spawn_local(publish(nodes.clone(), client, end)))
        .collect();
    let mut outcome =
        Outcome { kills: kill_in_turn(&nodes, end - QUIET).await?, ..Outcome::default() };
    let mut all = Vec::new();
    for client in clients {
        let (acknowledged, outcomes) = client.await?;
        all.extend(acknowledged);
        add(&mut outcome.published, outcomes);
    }
    outcome.acknowledged = all.len();
    let all = Rc::new(RefCell::new(all));
    let readers: Vec<_> = (0..READERS)
        .map(|_| tokio::task::spawn_local(read_back(nodes.clone(), all.clone())))
        .collect();
    for reader in readers {
        add(&mut outcome.read, reader.await?);
    }
    Ok(outcome)
}

impl Outcome {
    /// An error if anything that was acknowledged was not read back as it was.
    pub fn judge(&self) -> Fallible<()> {
        println!("crashes: {} kills, {} acknowledged", self.kills, self.acknowledged);
        println!("crashes: publications {:?}", self.published);
        println!("crashes: reads {:?}", self.read);
        let back = self.read.get(SAME).copied().unwrap_or_default();
        if self.kills == 0 || self.acknowledged == 0 {
            return Err("nothing was killed, or nothing acknowledged".into());
        }
        if back != self.acknowledged as u64 {
            let lost = self.acknowledged as u64 - back;
            return Err(format!("{lost} acknowledged decisions were not read back").into());
        }
        Ok(())
    }
}
