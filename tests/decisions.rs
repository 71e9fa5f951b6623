//! Decisions on whole nodes as processes: what agents publish, read and look for, over HTTP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "these tests watch real processes in real time")]

#[path = "daemon/process.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod process;

use process::{Answer, Daemon, wait};
use serde_json::{Value, json};

const PATH: &str = "/api/v1/decisions";
const ADDRESS: &str = "ada/architect/shop/storage/node-1";

/// Three nodes that all hold records and the keys of roles.
fn three(dir: &std::path::Path) -> [Daemon; 3] {
    let first = Daemon::found(dir, "one");
    let token = first.make_token(dir, 2);
    let second = Daemon::join(dir, "two", &first, &token);
    let third = Daemon::join(dir, "three", &first, &token);
    let nodes = [first, second, third];
    wait("all three hold records and keys", || {
        nodes.iter().all(|node| {
            let dht = node.get("/api/v1/dht").json;
            dht["holders"].as_array().is_some_and(|holders| holders.len() == 3)
                && dht["next_holders"].is_null()
                && node.get("/api/v1/roles").json["keys_held"] == true
        })
    });
    nodes
}

fn try_publish(node: &Daemon, body: &Value, headers: &[(&str, &str)]) -> Answer {
    node.call("POST", PATH, headers, body.to_string().as_bytes())
}

/// Publishes, again and again until it is acknowledged: a busy machine may change its leader.
fn publish(node: &Daemon, key: &str, body: &Value) -> Value {
    let mut answer = Value::Null;
    wait("a decision is acknowledged", || {
        let published = try_publish(node, body, &[("idempotency-key", key)]);
        assert!([201, 503, 504].contains(&published.status), "{}", published.text);
        if published.status != 201 {
            // Shown if the test fails.
            println!("{key}: {}", published.text);
        }
        answer = published.json;
        published.status == 201
    });
    answer
}

fn code(node: &Daemon, body: &Value) -> String {
    try_publish(node, body, &[]).code().to_owned()
}

#[test]
fn a_decision_is_read_back_through_every_node_by_every_name() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = three(dir.path());
    let body = json!({
        "type": "architecture", "address": ADDRESS, "decision": "# Storage\n\nB-trees.",
        "rationale": "they are known", "tags": ["storage"], "success": true,
    });
    let published = publish(&first, "a", &body);
    assert_eq!(published["roles"], json!(["admin", "architect"]));
    let hash = published["content"].as_str().unwrap().to_owned();
    let child = json!({
        "address": "bob/observer/shop/storage/node-2", "decision": "noted", "parents": [ADDRESS],
        "data": {"votes": [1, 2]},
    });
    let child = publish(&second, "b", &child);
    assert_eq!(child["roles"].as_array().unwrap().len(), 5, "observers' decisions are for all");
    for node in [&first, &second, &third] {
        let read = node.get(&format!("{PATH}/{ADDRESS}"));
        assert_eq!(read.status, 200, "{}", read.text);
        assert_eq!(read.json["decision"], "# Storage\n\nB-trees.");
        assert_eq!(
            (&read.json["type"], &read.json["task"]),
            (&json!("architecture"), &json!("storage"))
        );
        assert_eq!((&read.json["content"], &read.json["stale"]), (&json!(hash), &json!(false)));
        let by_hash = node.get(&format!("{PATH}/{hash}"));
        assert_eq!(by_hash.json["decision"], read.json["decision"]);
        let parents = node.get(&format!("{PATH}/bob/observer/shop/storage/node-2")).json;
        assert_eq!(
            (&parents["parents"], &parents["data"]),
            (&json!([hash]), &json!({"votes": [1, 2]}))
        );
        let page = node.get(&format!("{PATH}?pattern=*/architect/**&type=architecture&author=ada"));
        assert_eq!(page.json["items"].as_array().unwrap().len(), 1, "{}", page.text);
        assert_eq!(page.json["items"][0]["content"], json!(hash));
        let one = node.get(&format!("{PATH}?pattern={ADDRESS}")).json;
        assert_eq!(one["items"].as_array().unwrap().len(), 1, "an address is a pattern, too");
        let denied = node.get(&format!("{PATH}/{ADDRESS}?role=observer"));
        assert_eq!((denied.status, denied.code()), (403, "ROLE_CANNOT_READ"));
        assert!(denied.text.contains("these can: admin, architect"), "{}", denied.text);
    }
    // What lies in the store is a standard age file, and nothing of the text.
    let stored = first.get(&format!("/api/v1/dht/contents/{hash}"));
    assert!(stored.text.starts_with("age-encryption.org/v1"), "{}", stored.text);
    assert!(!stored.text.contains("B-trees"));

    versions(&first, &third, &hash);
    pages(&first, &second);
}

/// Later versions, and how each is named.
fn versions(first: &Daemon, third: &Daemon, hash: &str) {
    let body = json!({
        "type": "architecture", "address": ADDRESS, "decision": "LSM trees.", "supersedes": hash,
    });
    let second_version = publish(third, "c", &body);
    let again = publish(first, "c", &body);
    assert_eq!(again["content"], second_version["content"], "the same publication");
    let mut other = body.clone();
    other["decision"] = json!("B+ trees.");
    wait("another decision under the same key is refused", || {
        let reused = try_publish(first, &other, &[("idempotency-key", "c")]);
        assert!([409, 503, 504].contains(&reused.status), "{}", reused.text);
        reused.code() == "IDEMPOTENCY_KEY_REUSED"
    });
    let read = |temporal: &str| first.get(&format!("{PATH}/{ADDRESS}/{temporal}"));
    assert_eq!(read("*%5E").json["decision"], "LSM trees.");
    assert_eq!(read("~~1").json["decision"], "# Storage\n\nB-trees.");
    assert_eq!(read("*~").json["decision"], "# Storage\n\nB-trees.");
    assert_eq!(read("%5E%5E1").json["decision"], "LSM trees.");
    let missing = read("~~7");
    assert_eq!((missing.status, missing.code()), (404, "NO_SUCH_VERSION"));
    assert!(missing.text.contains("~~0 (the latest) to ~~1"), "{}", missing.text);
    assert_eq!(read("2020-01-01T00%3A00%3A00Z").code(), "NO_SUCH_VERSION");
    assert_eq!(read("nonsense").code(), "INVALID");
    let history = first.get(&format!("{PATH}/{ADDRESS}/history")).json;
    assert_eq!(history["items"].as_array().unwrap().len(), 2, "{history}");
    assert_eq!(history["items"][0]["content"], json!(hash));
}

/// Listings in pages, and cursors that are of no use.
fn pages(first: &Daemon, second: &Daemon) {
    for number in 0..5 {
        let address = format!("eve/admin/list/task-{number}/node-1");
        publish(first, &address, &json!({"address": address, "decision": "x"}));
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = second.get(&format!("{PATH}?pattern=eve/**&limit=2{cursor}")).json;
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["address"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        // A cursor is good on every node.
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert!(seen.is_sorted());
    let other_query = first.get(&format!("{PATH}?pattern=ada/**&limit=2{cursor}"));
    assert_eq!((other_query.status, other_query.code()), (400, "CURSOR_INVALID"));
    for (query, field) in [
        ("pattern=a/b/c", "pattern"),
        ("type=poem", "type"),
        ("since=yesterday", "since"),
        ("limit=0", "limit"),
    ] {
        let refused = first.get(&format!("{PATH}?{query}"));
        assert_eq!((refused.status, refused.code()), (400, "INVALID"), "{query}");
        assert_eq!(refused.json["errors"][0]["field"], field);
    }
    let slow = format!("{PATH}?pattern={}", ["**", "x"].repeat(2).join("/"));
    assert_eq!(first.get(&slow).json["items"], json!([]));
}

#[test]
fn bad_drafts_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::found(dir.path(), "one");
    wait("the node leads", || node.get("/ready").json["writable"] == true);
    publish(&node, "good", &json!({"address": ADDRESS, "decision": "x"}));
    let draft = |change: Value| {
        let mut body = json!({"address": "ada/admin/shop/bad/node-1", "decision": "x"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    for (change, expected) in [
        (json!({"decison": "typo"}), "INVALID"),
        (json!({"decision": ""}), "INVALID"),
        (json!({"rationale": "of another type"}), "INVALID"),
        (json!({"tags": vec!["t"; 10_000]}), "INVALID"),
        (json!({"address": "a/b"}), "INVALID"),
        (json!({"address": "ada/boss/shop/bad/node-1"}), "ROLE_UNKNOWN"),
        (json!({"readers": ["nobody"]}), "ROLE_UNKNOWN"),
        (json!({"parents": ["a".repeat(64)]}), "REFERENCE_MISSING"),
        (json!({"parents": ["x/admin/z/a/b"]}), "REFERENCE_MISSING"),
        (json!({"supersedes": format!("{ADDRESS}/~~4")}), "NO_SUCH_VERSION"),
        (json!({"decision": "x".repeat(1024 * 1024)}), "DECISION_TOO_LARGE"),
        (json!({"decision": "x".repeat(3 * 1024 * 1024)}), "BODY_TOO_LARGE"),
    ] {
        assert_eq!(code(&node, &draft(change.clone())), expected);
    }
    let not_text = node.call("POST", PATH, &[], b"{\"decision\": \"\xff\xfe\"}");
    assert_eq!((not_text.status, not_text.code()), (400, "INVALID"));
    let metrics = node.get("/metrics").text;
    for (code, count) in
        [("INVALID", 6), ("ROLE_UNKNOWN", 2), ("REFERENCE_MISSING", 2), ("DECISION_TOO_LARGE", 1)]
    {
        let line = format!("bzzz_api_refused_total{{code=\"{code}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    let deep = format!("{{\"decision\": \"x\", \"data\": {}}}", "[".repeat(100_000));
    assert_eq!(node.call("POST", PATH, &[], deep.as_bytes()).code(), "INVALID");
    let listed = node.get(PATH).json;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(node.get(&format!("{PATH}/{}", "b".repeat(64))).code(), "NOT_FOUND");
    assert_eq!(node.get(&format!("{PATH}/ada/admin/shop/bad/node-1")).code(), "NOT_FOUND");
    let raw = node.call("POST", "/api/v1/dht/contents", &[], b"raw");
    let raw = node.get(&format!("{PATH}/{}", raw.json["hash"].as_str().unwrap()));
    assert_eq!(raw.code(), "NOT_A_DECISION");
    let largest = "x".repeat(1024 * 1024 - 1_000);
    publish(&node, "large", &json!({"address": ADDRESS, "decision": largest}));
    assert_eq!(node.get(&format!("{PATH}/{ADDRESS}")).json["decision"], json!(largest));
}

#[test]
fn what_was_acknowledged_is_read_after_kills_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = three(dir.path());
    let body = |n: u32| json!({"address": format!("ada/admin/shop/t{n}/here"), "decision": format!("d{n}")});
    publish(&first, "0", &body(0));
    third.kill();
    publish(&second, "1", &body(1));
    let third = Daemon::resume(dir.path(), "three");
    // It listens elsewhere now, and the second has to find it there without the first.
    wait("the second knows where the third is", || {
        let nodes = second.get("/api/v1/nodes").json;
        let is_third = |row: &&Value| row["member"] == third.ready.member.as_str();
        let row = nodes["items"].as_array().unwrap().iter().find(is_third).unwrap().clone();
        row["answers"] == true && row["addresses"] == json!(third.ready.addresses)
    });
    second.kill();
    let reads = |node: &Daemon, n: u32| {
        node.get(&format!("{PATH}/ada/admin/shop/t{n}/here")).json["decision"]
            == json!(format!("d{n}"))
    };
    wait("the third reads what it missed, with keys that it stored", || {
        reads(&third, 0) && reads(&third, 1)
    });
    first.kill();
    wait("a minority can be read", || reads(&third, 0) && reads(&third, 1));
    let refused = try_publish(&third, &body(2), &[]);
    assert!(["READ_ONLY_MINORITY", "NO_LEADER"].contains(&refused.code()), "{}", refused.text);
    let second = Daemon::resume(dir.path(), "two");
    publish(&second, "3", &body(3));
    assert!(reads(&third, 3));
}

#[test]
fn every_node_tells_of_what_was_published_through_another() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = three(dir.path());
    wait("all answer each other", || {
        let nodes = first.get("/api/v1/nodes").json;
        nodes["items"].as_array().unwrap().iter().all(|row| row["answers"] == true)
    });
    let body = json!({"type": "test", "address": "ada/qa_engineer/shop/e2e/here", "decision": "x"});
    let published = publish(&first, "a", &body);
    for node in [&first, &second, &third] {
        let accept = [("accept", "application/json")];
        wait("the announcement arrives", || {
            let events = node.call("GET", "/api/v1/events?topic=decision", &accept, b"").json;
            events["items"].as_array().unwrap().iter().any(|event| {
                event["type"] == "decision.published"
                    && event["data"]["content"] == published["content"]
                    && event["data"]["type"] == "test"
                    && event["data"]["writer"] == "1"
            })
        });
    }
}
