//! What the table leads to, what a row refuses, and what is made of the rows.

use std::collections::BTreeSet;

use warp::http::{HeaderMap, HeaderValue, Method};

use super::*;
use crate::http::route::Form;
use crate::http::{codes, openapi};

fn found(method: &str, path: &str) -> String {
    let segments: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
    match TABLE.find(&segments, method) {
        Found::Row(route, parts) => format!("{} {}", route.id, parts.join(" ")),
        Found::Otherwise(methods) => methods,
        Found::Nothing => "nothing".to_owned(),
    }
}

#[test]
fn the_row_that_names_more_of_a_path_comes_first() {
    for (method, path, expected) in [
        ("GET", "/health", "health "),
        ("POST", "/health", "GET, HEAD"),
        ("PATCH", "/api/v1/join-tokens", "GET, HEAD, POST"),
        ("GET", "/api/v1/decisions/a/b/c/d/e", "decision a b c d e"),
        ("GET", "/api/v1/decisions/a/b/c/d/e/history", "decision_history a b c d e"),
        ("GET", "/api/v1/decisions/a/b/c/d/e/~~1", "decision_version a b c d e ~~1"),
        ("GET", "/api/v1/ucxl", "values "),
        ("PUT", "/api/v1/ucxl", "GET, HEAD"),
        ("PUT", "/api/v1/ucxl/ai_models/x/y", "value_write ai_models/x/y"),
        ("DELETE", "/api/v1/ucxl/ai_models/x", "GET, HEAD, PUT"),
        ("GET", "/api/v1/ucxl/", "nothing"),
        ("GET", "/api/v1/nodes/", "nothing"),
        ("GET", "/api/v1/decisions/a//c/d/e", "nothing"),
        ("GET", "/api/v1/nodes/1/", "nothing"),
        ("GET", "/", "nothing"),
    ] {
        assert_eq!(found(method, path), expected, "{method} {path}");
    }
}

#[test]
fn every_row_is_whole() {
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for route in routes::all() {
        let id = route.id;
        assert!(ids.insert(id), "two rows are called {id}");
        assert!(
            places.insert((route.path, route.method.as_str())),
            "{id} stands at the place of another"
        );
        let named: Vec<&str> =
            route.path.split('/').filter_map(|part| part.strip_prefix('{')).collect();
        let named: Vec<&str> =
            named.iter().map(|part| part.trim_end_matches('}').trim_end_matches("..")).collect();
        let declared: Vec<&str> = route.params_of(Place::Path).map(|param| param.name).collect();
        assert_eq!(named, declared, "{id}: the path and its parameters");
        for param in route.params {
            let text = format!("{id}: {}", param.name);
            assert!(
                param.place != Place::Header || param.name == param.name.to_lowercase(),
                "{text}"
            );
            let example = param.example.map(|example| param.form.check(example));
            assert_eq!(example.unwrap_or(Ok(())), Ok(()), "{text}: its example");
            let is_path = param.place == Place::Path;
            assert!(!is_path || param.example.is_some(), "{text} has no example");
        }
        assert!(!route.replies.is_empty() && !route.help.is_empty(), "{id} says nothing");
        let tells = matches!(route.serve, Serve::Running(_));
        assert!(!route.is_for_all_hosts || !tells, "{id} tells of the node under any name");
        assert_eq!(route.is_for_all_hosts, matches!(id, "health" | "livez"), "{id}");
        let is_open = route.permission.is_none();
        let parts = route.permission.map(|name| name.split(':').collect::<Vec<_>>());
        let is_named = |parts: Vec<&str>| {
            parts.len() == 2 && ["read", "write", "admin", "inject"].contains(&parts[1])
        };
        assert!(parts.is_none_or(is_named), "{id}: {:?}", route.permission);
        assert!(!is_open || matches!(id, "health" | "livez" | "ready" | "readyz"), "{id} is open");
        for code in route.codes() {
            assert!(codes::find(code).is_some(), "{id}: {code} has no row");
        }
        assert!(route.body.is_none() || route.method != Verb::Get, "{id} reads with a body");
    }
}

/// What comes of a request that names all that is right, and then this.
async fn asked(
    route: &'static Route,
    query: &str,
    headers: &[(&'static str, &'static str)],
    body: &'static [u8],
) -> Result<Call, String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_static(value));
    }
    let parts: Vec<String> =
        route.params_of(Place::Path).map(|param| param.example.unwrap().to_owned()).collect();
    let method = Method::from_bytes(route.method.as_str().as_bytes()).unwrap();
    let mut request = Request::with_body(method, &format!("/x?{query}"), map, body);
    let call = checked(route, parts, &["x".to_owned()], &mut request).await;
    call.map_err(|error| {
        assert!(route.codes().contains(&error.code()), "{} lacks {}", route.id, error.code());
        error.code().to_owned()
    })
}

fn row(id: &str) -> &'static Route {
    routes::all().find(|route| route.id == id).unwrap()
}

#[tokio::test]
async fn what_a_row_does_not_declare_is_refused_by_every_row() {
    for route in routes::all() {
        let refused = |code: &str| Some(code.to_owned());
        assert_eq!(
            asked(route, "nosuch=1", &[], b"").await.err(),
            refused("INVALID"),
            "{}",
            route.id
        );
        let name = [("x-bzzz-nosuch", "1")];
        assert_eq!(asked(route, "", &name, b"").await.err(), refused("INVALID"), "{}", route.id);
        let condition = [("if-unmodified-since", "x")];
        let given = asked(route, "", &condition, b"").await;
        assert_eq!(given.err(), refused("CONDITION_UNSUPPORTED"), "{}", route.id);
        let csv = [("content-type", "text/csv")];
        let code = if route.body.is_some() { "MEDIA_TYPE_WRONG" } else { "INVALID" };
        assert_eq!(asked(route, "", &csv, b"x").await.err(), refused(code), "{}", route.id);
        let zipped = [("content-encoding", "gzip")];
        assert_eq!(asked(route, "", &zipped, b"x").await.err(), refused(code), "{}", route.id);
        let packed = [("transfer-encoding", "gzip, chunked")];
        assert_eq!(asked(route, "", &packed, b"x").await.err(), refused(code), "{}", route.id);
        let range = [("content-range", "bytes 0-1/2")];
        assert_eq!(asked(route, "", &range, b"").await.err(), refused("INVALID"), "{}", route.id);
        let Some(body) = &route.body else { continue };
        let is_missing = asked(route, "", &[], b"").await.is_err();
        assert_eq!(is_missing, body.is_required, "{}", route.id);
        let plain = asked(route, "", &[("content-encoding", "identity")], b"{}").await;
        assert!(plain.is_ok_and(|call| call.body == b"{}"), "{}: its own type", route.id);
    }
}

#[tokio::test]
async fn parameters_say_what_they_may_and_once() {
    let values = row("values");
    for bad in [
        "limit=0",
        "limit=501",
        "limit=01",
        "limit=%2B1",
        "limit=1&limit=2",
        "limit=",
        "stale=",
        "stale=1",
        "stale=TRUE",
        "cursor=",
        "a=1",
        "limit=%zz",
    ] {
        assert_eq!(asked(values, bad, &[], b"").await.err().as_deref(), Some("INVALID"), "{bad}");
    }
    let call = asked(values, "limit=500&prefix=ai+x&stale=true", &[], b"").await.unwrap();
    let limit = values.params[1];
    assert_eq!((call.number(limit), call.text(values.params[0])), (Some(500), Some("ai x")));
    let call = asked(values, "&", &[], b"").await.unwrap();
    assert_eq!((call.number(limit), call.flag(values.params[3])), (Some(100), false));
    let events = row("events");
    assert!(asked(events, "topic=election,peer", &[], b"").await.is_ok());
    for bad in
        ["topic=nosuch", "topic=election,", "topic=", "since=-1", "since=18446744073709551616"]
    {
        assert_eq!(asked(events, bad, &[], b"").await.err().as_deref(), Some("INVALID"), "{bad}");
    }
    let twice = [("last-event-id", "1"), ("last-event-id", "1")];
    assert!(asked(events, "", &twice, b"").await.is_err());
}

#[tokio::test]
async fn promises_are_taken_where_they_are_kept() {
    let write = row("value_write");
    assert!(
        asked(write, "", &[("if-match", "\"1\""), ("idempotency-key", "k")], b"v").await.is_ok()
    );
    for bad in ["a\tb", ""] {
        let headers = [("if-none-match", "*"), ("idempotency-key", bad)];
        assert!(asked(write, "", &headers, b"v").await.is_err(), "{bad:?}");
    }
    let token = row("token_make");
    let code = async |headers| asked(token, "", headers, b"{}").await.err();
    assert_eq!(code(&[("if-match", "\"3\"")]).await.as_deref(), Some("CONDITION_UNSUPPORTED"));
    assert_eq!(code(&[("idempotency-key", "k")]).await.as_deref(), Some("INVALID"));
    // Whoever has something may say so wherever something is read.
    let status = row("status");
    assert!(asked(status, "", &[("if-none-match", "\"1\"")], b"").await.is_ok());
    assert!(asked(status, "", &[("if-match", "\"1\"")], b"").await.is_err());
}

#[test]
fn a_form_takes_one_spelling() {
    let number = Form::Number { min: 1, max: 10, default: None };
    for good in ["1", "10"] {
        assert_eq!(number.check(good), Ok(()), "{good}");
    }
    for bad in ["", "0", "11", "01", "+1", "-1", "1.0", " 1", "1 ", "x", "99999999999999999999"] {
        assert!(number.check(bad).is_err(), "{bad}");
    }
}

#[test]
fn who_has_it_already_gets_no_second_one() {
    let read = |id: &str, tags: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for tag in tags {
            headers.append("if-none-match", HeaderValue::from_static(tag));
        }
        let request = Request::for_test(Method::GET, "/", headers);
        let mut response = Response::new("x".into());
        set(&mut response, header::ETAG, "\"3\"");
        offer(row(id), &request, &mut response);
        response.status().as_u16()
    };
    for tags in [&["\"3\""][..], &["W/\"3\""], &["\"1\", \"3\""], &["*"], &["\"1\"", "\"3\""]] {
        assert_eq!(read("value", tags), 304, "{tags:?}");
    }
    for tags in [&[][..], &["\"4\""], &["3"], &["\"33\""]] {
        assert_eq!(read("value", tags), 200, "{tags:?}");
    }
    assert_eq!(read("status", &["\"3\""]), 200, "it has no tag");
    assert_eq!(read("value_write", &["*"]), 200, "a write is done");
}

#[test]
fn the_document_has_every_row_and_nothing_else() {
    let document = serde_json::to_value(openapi::document(routes::all())).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let route = row(id);
            assert_eq!(route.path.replace("..}", "}"), *path);
            assert_eq!(route.method.as_str(), method.to_uppercase());
            let codes = operation["responses"].as_object().unwrap();
            assert!(codes.contains_key("405") && codes.contains_key("400"), "{id}");
            operations += 1;
        }
    }
    assert_eq!(operations, routes::all().count());
    assert!(serde_json::to_vec(&document).unwrap().len() < 256 * 1024);
}

/// The table of docs/api.md.
fn table() -> String {
    let line = |route: &Route| {
        let mut params: Vec<String> = Vec::new();
        params.extend(route.params_of(Place::Query).map(|param| format!("`{}`", param.name)));
        params.extend(route.params_of(Place::Header).map(|param| format!("`{}`", param.name)));
        let body = match &route.body {
            Some(body) => {
                let optional =
                    if body.is_required || body.type_name.is_none() { "" } else { ", optional" };
                format!("`{}`, {} B{optional}", body.content_type, body.most)
            }
            None => String::new(),
        };
        let mut statuses: BTreeSet<u16> = route.replies.iter().map(|reply| reply.status).collect();
        if route.is_tagged {
            statuses.insert(304);
        }
        let statuses: Vec<String> = statuses.iter().map(u16::to_string).collect();
        let codes: BTreeSet<&str> = route.own_codes().into_iter().collect();
        let codes: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
        format!(
            "| `{} {}` | {} | `{}` | {} | {body} | {} | {} |",
            route.method.as_str(),
            route.path.replace("..}", "}"),
            route.help,
            route.permission.unwrap_or("open"),
            params.join(", "),
            statuses.join(", "),
            codes.join(", ")
        )
    };
    routes::all().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_documentation_has_the_table_of_routes() {
    let (document, table) = (include_str!("../../../docs/api.md"), table());
    assert!(document.contains(&table), "docs/api.md has to have this table of routes:\n{table}");
}

#[test]
fn the_documentation_names_no_other_routes() {
    let document = include_str!("../../../docs/api.md");
    for verb in ["GET", "PUT", "POST", "DELETE"] {
        for rest in document.split(&format!("`{verb} /")).skip(1) {
            let path = rest.split(['`', '?', ' ']).next().unwrap();
            let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
            let is_there = matches!(TABLE.find(&segments, verb), Found::Row(..));
            assert!(is_there, "docs/api.md names {verb} /{path}");
        }
    }
}
