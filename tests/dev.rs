//! `bzzz dev` and its tour, with real processes on loopback.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

const BZZZ: &str = env!("CARGO_BIN_EXE_bzzz");

/// The program, without what the environment of the test says.
fn bzzz() -> Command {
    let mut command = Command::new(BZZZ);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BZZZ_") {
            command.env_remove(&name);
        }
    }
    command
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn pid(value: &Value) -> Pid {
    value.as_u64().and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap())).unwrap()
}

/// A cluster that runs until the test ends.
struct Dev {
    child: Child,
    rows: Vec<Value>,
    out: BufReader<std::process::ChildStdout>,
}

impl Dev {
    fn start(nodes: usize, base: &Path) -> Self {
        let mut child = bzzz()
            .args(["dev", "-o", "ndjson", "--quiet", "--nodes", &nodes.to_string(), "--base-dir"])
            .arg(base)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut dev = Self { child, rows: Vec::new(), out };
        for _ in 0..nodes {
            let row = dev.line();
            dev.rows.push(row);
        }
        dev
    }

    /// The next object that it prints, once it does.
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        json(&line)
    }

    /// Runs a client command against the first node.
    fn ask(&self, args: &[&str]) -> Output {
        let text = |name: &str| self.rows[0][name].as_str().unwrap().to_owned();
        let (api, token) = (text("api"), text("token_file"));
        bzzz().args(["--addr", &api, "--token-file", &token]).args(args).output().unwrap()
    }

    fn asks(&self, args: &[&str], code: i32) -> String {
        let output = self.ask(args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        String::from_utf8(if code == 0 { output.stdout } else { output.stderr }).unwrap()
    }

    fn pids(&self) -> Vec<Pid> {
        self.rows.iter().map(|row| pid(&row["pid"])).collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until processes are gone. The test runner's own time limit is the deadline.
fn wait_gone(pids: &[Pid]) {
    while pids.iter().any(|pid| test_kill_process(*pid).is_ok()) {
        std::thread::yield_now();
    }
}

fn is_empty(directory: &Path) -> bool {
    directory.read_dir().unwrap().next().is_none()
}

#[test]
fn a_tour_loses_nothing() {
    let base = tempfile::tempdir().unwrap();
    let readme = base.path().join("README.md");
    std::fs::write(&readme, "a short file").unwrap();
    let nodes = base.path().join("nodes");
    std::fs::create_dir(&nodes).unwrap();
    let output = bzzz()
        .args(["dev", "--nodes", "3", "-o", "ndjson", "--base-dir"])
        .arg(&nodes)
        .arg("--tour")
        .args([&readme, &PathBuf::from(BZZZ)])
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    let lines: Vec<Value> = stdout.lines().map(json).collect();
    let steps: Vec<&str> = lines.iter().filter_map(|line| line["step"].as_str()).collect();
    let all = ["ready", "files", "failover", "restart", "minority", "heal", "verify"];
    assert_eq!(steps, all, "{stdout}");
    let last = lines.last().unwrap();
    assert_eq!(last["tour"], "ok");
    assert_eq!(last["nodes"], 3);
    assert_eq!(last["lost"], 0);
    assert!(last["decisions"].as_u64().unwrap() > 10, "{last}");
    let recipients = last["recipients"].as_array().unwrap();
    assert_eq!(recipients.len(), 5, "observers' decisions are for all roles");
    assert!(recipients.iter().all(|key| key.as_str().unwrap().starts_with("age1")));
    assert_eq!(last["minority_write_code"], "READ_ONLY_MINORITY");
    assert_eq!(last["minority_read_ok"], true);
    assert!(last["acknowledged"].as_u64().unwrap() > 20, "{last}");
    assert!(last["leader_changes"].as_u64().unwrap() >= 1, "{last}");
    assert!(last["reason"].is_null());
    for name in ["ready_ms", "failover_ms", "write_gap_ms", "restart_ms", "minority_ms", "heal_ms"]
    {
        assert!(last[name].as_f64().unwrap() > 0.0, "{name}: {last}");
    }
    assert!(is_empty(&nodes), "the temporary directory is still there");
}

#[test]
fn a_tour_of_one_node_says_what_it_cannot_show() {
    let base = tempfile::tempdir().unwrap();
    let output = bzzz()
        .args(["dev", "--nodes", "1", "-o", "ndjson", "--keep"])
        .arg(base.path().join("kept"))
        .args(["--tour", "Cargo.toml"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = String::from_utf8(output.stdout).unwrap().lines().map(json).collect();
    let skipped = lines.iter().filter(|line| line["skipped"].is_string()).count();
    assert_eq!(skipped, 4);
    assert_eq!(lines.last().unwrap()["tour"], "ok");
    assert!(base.path().join("kept/node-1/data/api.token").exists());
    assert!(base.path().join("kept/node-1/log").exists());
}

#[test]
fn commands_end_with_the_exit_code_of_what_happened() {
    let base = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(1, base.path());
    let address = "ucxl://bzzz.cluster.config/ai_models/llama";

    assert!(dev.asks(&["status"], 0).contains("this node, in term"));
    assert!(dev.asks(&["node", "list"], 0).contains("node-1"));
    assert!(dev.asks(&["election", "status"], 0).contains("Current Leader: node-1"));
    assert!(dev.asks(&["actor", "tree"], 0).contains("\nservices "));
    assert_eq!(json(&dev.asks(&["node", "show", "node-1", "-o", "json"], 0))["member"], "1");

    dev.asks(&["ucxl", "get", address], 3);
    dev.asks(&["ucxl", "put", address, "first"], 2);
    dev.asks(&["ucxl", "put", address, "first", "--create"], 0);
    let conflict = dev.asks(&["ucxl", "put", address, "second", "--create", "-o", "json"], 5);
    assert_eq!(json(conflict.lines().last().unwrap())["code"], "VERSION_MISMATCH");
    dev.asks(&["ucxl", "put", address, "second", "--if-match", "1"], 0);
    assert_eq!(dev.asks(&["ucxl", "get", address], 0), "second");
    assert!(dev.asks(&["ucxl", "ls", "ai_models/"], 0).contains(address));
    dev.asks(&["node", "show", "99"], 3);
    dev.asks(&["node", "show", "nobody"], 3);
    dev.asks(&["node", "label", "node-1", "zone=a"], 0);
    assert!(dev.asks(&["node", "show", "1"], 0).contains("zone=a"));
    dev.asks(&["join-token", "revoke", "0000000000000000"], 3);
    assert!(dev.asks(&["join-token", "create", "--quiet"], 0).starts_with("bzzz1."));
    assert!(dev.asks(&["join-token", "list"], 0).contains("0 of 1"));
    dev.asks(&["node", "remove", "1"], 2);
    dev.asks(&["actor", "kill", "front", "--yes"], 5);

    let wrong = base.path().join("wrong.token");
    std::fs::write(&wrong, "wrong").unwrap();
    dev.asks(&["status", "--token-file", wrong.to_str().unwrap()], 4);
    std::fs::remove_file(wrong).unwrap();

    let pids = dev.pids();
    kill_process(Pid::from_child(&dev.child), Signal::INT).unwrap();
    assert_eq!(dev.child.wait().unwrap().code(), Some(0));
    wait_gone(&pids);
    assert!(is_empty(base.path()), "the temporary directory is still there");
}

#[test]
fn nodes_die_with_the_process_that_started_them() {
    let base = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(2, base.path());
    let pids = dev.pids();
    dev.child.kill().unwrap();
    dev.child.wait().unwrap();
    wait_gone(&pids);
}

#[test]
fn a_leader_that_is_killed_is_told_and_comes_back_while_the_others_go_on() {
    let base = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(3, base.path());
    let leader = dev.rows.iter().position(|row| row["leader"] == true).unwrap();
    let before = dev.rows[leader].clone();
    let others: Vec<Pid> =
        dev.pids().into_iter().filter(|one| *one != pid(&before["pid"])).collect();
    kill_process(pid(&before["pid"]), Signal::KILL).unwrap();

    let ended = dev.line();
    assert_eq!((&ended["event"], &ended["node"]), (&"ended".into(), &before["node"]));
    assert_eq!((&ended["pid"], &ended["again_in_s"]), (&before["pid"], &5.into()));
    assert!(ended["how"].as_str().unwrap().contains("SIGKILL"), "{ended}");
    let back = dev.line();
    assert_eq!((&back["event"], &back["node"]), (&"restarted".into(), &before["node"]));
    for same in ["member", "api", "log"] {
        assert_eq!(back[same], before[same], "{same}");
    }
    assert_ne!(back["pid"], before["pid"]);
    let text = |name: &str| before[name].as_str().unwrap().to_owned();
    let asked = bzzz()
        .args(["--addr", &text("api"), "--token-file", &text("token_file"), "status"])
        .output()
        .unwrap();
    assert_eq!(asked.status.code(), Some(0), "{}", String::from_utf8_lossy(&asked.stderr));
    assert!(others.iter().all(|other| test_kill_process(*other).is_ok()), "the others went on");

    kill_process(Pid::from_child(&dev.child), Signal::HUP).unwrap();
    assert_eq!(dev.child.wait().unwrap().code(), Some(0));
    wait_gone(&[others, vec![pid(&back["pid"])]].concat());
    assert!(is_empty(base.path()), "the temporary directory is still there");
}

#[test]
fn a_node_that_cannot_start_is_given_up_and_its_log_is_named() {
    let base = tempfile::tempdir().unwrap();
    let mut child = bzzz()
        .args(["dev", "--nodes", "1", "-o", "ndjson", "--base-dir"])
        .arg(base.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let row = json(&lines.next().unwrap().unwrap());
    let data = Path::new(row["data_dir"].as_str().unwrap());
    std::fs::remove_file(data.join("node.key")).unwrap();
    kill_process(pid(&row["pid"]), Signal::KILL).unwrap();
    let events: Vec<Value> = lines.map(|line| json(&line.unwrap())).collect();
    let told: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let (last, rest) = told.split_last().unwrap();
    assert_eq!(*last, "given_up", "{events:?}");
    assert!(rest.len() >= 4 && rest.iter().all(|event| *event == "ended"), "{events:?}");
    let log = events.last().unwrap()["log"].as_str().unwrap();
    assert_eq!(row["log"], log);
    assert!(std::fs::read_to_string(log).unwrap().contains("--replace-key"));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(stderr.contains(log) && stderr.contains("logs and data are kept in"), "{stderr}");
}
