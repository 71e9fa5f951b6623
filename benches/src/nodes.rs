//! Nodes that are started as a user would start them: the first one founds the cluster, the others
//! join with a token, and each comes back on the ports that it had.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::Fallible;
use crate::connection::Http1;
use crate::process::{Running, free_ports};

/// How long a node may take until it is ready, and the cluster until everybody holds records.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long a request may take; a node answers within five seconds.
const REQUEST_LIMIT: Duration = Duration::from_secs(7);
/// How often something is looked at that is waited for.
const POLL: Duration = Duration::from_millis(10);

/// What clients were answered, counted by code.
pub type Outcomes = BTreeMap<String, u64>;

/// The code of a problem.
pub fn code(answer: &Value) -> String {
    answer["code"].as_str().unwrap_or("no code").to_owned()
}

/// Counts an answer.
pub fn count(outcomes: &mut Outcomes, answer: &Fallible<(u16, Value)>) {
    let outcome = match answer {
        Ok((200..300, _)) => "acknowledged".to_owned(),
        Ok((_, problem)) => code(problem),
        Err(_) => "connection lost".to_owned(),
    };
    *outcomes.entry(outcome).or_default() += 1;
}

/// Adds up what was counted.
pub fn add(sum: &mut Outcomes, other: Outcomes) {
    for (name, count) in other {
        *sum.entry(name).or_default() += count;
    }
}

/// The nodes of one cluster, by number.
pub struct Nodes {
    program: PathBuf,
    dir: tempfile::TempDir,
    /// Of the peer network, then of the API.
    ports: Vec<u16>,
    /// Arguments of each of them.
    args: Vec<String>,
    running: RefCell<Vec<Option<Running>>>,
}

impl Nodes {
    /// Room for so many nodes; none is started yet.
    pub fn new(program: &Path, size: usize, args: &[&str]) -> Fallible<Self> {
        let running = RefCell::new((0..size).map(|_| None).collect());
        let (dir, ports) = (tempfile::tempdir()?, free_ports(2 * size)?);
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Ok(Self { program: program.to_owned(), dir, ports, args, running })
    }

    fn data_dir(&self, node: usize) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    /// Where a node listens for others.
    pub fn listen(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports[node])
    }

    /// Where a node listens for clients.
    pub fn api(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports[self.ports.len() / 2 + node])
    }

    /// Starts a node that nobody listens to.
    pub fn start(&self, node: usize, origin: &[&str]) -> Fallible<()> {
        self.start_saying(node, origin, Stdio::null())
    }

    /// Starts a node whose log goes there.
    pub fn start_saying(&self, node: usize, origin: &[&str], to: Stdio) -> Fallible<()> {
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--data-dir").arg(self.data_dir(node)).args(&self.args);
        command.args(["--listen", &self.listen(node), "--api", &self.api(node)]).args(origin);
        self.running.borrow_mut()[node] = Some(Running::start_saying(&mut command, to)?);
        Ok(())
    }

    /// Kills a node.
    pub fn kill(&self, node: usize) {
        drop(self.running.borrow_mut()[node].take());
    }

    /// Connects to the API of a node.
    pub async fn connect(&self, node: usize) -> Fallible<Connection> {
        let token = std::fs::read_to_string(self.data_dir(node).join("api.token"))?;
        let api = self.api(node);
        let authorization = format!("Bearer {}", token.trim());
        Ok(Connection { http: Http1::open(&api).await?, api, authorization })
    }

    /// Asks a node over a new connection.
    pub async fn get(&self, node: usize, path: &str) -> Fallible<(u16, Value)> {
        self.connect(node).await?.call("GET", path, Bytes::new()).await
    }

    /// Sends an object to a node over a new connection.
    pub async fn post(&self, node: usize, path: &str, body: &Value) -> Fallible<(u16, Value)> {
        self.connect(node).await?.call("POST", path, body.to_string().into()).await
    }

    /// The page of metrics of a node.
    pub async fn metrics(&self, node: usize) -> Fallible<String> {
        let (_, page) = self.connect(node).await?.exchange("GET", "/metrics", Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }

    /// The node that leads, as the first one sees it.
    pub async fn leader(&self) -> Fallible<usize> {
        let (_, status) = self.get(0, "/api/v1/status").await?;
        let leader = status["role"]["leader"].as_str().ok_or("there is no leader")?.to_owned();
        for node in 0..self.ports.len() / 2 {
            let (_, status) = self.get(node, "/api/v1/status").await?;
            if status["node"]["member"] == leader.as_str() {
                return Ok(node);
            }
        }
        Err("the leader is no node of this cluster".into())
    }

    /// Waits until a node is ready and can decrypt.
    pub async fn wait_ready(&self, node: usize) -> Fallible<()> {
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
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until a node takes writes.
    pub async fn wait_writable(&self, node: usize) -> Fallible<()> {
        let began = Instant::now();
        let writable = async || -> Fallible<bool> {
            let (_, ready) = self.get(node, "/ready").await?;
            Ok(ready["writable"] == true)
        };
        while !writable().await.unwrap_or(false) {
            if began.elapsed() > READY_LIMIT {
                return Err(format!("node {node} takes no writes").into());
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// A file with a token with which so many nodes can join.
    pub async fn make_token(&self, uses: usize) -> Fallible<PathBuf> {
        let wanted = json!({ "ttl_s": 600, "uses": uses });
        let (_, token) = self.post(0, "/api/v1/join-tokens", &wanted).await?;
        let file = self.dir.path().join("token");
        std::fs::write(&file, token["token"].as_str().ok_or("no token in the answer")?)?;
        Ok(file)
    }

    /// Makes a cluster of the first `size` nodes, and waits until each holds records.
    pub async fn form(&self, size: usize) -> Fallible<()> {
        self.form_saying((0..size).map(|_| Stdio::null()).collect()).await
    }

    /// Makes a cluster of the first nodes, whose logs go there.
    pub async fn form_saying(&self, to: Vec<Stdio>) -> Fallible<()> {
        let size = to.len();
        let mut to = to.into_iter();
        let mut next = || to.next().ok_or("no node to start");
        self.start_saying(0, &["--bootstrap-mode"], next()?)?;
        self.wait_ready(0).await?;
        if size > 1 {
            let file = self.make_token(size - 1).await?;
            let file = file.to_str().ok_or("the directory has no name in UTF-8")?;
            for node in 1..size {
                let join = ["--join", &self.listen(0), "--token-file", file];
                self.start_saying(node, &join, next()?)?;
                self.wait_ready(node).await?;
            }
        }
        let began = Instant::now();
        loop {
            let (_, dht) = self.get(0, "/api/v1/dht").await?;
            let holders = dht["holders"].as_array().map_or(0, Vec::len);
            if holders == size && dht["next_holders"].is_null() {
                return Ok(());
            }
            if began.elapsed() > READY_LIMIT {
                return Err(format!("not everybody holds records: {dht}").into());
            }
            sleep(POLL).await;
        }
    }
}

/// A kept connection to the API of a node.
pub struct Connection {
    http: Http1,
    api: String,
    authorization: String,
}

impl Connection {
    /// Sends a request and reads the answer as JSON, null if it is none.
    pub async fn call(&mut self, method: &str, path: &str, body: Bytes) -> Fallible<(u16, Value)> {
        let (status, body) = self.exchange(method, path, body).await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    /// Writes a value that stands at this version; 0 if there is none yet.
    pub async fn write(&mut self, key: &str, version: u64, value: &str) -> Fallible<(u16, Value)> {
        let request = self
            .request("PUT", &format!("/api/v1/ucxl/{key}"))
            .header("content-type", "application/octet-stream");
        let request = match version {
            0 => request.header("if-none-match", "*"),
            version => request.header("if-match", format!("\"{version}\"")),
        };
        let request = request.body(Full::from(value.to_owned()))?;
        let (status, body) = timeout(REQUEST_LIMIT, self.http.send(request)).await??;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    async fn exchange(&mut self, method: &str, path: &str, body: Bytes) -> Fallible<(u16, Bytes)> {
        let request = self
            .request(method, path)
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        timeout(REQUEST_LIMIT, self.http.send(request)).await?
    }

    fn request(&self, method: &str, path: &str) -> hyper::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.api)
            .header("authorization", &self.authorization)
    }
}
