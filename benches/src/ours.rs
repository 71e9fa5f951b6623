//! Three nodes of ours, as `bzzz dev` starts them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::Value;

use crate::Fallible;
use crate::connection::Http1;
use crate::load::{Target, VALUE_LEN, Writer, until_next_term};
use crate::process::Running;

const NODES: usize = 3;

/// A node.
struct Node {
    address: String,
    member: String,
    authorization: String,
}

/// The cluster.
pub struct OurCluster {
    nodes: Vec<Node>,
    _running: Running,
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
        Ok(Self { nodes, _running: running, _dir: dir })
    }

    async fn role(&self) -> Fallible<Role> {
        let node = &self.nodes[0];
        let mut connection = Http1::open(&node.address).await?;
        let request = node.request("GET", "/api/v1/status").body(Full::default())?;
        let (_, body) = connection.send(request).await?;
        let status: Value = serde_json::from_slice(&body)?;
        let role = &status["role"];
        let leader = text(role, "leader")?;
        let leader = self.nodes.iter().position(|node| node.member == leader);
        Ok(Role {
            term: role["term"].as_u64().ok_or("no term in the status")?,
            leader: leader.ok_or("the leader is no node of this cluster")?,
        })
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

/// A client, with a value of its own.
pub struct OurWriter {
    connection: Http1,
    address: String,
    authorization: String,
    key: String,
    version: u64,
}

impl Writer for OurWriter {
    async fn write(&mut self) -> Fallible<u64> {
        let request = Request::put(format!("/api/v1/ucxl/{}", self.key))
            .header("host", &self.address)
            .header("authorization", &self.authorization)
            .header("content-type", "application/octet-stream");
        let request = match self.version {
            0 => request.header("if-none-match", "*"),
            version => request.header("if-match", format!("\"{version}\"")),
        };
        let body = Full::new(Bytes::from_static(&[b'x'; VALUE_LEN]));
        let (status, body) = self.connection.send(request.body(body)?).await?;
        let answer: Value = serde_json::from_slice(&body)?;
        if status >= 300 {
            return Err(format!("a write got {status}: {answer}").into());
        }
        self.version = answer["version"].as_u64().ok_or("no version in the answer")?;
        answer["term"].as_u64().ok_or_else(|| "no term in the answer".into())
    }
}

impl Target for OurCluster {
    type Writer = OurWriter;

    async fn connect(&self, client: usize) -> Fallible<OurWriter> {
        let node = &self.nodes[client % self.nodes.len()];
        let mut connection = Http1::open(&node.address).await?;
        let key = format!("monitoring/bench/{client}");
        // Written on from where an earlier client of this number has stopped.
        let path = format!("/api/v1/ucxl/{key}?stale=true");
        let (_, body) = connection.send(node.request("GET", &path).body(Full::default())?).await?;
        let found: Value = serde_json::from_slice(&body)?;
        Ok(OurWriter {
            connection,
            address: node.address.clone(),
            authorization: node.authorization.clone(),
            key,
            version: found["version"].as_u64().unwrap_or_default(),
        })
    }
}
