//! What the surroundings of a node do to it: readers of its log that go away, and signals.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "other tests use more of what runs processes")]
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "these tests watch real processes in real time")]

#[path = "daemon/process.rs"]
mod process;

use std::path::Path;
use std::process::Stdio;

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
