//! The manual: every command in its chapters is run, and what it prints is compared.
//!
//! In a block that begins with ```console a line `$ COMMAND` is run by a shell, lines `> ...` belong to
//! it, and the lines below are what it prints, errors included. `…` stands for anything within a line,
//! `[exit N]` for the code of a command that fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "these tests watch real processes in real time")]

#[path = "daemon/process.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod process;

use std::path::Path;
use std::process::{Command, Stdio};

use process::{Daemon, wait};

/// A command and what it prints.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    line: usize,
    command: String,
    output: Vec<String>,
}

fn examples(text: &str) -> Vec<Example> {
    let (mut found, mut within) = (Vec::<Example>::new(), false);
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            within = line == "```console";
            continue;
        }
        if !within {
            continue;
        }
        if let Some(command) = line.strip_prefix("$ ") {
            let command = command.to_owned();
            found.push(Example { line: number + 1, command, output: Vec::new() });
            continue;
        }
        let last = found.last_mut().expect("a block begins with a command");
        match line.strip_prefix("> ") {
            Some(more) => last.command.extend(["\n", more]),
            None => last.output.push(line.to_owned()),
        }
    }
    found
}

/// True if a line is what the manual says; each `…` there stands for anything.
fn fits(expected: &str, line: &str) -> bool {
    let Some((head, rest)) = expected.split_once('…') else { return expected == line };
    let Some(tail) = line.strip_prefix(head) else { return false };
    (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| fits(rest, &tail[at..]))
}

/// Runs the commands of a chapter against a node of its own.
fn run(chapter: &str, least: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs").join(chapter)).unwrap();
    let examples = examples(&text);
    assert!(examples.len() >= least, "{chapter} has {} commands", examples.len());
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::found(dir.path(), "one");
    wait("the node takes writes and holds the keys", || {
        node.get("/ready").json["writable"] == true
            && node.get("/api/v1/roles").json["keys_held"] == true
    });
    let token = dir.path().join("api-token");
    std::fs::write(&token, &node.token).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_bzzz")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    for Example { line, command, output } in examples {
        let done = Command::new("sh")
            .args(["-c", &format!("{{ {command}\n}} 2>&1")])
            .current_dir(dir.path())
            .env("PATH", &path)
            .env("BZZZ_ADDR", format!("http://{}", node.ready.api))
            .env("BZZZ_TOKEN_FILE", &token)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let mut printed: Vec<String> =
            String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect();
        if let Some(code) = done.status.code().filter(|code| *code != 0) {
            printed.push(format!("[exit {code}]"));
        }
        let same = printed.len() == output.len()
            && output.iter().zip(&printed).all(|(expected, line)| fits(expected, line));
        let shown = printed.join("\n");
        assert!(same, "docs/{chapter}:{line}: `{command}` prints\n{shown}\n");
    }
}

#[test]
fn the_chapter_on_decisions_is_true() {
    run("decisions.md", 15);
}

#[test]
fn the_chapter_on_addresses_is_true() {
    run("ucxl.md", 4);
}

#[test]
fn the_chapter_on_events_is_true() {
    run("events.md", 3);
}

#[test]
fn a_chapter_that_is_wrong_is_noticed() {
    assert!(fits("a … c", "a b c") && fits("…", "") && fits("x…", "x1"));
    assert!(!fits("a … c", "a b d") && !fits("x", "xy") && !fits("…x", "y"));
    let text = "```console\n$ cat <<END\n> a\n> END\na\n$ true\n```\n```\n$ no\n```\n";
    let found = examples(text);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].command, "cat <<END\na\nEND");
    assert_eq!((found[0].line, &found[0].output), (2, &vec!["a".to_owned()]));
}
