//! What the surroundings of a node do to it: readers of its log that go away, signals, and clocks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "other tests use more of what runs processes")]
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "these tests watch real processes in real time")]

#[path = "daemon/process.rs"]
mod process;

use std::path::Path;
use std::process::Stdio;

use bzzz::types::Wall;
use process::{Daemon, Starting, command, wait};
use rustix::process::Signal;

/// Starts a node that says much, to `stderr`.
fn start(dir: &Path, name: &str, args: &[&str], stderr: Stdio) -> Daemon {
    let mut command = command(dir, name, &[&["--log-level", "trace"], args].concat());
    command.stderr(stderr);
    Starting::spawn(command, &dir.join(name), dir.join(name)).ready()
}

fn metric(node: &Daemon, name: &str) -> Vec<u64> {
    let metrics = node.get("/metrics").text;
    let samples = metrics.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn readers_of_the_log_that_go_away_stop_or_have_no_room_cost_lines_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let first = start(dir.path(), "one", &["--bootstrap-mode"], writer.into());
    wait("the node leads", || first.get("/ready").json["writable"] == true);
    let token = first.make_token(dir.path(), 2);
    let join = ["--join", &first.ready.addresses[0], "--token-file", token.to_str().unwrap()];
    // Nobody ever reads what the second one says.
    let (_silent, writer) = std::io::pipe().unwrap();
    let second = start(dir.path(), "two", &join, writer.into());
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let third = start(dir.path(), "three", &join, full.into());
    drop(reader);

    let nodes = [&first, &second, &third];
    for (number, node) in nodes.iter().enumerate() {
        wait("lines are dropped", || {
            // Each refusal is a line.
            (0..100).for_each(|_| assert_eq!(node.get(&format!("/{:0>900}", 0)).status, 404));
            metric(node, "bzzz_log_lines_dropped_total")[0] > 0
        });
        let path = format!("/api/v1/ucxl/monitoring/{number}");
        wait("a value is written", || {
            node.get(&path).json["value"] == "kept"
                || node.put(&path, "kept", &[("if-none-match", "*")]).status == 200
        });
        assert_eq!(node.get("/health").status, 200);
    }
    for node in nodes {
        let restarts = metric(node, "bzzz_actor_restarts_total");
        assert!(restarts.len() > 10 && restarts.iter().all(|count| *count == 0), "{restarts:?}");
    }
    for node in [third, second, first] {
        assert!(node.stop().success(), "asked to end, it ends in order");
    }
}

#[test]
fn signals_that_mean_nothing_do_nothing_and_one_has_the_token_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), "one", &["--bootstrap-mode"], Stdio::null());
    for signal in [
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::IO,
        Signal::POWER,
        Signal::STKFLT,
    ] {
        node.signal(signal);
        assert_eq!(node.get("/health").status, 200, "{signal:?}");
    }
    let token = dir.path().join("one/api.token");
    std::fs::remove_file(&token).unwrap();
    node.signal(Signal::HUP);
    wait("there is another token", || token.exists());
    let fresh = std::fs::read_to_string(&token).unwrap();
    wait("the other token holds", || {
        let asked = node.request("GET", "/api/v1/status", &[], b"", Some(fresh.trim()));
        asked.status == 200
    });
    assert_eq!(node.get("/api/v1/status").status, 401, "the one from before");
    node.signal(Signal::QUIT);
    assert!(node.ended().success());
}

/// Sets the clock of a node wrong by so many seconds; the time that it shows then.
fn set_ahead(node: &Daemon, ahead_s: i64) -> Wall {
    let body = format!("{{\"ahead_s\":{ahead_s}}}");
    let set = node.call("POST", "/api/v1/faults/clock", &[], body.as_bytes());
    assert_eq!((set.status, &set.json["ahead_s"]), (200, &ahead_s.into()), "{}", set.text);
    set.json["now"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_clock_can_be_set_wrong_where_faults_are_allowed_and_leaves_nothing_once_it_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let strict = start(dir.path(), "strict", &["--bootstrap-mode"], Stdio::null());
    let refused = strict.call("POST", "/api/v1/faults/clock", &[], br#"{"ahead_s":1}"#);
    assert_eq!((refused.status, refused.code()), (403, "FAULT_INJECTION_OFF"));

    let faults = ["--bootstrap-mode", "--enable-fault-injection"];
    let node = start(dir.path(), "lenient", &faults, Stdio::null());
    wait("the node leads", || node.get("/ready").json["writable"] == true);
    for body in ["{}", "no", r#"{"ahead_s":3155760001}"#, r#"{"ahead_s":-3155760001}"#] {
        let refused = node.call("POST", "/api/v1/faults/clock", &[], body.as_bytes());
        assert_eq!((refused.status, refused.code()), (400, "INVALID"), "{body}");
    }
    assert_eq!(node.get("/api/v1/faults/clock").status, 405);

    let day_s = 86_400;
    let right = set_ahead(&node, 0);
    let ahead = set_ahead(&node, 30 * day_s);
    assert!(ahead.0 >= right.0 + 30 * 86_400_000, "{right}, then {ahead}");
    let behind = set_ahead(&node, -30 * day_s);
    assert!(behind < right, "{right}, then {behind}");
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_bzzz"))
        .env_clear()
        .args(["--addr", &format!("http://{}", node.ready.api), "--token-file"])
        .arg(dir.path().join("lenient/api.token"))
        .args(["fault", "clock", "--ahead", "-1h"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.contains("3600 s behind"), "{text}");
    assert!(set_ahead(&node, 0) >= right);
    node.make_token(dir.path(), 1);
    let json = [("content-type", "application/json")];
    let address = "ada/architect/clocks/right/again";
    let draft = format!(r#"{{"address":"{address}","decision":"the clock is right again"}}"#);
    wait("a decision is published", || {
        let told = node.call("POST", "/api/v1/decisions", &json, draft.as_bytes());
        let passing = told.json["retryable"] == true;
        assert!(told.status == 201 || passing, "{}", told.text);
        told.status == 201
    });
}
