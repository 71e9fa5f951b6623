//! Files of a data directory that are damaged, missing, or taken away from under a running node.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::process::{Answer, Daemon, SmallDisk, command, fail, wait};

const KEY: &str = "/api/v1/ucxl/ai_models/files";
const DECISIONS: usize = 5;
/// How often a node is asked for what it can't answer, until it says so.
const ASKED_MAX: usize = 100;

pub fn address(number: usize) -> String {
    format!("ada/admin/shop/task-{number}/files")
}

pub fn publish_at(node: &Daemon, address: &str, decision: &str) {
    let json = [("content-type", "application/json")];
    let draft = serde_json::json!({"address": address, "decision": decision}).to_string();
    wait("a decision is published", || {
        let answer = node.call("POST", "/api/v1/decisions", &json, draft.as_bytes());
        [200, 201].contains(&answer.status)
    });
}

fn publish(node: &Daemon) {
    (1..=DECISIONS).for_each(|number| publish_at(node, &address(number), "kept"));
}

fn has_all(node: &Daemon) {
    for number in 1..=DECISIONS {
        let path = format!("/api/v1/decisions/{}", address(number));
        wait("a decision is read", || {
            let answer = node.get(&path);
            assert!(![404, 410].contains(&answer.status), "never none: {}", answer.text);
            answer.status == 200 && answer.json["decision"] == "kept"
        });
    }
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The damaged stores that were kept.
fn kept_aside(data: &Path) -> usize {
    let names = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().starts_with("records.damaged-")).count()
}

/// Three members that all hold records.
pub fn three(dir: &Path) -> [Daemon; 3] {
    let first = Daemon::found(dir, "one");
    let token = first.make_token(dir, 2);
    let second = Daemon::join(dir, "two", &first, &token);
    let third = Daemon::join(dir, "three", &first, &token);
    wait("all three hold records", || {
        let dht = first.get("/api/v1/dht").json;
        dht["holders"].as_array().is_some_and(|holders| holders.len() == 3)
            && dht["next_holders"].is_null()
    });
    wait("all vote", || first.get("/ready").json["voters"] == 3);
    [first, second, third]
}

#[test]
fn small_files_are_made_anew_and_the_key_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (data, said) = (dir.path().join("one"), dir.path().join("said"));
    let node = Daemon::found(dir.path(), "one");
    publish(&node);
    assert!(node.stop().success());

    fs::remove_file(data.join("VERSION")).unwrap();
    fs::write(data.join("node.json"), "{\"name\":").unwrap();
    fs::write(data.join("api.token"), "nonsense").unwrap();
    fs::remove_file(data.join("records/version")).unwrap();
    let node = Daemon::start_saying(dir.path(), "one", &[], &said);
    let text = fs::read_to_string(&said).unwrap();
    for file in ["one/VERSION", "one/node.json", "one/api.token", "records/version"] {
        assert!(text.contains(file), "{file} is not in {text}");
    }
    has_all(&node);
    assert!(node.stop().success());

    let (key, away) = (data.join("node.key"), dir.path().join("away"));
    fs::rename(&key, &away).unwrap();
    let error = fail(dir.path(), "one", &[]);
    assert!(error.contains("node.key is gone") && error.contains("--replace-key"), "{error}");
    let error = fail(dir.path(), "one", &["--replace-key"]);
    assert!(error.contains("node.key is gone"), "it is to become nobody else: {error}");
    assert!(!key.exists());
    fs::rename(&away, &key).unwrap();
    let node = Daemon::resume(dir.path(), "one");
    has_all(&node);
    assert!(node.stop().success());

    fs::remove_file(&key).unwrap();
    let node = Daemon::start(dir.path(), "one", &["--bootstrap-mode", "--replace-key"]);
    wait("another cluster is led", || node.get("/ready").json["writable"] == true);
    let entries = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let former = entries.filter(|path| path.join("store.journal").exists()).count();
    assert_eq!(former, 1, "what belongs to the former member is kept");
}

#[test]
fn a_single_node_that_lost_records_starts_only_if_they_are_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (data, said) = (dir.path().join("one"), dir.path().join("said"));
    let (journal, away) = (data.join("records/0.jnl"), dir.path().join("away"));
    let node = Daemon::found(dir.path(), "one");
    publish(&node);
    node.kill();

    for empty in [true, false] {
        fs::rename(&journal, &away).unwrap();
        if empty {
            fs::write(&journal, "").unwrap();
        } else {
            fs::File::create(&journal).unwrap().set_len(64 * 1024).unwrap();
        }
        let error = fail(dir.path(), "one", &[]);
        assert!(error.contains("were acknowledged"), "{error}");
        assert!(error.contains("--accept-lost-records"), "{error}");
        fs::rename(&away, &journal).unwrap();
    }
    let current = data.join("records/keyspaces/1/current");
    let bytes = fs::read(&current).unwrap();
    flip_a_bit(&current);
    let error = fail(dir.path(), "one", &[]);
    assert!(error.contains("keyspaces/1/") && !error.contains("FjallError"), "{error}");
    fs::write(&current, bytes).unwrap();

    let node = Daemon::resume(dir.path(), "one");
    has_all(&node);
    node.kill();
    assert_eq!(kept_aside(&data), 0);
    fs::write(&journal, "").unwrap();
    let node = Daemon::start_saying(dir.path(), "one", &["--accept-lost-records"], &said);
    assert!(fs::read_to_string(&said).unwrap().contains("given up"));
    assert_eq!(kept_aside(&data), 1);
    publish(&node);
    has_all(&node);
}

/// A process that is not left behind.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is answered at the socket of a data directory, once it is.
fn says(socket: &Path, path: &str) -> String {
    let mut answer = String::new();
    wait("the socket answers", || {
        let Ok(mut stream) = UnixStream::connect(socket) else { return false };
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).is_ok() && stream.read_to_string(&mut answer).is_ok()
    });
    answer
}

#[test]
fn a_start_that_looks_at_records_for_long_answers_and_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (data, away) = (dir.path().join("one"), dir.path().join("away"));
    let node = Daemon::found(dir.path(), "one");
    publish(&node);
    assert!(node.stop().success());

    // Whoever reads it waits for somebody to write.
    let mark = data.join("records.mark");
    fs::rename(&mark, &away).unwrap();
    assert!(Command::new("mkfifo").arg(&mark).status().unwrap().success());
    let mut starts = command(dir.path(), "one", &[]);
    let mut process = Process(starts.stderr(Stdio::null()).spawn().unwrap());
    let socket = data.join("api.sock");
    let health = says(&socket, "/health");
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
    let ready = says(&socket, "/ready");
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("STARTING"), "{ready}");
    let pid = rustix::process::Pid::from_child(&process.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(process.0.wait().unwrap().success());

    fs::remove_file(&mark).unwrap();
    fs::rename(&away, &mark).unwrap();
    has_all(&Daemon::resume(dir.path(), "one"));
}

#[test]
fn a_member_that_lost_records_says_so_and_copies_them() {
    let dir = tempfile::tempdir().unwrap();
    let (data, said) = (dir.path().join("three"), dir.path().join("said"));
    let [first, second, mut third] = three(dir.path());
    publish(&first);
    type Damage = fn(&Path);
    let damages: [(Damage, usize); 3] = [
        (|records| fs::write(records.join("0.jnl"), "").unwrap(), 1),
        (|records| flip_a_bit(&records.join("keyspaces/1/current")), 2),
        (|records| fs::remove_dir_all(records).unwrap(), 2),
    ];
    for (damage, kept) in damages {
        third.kill();
        damage(&data.join("records"));
        third = Daemon::start_saying(dir.path(), "three", &[], &said);
        let text = fs::read_to_string(&said).unwrap();
        assert!(text.contains("copied from other members"), "{text}");
        has_all(&third);
        wait("it has everything again", || !data.join("records.incomplete").exists());
        assert_eq!(kept_aside(&data), kept);
    }
    first.kill();
    second.kill();
    has_all(&third);
}

#[test]
fn what_a_member_held_alone_and_lost_is_called_none_only_once_it_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, said) = (dir.path().join("one/records/0.jnl"), dir.path().join("said"));
    let first = Daemon::found(dir.path(), "one");
    publish(&first);
    let token = first.make_token(dir.path(), 1);
    // It has too little room to hold records.
    let disk = SmallDisk::mount(&dir.path().join("disk"), 32);
    let args = ["--join", &first.ready.addresses[0], "--token-file", token.to_str().unwrap()];
    let second = disk.start(&args, &dir.path().join("said by the second")).ready();
    wait("both vote", || second.get("/ready").json["voters"] == 2);
    first.kill();
    fs::write(&journal, "").unwrap();

    let first = Daemon::start_saying(dir.path(), "one", &[], &said);
    wait("it says what it has lost", || {
        fs::read_to_string(&said).unwrap().contains("--accept-lost-records")
    });
    let path = format!("/api/v1/decisions/{}", address(1));
    for node in [&first, &second] {
        let answer = node.get(&path);
        assert_eq!(answer.code(), "REPLICAS_UNAVAILABLE", "{}", answer.text);
    }
    first.kill();
    let first = Daemon::start(dir.path(), "one", &["--accept-lost-records"]);
    wait("it is given up", || first.get(&path).status == 404);
}

#[test]
fn what_is_left_of_records_on_one_of_three_is_never_called_none() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = three(dir.path());
    publish(&first);
    second.kill();
    third.kill();
    for name in ["two", "three"] {
        fs::write(dir.path().join(name).join("records/0.jnl"), "").unwrap();
    }
    let second = Daemon::resume(dir.path(), "two");
    let third = Daemon::resume(dir.path(), "three");
    let nodes = [&first, &second, &third];
    wait("somebody leads", || nodes.iter().any(|node| node.get("/ready").json["writable"] == true));
    // The first has it still; what the others say depends on whether they ask that one.
    let is_right =
        |answer: &Answer| answer.status == 200 || answer.code() == "REPLICAS_UNAVAILABLE";
    for node in nodes {
        let mut answer = node.get(&format!("/api/v1/decisions/{}", address(1)));
        for _ in 0..ASKED_MAX {
            assert!(![404, 410].contains(&answer.status), "{}", answer.text);
            if is_right(&answer) {
                break;
            }
            answer = node.get(&format!("/api/v1/decisions/{}", address(1)));
        }
        assert!(is_right(&answer), "{}", answer.text);
    }
}

#[test]
fn a_node_whose_data_directory_is_deleted_takes_no_more_writes() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::found(dir.path(), "one");
    let star = [("if-none-match", "*")];
    assert_eq!(node.put(KEY, "kept", &star).status, 200);
    fs::remove_dir_all(dir.path().join("one")).unwrap();
    wait("the node says that its disk has failed", || {
        let ready = node.get("/ready").json;
        ready["writable"] == false && ready["reason"] == "DISK_FAILED"
    });
    let refused = node.put(&format!("{KEY}/2"), "lost", &star);
    assert_eq!((refused.status, refused.code()), (507, "DISK_FAILED"), "{}", refused.text);
    assert_eq!(node.get(KEY).json["value"], "kept", "it can still be copied out");
    let status = node.get("/api/v1/status");
    let writable = &status.json["mode"]["writable"];
    assert_eq!((status.status, writable), (200, &false.into()), "{}", status.text);
    assert!(!dir.path().join("one").exists(), "nothing is made anew");
}
