//! Three nodes of ours, as `bzzz dev` starts them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::Value;

use crate::Fallible;
use crate::connection::Http1;
use crate::load::{Client, Spent, Target, VALUE_LEN, Work, sum_of, until_next_term};
use crate::process::Running;

const NODES: usize = 3;
/// What counts fsyncs on the metrics page of a node: of the log and the node's own store, and of
/// the record store.
const FSYNCS: [&str; 2] = ["bzzz_journal_fsyncs_total", "bzzz_records_fsyncs_total"];

/// How long a node may take to hear of its leader.
const LEADER_LIMIT: Duration = Duration::from_secs(5);

/// A node.
struct Node {
    address: String,
    member: String,
    authorization: String,
}

/// The cluster.
pub struct OurCluster {
    nodes: Vec<Node>,
    /// Clients that were connected so far.
    connected: AtomicU64,
    running: Running,
    _dir: tempfile::TempDir,
}

/// Where the cluster stands.
struct Role {
    term: u64,
    leader: usize,
}

fn text(value: &Value, field: &str) -> Fallible<String> {
    let text = value[field].as_str().ok_or_else(|| format!("no {field} in {value}"))?;
    Ok(text.to_owned())
}

impl OurCluster {
    /// Starts a cluster and waits until it is ready.
    pub async fn start(program: &Path) -> Fallible<Self> {
        let dir = tempfile::tempdir()?;
        let mut child = Command::new(program)
            .args(["dev", "-o", "ndjson", "--quiet", "--nodes", &NODES.to_string(), "--base-dir"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = child.stdout.take().ok_or("the program has no output")?;
        let running = Running::new(child);
        let mut lines = BufReader::new(out).lines();
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let line = lines.next().ok_or("`bzzz dev` ended before its cluster was ready")??;
            let row: Value = serde_json::from_str(&line)?;
            let token = std::fs::read_to_string(text(&row, "token_file")?)?;
            nodes.push(Node {
                address: text(&row, "api")?.trim_start_matches("http://").to_owned(),
                member: text(&row, "member")?,
                authorization: format!("Bearer {}", token.trim()),
            });
        }
        Ok(Self { nodes, connected: AtomicU64::new(0), running, _dir: dir })
    }

    /// Where it stands, once the node that is asked has heard of the leader.
    async fn role(&self) -> Fallible<Role> {
        let node = &self.nodes[0];
        let mut connection = Http1::open(&node.address).await?;
        let asked = Instant::now();
        while asked.elapsed() < LEADER_LIMIT {
            let request = node.request("GET", "/api/v1/status").body(Full::default())?;
            let (_, body) = connection.send(request).await?;
            let status: Value = serde_json::from_slice(&body)?;
            let role = &status["role"];
            let leader = self.nodes.iter().position(|node| role["leader"] == *node.member);
            if let (Some(leader), Some(term)) = (leader, role["term"].as_u64()) {
                return Ok(Role { term, leader });
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Err("no node of this cluster leads".into())
    }

    /// Milliseconds from a request to hand over to the first write under the next leader.
    pub async fn handover(&self) -> Fallible<f64> {
        let role = self.role().await?;
        let leader = &self.nodes[role.leader];
        let mut connection = Http1::open(&leader.address).await?;
        let request = leader
            .request("POST", "/api/v1/election/transfer")
            .header("content-type", "application/json")
            .body(Full::from("{}"))?;
        let began = Instant::now();
        let (status, body) = connection.send(request).await?;
        if status >= 300 {
            return Err(format!("handover: {status} {}", String::from_utf8_lossy(&body)).into());
        }
        until_next_term(self, role.leader + 1, began, role.term).await
    }
}

/// Milliseconds from SIGKILL of the leader to the first write under the next one, as the tour of
/// `bzzz dev` measures it: the tour ends if a node ends that it has not killed itself.
pub fn failover(program: &Path) -> Fallible<f64> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file");
    std::fs::write(&file, "a short file")?;
    let output = Command::new(program)
        .args(["dev", "-o", "ndjson", "--quiet", "--nodes", &NODES.to_string(), "--base-dir"])
        .arg(dir.path())
        .arg("--tour")
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let last: Value = serde_json::from_str(text.lines().last().ok_or("the tour said nothing")?)?;
    if last["tour"] != "ok" {
        return Err(format!("the tour failed: {last}").into());
    }
    last["failover_ms"].as_f64().ok_or_else(|| "the tour names no failover".into())
}

impl Node {
    fn request(&self, method: &str, path: &str) -> hyper::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("authorization", &self.authorization)
    }
}

/// What a client asks for next.
enum Next {
    /// The value that it keeps, at this version.
    Head { key: String, version: u64 },
    /// A content that nobody put before.
    Content { count: u64 },
    /// A decision at an address of its own.
    Decision { count: u64 },
    /// The decision that it published when it connected.
    Read,
}

/// A client.
pub struct OurClient {
    connection: Http1,
    address: String,
    authorization: String,
    name: String,
    next: Next,
}

/// A text of `VALUE_LEN` bytes that differs from all others.
fn unique(name: &str, count: u64) -> String {
    format!("{name} {count:010} {}", "x".repeat(VALUE_LEN))[..VALUE_LEN].to_owned()
}

impl OurClient {
    fn request(&self, method: &str, path: &str) -> hyper::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("authorization", &self.authorization)
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Fallible<Bytes> {
        let (status, body) = self.connection.send(request).await?;
        if status >= 300 {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(body)
    }

    async fn publish(&mut self, task: &str, count: u64) -> Fallible<Value> {
        let decision = serde_json::json!({
            "address": format!("bench/backend_developer/load/{task}/node"),
            "type": "code",
            "decision": unique(&self.name, count),
            "success": true,
        });
        let request = self
            .request("POST", "/api/v1/decisions")
            .header("content-type", "application/json")
            .body(Full::from(serde_json::to_vec(&decision)?))?;
        Ok(serde_json::from_slice(&self.send(request).await?)?)
    }

    async fn head(&mut self, key: &str, version: u64) -> Fallible<Value> {
        let request = self
            .request("PUT", &format!("/api/v1/ucxl/{key}"))
            .header("content-type", "application/octet-stream");
        let request = match version {
            0 => request.header("if-none-match", "*"),
            version => request.header("if-match", format!("\"{version}\"")),
        };
        let body = Full::new(Bytes::from_static(&[b'x'; VALUE_LEN]));
        Ok(serde_json::from_slice(&self.send(request.body(body)?).await?)?)
    }

    /// The version of a value, 0 if there is none.
    async fn version(&mut self, key: &str) -> Fallible<u64> {
        let path = format!("/api/v1/ucxl/{key}?stale=true");
        let request = self.request("GET", &path).body(Full::default())?;
        let (_, body) = self.connection.send(request).await?;
        let found: Value = serde_json::from_slice(&body)?;
        Ok(found["version"].as_u64().unwrap_or_default())
    }
}

impl Client for OurClient {
    async fn once(&mut self) -> Fallible<u64> {
        match &mut self.next {
            Next::Head { key, version } => {
                let (key, version) = (key.clone(), *version);
                let answer = self.head(&key, version).await?;
                let version = answer["version"].as_u64().ok_or("no version in the answer")?;
                self.next = Next::Head { key, version };
                answer["term"].as_u64().ok_or_else(|| "no term in the answer".into())
            }
            Next::Content { count } => {
                *count += 1;
                let content = unique(&self.name, *count);
                let request = self
                    .request("POST", "/api/v1/dht/contents")
                    .header("content-type", "application/octet-stream")
                    .body(Full::from(content))?;
                self.send(request).await.map(|_| 0)
            }
            Next::Decision { count } => {
                *count += 1;
                let (task, count) = (format!("{}-{count}", self.name), *count);
                let answer = self.publish(&task, count).await?;
                answer["term"].as_u64().ok_or_else(|| "no term in the answer".into())
            }
            Next::Read => {
                let path =
                    format!("/api/v1/decisions/bench/backend_developer/load/{}/node", self.name);
                let request = self.request("GET", &path).body(Full::default())?;
                self.send(request).await.map(|_| 0)
            }
        }
    }
}

impl Target for OurCluster {
    type Client = OurClient;

    async fn connect(&self, client: usize, work: Work) -> Fallible<OurClient> {
        let node = &self.nodes[client % self.nodes.len()];
        let started = self.connected.fetch_add(1, Ordering::Relaxed);
        let mut connected = OurClient {
            connection: Http1::open(&node.address).await?,
            address: node.address.clone(),
            authorization: node.authorization.clone(),
            name: format!("client-{client}-{started}"),
            next: Next::Read,
        };
        connected.next = match work {
            Work::Head => {
                // Written on from where an earlier client of this number has stopped.
                let key = format!("monitoring/bench/{client}");
                let version = connected.version(&key).await?;
                Next::Head { key, version }
            }
            Work::Content => Next::Content { count: 0 },
            Work::Decision => Next::Decision { count: 0 },
            Work::Read => {
                let task = connected.name.clone();
                connected.publish(&task, 0).await?;
                Next::Read
            }
        };
        Ok(connected)
    }

    async fn spent(&self) -> Fallible<Spent> {
        let mut fsyncs = 0.0;
        for node in &self.nodes {
            let request = node.request("GET", "/metrics").body(Full::default())?;
            let (_, page) = Http1::open(&node.address).await?.send(request).await?;
            fsyncs += sum_of(&String::from_utf8_lossy(&page), &FSYNCS);
        }
        Ok(Spent { fsyncs, processor_us: self.running.processor_us()? })
    }

    const MEMBERS: usize = NODES;
}
