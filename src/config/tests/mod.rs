//! Tests of the loader: which source wins, and what it says when one is wrong.

mod values;

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// Directories and sources of one test.
struct Place {
    root: TempDir,
    sources: Sources,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let sources = Sources {
            cwd: at("cwd"),
            home: Some(at("home")),
            etc: at("etc"),
            ..Sources::default()
        };
        Self { root, sources }
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn env(mut self, name: &str, text: &str) -> Self {
        self.sources.env.push((name.to_owned(), text.to_owned()));
        self
    }

    fn flag(mut self, key: &str, text: &str) -> Self {
        self.sources.flags.push((key.to_owned(), text.to_owned()));
        self
    }

    fn load(&self) -> Loaded {
        load(&self.sources).unwrap()
    }

    /// The error, with the directory of the test written as `~`.
    fn error(&self) -> String {
        let error = load(&self.sources).unwrap_err().to_string();
        error.replace(&self.root.path().display().to_string(), "~")
    }

    fn origin(&self, key: &str) -> String {
        let origin = self.load().origins[key].to_string();
        origin.replace(&self.root.path().display().to_string(), "~")
    }
}

fn file_error(text: &str) -> String {
    let place = Place::new();
    place.write("cwd/bzzz.toml", text).error()
}

fn env_error(name: &str, text: &str) -> String {
    Place::new().env(name, text).error()
}

#[test]
fn without_sources_the_table_holds_the_defaults() {
    let table = Place::new().load().table();
    let rows: Vec<String> = table.iter().map(|(k, v, o)| format!("{k} | {v} | {o}")).collect();
    assert_eq!(
        rows.join("\n"),
        "node.id | auto | default\n\
         node.role | worker | default\n\
         node.data_dir | /var/lib/bzzz | default\n\
         node.labels |  | default\n\
         cluster.name | bzzz | default\n\
         cluster.mode | true | default\n\
         cluster.bootstrap | false | default\n\
         p2p.listen | /ip4/0.0.0.0/tcp/4001,/ip6/::/tcp/4001,/ip4/0.0.0.0/udp/4001/quic-v1,\
         /ip6/::/udp/4001/quic-v1 | default\n\
         p2p.announce |  | default\n\
         p2p.bootstrap_peers |  | default\n\
         p2p.mdns | true | default\n\
         p2p.relay | true | default\n\
         p2p.max_connections | 500 | default\n\
         api.listen | 127.0.0.1:8080 | default\n\
         election.interval | 24h | default\n\
         election.weights.stability | 30 | default\n\
         election.weights.resources | 25 | default\n\
         election.weights.position | 20 | default\n\
         election.weights.geography | 15 | default\n\
         election.weights.load | 10 | default\n\
         telemetry.log.level | info | default\n\
         telemetry.log.format | auto | default"
    );
}

#[test]
fn later_sources_win_and_each_origin_is_told() {
    let mut place = Place::new();
    place.sources.flag_names.insert("node.role".to_owned(), "--role".to_owned());
    place.write("etc/bzzz.toml", "[node]\nrole = 'file'\n[cluster]\nname = 'file'\n");
    assert_eq!(place.origin("node.id"), "default");
    assert_eq!(place.origin("node.role"), "file ~/etc/bzzz.toml:2");
    place.write("etc/conf.d/20.toml", "\n\nnode.role = 'second'").write("etc/conf.d/30.bak", "=");
    place.write("etc/conf.d/10.toml", "node.role = 'first'\nnode.id = 'first'");
    assert_eq!(place.origin("node.role"), "file ~/etc/conf.d/20.toml:3");
    assert_eq!(place.origin("node.id"), "file ~/etc/conf.d/10.toml:2");
    assert_eq!(place.load().files.len(), 3);
    let place = place.env("BZZZ_NODE__ROLE", "env");
    assert_eq!(place.origin("node.role"), "environment BZZZ_NODE__ROLE");
    let place = place.flag("node.role", "once").flag("node.role", "flag");
    assert_eq!(place.origin("node.role"), "flag --role");
    let config = place.load().config;
    assert_eq!((config.node.role.as_str(), config.node.id.as_str()), ("flag", "first"));
    assert_eq!(config.cluster.name, "file");
    let place = place.flag("cluster.name", "flag");
    assert_eq!(place.origin("cluster.name"), "flag --set cluster.name");
}

#[test]
fn the_first_file_of_the_search_is_the_only_one() {
    let id = |place: &Place| place.load().config.node.id;
    let place = Place::new();
    place.write("home/.config/bzzz/bzzz.toml", "node.id = 'home'");
    assert_eq!(id(&place), "home");
    place.write("etc/conf.d/a.toml", "node.id = 'drop-in'");
    assert_eq!(id(&place), "drop-in");
    place.write("etc/bzzz.toml", "node.id = 'etc'\nnode.role = 'etc'");
    assert_eq!(id(&place), "drop-in");
    place.write("cwd/bzzz.toml", "node.id = 'cwd'");
    assert_eq!(id(&place), "cwd");
    assert_eq!(place.load().config.node.role, "worker");
    place.write("cwd/env.toml", "node.id = 'env'");
    let mut place = place.env("BZZZ_CONFIG", "env.toml");
    assert_eq!(id(&place), "env");
    place.sources.config_flag = Some(place.root.path().join("etc/bzzz.toml"));
    assert_eq!(id(&place), "drop-in", "drop-ins belong to the system's file");
    place.sources.config_flag = Some("none.toml".into());
    assert!(place.error().starts_with("cannot read ~/cwd/none.toml named by --config: No such"));
    place.sources.config_flag = None;
    place.sources.env = vec![("BZZZ_CONFIG".to_owned(), "none.toml".to_owned())];
    assert!(place.error().starts_with("cannot read ~/cwd/none.toml named by BZZZ_CONFIG:"));
}

#[test]
fn unknown_keys_in_files_name_the_line_and_the_nearest_key() {
    for (text, error) in [
        (
            "[p2p]\n\nbootstrap_peer = []",
            "unknown key p2p.bootstrap_peer (file ~/cwd/bzzz.toml:3); did you mean \
             p2p.bootstrap_peers?",
        ),
        ("[nod]\nid = 'a'", "unknown key nod (file ~/cwd/bzzz.toml:1); did you mean node?"),
        (
            "[node]\nmax_connections = 5",
            "unknown key node.max_connections (file ~/cwd/bzzz.toml:2); did you mean \
             p2p.max_connections?",
        ),
        (
            "[cluster]\nsize = 5",
            "unknown key cluster.size (file ~/cwd/bzzz.toml:2); use one of the keys of [cluster]: \
             name, mode, bootstrap",
        ),
        (
            "color = 'red'",
            "unknown key color (file ~/cwd/bzzz.toml:1); use one of the sections node, cluster, \
             p2p, api, election, telemetry",
        ),
        (
            "election.weights = { stabilty = 30 }",
            "unknown key election.weights.stabilty (file ~/cwd/bzzz.toml:1); did you mean \
             election.weights.stability?",
        ),
    ] {
        assert_eq!(file_error(text), error);
    }
    assert!(file_error("'node.id' = 'a'").starts_with("unknown key \"node.id\" (file"));
    let error = file_error("[node]\nid = ");
    assert!(error.starts_with("syntax error in file ~/cwd/bzzz.toml:2: "), "{error}");
}

#[test]
fn unknown_variables_and_flags_are_told_the_nearest_name() {
    for (name, hint) in [
        ("BZZZ_P2P__BOOTSTRAP_PEER", "did you mean BZZZ_P2P__BOOTSTRAP_PEERS?"),
        ("BZZZ_NODE__ROLE_FIEL", "did you mean BZZZ_NODE__ROLE_FILE?"),
        ("BZZZ_CLUSTER__SIZE", "use one of the keys of [cluster]: name, mode, bootstrap"),
        (
            "BZZZ_ELECTION__WEIGHTS",
            "it is a table, set one of its keys: stability, resources, position, geography, load",
        ),
        ("BZZZ_ROEL", "did you mean BZZZ_ROLE?"),
    ] {
        assert_eq!(env_error(name, "x"), format!("unknown environment variable {name}; {hint}"));
    }
    assert_eq!(
        Place::new().flag("p2p", "x").error(),
        "unknown key p2p (flag --set p2p); it is a table, set one of its keys: listen, announce, \
         bootstrap_peers, mdns, relay, max_connections"
    );
    let mut place = Place::new().env("PATH", "x").env("BZZZ_SERVICE_HOST", "10.0.0.1");
    for name in OTHER_VARIABLES.iter().filter(|name| **name != "BZZZ_CONFIG") {
        place = place.env(name, "x");
    }
    place.load();
}

#[test]
fn variables_can_name_files() {
    let place = Place::new().env("BZZZ_ROLE_FILE", "role").env("BZZZ_CLUSTER__NAME_FILE", "name");
    place.write("cwd/role", "\n backend_developer \n").write("cwd/name", "lab\n");
    let loaded = place.load();
    assert_eq!(loaded.config.node.role, "backend_developer");
    assert_eq!(loaded.config.cluster.name, "lab");
    assert_eq!(place.origin("node.role"), "environment BZZZ_ROLE_FILE");

    let error = env_error("BZZZ_ROLE_FILE", "none");
    assert!(error.contains("~/cwd/none named by BZZZ_ROLE_FILE: No such"), "{error}");
    place.write("cwd/role", &"x".repeat(CONFIG_FILE_LEN_MAX as usize + 1));
    assert!(place.error().contains("it is larger than 65536 bytes"));
    fs::write(place.root.path().join("cwd/role"), [0xff]).unwrap();
    assert!(place.error().contains("it is not valid UTF-8"));
    for second in ["BZZZ_NODE__ROLE", "BZZZ_ROLE_FILE", "BZZZ_NODE__ROLE_FILE"] {
        assert_eq!(
            Place::new().env("BZZZ_ROLE", "a").env(second, "b").error(),
            format!("BZZZ_ROLE and {second} both set node.role, unset one of them")
        );
    }
    assert_eq!(Place::new().env("BZZZ_ROLE", "").load().config.node.role, "worker");
}

#[test]
fn the_names_of_the_seeds_work() {
    let place = Place::new()
        .env("BZZZ_ROLE", "backend_developer")
        .env("BZZZ_NODE_ID", "dev-node-01")
        .env("BZZZ_CLUSTER_MODE", "true")
        .env("BZZZ_BOOTSTRAP_PEERS", "/dns/bzzz-bootstrap/tcp/4001,10.0.0.7:4001");
    let config = place.load().config;
    assert_eq!(config.node.kind(), NodeKind::Worker);
    assert_eq!(config.node.agent_role(), Some("backend_developer"));
    assert_eq!(config.node.chosen_id(), Some("dev-node-01"));
    assert!(config.cluster.mode);
    let peers: Vec<String> = config.p2p.bootstrap_peers.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["/dns/bzzz-bootstrap/tcp/4001", "/ip4/10.0.0.7/tcp/4001"]);

    for (role, kind) in [
        ("worker", NodeKind::Worker),
        ("bootstrap", NodeKind::Bootstrap),
        ("storage", NodeKind::Storage),
        ("gateway", NodeKind::Gateway),
    ] {
        let node = Place::new().env("BZZZ_ROLE", role).load().config.node;
        assert_eq!((node.kind(), node.agent_role(), node.chosen_id()), (kind, None, None));
    }
}

#[test]
fn the_process_is_a_source() {
    let sources = Sources::of_process().unwrap();
    assert_eq!(sources.etc, Path::new(ETC_DIR));
    assert!(sources.env.iter().all(|(name, _)| name.starts_with("BZZZ_")));
}

#[test]
fn the_document_says_of_every_key_what_the_code_does() {
    let page = include_str!("../../../docs/configuration.md");
    let of_keys = page.split("\n## ").find(|part| part.starts_with("Keys\n")).unwrap();
    let rows: Vec<&str> = of_keys.lines().filter(|line| line.starts_with("| `")).collect();
    for key in KEYS {
        let start = format!("| `{}` |", key.name);
        let row = rows.iter().find(|row| row.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("{} is not in the document", key.name));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let default = match key.default {
            "" => ["empty", "none"].contains(&cells[3]),
            text => cells[3] == format!("`{text}`"),
        };
        assert!(default, "{}: {} is not its default", key.name, cells[3]);
        let alias = key.alias.map_or(String::new(), |alias| format!(", `{alias}`"));
        assert_eq!(cells[4], format!("`{}`{alias}", key.env_name()), "{}", key.name);
    }
    assert_eq!(rows.len(), KEYS.len(), "the document names a key that there is not");
}
