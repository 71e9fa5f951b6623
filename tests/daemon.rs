//! Whole nodes as processes: what a user starts, kills, restarts and asks over HTTP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "these tests watch real processes in real time")]

#[path = "daemon/process.rs"]
mod process;

use process::{Daemon, start_error, wait};

const KEY: &str = "/api/v1/ucxl/ai_models/llama";

#[test]
fn a_value_survives_a_kill_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::found(dir.path(), "one");
    let written = node.put(KEY, "first", &[("if-none-match", "*")]);
    assert_eq!((written.status, written.json["version"].as_u64()), (200, Some(1)));
    let again = node.put(KEY, "second", &[("if-none-match", "*")]);
    assert_eq!((again.status, again.code()), (412, "VERSION_MISMATCH"));
    assert_eq!(again.json["current_version"], 1);
    node.kill();

    let node = Daemon::resume(dir.path(), "one");
    wait("the node leads again", || node.get("/ready").json["writable"] == true);
    let read = node.get(KEY);
    assert_eq!((read.status, read.json["value"].as_str()), (200, Some("first")));
    assert_eq!(read.json["stale"], false);
    assert_eq!(node.get("/api/v1/status").json["node"]["boot_counter"], 2);
    assert!(node.stop().success());
}

#[test]
fn a_second_node_joins_with_a_token_and_takes_writes() {
    let dir = tempfile::tempdir().unwrap();
    let first = Daemon::found(dir.path(), "one");
    let token = first.make_token(dir.path(), 1);
    let second = Daemon::join(dir.path(), "two", &first, &token);
    assert_eq!(second.ready.member, "2");
    wait("both answer each other", || {
        [&first, &second].iter().all(|node| {
            let nodes = node.get("/api/v1/nodes").json;
            let rows = nodes["items"].as_array().unwrap();
            rows.len() == 2 && rows.iter().all(|row| row["answers"] == true)
        })
    });
    wait("the second node takes a write", || {
        second.put(KEY, "from two", &[("if-none-match", "*")]).status == 200
    });
    assert_eq!(first.get(KEY).json["value"], "from two");

    // The one use of the token is spent.
    let error = start_error(dir.path(), "three", &first, &token);
    assert!(error.contains("used up"), "{error}");

    // A leader that is told to stop hands over before it goes.
    assert!(first.stop().success());
    wait("the other node sees that it is alone", || {
        second.get("/ready").json["reason"] == "READ_ONLY_MINORITY"
    });
    // For as long as its lease lasts it knows that nobody else can have written.
    wait("the other node marks what it reads", || second.get(KEY).json["stale"] == true);
    assert_eq!(second.get(KEY).json["value"], "from two");
}

#[test]
fn a_wrong_token_is_refused_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::found(dir.path(), "one");
    let token = node.make_token(dir.path(), 1);

    let text = std::fs::read_to_string(&token).unwrap();
    let mut parts: Vec<String> = text.trim().split('.').map(str::to_owned).collect();
    parts[3] = "A".repeat(43);
    let secret_wrong = dir.path().join("secret-wrong");
    std::fs::write(&secret_wrong, parts.join(".")).unwrap();
    let error = start_error(dir.path(), "two", &node, &secret_wrong);
    assert!(error.contains("the join token is not known here"), "{error}");

    let damaged = dir.path().join("damaged");
    std::fs::write(&damaged, "bzzz1.nonsense").unwrap();
    let error = start_error(dir.path(), "two", &node, &damaged);
    assert!(error.contains("this is not a join token"), "{error}");
    assert!(!error.contains("nonsense"), "a token is never repeated: {error}");
}

#[test]
fn the_api_is_closed_without_its_token_and_bounded_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::found(dir.path(), "one");
    assert_eq!(node.request("GET", "/health", &[], b"", None).status, 200);
    for path in ["/api/v1/status", "/metrics", "/api/no/such/path"] {
        let refused = node.request("GET", path, &[], b"", Some("wrong"));
        assert_eq!((refused.status, refused.code()), (401, "UNAUTHORIZED"), "{path}");
    }
    for (method, path, status) in
        [("GET", "/api/v1/nothing", 404), ("POST", "/health", 405), ("DELETE", KEY, 405)]
    {
        assert_eq!(node.call(method, path, &[], b"").status, status, "{method} {path}");
    }
    assert_eq!(node.put(KEY, "x", &[]).code(), "PRECONDITION_REQUIRED");
    let star = [("if-none-match", "*")];
    assert_eq!(node.call("PUT", KEY, &star, &[0; 4_097]).code(), "VALUE_TOO_LARGE");
    assert_eq!(node.call("PUT", KEY, &star, &[0; 65_537]).code(), "BODY_TOO_LARGE");
    let kill = node.call("POST", "/api/v1/actors/gateway/kill", &[], b"");
    assert_eq!((kill.status, kill.code()), (403, "FAULT_INJECTION_OFF"));
    let metrics = node.call("GET", "/metrics", &[], b"");
    assert!(metrics.text.contains("bzzz_is_leader 1"), "{}", metrics.text);
}

#[test]
fn a_directory_that_is_not_ours_and_a_taken_port_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("two");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("thesis.tex"), "").unwrap();
    let node = Daemon::found(dir.path(), "one");
    let token = node.make_token(dir.path(), 1);
    let error = start_error(dir.path(), "two", &node, &token);
    assert!(error.contains("holds no data of bzzz"), "{error}");

    let api = node.ready.api.clone();
    let error = process::fail(dir.path(), "three", &["--bootstrap-mode", "--api", &api]);
    assert!(error.contains("taken by another program"), "{error}");
}
