//! Tests of the values: what each kind takes, and that all of them come back.

use std::time::Duration;

use super::*;

/// Checks that a file is refused with the key, the line and what was expected.
#[track_caller]
fn refused(text: &str, key: &str, line: usize, rest: &str) {
    let error = format!("{key} (file ~/cwd/bzzz.toml:{line}): expected {rest}");
    assert_eq!(file_error(text), error);
}

#[test]
fn wrong_values_name_key_origin_and_what_was_expected() {
    for (text, key, line, rest) in [
        (
            "[node]\nid = 5",
            "node.id",
            2,
            "a name of 1 to 64 letters, digits, dots, underscores or hyphens, found the number 5",
        ),
        (
            "[node]\nid = 'a b'",
            "node.id",
            2,
            "a name of 1 to 64 letters, digits, dots, underscores or hyphens, found \"a b\"",
        ),
        ("node = 'x'", "node", 1, "a table, write [node] and its keys below it"),
        ("[[p2p]]", "p2p", 1, "a table, write [p2p] and its keys below it"),
        ("cluster.mode = 'true'", "cluster.mode", 1, "true or false, found the text \"true\""),
        (
            "p2p.max_connections = 0",
            "p2p.max_connections",
            1,
            "a whole number from 1 to 10000, found \"0\"",
        ),
        (
            "p2p.max_connections = -1",
            "p2p.max_connections",
            1,
            "a whole number from 1 to 10000, found \"-1\"",
        ),
        (
            "p2p.max_connections = 5.0",
            "p2p.max_connections",
            1,
            "a whole number from 1 to 10000, found the number 5.0",
        ),
    ] {
        refused(text, key, line, rest);
    }
    assert_eq!(
        env_error("BZZZ_CLUSTER_MODE", "yes"),
        "cluster.mode (environment BZZZ_CLUSTER_MODE): expected true or false, found \"yes\""
    );
}

#[test]
fn wrong_texts_and_lists_are_refused_even_where_replaced() {
    for (text, key, line, rest) in [
        (
            "p2p.listen = 'x'",
            "p2p.listen",
            1,
            "a list of up to 8 IP addresses with port, found the text \"x\"",
        ),
        (
            "election.interval = 5",
            "election.interval",
            1,
            "a duration such as 300ms, 90s, 15m or 24h, at most 365d, found the number 5",
        ),
        (
            "election.interval = '0s'",
            "election.interval",
            1,
            "a duration such as 300ms, 90s, 15m or 24h, at most 365d, found \"0s\"",
        ),
        (
            "telemetry.log.level = 'inof'",
            "telemetry.log.level",
            1,
            "error, warn, info, debug, trace or a filter such as info,bzzz=debug, found \"inof\"",
        ),
        (
            "telemetry.log.format = 'xml'",
            "telemetry.log.format",
            1,
            "one of auto, text, json, found \"xml\"",
        ),
        (
            "[node.labels]\na = 'b'\nc = 1",
            "node.labels",
            3,
            "up to 32 labels, each with a text as its value, found the number 1",
        ),
    ] {
        refused(text, key, line, rest);
    }
    let place = Place::new().env("BZZZ_ROLE", "fine");
    place.write("cwd/bzzz.toml", "node.role = ''");
    assert!(place.error().starts_with("node.role (file"), "wrong values count though replaced");
}

#[test]
fn wrong_addresses_name_entry_and_position() {
    assert_eq!(
        file_error("[p2p]\nbootstrap_peers = [\n  'boot:4001',\n  '/ip4/300.0.0.1/tcp/1',\n]"),
        "p2p.bootstrap_peers (file ~/cwd/bzzz.toml:4): entry 2: address \"/ip4/300.0.0.1/tcp/1\" \
         is wrong at character 6: expected an IPv4 address"
    );
    assert_eq!(
        env_error("BZZZ_BOOTSTRAP_PEERS", "boot:4001, host:port"),
        "p2p.bootstrap_peers (environment BZZZ_BOOTSTRAP_PEERS): entry 2: address \"host:port\" is \
         wrong at character 6: expected a port from 0 to 65535"
    );
    for (name, text, part) in [
        ("BZZZ_BOOTSTRAP_PEERS", "a:1,,b:1", "entry 2: address \"\" is wrong at character 1"),
        ("BZZZ_BOOTSTRAP_PEERS", "a:0", "entry 1: address \"a:0\" has port 0"),
        ("BZZZ_P2P__ANNOUNCE", "0.0.0.0:1", "entry 1: address \"0.0.0.0:1\" cannot be dialled"),
        ("BZZZ_P2P__LISTEN", "localhost:1", "entry 1: address \"localhost:1\" names a host"),
        (
            "BZZZ_P2P__LISTEN",
            &["1.1.1.1:1"; 9].join(","),
            "expected a list of up to 8 IP addresses with port, found more",
        ),
    ] {
        let error = env_error(name, text);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_api_stays_on_loopback() {
    for text in ["0.0.0.0:8080", "10.0.0.7:80", "[::]:8080", "[2001:db8::1]:1"] {
        let error = Place::new().flag("api.listen", text).error();
        assert!(
            error.starts_with(
                "api.listen (flag --set api.listen): plain HTTP is only served on loopback"
            ) && error.contains("HTTPS for other addresses is not available yet"),
            "{error}"
        );
    }
    for text in [":8080", "8080", "example.org:80", "127.0.0.1", "127.0.0.1:70000"] {
        let error = Place::new().flag("api.listen", text).error();
        assert!(
            error.contains("expected a loopback IP and a port, such as 127.0.0.1:8080"),
            "{error}"
        );
    }
    for (text, socket) in
        [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:9", "[::1]:9"), ("localhost:9", "127.0.0.1:9")]
    {
        let config = Place::new().flag("api.listen", text).load().config;
        assert_eq!(config.api.listen.to_string(), socket);
    }
}

#[test]
fn weights_sum_to_a_hundred_over_all_sources() {
    let place = Place::new();
    place.write("cwd/bzzz.toml", "[election]\nweights = { stability = 40, load = 10 }");
    assert_eq!(
        place.error(),
        "the keys of election.weights must sum to 100, not 110: geography 15 (default), load 10 \
         (file ~/cwd/bzzz.toml:2), position 20 (default), resources 25 (default), stability 40 \
         (file ~/cwd/bzzz.toml:2); change some of them"
    );
    let place = place.env("BZZZ_ELECTION__WEIGHTS__LOAD", "0");
    let weights = place.load().config.election.weights;
    assert_eq!((weights.stability, weights.load), (40, 0));
    assert!(env_error("BZZZ_ELECTION__WEIGHTS__LOAD", "101").contains("from 0 to 100"));
}

#[test]
fn labels_are_read_from_both_forms_and_bounded() {
    let place = Place::new();
    place.write("cwd/bzzz.toml", "[node.labels]\nzone = 'a'\n\"bzzz.io/disk\" = 'ssd'");
    let from_file = place.load();
    let place = Place::new().env("BZZZ_NODE__LABELS", "zone=a, bzzz.io/disk=ssd");
    assert_eq!(place.load().config, from_file.config);
    assert_eq!(from_file.config.node.labels["zone"], "a");
    let many: Vec<String> = (0..33).map(|i| format!("l{i}=x")).collect();
    let long = format!("a={}", "x".repeat(64));
    for (text, part) in [
        (many.join(","), "expected up to 32 labels, found 33"),
        (long, "expected label values of up to 63 bytes"),
        ("a".to_owned(), "expected labels such as zone=a,disk=ssd, found \"a\""),
        ("=a".to_owned(), "expected label names of 1 to 63 bytes"),
        ("a=1,a=2".to_owned(), "label a is given twice"),
    ] {
        let error = env_error("BZZZ_NODE__LABELS", &text);
        assert!(error.contains(part), "{error}");
    }
}

/// Sources that set every key to something that is not its default.
fn all_set() -> Place {
    let place = Place::new();
    place.write(
        "cwd/bzzz.toml",
        "node = { id = 'n1', role = 'storage', data_dir = '/data', labels = { zone = 'a' } }\n\
         cluster = { name = 'lab', mode = false, bootstrap = true }\n\
         api.listen = '[::1]:0'\n\
         [p2p]\n\
         listen = ['10.0.0.7:1', '[::]:2']\nannounce = ['a.example:1']\n\
         bootstrap_peers = ['b:1', 'c:1']\nmdns = false\nrelay = false\nmax_connections = 10_000\n\
         [election]\n\
         interval = '90s'\n\
         weights = { stability = 20, resources = 20, position = 21, geography = 19, load = 20 }\n\
         [telemetry.log]\nlevel = 'info,bzzz=debug'\nformat = 'json'\n",
    );
    place
}

#[test]
fn a_configuration_comes_back_from_its_toml_and_from_its_texts() {
    let loaded = all_set().load();
    assert!(loaded.origins.values().all(|origin| *origin != Origin::Default));
    assert_eq!(loaded.config.election.interval, Duration::from_secs(90));
    let copy = Place::new();
    copy.write("cwd/bzzz.toml", &loaded.config.to_toml().unwrap());
    assert_eq!(copy.load().config, loaded.config);
    let mut by_flags = Place::new();
    by_flags.sources.flags = loaded.table().into_iter().map(|(key, text, _)| (key, text)).collect();
    assert_eq!(by_flags.load().config, loaded.config);
    let mut by_env = Place::new();
    let variables = loaded.table().into_iter().map(|(k, v, _)| (find(&k).unwrap().env_name(), v));
    by_env.sources.env = variables.collect();
    assert_eq!(by_env.load().config, loaded.config);
}

#[test]
fn the_table_and_the_schema_hold_the_same_keys() {
    fn leaves(prefix: &str, json: &serde_json::Value, all: &mut Vec<String>) {
        match json.as_object().filter(|_| prefix.is_empty() || is_section(prefix)) {
            Some(table) => table.iter().for_each(|(name, value)| {
                let dot = if prefix.is_empty() { "" } else { "." };
                leaves(&format!("{prefix}{dot}{name}"), value, all);
            }),
            None => all.push(prefix.to_owned()),
        }
    }
    let loaded = all_set().load();
    let mut names = Vec::new();
    leaves("", &serde_json::to_value(&loaded.config).unwrap(), &mut names);
    names.sort();
    let mut keys: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    keys.sort();
    assert_eq!(names, keys);
    for key in KEYS {
        assert!(!is_section(key.name) && !key.name.ends_with("_file"), "{}", key.name);
        assert_eq!(key.kind.read(key.default).unwrap().text(), key.default, "{}", key.name);
    }
    let limit = crate::types::limits::CONNECTIONS_MAX.to_string();
    assert_eq!(find("p2p.max_connections").unwrap().default, limit);
}

#[test]
fn the_reference_names_every_key_and_variable() {
    let page = reference_markdown();
    for key in KEYS {
        assert!(page.contains(&format!("| `{}` |", key.name)), "{}", key.name);
        assert!(page.contains(&format!("`{}`", key.env_name())), "{}", key.name);
        assert!(page.contains(key.doc) && !key.doc.ends_with('.') && !key.doc.contains('|'));
    }
    for name in OTHER_VARIABLES {
        assert!(page.contains(name));
    }
}
