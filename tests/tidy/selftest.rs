//! Small sources that break each rule, and close relatives that do not.

use super::rules::{RULES, Rule, Source, forbidden_words, is_outside, module_doc};
use super::tables::{FILE_LINES_MAX, FORBIDDEN, FUNCTION_LINES_MAX, MARKERS};

/// The rules that find something in this file, and where.
fn broken(path: &str, code: &str) -> Vec<(&'static str, usize)> {
    let source = Source::new(path, &format!("//! A file.\n{code}"));
    let found = |(rule, find): &Rule| {
        let rule = *rule;
        find(&source).into_iter().map(move |(line, _)| (rule, line))
    };
    RULES.iter().flat_map(found).collect()
}

#[test]
fn layers_are_checked() {
    for (path, code) in [
        ("src/types/a.rs", "use crate::core::election::lease::Lease;"),
        ("src/core/a.rs", "use crate::{types::Mono, ports::{Clock, Host}};"),
        ("src/core/a.rs", "fn f() { crate :: actors::g() }"),
        ("src/core/a/b.rs", "use super::super::super::actors;"),
        ("src/core/mod.rs", "use super::actors;"),
        ("src/messages/a.rs", "use crate::crypto::Vault;"),
        ("src/adapters/a.rs", "pub(in crate::core) struct A;"),
        ("src/node/a.rs", "use crate::*;"),
        ("src/node/a.rs", "#[cfg(test)]\nmod tests { use crate::adapters::x; }"),
        ("src/helpers/a.rs", "struct A;"),
    ] {
        let found = broken(path, code);
        assert!(found.len() == 1 && found[0].0 == "layers", "{path}: {code}: {found:?}");
    }
    for (path, code) in [
        ("src/core/a.rs", "use crate::{core::x, types::{Mono, Wall}}; use super::b;"),
        ("src/core/a.rs", "// crate::actors\nconst A: &str = \"use crate::actors;\";"),
        ("src/types/a.rs", "#[cfg(test)]\nmod tests {\n    use super::super::b;\n}"),
        ("src/main.rs", "use crate::anything;"),
    ] {
        assert_eq!(broken(path, code), [], "{path}: {code}");
    }
}

#[test]
fn what_a_machine_is_told_stays_in_its_folder() {
    for (path, code) in [
        ("src/core/peers/a.rs", "fn f() { out.cast(gossip::Msg::Greet(peer)) }"),
        ("src/core/election/machine.rs", "use crate::core::records::coordinator::Msg;"),
        ("src/http/a.rs", "use crate::core::{front::{self, Msg}, peers};"),
    ] {
        let found = broken(path, code);
        assert!(found == [("messages-of-others", 2)], "{path}: {code}: {found:?}");
    }
    for (path, code) in [
        ("src/core/gossip/machine.rs", "fn f() { out.cast(super::gossip::Msg::Greet(peer)) }"),
        ("src/core/records/replica.rs", "fn f() { out.cast(copier::Msg::Whole) }"),
        ("src/core/keys.rs", "fn f() { out.cast(keys::Msg::A) }"),
        ("src/actors/network.rs", "fn f() { peers::Msg::Up(peer) }"),
        ("src/core/a.rs", "fn f() { other::Msg::A }"),
    ] {
        let found = broken(path, code);
        assert!(found.is_empty(), "{path}: {code}: {found:?}");
    }
}

#[test]
fn versions_of_messages_stay_with_them() {
    for (path, code) in [
        ("src/core/a.rs", "use crate::messages::wire::v1::Message;"),
        ("simulations/src/a.rs", "use bzzz::messages::wire::peers::v2::Hello;"),
    ] {
        let found = broken(path, code);
        assert!(found == [("versions-of-messages", 2)], "{path}: {code}: {found:?}");
    }
    for (path, code) in [
        ("src/messages/wire/peers.rs", "use super::wire::v1::Hello;"),
        ("src/core/a.rs", "use crate::messages::wire::Message; fn f() { v1::a() }"),
    ] {
        let found = broken(path, code);
        assert!(found.is_empty(), "{path}: {code}: {found:?}");
    }
}

#[test]
fn routes_stay_apart() {
    for code in [
        "use super::nodes;",
        "use crate::http::routes::nodes;",
        "use crate::http::router;",
        "use crate::http;",
        "use crate::http::*;",
    ] {
        let found = broken("src/http/routes/a.rs", code);
        assert!(found == [("routes-apart", 2)], "{code}: {found:?}");
    }
    for (path, code) in [
        ("src/http/routes/a.rs", "use crate::http::answer::ok; use crate::http::server::REASONS;"),
        ("src/http/routes/mod.rs", "use super::route::Route;"),
        ("src/http/router.rs", "use super::routes;"),
    ] {
        let found = broken(path, code);
        assert!(found.is_empty(), "{path}: {code}: {found:?}");
    }
}

#[test]
fn banned_names_are_checked() {
    for (path, code) in [
        ("src/core/a.rs", "use tokio::sync::mpsc;"),
        ("src/ports/a.rs", "async fn f() {}"),
        ("src/core/a.rs", "fn f() { g().await }"),
        ("src/types/a.rs", "use std::{collections::{BTreeMap, HashMap}, fmt};"),
        ("src/types/a.rs", "use std::net::{IpAddr, TcpStream};"),
        ("src/crypto/a.rs", "fn f() { rand::rng(); }"),
        ("src/actors/a.rs", "use std::time::{Duration, Instant as Now};"),
        ("src/actors/a.rs", "fn f() { tokio::select! {} }"),
        ("src/actors/a.rs", "fn f() { tokio::spawn(g()) }"),
        ("src/consensus/a.rs", "use tokio::task; fn f() { task::spawn(g()) }"),
        ("src/supervisors/a.rs", "fn f() { cell.get_children() }"),
        ("src/node.rs", "use tokio::sync::{oneshot, watch};"),
        ("simulations/src/a.rs", "use std::collections::HashSet;"),
        ("src/node.rs", "use std::fs::File;"),
        ("src/node/a.rs", "use ractor::pg;"),
    ] {
        let found = broken(path, code);
        assert!(found == [("banned-names", 2)], "{path}: {code}: {found:?}");
    }
    for (path, code) in [
        ("src/core/a.rs", "use std::net::{IpAddr, SocketAddr};"),
        ("src/core/a.rs", "/* tokio /* HashMap */ ractor */ const A: &str = r#\"\"tokio\"#;"),
        ("src/core/a.rs", "const A: char = '\"'; const B: char = '\\''; // tokio"),
        ("src/core/a.rs", "#[cfg(test)]\nmod tests {\n    use std::collections::HashMap;\n}"),
        ("src/core/a/tests.rs", "use std::collections::HashMap;"),
        ("src/actors/a.rs", "use std::sync::*; async fn f<'a>(x: &'a str) { g(x).await }"),
        ("src/consensus/runtime.rs", "fn f() { tokio::task::spawn(g()) }"),
        ("simulations/src/main.rs", "use std::time::Instant;"),
        ("src/adapters/a.rs", "use std::time::Instant; use std::collections::HashMap;"),
    ] {
        assert_eq!(broken(path, code), [], "{path}: {code}");
    }
}

#[test]
fn shape_is_checked() {
    let bare = Source::new("src/core/a.rs", "use std::fmt;\n");
    assert_eq!(module_doc(&bare).len(), 1);
    let code = "struct A;\n\n// a comment\n".repeat(FILE_LINES_MAX);
    assert_eq!(broken("src/core/a.rs", &code), []);
    assert_eq!(broken("src/core/a.rs", &format!("{code}struct B;"))[0].0, "file-length");
    assert_eq!(broken("src/core/a.rs", &format!("{code}#[cfg(test)]\nmod tests {{\n}}")), []);
    let body = "    g(\"}\", '}', [0; 3]); // }\n".repeat(FUNCTION_LINES_MAX - 2);
    let long = format!("trait T {{ fn g(a: [u8; 3]); }}\nfn f() {{\n{body}}}\nfn h() {{}}\n");
    assert_eq!(broken("simulations/src/a.rs", &long), []);
    let longer = long.replacen("fn f() {\n", "fn f() {\n\n", 1);
    assert_eq!(broken("simulations/src/a.rs", &longer), [("function-length", 3)]);
}

#[test]
fn what_is_left_behind_is_found() {
    for code in ["fn f() { todo!() }", "fn f() { std::unimplemented!() }", "fn f() { dbg!(1); }"] {
        assert_eq!(broken("tests/a.rs", code), [("left-behind", 2)], "{code}");
    }
    for marker in MARKERS {
        assert_eq!(broken("simulations/src/a.rs", &format!("// {marker}: it")).len(), 1);
        assert_eq!(broken("src/core/a.rs", &format!("// {marker}S_ANY")), []);
    }
    for code in ["#[ignore]", "#[ ignore = \"slow\" ]", "#[cfg_attr(miri, ignore)]"] {
        assert_eq!(broken("tests/a.rs", code), [("ignored-tests", 2)], "{code}");
    }
    assert_eq!(broken("src/core/a.rs", "fn f() { a.ignore(todo != dbg); }"), []);
}

#[test]
fn only_tests_are_exempt() {
    let tests = "#[cfg(test)]\nmod tests {\n    use std::collections::HashSet;\n}\n";
    assert_eq!(broken("src/core/a.rs", tests), []);
    let late = format!("{tests}fn f() {{}}\n");
    assert_eq!(broken("src/core/a.rs", &late), [("tests-last", 6)]);
    let late = format!("{tests}mod a {{\n}}\n");
    assert_eq!(broken("src/core/a.rs", &late), [("tests-last", 6)]);
    assert_eq!(broken("src/core/a.rs", "mod tests;\n"), [("tests-last", 2)]);
    let declared = "#[cfg(test)]\nmod tests;\nuse std::collections::HashSet;\n";
    assert_eq!(broken("src/core/a.rs", declared), [("banned-names", 4)]);
    let lone = "#[cfg(test)]\npub fn f() {}\nuse std::collections::HashSet;\n";
    assert_eq!(broken("src/core/a.rs", lone), [("banned-names", 4)]);
    let import = "#[cfg(test)]\nuse std::fs;\nuse std::collections::HashSet;\n";
    assert_eq!(broken("src/core/a.rs", import), [("banned-names", 3), ("banned-names", 4)]);
}

#[test]
fn places_are_found() {
    let found = |path: &str, text: String| forbidden_words(path, &text).len();
    for word in FORBIDDEN {
        assert_eq!(found("README.md", format!("see `{word}x`")), 1, "{word}");
        assert_eq!(found("README.md", format!("net{word}x")), 0, "{word}");
    }
    let lock = |from: &str| format!("source = \"{from}\"\n");
    let ours = "registry+https://github.com/rust-lang/crates.io-index";
    assert_eq!(found("Cargo.lock", lock(ours)), 0);
    assert_eq!(found("sdk/rust/Cargo.lock", lock("registry+https://example.org/index")), 1);
    assert_eq!(found("Cargo.lock", lock("git+https://example.org/a?rev=1#1")), 1);
    assert!(is_outside("libp2p-core v0.44.0") && is_outside("warp v0.4.3"));
    assert!(!is_outside("warped v1.0.0") && !is_outside("tokio v1.54.0"));
}
