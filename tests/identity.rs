//! Who a node is: copies of a machine, keys of starts that failed, members that were removed, and
//! settings that contradict each other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "these tests watch real processes in real time")]

#[path = "daemon/process.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod process;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};

use process::{Daemon, command, fail, start_error, wait};

/// Makes a data directory as an image of a machine has it that has been started, but is no member.
fn image(dir: &Path, of: &str, copy: &str) {
    fs::create_dir(dir.join(copy)).unwrap();
    for name in ["VERSION", "node.json", "node.key", "api.token"] {
        fs::copy(dir.join(of).join(name), dir.join(copy).join(name)).unwrap();
    }
}

/// Ids of the members.
fn members(node: &Daemon) -> Vec<String> {
    let items = node.get("/api/v1/nodes").json["items"].clone();
    let rows = items.as_array().unwrap().iter();
    rows.map(|row| row["member"].as_str().unwrap().to_owned()).collect()
}

/// A cluster of three that all vote, and a token.
fn three(dir: &Path) -> ([Daemon; 3], std::path::PathBuf) {
    let first = Daemon::found(dir, "one");
    let token = first.make_token(dir, 5);
    let second = Daemon::join(dir, "two", &first, &token);
    let third = Daemon::join(dir, "three", &first, &token);
    let nodes = [first, second, third];
    wait("all vote", || nodes.iter().all(|node| node.get("/ready").json["voters"] == 3));
    (nodes, token)
}

/// A node that is to end by itself.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // It has ended already, if all is well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a node that ends by itself after some time; returns what it said.
fn end(dir: &Path, mut command: Command) -> String {
    let said = dir.join("said");
    let child = command.stderr(File::create(&said).unwrap()).spawn().unwrap();
    let mut node = Ending(child);
    wait("the node ends", || node.0.try_wait().unwrap().is_some());
    assert!(!node.0.wait().unwrap().success());
    fs::read_to_string(said).unwrap()
}

#[test]
fn a_copy_of_a_member_is_told_so_and_takes_its_place_only_once_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (nodes, _) = three(dir.path());
    let token = nodes[0].make_token(dir.path(), 2);
    image(dir.path(), "two", "copy");
    for member in [&nodes[0], &nodes[2]] {
        let said = start_error(dir.path(), "copy", member, &token);
        assert!(said.contains("DUPLICATE_IDENTITY") && said.contains("node.key"), "{said}");
    }
    assert!(dir.path().join("copy/node.key").exists(), "it was found, not made");
    assert_eq!(members(&nodes[0]), ["1", "2", "3"]);
    wait("the member is as it was", || {
        let ready = nodes[1].get("/ready").json;
        ready["writable"] == true && ready["voters"] == 3
    });

    // That machine has lost its disk.
    let [first, second, _third] = nodes;
    second.kill();
    let again = Daemon::join(dir.path(), "copy", &first, &token);
    assert_eq!(again.ready.member, "4");
    wait("the others know", || members(&first) == ["1", "3", "4"]);
}

#[test]
fn a_first_start_that_fails_leaves_no_key_behind_that_it_has_made() {
    let dir = tempfile::tempdir().unwrap();
    let first = Daemon::found(dir.path(), "one");
    let used = first.make_token(dir.path(), 1);
    let _second = Daemon::join(dir.path(), "two", &first, &used);
    let said = start_error(dir.path(), "new", &first, &used);
    assert!(said.contains("used up"), "{said}");
    let key = dir.path().join("new/node.key");
    assert!(!key.exists());
    // Nor one that fails before anybody was asked.
    fail(dir.path(), "new", &["--join", &first.ready.addresses[0], "--token-file", "none"]);
    assert!(!key.exists());

    image(dir.path(), "two", "found");
    let said = start_error(dir.path(), "found", &first, &used);
    assert!(said.contains("DUPLICATE_IDENTITY"), "{said}");
    assert!(dir.path().join("found/node.key").exists(), "it was there before");
    let good = first.make_token(dir.path(), 1);
    let third = Daemon::join(dir.path(), "new", &first, &good);
    assert!(key.exists(), "it is a member");
    third.kill();
    assert_eq!(Daemon::resume(dir.path(), "new").ready.member, "3");
}

#[test]
fn a_member_that_is_removed_and_started_again_at_once_ends_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let ([first, _second, third], token) = three(dir.path());
    let address = first.ready.addresses[0].clone();
    let removed = first.call("DELETE", "/api/v1/nodes/3", &[], b"");
    assert_eq!(removed.status, 200, "{}", removed.text);
    assert!(!third.ended().success());
    // With the command line that every start has.
    let args = ["--join", &address, "--token-file", token.to_str().unwrap()];
    let said = end(dir.path(), command(dir.path(), "three", &args));
    let is_told = ["was removed from the cluster", "not a member any more"];
    assert!(is_told.iter().any(|told| said.contains(told)), "{said}");
}

#[test]
fn settings_that_found_and_join_a_cluster_are_an_error_until_there_is_a_membership() {
    let dir = tempfile::tempdir().unwrap();
    let joins = ["--join", "127.0.0.1:1", "--token-file", "none"];
    let mut both = command(dir.path(), "one", &joins);
    both.env("BZZZ_CLUSTER__BOOTSTRAP", "true");
    let output = both.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for named in [
        "cluster.bootstrap = true (environment BZZZ_CLUSTER__BOOTSTRAP)",
        "p2p.bootstrap_peers (flag --join)",
        "the join token (flag --token-file)",
    ] {
        assert!(said.contains(named), "{said}");
    }

    // Whoever founds a cluster says so, and only then.
    let log = dir.path().join("said");
    let founded = || fs::read_to_string(&log).unwrap().contains("founded a new cluster bzzz (");
    let first = Daemon::start_saying(dir.path(), "one", &["--bootstrap-mode"], &log);
    wait("it says so", founded);
    first.kill();
    let args = [&["--set", "cluster.bootstrap=true"][..], &joins].concat();
    let again = Daemon::start_saying(dir.path(), "one", &args, &log);
    assert_eq!(again.ready.member, "1");
    assert!(again.stop().success());
    assert!(!founded());
}
