//! The API among rude neighbours: clients that stay silent, do not read, send too much or ask
//! oddly, and the ways in that are left.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "these tests watch real processes in real time")]

#[path = "daemon/process.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod process;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use process::{Daemon, Starting, wait};
use rustix::process::{Resource, getrlimit, setrlimit};

/// How long an answer may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// Files that this process may need to have open.
const OPEN_FILES: u64 = 4_096;
/// Places at the port.
const PLACES: usize = 768;
/// Name of the socket in the data directory.
const SOCKET: &str = "api.sock";

/// An answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn says(&self, header: &str) -> bool {
        self.head.lines().any(|line| line.eq_ignore_ascii_case(header))
    }
}

/// Reads one answer, and leaves the connection as it is.
fn answer(stream: &mut impl Read) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, body: String::from_utf8(body).unwrap(), head }
}

fn connect(api: &str) -> TcpStream {
    let stream = TcpStream::connect(api).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

/// Many systems let a process have fewer files open at first than there are places.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|now| now < OPEN_FILES) {
        limit.current = Some(limit.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES)));
        setrlimit(Resource::Nofile, limit).unwrap();
    }
}

/// The first answer to a request on a connection of its own.
fn ask(stream: &mut (impl Read + Write), request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    answer(stream)
}

/// Runs a command of the client; the data directory that it finds is that of a node in `dir`.
fn bzzz(dir: &Path, name: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bzzz"));
    command.env_clear().current_dir(dir).env("BZZZ_NODE__DATA_DIR", dir.join(name));
    command.args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process that ends with the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node that founded a cluster, and the file with what it said.
fn saying(dir: &Path) -> (Daemon, PathBuf) {
    let said = dir.join("said");
    let mut command = process::command(dir, "one", &["--bootstrap-mode"]);
    command.stderr(File::create(&said).unwrap());
    let node = Starting::spawn(command, &dir.join("one"), dir.join("one")).ready();
    wait("the node leads", || node.get("/ready").json["writable"] == true);
    (node, said)
}

#[test]
fn odd_requests_are_refused_with_words_and_harm_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (node, said) = saying(dir.path());
    let api = &node.ready.api;
    for (line, status) in [
        ("CONNECT a:1", 405),
        ("CONNECT /health", 405),
        ("GET a:1", 400),
        ("GET *", 400),
        ("OPTIONS *", 405),
        ("GET health", 400),
        ("GET http://", 400),
        ("GET http://elsewhere:1/health", 200),
        ("GET http://elsewhere:1", 403),
        ("GET /health", 200),
    ] {
        let answer = ask(&mut connect(api), &format!("{line} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        if line.starts_with("CONNECT") {
            assert!(answer.says("connection: close"), "{answer:?}");
            assert!(answer.body.contains("METHOD_NOT_ALLOWED"), "{answer:?}");
        }
    }
    // Whatever else was said, no task failed.
    let said = std::fs::read_to_string(said).unwrap();
    assert!(!said.contains("a part of this node failed"), "{said}");
}

/// A request with these lines in its head, at the port with the token, or at the socket without.
fn told(lines: &str, body: &str, token: Option<&str>) -> String {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    let (line, headers) = lines.split_once('\n').unwrap_or((lines, ""));
    let headers: String = headers.lines().map(|header| format!("{header}\r\n")).collect();
    format!("{line} HTTP/1.1\r\n{token}content-length: {length}\r\n{headers}\r\n{body}")
}

#[test]
fn what_is_not_declared_is_refused_at_both_doors() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = saying(dir.path());
    let socket = dir.path().join("one").join(SOCKET);
    let at_both = |lines: &str, body: &str, expected: (u16, &str)| {
        let by_port = ask(&mut connect(&node.ready.api), &told(lines, body, Some(&node.token)));
        let mut local = UnixStream::connect(&socket).unwrap();
        local.set_read_timeout(Some(DEADLINE)).unwrap();
        let by_socket = ask(&mut local, &told(lines, body, None));
        for answer in [by_port, by_socket] {
            assert_eq!(answer.status, expected.0, "{lines} {body}: {answer:?}");
            assert!(answer.body.contains(expected.1), "{lines} {body}: {answer:?}");
        }
    };
    let status = "GET /api/v1/status";
    at_both(&format!("{status}\nhost: localhost"), "", (200, "\"schema\""));
    at_both(&format!("{status}\nhost: [::1]:99"), "", (200, "\"schema\""));
    at_both(&format!("{status}\nhost: evil.example"), "", (403, "HOST_WRONG"));
    at_both(status, "", (400, "\"host\""));
    let page = format!("{status}\nhost: localhost:9\norigin: http");
    at_both(&format!("{page}://localhost:9"), "", (200, "\"schema\""));
    at_both(&format!("{page}://evil.example"), "", (403, "ORIGIN_WRONG"));
    let local = "host: localhost";
    at_both(
        &format!("POST /api/v1/slurp/voters/pause\n{local}\norigin: null"),
        "",
        (403, "ORIGIN"),
    );
    at_both(&format!("GET /api/v1/ucxl?limt=1\n{local}"), "", (400, "limt"));
    at_both(&format!("GET /api/v1/nodes/01\n{local}"), "", (400, "member"));
    at_both(&format!("GET /api/v1/events?topic=nosuch\n{local}"), "", (400, "topic"));
    let tokens = format!("POST /api/v1/join-tokens\n{local}");
    at_both(&tokens, "[]", (400, "expected an object, found a list"));
    at_both(&tokens, "{\"ttl_s\":\"1\"}", (400, "\"ttl_s\""));
    at_both(&tokens, "{\"uses\":1,\"uses\":2}", (400, "twice"));
    at_both(&format!("{tokens}\nif-match: \"3\""), "{}", (400, "CONDITION_UNSUPPORTED"));
    at_both(&format!("{tokens}\ncontent-type: image/png"), "{}", (415, "application/json"));
    at_both(&format!("{tokens}\ncontent-encoding: gzip"), "{}", (415, "without content-encoding"));
    at_both(&format!("GET /health\n{local}\nif-match: \"1\""), "", (400, "CONDITION_UNSUPPORTED"));
    at_both(&format!("DELETE /api/v1/status\n{local}"), "", (405, "GET, HEAD"));
    at_both(&format!("GET /api/v1/ucxl/\n{local}"), "", (404, "NOT_FOUND"));
    at_both("no request here", "", (400, "no request of HTTP/1.1"));
    at_both(&format!("GET /api/openapi.json\n{local}"), "", (200, "\"openapi\":\"3.1.0\""));
    at_both(&format!("GET /api/v1/setup\n{local}"), "", (404, "NOT_FOUND"));

    // A key stands for one write, and who has a value gets no second one.
    let keyed = [("if-none-match", "*"), ("idempotency-key", "k")];
    let put = |value: &[u8]| node.call("PUT", "/api/v1/ucxl/monitoring/x", &keyed, value);
    assert_eq!((put(b"one").status, put(b"one").status), (200, 200));
    assert_eq!(put(b"two").code(), "IDEMPOTENCY_KEY_REUSED");
    let read = |tag| node.call("GET", "/api/v1/ucxl/monitoring/x", &[("if-none-match", tag)], b"");
    assert_eq!((read("\"1\"").status, read("\"2\"").status), (304, 200));
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = saying(dir.path());
    let api = &node.ready.api;
    let post = |length: usize, more: &str| {
        format!(
            "POST /api/v1/decisions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{more}\r\n"
        )
    };
    // A small body is taken in, and the connection goes on.
    let mut stream = connect(api);
    for _ in 0..300 {
        stream.write_all(post(1_000, "").as_bytes()).unwrap();
        let refused = ask(&mut stream, &"x".repeat(1_000));
        assert_eq!(refused.status, 401);
        assert!(!refused.says("connection: close"), "{refused:?}");
    }
    assert_eq!(ask(&mut stream, &get("/health")).status, 200);

    // A large one can be sent to its end, and what was answered is there then.
    for length in [1024 * 1024, 2 * 1024 * 1024 + 1, 4 * 1024 * 1024] {
        let mut stream = connect(api);
        stream.write_all(post(length, "").as_bytes()).unwrap();
        let refused = ask(&mut stream, &"x".repeat(length));
        assert_eq!(refused.status, 401, "{length} bytes");
        assert!(refused.says("connection: close"), "{refused:?}");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "and the end comes");
    }

    // A body is asked for only if somebody wants it.
    let waits = "expect: 100-continue\r\n";
    let refused = ask(&mut connect(api), &post(9, waits));
    assert!(refused.status == 401 && refused.says("connection: close"), "{refused:?}");
    let mut stream = connect(api);
    let with_token = format!("{waits}authorization: Bearer {}\r\n", node.token);
    assert_eq!(ask(&mut stream, &post(9, &with_token)).status, 100);
    assert_eq!(ask(&mut stream, "no object").status, 400);
}

#[test]
fn those_that_are_silent_or_do_not_read_keep_nobody_out() {
    raise_open_files();
    let dir = tempfile::tempdir().unwrap();
    let (node, said) = saying(dir.path());
    let api = &node.ready.api;
    let large = vec![b'x'; 1024 * 1024];
    let stored = node.call("POST", "/api/v1/dht/contents", &[], &large);
    assert_eq!(stored.status, 201, "{}", stored.text);
    let path = format!("/api/v1/dht/contents/{}", stored.json["hash"].as_str().unwrap());
    let token = &node.token;
    let unread =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");

    // More than there are places: some asked for more than the system keeps for them, some have
    // sent half of something, most nothing.
    let mut neighbours = Vec::new();
    for number in 0..PLACES + 64 {
        let mut stream = connect(api);
        match number % 8 {
            0 => stream.write_all(unread.repeat(8).as_bytes()).unwrap(),
            1 => stream.write_all(b"GET /health HTTP/1.1\r\n").unwrap(),
            2 => {
                let post = "POST /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n";
                stream.write_all(post.as_bytes()).unwrap();
            }
            _ => {}
        }
        neighbours.push(stream);
    }
    for round in 0..64 {
        let answer = ask(&mut connect(api), &get("/health"));
        assert_eq!(answer.status, 200, "round {round}: {answer:?}");
    }
    let metrics = node.get("/metrics").text;
    let gave_way = "bzzz_api_connections_closed_total{reason=\"gave_way\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(gave_way)).unwrap();
    assert_ne!(count, "0");
    wait("the log says so", || {
        let said = std::fs::read_to_string(&said).unwrap();
        said.contains("gave way to others")
    });
    drop(neighbours);
}

/// Clients that never stop: some of them ask and take no answer, the others ask nothing. Whoever is
/// let go comes again.
fn be_rude(api: &str, unread: &str, is_over: &AtomicBool) {
    let mut streams: Vec<Option<TcpStream>> = (0..2 * PLACES).map(|_| None).collect();
    while !is_over.load(Ordering::Relaxed) {
        for (number, place) in streams.iter_mut().enumerate() {
            let stream = place.get_or_insert_with(|| {
                let stream = TcpStream::connect(api).unwrap();
                stream.set_nonblocking(true).unwrap();
                stream
            });
            let done = match number % 4 {
                0 => stream.write(unread.as_bytes()),
                _ => stream.read(&mut [0]),
            };
            let waits = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
            if matches!(done, Ok(0)) || done.is_err_and(|error| !waits(&error)) {
                *place = None;
            }
        }
    }
}

/// Sets a flag once it goes.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// True if a new connection is answered.
fn is_answered(api: &str) -> bool {
    let mut stream = connect(api);
    let mut status = [0; 12];
    let asked = stream.write_all(get("/health").as_bytes());
    asked.and_then(|()| stream.read_exact(&mut status)).is_ok() && status == *b"HTTP/1.1 200"
}

#[test]
fn those_that_come_again_and_again_keep_nobody_out() {
    raise_open_files();
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::found(dir.path(), "one");
    let (api, token) = (&node.ready.api, &node.token);
    let large = vec![b'x'; 1024 * 1024];
    let stored = node.call("POST", "/api/v1/dht/contents", &[], &large);
    let path = format!("/api/v1/dht/contents/{}", stored.json["hash"].as_str().unwrap());
    let unread =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| be_rude(api, &unread, &is_over));
        let _end = AtTheEnd(&is_over);
        wait("all places are taken again and again", || {
            let mut local = UnixStream::connect(dir.path().join("one").join(SOCKET)).unwrap();
            local.set_read_timeout(Some(DEADLINE)).unwrap();
            let metrics = ask(&mut local, &get("/metrics")).body;
            let gave_way = "bzzz_api_connections_closed_total{reason=\"gave_way\"} ";
            let count = metrics.lines().find_map(|line| line.strip_prefix(gave_way)).unwrap();
            count.parse::<usize>().unwrap() > PLACES
        });
        let answered = (0..64).filter(|_| is_answered(api)).count();
        // A process that stands still for long may miss its turn.
        assert!(answered >= 56, "{answered} of 64");
    });
}

#[test]
fn the_operator_gets_in_through_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = saying(dir.path());
    let path = dir.path().join("one").join(SOCKET);
    let mode = std::fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let status = ask(&mut stream, &get("/api/v1/status"));
    assert_eq!(status.status, 200, "no token is asked for: {status:?}");
    assert_eq!(ask(&mut connect(&node.ready.api), &get("/api/v1/status")).status, 401);

    // The command line finds it by the data directory, without a port or a token.
    std::fs::remove_file(dir.path().join("one/api.token")).unwrap();
    let output = bzzz(dir.path(), "one", &["status"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(&node.ready.api));
    // What is named explicitly wins.
    let output = bzzz(dir.path(), "one", &["status", "--addr", &node.ready.api]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stdout));

    assert!(node.stop().success());
    assert!(!path.exists(), "it goes with the node");
}

#[test]
fn a_data_directory_too_deep_for_a_socket_is_served_through_the_port() {
    let dir = tempfile::tempdir().unwrap();
    let name = "x".repeat(120);
    let node = Daemon::found(dir.path(), &name);
    assert!(!dir.path().join(&name).join(SOCKET).exists());
    let output = bzzz(dir.path(), &name, &["status", "--addr", &node.ready.api]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // Without an address the command goes to the port that nodes take by default.
    let output = bzzz(dir.path(), &name, &["status"]);
    assert!(!text(&output.stderr).contains(SOCKET), "{}", text(&output.stderr));
}

#[test]
fn a_node_that_joins_says_so_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = Daemon::found(dir.path(), "one");
    let token = first.make_token(dir.path(), 1);
    let address = first.ready.addresses[0].clone();
    first.kill();
    let api = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let args = ["--join", &address, "--token-file", token.to_str().unwrap(), "--api", &api];
    let mut command = process::command(dir.path(), "two", &args);
    let _node = Guard(command.stderr(Stdio::null()).spawn().unwrap());

    let socket = dir.path().join("two").join(SOCKET);
    wait("it joins", || {
        let Ok(mut stream) = UnixStream::connect(&socket) else { return false };
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let answer = ask(&mut stream, &get("/ready"));
        assert_eq!(answer.status, 503, "{answer:?}");
        answer.body.contains("\"JOINING\"")
    });
    for path in ["/ready", "/metrics", "/api/v1/status", "/nothing"] {
        let answer = ask(&mut connect(&api), &get(path));
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
        assert!(answer.says("retry-after: 1") && answer.body.contains("\"JOINING\""), "{answer:?}");
    }
    assert_eq!(ask(&mut connect(&api), &get("/health")).status, 200);
    let output = bzzz(dir.path(), "two", &["status"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("is joining a cluster"), "{}", text(&output.stderr));
}

#[test]
fn what_stands_in_the_way_of_the_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::found(dir.path(), "one");
    let path = dir.path().join("one").join(SOCKET);
    node.kill();
    assert!(path.exists(), "a killed node leaves its socket");
    let node = Daemon::resume(dir.path(), "one");
    UnixStream::connect(&path).expect("the next start makes it anew");
    node.kill();

    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "kept").unwrap();
    let node = Daemon::resume(dir.path(), "one");
    assert_eq!(node.get("/health").status, 200);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    let refused = UnixStream::connect(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
