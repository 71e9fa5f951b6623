//! One node as a process, and a small HTTP client for its API.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bzzz::http::api::ReadyFile;
use serde_json::Value;

/// How long anything may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `done` says so.
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A node.
pub struct Daemon {
    child: Child,
    /// What its ready file says.
    pub ready: ReadyFile,
    token: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer of the API.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub text: String,
    /// The body as JSON, null if it is none.
    pub json: Value,
}

impl Answer {
    /// Code of a problem.
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }
}

fn command(dir: &Path, name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bzzz"));
    // Nothing of the machine that the test runs on may configure the node.
    command.env_clear().current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null());
    command.args(["run", "--data-dir", name, "--listen", "/ip4/127.0.0.1/tcp/0"]).args(args);
    if !args.contains(&"--api") {
        command.args(["--api", "127.0.0.1:0"]);
    }
    command
}

/// Runs a node that does not start; returns what it says.
pub fn fail(dir: &Path, name: &str, args: &[&str]) -> String {
    let output = command(dir, name, args).output().unwrap();
    assert!(!output.status.success(), "it should not have started");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a node that is not let in at `member`; returns what it says.
pub fn start_error(dir: &Path, name: &str, member: &Daemon, token: &Path) -> String {
    let address = &member.ready.addresses[0];
    fail(dir, name, &["--join", address, "--token-file", token.to_str().unwrap()])
}

impl Daemon {
    /// Starts a node.
    pub fn start(dir: &Path, name: &str, args: &[&str]) -> Self {
        let ready = dir.join(format!("{name}.ready"));
        let _ = std::fs::remove_file(&ready);
        let mut child = command(dir, name, args)
            .args(["--ready-file", ready.to_str().unwrap()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait("the node is ready", || {
            assert_eq!(child.try_wait().unwrap(), None, "the node ended at once");
            ready.exists()
        });
        let ready = serde_json::from_slice(&std::fs::read(ready).unwrap()).unwrap();
        let token = std::fs::read_to_string(dir.join(name).join("api.token")).unwrap();
        let node = Self { child, ready, token: token.trim().to_owned() };
        wait("the node serves reads", || node.get("/ready").status == 200);
        node
    }

    /// Makes a cluster.
    pub fn found(dir: &Path, name: &str) -> Self {
        let node = Self::start(dir, name, &["--bootstrap-mode"]);
        wait("the node leads", || node.get("/ready").json["writable"] == true);
        node
    }

    /// Goes on with what the data directory holds.
    pub fn resume(dir: &Path, name: &str) -> Self {
        Self::start(dir, name, &[])
    }

    /// Joins at a member.
    pub fn join(dir: &Path, name: &str, member: &Self, token: &Path) -> Self {
        Self::join_with(dir, name, member, token, &[])
    }

    /// Joins at a member, with more arguments.
    pub fn join_with(dir: &Path, name: &str, member: &Self, token: &Path, more: &[&str]) -> Self {
        let address = &member.ready.addresses[0];
        let args = ["--join", address, "--token-file", token.to_str().unwrap()];
        Self::start(dir, name, &[&args, more].concat())
    }

    /// Makes a join token and puts it into a file.
    pub fn make_token(&self, dir: &Path, uses: u32) -> PathBuf {
        let body = format!("{{\"ttl_s\":600,\"uses\":{uses}}}");
        let made = self.call("POST", "/api/v1/join-tokens", &[], body.as_bytes());
        assert_eq!(made.status, 201, "{}", made.text);
        let path = dir.join("join.token");
        std::fs::write(&path, made.json["token"].as_str().unwrap()).unwrap();
        path
    }

    /// Ends the process without a warning.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to end.
    pub fn stop(mut self) -> ExitStatus {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// Reads.
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], b"")
    }

    /// Writes a value.
    pub fn put(&self, path: &str, value: &str, headers: &[(&str, &str)]) -> Answer {
        self.call("PUT", path, headers, value.as_bytes())
    }

    /// A request with the token of the node.
    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.request(method, path, headers, body, Some(&self.token))
    }

    /// A request.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        token: Option<&str>,
    ) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(token) = token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        let mut stream = TcpStream::connect(&self.ready.api).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        // A body that is refused before it is read may break the pipe; the answer still comes.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, text) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        let json = serde_json::from_str(text).unwrap_or(Value::Null);
        Answer { status, text: text.to_owned(), json }
    }
}
