//! Whole nodes as processes: what a user starts, kills, restarts and asks over HTTP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "these tests watch real processes in real time")]

#[path = "daemon/damage.rs"]
mod damage;
#[path = "daemon/files.rs"]
mod files;
#[path = "daemon/memory.rs"]
mod memory;
#[path = "daemon/metrics.rs"]
mod metrics;
#[path = "daemon/process.rs"]
mod process;
#[path = "daemon/upgrade.rs"]
mod upgrade;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bzzz::core::control::Holders;
use bzzz::core::records::placement::replica_set;
use bzzz::messages::command::Holder;
use bzzz::types::record::Partition;
use bzzz::types::{ContentHash, MemberId};
use process::{Daemon, SmallDisk, start_error, wait};

const KEY: &str = "/api/v1/ucxl/ai_models/llama";

/// Writes a value, again and again until it is there: a busy machine may change its leader.
fn write(node: &Daemon, value: &str) {
    wait(&format!("{value:?} is written"), || {
        let found = node.get(KEY).json;
        let version = found["version"].as_u64().map(|version| format!("\"{version}\""));
        let condition = match &version {
            Some(version) => ("if-match", version.as_str()),
            None => ("if-none-match", "*"),
        };
        found["value"] == value || node.put(KEY, value, &[condition]).status == 200
    });
}

/// Waits until a node serves a value and knows that it is current.
fn sees(node: &Daemon, value: &str) {
    wait(&format!("{value:?} is read"), || {
        let read = node.get(KEY).json;
        read["value"] == value && read["stale"] == false
    });
}

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
    let missing = second.get("/api/v1/ucxl/ai_models/missing");
    assert_eq!((missing.status, missing.code()), (503, "READ_ONLY_MINORITY"));
    assert_eq!(missing.json["retryable"], true);
    let missing = second.get("/api/v1/ucxl/ai_models/missing?stale=true");
    assert_eq!(missing.status, 404);
    assert!(missing.text.contains("as far as this node knows"), "{}", missing.text);
}

#[test]
fn contents_are_kept_by_a_majority_and_read_back_through_any_node() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = Daemon::three(dir.path());
    wait("all three hold records", || {
        let dht = third.get("/api/v1/dht").json;
        dht["holders"].as_array().is_some_and(|holders| holders.len() == 3)
            && dht["next_holders"].is_null()
    });
    let path = "/api/v1/dht/contents";
    let put = |node: &Daemon, bytes: &[u8]| {
        let mut hash = String::new();
        wait("a content is kept", || {
            let stored = node.call("POST", path, &[], bytes);
            hash = stored.json["hash"].as_str().unwrap_or_default().to_owned();
            stored.status == 201
        });
        hash
    };
    let large = vec![b'x'; 1024 * 1024];
    let (small_hash, large_hash) = (put(&first, b"small"), put(&second, &large));
    let read = |node: &Daemon, hash: &str| node.get(&format!("{path}/{hash}"));
    assert_eq!(read(&third, &small_hash).text, "small");
    assert!(read(&first, &large_hash).text.as_bytes() == large);
    assert_eq!(first.call("POST", path, &[], &vec![0; 1024 * 1024 + 1]).code(), "BODY_TOO_LARGE");
    assert_eq!(read(&first, "12").code(), "INVALID");
    assert_eq!(read(&first, &"0".repeat(64)).code(), "NOT_FOUND");

    // The majority goes on without one; that one brings back what it missed.
    third.kill();
    let missed = put(&first, b"written while the third was away");
    second.kill();
    let third = Daemon::resume(dir.path(), "three");
    wait("the third has copied what it missed from the first", || {
        let metrics = third.get("/metrics").text;
        let count = metrics.lines().find_map(|l| l.strip_prefix("bzzz_copies_complete_total "));
        count.is_some_and(|count| count != "0")
    });
    first.kill();
    for (hash, bytes) in [
        (&small_hash, &b"small"[..]),
        (&missed, &b"written while the third was away"[..]),
        (&large_hash, &large),
    ] {
        let answer = read(&third, hash);
        assert!(answer.text.as_bytes() == bytes, "a minority can be read: {}", answer.code());
    }
    let refused = third.call("POST", path, &[], b"too few are left");
    assert!(["READ_ONLY_MINORITY", "NO_LEADER"].contains(&refused.code()), "{}", refused.text);
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
    assert_eq!(node.call("PUT", KEY, &star, &[0; 65_537]).code(), "VALUE_TOO_LARGE");
    let elsewhere = node.get("/api/v1/ucxl?prefix=ai_models/&cursor=monitoring/x");
    assert_eq!((elsewhere.status, elsewhere.code()), (400, "CURSOR_INVALID"));
    let kill = node.call("POST", "/api/v1/actors/front/kill", &[], b"");
    assert_eq!((kill.status, kill.code()), (403, "FAULT_INJECTION_OFF"));
    let metrics = node.call("GET", "/metrics", &[], b"");
    assert!(metrics.text.contains("bzzz_is_leader 1"), "{}", metrics.text);
}

/// Opens a stream of events and leaves it at the first number that comes without an event; returns
/// what came before, and the number.
fn stream(node: &Daemon, query: &str, header: &str) -> (String, u64) {
    let mut stream = TcpStream::connect(&node.ready.api).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (token, path) = (&node.token, format!("/api/v1/events?{query}"));
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n");
    stream.write_all(format!("{head}{header}\r\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut text = String::new();
    loop {
        let line = lines.next().expect("a stream goes on");
        if line == ":so far" {
            let id = lines.next().unwrap();
            return (text, id.strip_prefix("id:").unwrap().parse().unwrap());
        }
        text.push_str(&line);
        text.push('\n');
    }
}

#[test]
fn a_stream_of_events_that_breaks_off_is_resumed_without_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::found(dir.path(), "one");
    let publish = |name: &str| {
        let body = format!("{{\"name\":\"{name}\"}}");
        let json = [("content-type", "application/json")];
        let answer = node.call("POST", "/api/v1/events", &json, body.as_bytes());
        assert_eq!(answer.status, 201, "{}", answer.text);
        let resume = "last-event-id: 0\r\n";
        wait("it is told", || stream(&node, "topic=application", resume).0.contains(name));
    };
    publish("event.one");
    let (text, mark) = stream(&node, "topic=application", "");
    assert!(text.starts_with("HTTP/1.1 200") && !text.contains("data:"), "{text}");

    // That stream ended before it carried an event; the number that it named is enough.
    publish("event.two");
    let resume = format!("last-event-id: {mark}\r\n");
    let (text, later) = stream(&node, "topic=application", &resume);
    assert!(text.contains("event.two") && !text.contains("event.one"), "{text}");
    assert!(!text.contains("resync") && later > mark, "{text}");

    // Whoever wants nothing of what happens gets on all the same.
    let (text, last) = stream(&node, "topic=peer", &resume);
    assert!(!text.contains("data:") && last >= later, "{text}");
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

#[test]
fn the_eighth_member_follows_and_votes_when_a_voter_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = Daemon::found(dir.path(), "n1");
    let token = first.make_token(dir.path(), 7);
    let mut nodes = vec![first];
    for number in 2..=7 {
        let name = format!("n{number}");
        nodes.push(Daemon::join(dir.path(), &name, &nodes[0], &token));
    }
    let voters = |node: &Daemon| node.get("/ready").json["voters"].as_u64();
    wait("seven members vote", || voters(&nodes[0]) == Some(7));
    let eighth = Daemon::join(dir.path(), "n8", &nodes[0], &token);
    wait("the eighth knows the voters", || voters(&eighth) == Some(7));

    // It takes writes and serves reads that see what others wrote.
    write(&eighth, "from eight");
    sees(&nodes[3], "from eight");
    write(&nodes[2], "again");
    sees(&eighth, "again");
    let votes = |node: &Daemon, member: &str| {
        let rows = node.get("/api/v1/nodes").json;
        let rows = rows["items"].as_array().unwrap().clone();
        rows.iter().any(|row| row["member"] == member && row["voter"] == true)
    };
    assert!(!votes(&nodes[0], "8"));

    // A follower that was off comes back, and goes on following.
    eighth.kill();
    write(&nodes[0], "meanwhile");
    let eighth = Daemon::resume(dir.path(), "n8");
    sees(&eighth, "meanwhile");

    // The last voter that does not lead goes; its place is taken.
    let leader = nodes[0].get("/ready").json["leader"].as_str().unwrap().to_owned();
    let gone = if leader == "7" { 6 } else { 7 };
    let removed = nodes.remove(gone - 1);
    let path = format!("/api/v1/nodes/{gone}");
    let answer = nodes[0].call("DELETE", &path, &[], b"");
    assert_eq!(answer.status, 200, "{}", answer.text);
    wait("the eighth votes", || votes(&nodes[0], "8") && voters(&eighth) == Some(7));
    drop(removed);
    write(&eighth, "as a voter");
    eighth.kill();
    let eighth = Daemon::resume(dir.path(), "n8");
    sees(&eighth, "as a voter");
    assert_eq!(voters(&eighth), Some(7));
}

#[test]
fn actors_that_fail_are_restarted_and_a_leader_whose_services_give_up_is_replaced() {
    let faults = ["--enable-fault-injection"];
    let dir = tempfile::tempdir().unwrap();
    let first = Daemon::start(dir.path(), "one", &[&faults[..], &["--bootstrap-mode"]].concat());
    wait("the node leads", || first.get("/ready").json["writable"] == true);
    let token = first.make_token(dir.path(), 2);
    let second = Daemon::join_with(dir.path(), "two", &first, &token, &faults);
    let third = Daemon::join_with(dir.path(), "three", &first, &token, &faults);
    let nodes = [first, second, third];
    wait("all vote", || nodes.iter().all(|node| node.get("/ready").json["voters"] == 3));

    let restarts = |node: &Daemon, actor: &str| {
        let rows = node.get("/api/v1/actors").json;
        let rows = rows["items"].as_array().unwrap().clone();
        let row = rows.iter().find(|row| row["path"].as_str().unwrap().ends_with(actor)).unwrap();
        (row["restarts"].as_u64().unwrap(), row["state"] == "running")
    };
    // On those that do not lead: every actor once. Five restarts within ten seconds are tolerated, by
    // each supervisor for itself.
    let leads = |node: &&Daemon| node.get("/api/v1/status").json["role"]["leading"] == true;
    let others: Vec<&Daemon> = nodes.iter().filter(|node| !leads(node)).collect();
    let actors = bzzz::node::actor_names();
    for (at, actor) in actors.into_iter().enumerate() {
        let other = others[at / 5 % others.len()];
        let before = restarts(other, actor).0;
        let kill = other.call("POST", &format!("/api/v1/actors/{actor}/kill"), &[], b"");
        assert!(kill.status < 300, "{actor}: {}", kill.text);
        // A failure takes along what was started after it, so the count of others rises too.
        wait(actor, || {
            let (count, running) = restarts(other, actor);
            count > before && running
        });
        write(other, &format!("after {actor} was restarted"));
        if actor == "control" {
            wait("the other nodes see it", || {
                nodes.iter().all(|node| node.get("/ready").json["writable"] == true)
            });
        }
    }

    // On the leader: one service again and again, until its supervisor gives up.
    // A front that is being restarted can't tell; no term is below every term.
    let term = |node: &Daemon| node.get("/api/v1/status").json["role"]["term"].as_u64();
    let leader = nodes.iter().find(leads).unwrap();
    let before = term(leader);
    wait("another node leads", || {
        let kill = leader.call("POST", "/api/v1/actors/orchestrator/kill", &[], b"");
        assert!(kill.status < 500 || kill.status == 503, "{}", kill.text);
        nodes.iter().any(|node| term(node) > before && leads(&node))
    });
    write(leader, "through the node that led");
}

#[test]
fn a_copied_data_directory_beside_the_original_is_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = Daemon::three(dir.path());
    wait("all vote", || nodes.iter().all(|node| node.get("/ready").json["voters"] == 3));
    let copied = std::process::Command::new("cp")
        .args(["-r", "three", "copy"])
        .current_dir(dir.path())
        .status();
    assert!(copied.unwrap().success());
    let error = process::fail(dir.path(), "copy", &[]);
    assert!(error.contains("another process with the same identity is running"), "{error}");

    // The original has not noticed.
    let third = &nodes[2];
    write(third, "from three");
    sees(&nodes[0], "from three");
}

#[test]
fn a_node_on_a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let disk = SmallDisk::mount(&dir.path().join("disk"), 12);
    let first = disk.start(&["--bootstrap-mode"], &said).ready();
    wait("the node leads", || first.get("/ready").json["writable"] == true);
    let token = first.make_token(dir.path(), 2);
    let second = Daemon::join(dir.path(), "two", &first, &token);
    let third = Daemon::join(dir.path(), "three", &first, &token);
    wait("all vote", || {
        [&first, &second, &third].iter().all(|node| node.get("/ready").json["voters"] == 3)
    });

    // Written through the node until its disk takes no more.
    disk.fill();
    let path = |number: usize| format!("/api/v1/ucxl/monitoring/full/{number}");
    let value = |number: usize| format!("{number:04}").repeat(900);
    let star = [("if-none-match", "*")];
    let mut acknowledged = Vec::new();
    let mut number = 0;
    wait("the disk is full", || {
        number += 1;
        let answer = first.put(&path(number), &value(number), &star);
        if answer.status == 200 {
            acknowledged.push(number);
        }
        (answer.status, answer.code()) == (507, "DISK_FULL")
    });
    let ready = first.get("/ready").json;
    assert_eq!(
        (ready["writable"].as_bool(), ready["reason"].as_str()),
        (Some(false), Some("DISK_FULL"))
    );
    let read = first.get(&path(acknowledged[0]));
    assert_eq!((read.status, read.json["value"].as_str()), (200, Some(&*value(acknowledged[0]))));

    // It led. The others go on without it.
    write(&second, "while the first is full");
    wait("another node leads", || {
        let role = second.get("/api/v1/status").json["role"].clone();
        role["leader"].is_string() && role["leader"] != "1"
    });

    // Killed and started again it waits, and says for what. What a process has deleted is free once it has ended.
    first.kill();
    disk.fill();
    let first = disk.start(&[], &said);
    wait("it says what it waits for", || {
        std::fs::read_to_string(&said).unwrap().contains("the disk is full, writes wait for room")
    });
    disk.clear();
    let first = first.ready();
    write(&first, "with room again");
    for number in acknowledged {
        assert_eq!(first.get(&path(number)).json["value"], *value(number), "{number}");
    }
}

#[test]
fn a_node_that_was_removed_while_it_was_off_is_told_when_it_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = Daemon::three(dir.path());
    let nodes = [first, second];
    wait("all vote", || nodes.iter().all(|node| node.get("/ready").json["voters"] == 3));
    third.kill();
    wait("it is removed", || nodes[0].call("DELETE", "/api/v1/nodes/3", &[], b"").status == 200);
    wait("both know", || nodes.iter().all(|node| node.get("/ready").json["voters"] == 2));
    let error = process::fail(dir.path(), "three", &[]);
    assert!(error.contains("not a member any more"), "{error}");
}

#[test]
fn members_leave_one_by_one_until_one_is_left_and_it_takes_writes() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = Daemon::three(dir.path());
    let voters = |node: &Daemon| node.get("/ready").json["voters"].as_u64();
    wait("all vote", || [&first, &second, &third].iter().all(|node| voters(node) == Some(3)));

    // With one of three off, the other two can't do without each other.
    third.kill();
    wait("it is missed", || {
        let rows = first.get("/api/v1/nodes").json["items"].clone();
        rows.as_array().unwrap().iter().any(|row| row["member"] == "3" && row["answers"] == false)
    });
    let refused = first.call("DELETE", "/api/v1/nodes/2", &[], b"");
    assert_eq!((refused.status, refused.code()), (409, "NO_MAJORITY_LEFT"), "{}", refused.text);
    let removed = |node: &Daemon, member: &str| {
        let path = format!("/api/v1/nodes/{member}");
        wait("it is removed", || node.call("DELETE", &path, &[], b"").status == 200);
    };
    removed(&first, "3");
    wait("two vote", || voters(&second) == Some(2));

    // The one that leads is asked to remove itself.
    let leads = |node: &Daemon| node.get("/api/v1/status").json["role"]["leading"] == true;
    let (leader, other) = if leads(&first) { (first, second) } else { (second, first) };
    let member = leader.ready.member.clone();
    removed(&leader, &member);
    assert!(!leader.ended().success(), "a removed node does not end as if all were well");
    wait("one votes", || voters(&other) == Some(1));
    write(&other, "alone");
    assert_eq!(other.get("/api/v1/nodes").json["items"].as_array().unwrap().len(), 1);
}

#[test]
fn members_go_one_after_the_other_once_others_have_their_records() {
    let dir = tempfile::tempdir().unwrap();
    let first = Daemon::found(dir.path(), "one");
    let token = first.make_token(dir.path(), 3);
    let others =
        ["two", "three", "four"].map(|name| Daemon::join(dir.path(), name, &first, &token));
    let holders = |node: &Daemon, count: usize| {
        let dht = node.get("/api/v1/dht").json;
        dht["holders"].as_array().is_some_and(|holders| holders.len() == count)
            && dht["next_holders"].is_null()
    };
    wait("all hold records", || holders(&first, 4));
    wait("all vote", || first.get("/ready").json["voters"] == 4);
    let json = [("content-type", "application/json")];
    let draft = r#"{"address": "ada/admin/shop/kept/here", "decision": "kept"}"#;
    let published = first.call("POST", "/api/v1/decisions", &json, draft.as_bytes());
    assert_eq!(published.status, 201, "{}", published.text);

    // The leader goes last, as it would hand over first.
    let mut nodes: Vec<Daemon> = std::iter::once(first).chain(others).collect();
    let leads = |node: &Daemon| node.get("/api/v1/status").json["role"]["leading"] == true;
    nodes.sort_by_key(leads);
    let leader = nodes.pop().unwrap();
    let path = |node: &Daemon| format!("/api/v1/nodes/{}", node.ready.member);
    let remove = |path: &str| leader.call("DELETE", path, &[], b"");
    assert_eq!(remove(&path(&nodes[0])).status, 200);
    // Of four that hold it two can tell, and three are left: one more may go.
    assert_eq!(remove(&path(&nodes[1])).status, 200);
    let mut unknown = false;
    wait("what the others had is copied", || {
        let answer = remove(&path(&nodes[2]));
        let codes = ["RECORDS_AT_RISK", "VOTERS_CHANGING", "WRITE_OUTCOME_UNKNOWN"];
        let waits = codes.contains(&answer.code());
        // One whose outcome was unknown may have gone.
        assert!(waits || answer.status == 200 || unknown, "{}", answer.text);
        unknown |= answer.code() == "WRITE_OUTCOME_UNKNOWN";
        assert!(!waits || answer.json["retryable"] == true, "{}", answer.text);
        !waits
    });
    wait("one holds everything", || holders(&leader, 1));
    let kept = leader.get("/api/v1/decisions/ada/admin/shop/kept/here");
    assert_eq!(kept.json["decision"], "kept", "{}", kept.text);
}

#[test]
fn a_content_whose_holders_are_off_is_waited_for_and_gone_once_they_are_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let first = Daemon::found(dir.path(), "n1");
    let token = first.make_token(dir.path(), 7);
    let mut nodes = vec![first];
    for number in 2..=8 {
        let name = format!("n{number}");
        nodes.push(Daemon::join(dir.path(), &name, &nodes[0], &token));
    }
    let holders = |node: &Daemon, count: usize| {
        let dht = node.get("/api/v1/dht").json;
        dht["holders"].as_array().is_some_and(|holders| holders.len() == count)
            && dht["next_holders"].is_null()
    };
    wait("all hold records", || nodes.iter().all(|node| holders(node, 8)));

    // Three go that do not lead. They hold one content in 56, and not every one of those has its address there.
    let leads = |node: &Daemon| node.get("/api/v1/status").json["role"]["leading"] == true;
    nodes.sort_by_key(|node| !leads(node));
    let id = |node: &Daemon| MemberId(node.ready.member.parse().unwrap());
    let all: Holders =
        nodes.iter().map(|node| (id(node), Holder { weight: 1, zone: String::new() })).collect();
    let off: BTreeSet<MemberId> = nodes[5..].iter().map(id).collect();
    let json = [("content-type", "application/json")];
    let mut number = 0;
    let mut publish = || {
        number += 1;
        let address = format!("ada/admin/shop/task-{number}/here");
        let draft = serde_json::json!({"address": address, "decision": "kept"}).to_string();
        let published = nodes[0].call("POST", "/api/v1/decisions", &json, draft.as_bytes());
        assert_eq!(published.status, 201, "{}", published.text);
        let hash: ContentHash = published.json["content"].as_str().unwrap().parse().unwrap();
        let contents = replica_set(&all, Partition::of_content(&hash)).members;
        let versions = replica_set(&all, Partition::of_address(&address.parse().unwrap()));
        (format!("/api/v1/decisions/{address}"), contents, versions.count(&off))
    };
    let mut find = |fits: &dyn Fn(&BTreeSet<MemberId>) -> bool| loop {
        let (path, contents, versions_off) = publish();
        if fits(&contents) && versions_off < 2 {
            break path;
        }
    };
    let kept = find(&|contents| contents.is_disjoint(&off));
    let lost = find(&|contents| *contents == off);
    for node in nodes.split_off(5) {
        node.kill();
    }
    // The one that published it has it in its cache.
    let is = |path: &str, status: u16, code: &str| {
        let answer = nodes[1].get(path);
        (answer.status, answer.code()) == (status, code)
    };
    wait("its holders are waited for", || is(&lost, 503, "REPLICAS_UNAVAILABLE"));
    assert_eq!(nodes[1].get(&lost).json["retryable"], true);
    wait("others are read", || is(&kept, 200, ""));
    for member in &off {
        let path = format!("/api/v1/nodes/{member}?lost=true");
        // One whose outcome was unknown may have gone.
        wait("they are given up", || {
            [200, 404].contains(&nodes[0].call("DELETE", &path, &[], b"").status)
        });
    }
    wait("it is gone", || is(&lost, 410, "CONTENT_GONE"));
    wait("others are still there", || is(&kept, 200, ""));
}
