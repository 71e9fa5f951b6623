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
    pub token: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node that was started and is not ready yet.
pub struct Starting {
    child: Child,
    ready: PathBuf,
    data: PathBuf,
}

impl Starting {
    /// Starts a node; its data directory as the command names it, and as the test sees it.
    pub fn spawn(mut command: Command, named: &Path, data: PathBuf) -> Self {
        let ready = named.with_extension("ready");
        let _ = std::fs::remove_file(&ready);
        let child = command.args(["--ready-file", ready.to_str().unwrap()]).spawn().unwrap();
        Self { child, ready, data }
    }

    /// Waits until it serves reads.
    pub fn ready(self) -> Daemon {
        self.settle().unwrap_or_else(|status| panic!("the node ended at once: {status}"))
    }

    /// Waits until it serves reads, or has ended.
    pub fn settle(mut self) -> Result<Daemon, ExitStatus> {
        let mut ended = None;
        wait("the node is ready or has ended", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some() || self.ready.exists()
        });
        if let Some(status) = ended {
            return Err(status);
        }
        let ready = serde_json::from_slice(&std::fs::read(&self.ready).unwrap()).unwrap();
        let token = std::fs::read_to_string(self.data.join("api.token")).unwrap();
        let node = Daemon { child: self.child, ready, token: token.trim().to_owned() };
        wait("the node serves reads", || node.get("/ready").status == 200);
        Ok(node)
    }
}

/// A small file system of its own, in a namespace that only this test and its nodes are in.
pub struct SmallDisk {
    holder: Child,
    dir: PathBuf,
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl SmallDisk {
    /// A file system of this size at a directory.
    pub fn mount(dir: &Path, megabytes: usize) -> Self {
        std::fs::create_dir(dir).unwrap();
        // `cat` holds the namespace, and ends with the test however that ends.
        let script = format!("mount -t tmpfs -o size={megabytes}m none \"$1\" && echo ok && cat");
        let mut holder = Command::new("unshare")
            .args(["--mount", "--map-root-user", "sh", "-c", &script, "sh", dir.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answer = [0; 3];
        let mounted = holder.stdout.as_mut().unwrap().read_exact(&mut answer);
        mounted.expect("this test mounts a file system, for which it needs user namespaces");
        Self { holder, dir: dir.to_owned() }
    }

    /// A path on it, as everybody sees it.
    fn outside(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.dir.strip_prefix("/").unwrap()).join(name)
    }

    /// Takes all room that is left.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.outside("ballast")).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
    }

    /// Gives it back.
    pub fn clear(&self) {
        std::fs::remove_file(self.outside("ballast")).unwrap();
    }

    /// Starts a node whose data are on it; what it says goes to a file.
    pub fn start(&self, args: &[&str], said: &Path) -> Starting {
        let mut command = Command::new("nsenter");
        let holder = self.holder.id().to_string();
        command.args(["--target", &holder, "--user", "--mount", "--preserve-credentials", "--"]);
        command.arg(env!("CARGO_BIN_EXE_bzzz"));
        let node = self.dir.join("node");
        let mut command = finish(command, &self.dir, node.to_str().unwrap(), args);
        command.stderr(std::fs::File::create(said).unwrap());
        Starting::spawn(command, &self.dir, self.outside("node"))
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

/// The command that runs a node.
pub fn command(dir: &Path, name: &str, args: &[&str]) -> Command {
    finish(Command::new(env!("CARGO_BIN_EXE_bzzz")), dir, name, args)
}

fn finish(mut command: Command, dir: &Path, name: &str, args: &[&str]) -> Command {
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
        let mut command = command(dir, name, args);
        command.stderr(Stdio::null());
        Starting::spawn(command, &dir.join(name), dir.join(name)).ready()
    }

    /// Starts a node; what it says goes to a file.
    pub fn start_saying(dir: &Path, name: &str, args: &[&str], said: &Path) -> Self {
        let mut command = command(dir, name, args);
        command.stderr(std::fs::File::create(said).unwrap());
        Starting::spawn(command, &dir.join(name), dir.join(name)).ready()
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

    /// A founder and two that join it.
    pub fn three(dir: &Path) -> [Self; 3] {
        let first = Self::found(dir, "one");
        let token = first.make_token(dir, 2);
        let second = Self::join(dir, "two", &first, &token);
        let third = Self::join(dir, "three", &first, &token);
        [first, second, third]
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

    /// Waits until the process has ended by itself.
    pub fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Asks the process to end.
    pub fn stop(self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.ended()
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.unwrap(), signal).unwrap();
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
