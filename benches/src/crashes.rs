//! Five nodes of which one after another is killed and started again, while clients publish
//! decisions; then every decision that was acknowledged is read back through another node.
//!
//! The nodes are started as a user would: the first one founds the cluster, the others join with a
//! token, and each comes back on the ports that it had.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use crate::Fallible;
use crate::connection::Http1;
use crate::process::{Running, free_ports};

const NODES: usize = 5;
const CLIENTS: usize = 32;
const READERS: usize = 16;
/// How long a node stays away after it was killed.
const OFF: Duration = Duration::from_millis(1_500);
/// How long all of them run before the next one is killed.
const REST: Duration = Duration::from_secs(3);
/// Nobody is killed in the last part, so that what is slow has ended when the clients stop.
const QUIET: Duration = Duration::from_secs(10);
/// How long a node may take until it is ready, and the cluster until everybody holds records.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long a request may take; a node answers within five seconds.
const REQUEST_LIMIT: Duration = Duration::from_secs(7);
/// Tries to read a decision, and the pause between them.
const READ_TRIES: usize = 20;
const READ_PAUSE: Duration = Duration::from_millis(100);

struct Nodes {
    program: PathBuf,
    dir: tempfile::TempDir,
    /// Of the peer network, then of the API.
    ports: [u16; 2 * NODES],
    running: RefCell<Vec<Option<Running>>>,
}

/// A decision that was acknowledged.
struct Acknowledged {
    node: usize,
    address: String,
    text: String,
    content: String,
}

/// What clients were answered, counted by code.
type Outcomes = BTreeMap<String, u64>;

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    kills: u64,
    acknowledged: usize,
    published: Outcomes,
    read: Outcomes,
}

impl Nodes {
    fn new(program: &Path) -> Fallible<Self> {
        let running = RefCell::new((0..NODES).map(|_| None).collect());
        let (dir, ports) = (tempfile::tempdir()?, free_ports()?);
        Ok(Self { program: program.to_owned(), dir, ports, running })
    }

    fn data_dir(&self, node: usize) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    fn listen(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports[node])
    }

    fn api(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports[NODES + node])
    }

    fn start(&self, node: usize, origin: &[&str]) -> Fallible<()> {
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--data-dir").arg(self.data_dir(node));
        command.args(["--listen", &self.listen(node), "--api", &self.api(node)]).args(origin);
        self.running.borrow_mut()[node] = Some(Running::start(&mut command)?);
        Ok(())
    }

    fn kill(&self, node: usize) {
        drop(self.running.borrow_mut()[node].take());
    }

    async fn connect(&self, node: usize) -> Fallible<Connection> {
        let token = std::fs::read_to_string(self.data_dir(node).join("api.token"))?;
        let api = self.api(node);
        let authorization = format!("Bearer {}", token.trim());
        Ok(Connection { http: Http1::open(&api).await?, api, authorization })
    }

    async fn get(&self, node: usize, path: &str) -> Fallible<(u16, Value)> {
        self.connect(node).await?.call("GET", path, Bytes::new()).await
    }

    /// Waits until a node is ready and can decrypt.
    async fn wait_ready(&self, node: usize) -> Fallible<()> {
        let began = Instant::now();
        let ready = async || -> Fallible<bool> {
            let (status, _) = self.get(node, "/ready").await?;
            let (_, roles) = self.get(node, "/api/v1/roles").await?;
            Ok(status == 200 && roles["keys_held"] == true)
        };
        while !ready().await.unwrap_or(false) {
            if began.elapsed() > READY_LIMIT {
                return Err(format!("node {node} does not become ready").into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Makes a cluster of all nodes, and waits until each holds records.
    async fn form(&self) -> Fallible<()> {
        self.start(0, &["--bootstrap-mode"])?;
        self.wait_ready(0).await?;
        let wanted = serde_json::to_vec(&json!({ "ttl_s": 600, "uses": NODES }))?;
        let mut connection = self.connect(0).await?;
        let (_, token) = connection.call("POST", "/api/v1/join-tokens", wanted.into()).await?;
        let file = self.dir.path().join("token");
        std::fs::write(&file, token["token"].as_str().ok_or("no token in the answer")?)?;
        let file = file.to_str().ok_or("the directory has no name in UTF-8")?;
        for node in 1..NODES {
            self.start(node, &["--join", &self.listen(0), "--token-file", file])?;
            self.wait_ready(node).await?;
        }
        let began = Instant::now();
        loop {
            let (_, dht) = self.get(0, "/api/v1/dht").await?;
            let holders = dht["holders"].as_array().map_or(0, Vec::len);
            if holders == NODES && dht["next_holders"].is_null() {
                return Ok(());
            }
            if began.elapsed() > READY_LIMIT {
                return Err(format!("not everybody holds records: {dht}").into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills one after another until `until`; returns how many it were.
    async fn kill_in_turn(&self, until: Instant) -> Fallible<u64> {
        let mut kills = 0;
        for node in (0..NODES).cycle() {
            sleep(REST).await;
            if Instant::now() >= until {
                break;
            }
            self.kill(node);
            kills += 1;
            sleep(OFF).await;
            self.start(node, &[])?;
            self.wait_ready(node).await?;
        }
        Ok(kills)
    }
}

/// A kept connection to the API of a node.
struct Connection {
    http: Http1,
    api: String,
    authorization: String,
}

impl Connection {
    async fn call(&mut self, method: &str, path: &str, body: Bytes) -> Fallible<(u16, Value)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.api)
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let (status, body) = timeout(REQUEST_LIMIT, self.http.send(request)).await??;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
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

fn code(answer: &Value) -> String {
    answer["code"].as_str().unwrap_or("no code").to_owned()
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
    let nodes = Rc::new(Nodes::new(program)?);
    nodes.form().await?;
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
        Outcome { kills: nodes.kill_in_turn(end - QUIET).await?, ..Outcome::default() };
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

fn add(sum: &mut Outcomes, other: Outcomes) {
    for (name, count) in other {
        *sum.entry(name).or_default() += count;
    }
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
