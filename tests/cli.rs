//! The command line without a node: usage, exit codes, and what goes to which stream.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Output};

/// Runs the program in an empty directory, without what the environment of the test says.
fn bzzz(args: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bzzz"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BZZZ_") {
            command.env_remove(&name);
        }
    }
    command.env("HOME", directory.path()).current_dir(directory.path()).args(args);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_to_do() {
    for (args, says) in [
        (&["nodes"][..], "similar"),
        (&["dev", "--nodes", "16"], "1..=15"),
        (&["ucxl", "get", "ai_models/x"], "hint: write an address such as ucxl://"),
        (&["ucxl", "get", "ucxl://bzzz.cluster.config/models/x"], "cost_management"),
        (&["ucxl", "put", "ucxl://bzzz.cluster.config/ai_models/x", "v"], "hint: use --create"),
        (&["ucxl", "ls", "ada/architect"], "such as ai_models/, or a pattern over decisions"),
        (&["event", "watch", "--topic", "leaders"], "election, cluster"),
        (&["join-token", "revoke", "bzzz1.a.b.c.d"], "join-token list"),
        (&["status", "--addr", "https://localhost"], "plain http"),
        (&["dev", "--tour", "/nonexistent/file"], "/nonexistent/file"),
        (&["node", "label", "1", "zone"], "zone=rack-a"),
        (&["fault", "clock", "--ahead", "soon"], "-30d"),
    ] {
        let output = bzzz(args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn values_that_are_too_long_are_not_sent() {
    let value = "x".repeat(4_097);
    let output =
        bzzz(&["ucxl", "put", "--create", "ucxl://bzzz.cluster.config/ai_models/x", &value]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("4096 bytes"));
}

#[test]
fn a_node_that_is_not_there_ends_with_6() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    for args in [&["status"][..], &["node", "list", "-o", "json"], &["event", "watch"]] {
        let output = bzzz(&[args, &["--addr", &address]].concat());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{stderr}");
        assert!(stderr.starts_with("error: cannot reach http://127.0.0.1:"), "{stderr}");
        assert!(stderr.contains("hint: start a node with `bzzz run`"), "{stderr}");
    }
}

#[test]
fn a_token_file_that_is_not_there_ends_with_4() {
    let output = bzzz(&["status", "--token-file", "/nonexistent/token"]);
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn what_needs_no_node_works_without_one() {
    for (args, says) in [
        (&["version"][..], "bzzz "),
        (&["version", "-o", "json"], "\"schema\":1"),
        (&["config", "show"], "[election]"),
        (&["config", "show", "--origin"], "default"),
        (&["config", "reference"], "# Configuration"),
        (&["completion", "bash"], "join-token"),
        (&["completion", "fish"], "join-token"),
        (&["--help"], "Exit codes"),
    ] {
        let output = bzzz(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(says), "{args:?}");
    }
}

#[test]
fn names_are_explained_without_a_node() {
    let output = bzzz(&["ucxl", "parse", "ucxl://dev:architect@bzzz:plan/n1/~~2", "-o", "json"]);
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["canonical"], "dev/architect/bzzz/plan/n1/~~2");
    assert_eq!((&object["kind"], &object["version"]), (&"decision".into(), &"~~2".into()));
    let output = bzzz(&["ucxl", "parse", "dev/**"]);
    assert!(text(&output.stdout).contains("pattern"));
    let output = bzzz(&["ucxl", "parse", "a/b"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("it has 2 segments"));
}
