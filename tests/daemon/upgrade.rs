//! Members of two releases in one cluster, and the duties of its leader.

use serde_json::Value;

use super::process::{Daemon, wait};
use super::{sees, write};

/// Speaks like the release before, by a flag.
const OLD: &[&str] = &["--level", "1"];

fn pause(node: &Daemon) -> String {
    let answer = node.call("POST", "/api/v1/slurp/evaluation/pause", &[], b"");
    if answer.status == 200 { "done".to_owned() } else { answer.code().to_owned() }
}

/// Starts a member again, with another build so to say.
fn again(dir: &std::path::Path, name: &str, node: Daemon, args: &[&str]) -> Daemon {
    assert!(node.stop().success());
    Daemon::start(dir, name, args)
}

#[test]
fn members_of_two_releases_work_together_until_all_are_upgraded() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let first = Daemon::start(dir, "one", &[&["--bootstrap-mode"], OLD].concat());
    wait("it leads", || first.get("/ready").json["writable"] == true);
    let token = first.make_token(dir, 2);
    let second = Daemon::join_with(dir, "two", &first, &token, OLD);
    let third = Daemon::join_with(dir, "three", &first, &token, OLD);
    wait("all vote", || {
        [&first, &second, &third].iter().all(|node| node.get("/ready").json["voters"] == 3)
    });

    // Two are upgraded, one is not: whoever leads, all work, and nothing is said that one can't read.
    let second = again(dir, "two", second, &[]);
    let first = again(dir, "one", first, &[]);
    for (name, node) in [("one", &first), ("two", &second), ("three", &third)] {
        write(node, &format!("mixed, through {name}"));
        for other in [&first, &second, &third] {
            sees(other, &format!("mixed, through {name}"));
        }
    }
    let levels = |node: &Daemon| {
        let items = node.get("/api/v1/nodes").json["items"].as_array().cloned().unwrap_or_default();
        let mut levels: Vec<u64> = items.iter().filter_map(|node| node["level"].as_u64()).collect();
        levels.sort_unstable();
        levels
    };
    wait("the cluster knows of both upgrades", || levels(&third) == [1, 2, 2]);
    for node in [&first, &second, &third] {
        wait("it is held back", || pause(node) == "LEVEL_TOO_LOW");
    }

    let third = again(dir, "three", third, &[]);
    for node in [&first, &second, &third] {
        wait("it goes through", || pause(node) == "done");
    }
    for node in [first, second, third] {
        assert!(node.stop().success());
    }

    // The cluster has no way back.
    let error = super::process::fail(dir, "one", OLD);
    assert!(error.contains("of level 1 and the cluster speaks 2"), "{error}");
}

/// What a node shows of the duties.
fn duties(node: &Daemon) -> (u64, Vec<Value>) {
    let slurp = node.get("/api/v1/slurp").json;
    let rows = slurp["duties"].as_array().cloned().unwrap_or_default();
    (slurp["term"].as_u64().unwrap_or_default(), rows)
}

#[test]
fn all_members_show_the_same_duties_and_a_new_leader_goes_on_from_them() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = Daemon::three(dir.path());
    let row = |rows: &[Value], name: &str| {
        rows.iter().find(|row| row["name"] == name).cloned().unwrap_or_default()
    };
    let settled = || {
        let all: Vec<_> = nodes.iter().map(duties).collect();
        let (term, rows) = &all[0];
        let layout = row(rows, "layout");
        let done = layout["last"]["outcome"] == "done" && layout["plan"] == "nothing";
        let voters = row(rows, "voters");
        let vote = voters["why"].as_str().is_some_and(|why| why.starts_with("3 vote"));
        let same = all.iter().all(|one| *one == all[0]);
        (done && vote && same).then(|| (*term, rows.clone()))
    };
    let mut before = (0, vec![]);
    wait("all show what the leader has done", || match settled() {
        Some(shown) => {
            before = shown;
            true
        }
        None => false,
    });
    assert_eq!(before.1.len(), 5);
    let unknown = nodes[1].call("POST", "/api/v1/slurp/nothing/pause", &[], b"");
    assert_eq!((unknown.status, unknown.code()), (404, "NO_SUCH_DUTY"));

    let json = [("content-type", "application/json")];
    let mut after = (0, vec![]);
    wait("another one leads, and shows what the first has done", || {
        if duties(&nodes[0]).0 == before.0 {
            nodes[0].call("POST", "/api/v1/election/transfer", &json, b"{}");
        }
        match settled() {
            Some(shown) if shown.0 > before.0 => {
                after = shown;
                true
            }
            _ => false,
        }
    });
    let voters = |shown: &(u64, Vec<Value>)| row(&shown.1, "voters")["last"].clone();
    assert!(voters(&before)["term"].as_u64().is_some());
    assert_eq!(voters(&after), voters(&before));
}
