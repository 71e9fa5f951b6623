//! From a request to its row in the table of routes, and from what the route says to a response.
//!
//! Flow, each step only if those before it let the request pass: the form of the target -> the row of the path and the
//! method -> the phase of this process -> Host and Origin -> the token -> what the row declares of the path, the query
//! and the headers -> the body -> the route. So a stranger learns nothing of paths, and a body is read last.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Instant;

use warp::http::header::HeaderName;
use warp::http::{StatusCode, header};
use warp::reply::Response;

use super::answer::{Answer, fresh_id, set, typed};
use super::api::{PROBLEM_TYPE, REQUEST_ID_HEADER, TOKEN_FILE};
use super::app::{Api, Phase};
use super::call::Call;
use super::problem::{ApiError, shown};
use super::request::Request;
use super::route::{Param, Place, Route, Serve, Verb};
use super::server::Service;
use super::{host, media, routes};
use crate::types::limits::HTTP_REQUEST_ID_LEN_MAX;

/// Headers that promise something: passed over where a path does not keep it, they would deceive.
const PROMISES: [&str; 6] = [
    "content-range",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "if-modified-since",
    "idempotency-key",
];
/// What the headers of this API begin with.
const OWN_HEADERS: &str = "x-bzzz-";

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::of(routes::all()));

/// A part of a row's path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// This segment.
    Is(&'static str),
    /// Any segment.
    One,
    /// All that follow, at least one.
    Rest,
}

impl Part {
    fn of(text: &'static str) -> Self {
        match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            None => Self::Is(text),
            Some(name) if name.ends_with("..") => Self::Rest,
            Some(_) => Self::One,
        }
    }
}

/// A row of the table, and the parts of its path.
struct Row {
    parts: Vec<Part>,
    route: &'static Route,
}

impl Row {
    /// What the parts of a path say to this row, if it fits. No part may be empty.
    fn fit(&self, segments: &[String]) -> Option<Vec<String>> {
        let is_long_enough = match self.parts.last() {
            Some(Part::Rest) => segments.len() >= self.parts.len(),
            _ => segments.len() == self.parts.len(),
        };
        if !is_long_enough || segments.iter().any(String::is_empty) {
            return None;
        }
        let mut found = Vec::new();
        for (at, (part, segment)) in self.parts.iter().zip(segments).enumerate() {
            match part {
                Part::Is(text) if text == segment => {}
                Part::Is(_) => return None,
                Part::One => found.push(segment.clone()),
                Part::Rest => found.push(segments[at..].join("/")),
            }
        }
        Some(found)
    }
}

/// What a path and a method lead to.
enum Found {
    /// To a row, and what the parts of the path say to it.
    Row(&'static Route, Vec<String>),
    /// To nothing, but for these methods there is something.
    Otherwise(String),
    /// To nothing.
    Nothing,
}

/// The rows, those that name more of a path first.
struct Table {
    rows: Vec<Row>,
}

impl Table {
    fn of(routes: impl Iterator<Item = &'static Route>) -> Self {
        let parts =
            |route: &'static Route| route.path.split('/').skip(1).map(Part::of).collect::<Vec<_>>();
        let mut rows: Vec<Row> = routes.map(|route| Row { parts: parts(route), route }).collect();
        rows.sort_by(|a, b| a.parts.cmp(&b.parts));
        Self { rows }
    }

    fn find(&self, segments: &[String], method: &str) -> Found {
        let mut methods = BTreeSet::new();
        for row in &self.rows {
            let Some(found) = row.fit(segments) else { continue };
            if row.route.method.as_str() == method {
                return Found::Row(row.route, found);
            }
            methods.insert(row.route.method.as_str());
            if row.route.method == Verb::Get {
                methods.insert("HEAD");
            }
        }
        match methods.is_empty() {
            true => Found::Nothing,
            false => Found::Otherwise(methods.into_iter().collect::<Vec<_>>().join(", ")),
        }
    }
}

impl Service for Api {
    async fn answer(&self, request: &mut Request) -> Response {
        answer(self, request).await
    }

    fn stop(&self) {
        if let Phase::Running(app) = self.phase() {
            app.stopping.send_replace(true);
        }
    }
}

/// Answers a request, whatever it is.
async fn answer(api: &Api, request: &mut Request) -> Response {
    let id = request_id(request);
    let phase = api.phase();
    let (mut row, began): (Option<&Route>, _) = (None, Instant::now());
    let result = serve(api, &phase, request, &mut row).await;
    if let Err(error) = &result {
        let (method, path) = (&request.method, &request.path);
        tracing::debug!(%method, path, request_id = id, code = error.code(), "request refused");
        debug_assert!(
            row.is_none_or(|row| row.codes().contains(&error.code())),
            "{:?} does not declare {}",
            row.map(|row| row.id),
            error.code()
        );
        api.counts.refused(error.code());
    }
    let member = || match &phase {
        Phase::Running(app) => Some(app.node.member().to_string()),
        Phase::Setup(_) => None,
    };
    let mut response = result.unwrap_or_else(|error| problem(error, &id, member()));
    if let Some(row) = row {
        offer(row, request, &mut response);
        api.counts.answered(row, response.status().as_u16(), began.elapsed());
    }
    set(&mut response, HeaderName::from_static(REQUEST_ID_HEADER), &id);
    set(&mut response, header::CACHE_CONTROL, "no-store");
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

/// What a row says of each of its answers: by what else it is chosen, and that the client has it already.
fn offer(row: &Route, request: &Request, response: &mut Response) {
    let mut types = row.replies.iter().map(|reply| reply.content_type);
    let first = types.next();
    if types.any(|other| Some(other) != first) {
        set(response, header::VARY, "Accept");
    }
    let is_read = row.is_tagged && row.method == Verb::Get && response.status() == StatusCode::OK;
    let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let wanted = request.headers.get_all(header::IF_NONE_MATCH).iter();
    let has = |tag: &str| wanted.filter_map(|text| text.to_str().ok()).any(|text| has(text, tag));
    if is_read && tag.is_some_and(has) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Vec::new().into();
        response.headers_mut().remove(header::CONTENT_TYPE);
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
}

/// True if a list of tags has this one; the weak form of a tag is the same here.
fn has(list: &str, tag: &str) -> bool {
    list.split(',')
        .map(str::trim)
        .any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag)
}

fn problem(error: ApiError, id: &str, node_id: Option<String>) -> Response {
    let (status, problem, headers) = error.into_parts(id, node_id);
    let mut response =
        typed(status, PROBLEM_TYPE, &problem).unwrap_or_else(|_| Response::new(Vec::new().into()));
    *response.status_mut() = status;
    response.headers_mut().extend(headers);
    response
}

/// The id that the client chose if it is harmless, or a fresh one.
fn request_id(request: &Request) -> String {
    let chosen = request.headers.get(REQUEST_ID_HEADER).and_then(|id| id.to_str().ok());
    let harmless = |id: &&str| {
        (1..=HTTP_REQUEST_ID_LEN_MAX).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b))
    };
    match chosen.filter(harmless) {
        Some(id) => id.to_owned(),
        None => fresh_id(),
    }
}

fn check_token(api: &Api, request: &Request) -> Result<(), ApiError> {
    let refused = |detail: &str| {
        Err(ApiError::new("UNAUTHORIZED", detail).header(header::WWW_AUTHENTICATE, "Bearer").hint(
            format!(
                "send `Authorization: Bearer TOKEN` with the token in the file {TOKEN_FILE} of \
                 the node's data directory"
            ),
        ))
    };
    let Some(value) = request.header("authorization")? else {
        return refused("the request carries no token");
    };
    match value.as_bytes().split_first_chunk::<7>() {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
            if api.token.is(token.trim_ascii()) {
                return Ok(());
            }
            refused("the token is not the one of this node")
        }
        _ => refused("the Authorization header is not of the form `Bearer TOKEN`"),
    }
}

/// Finds the route and has it answer. From here on every way out is an answer or a problem.
async fn serve(
    api: &Api,
    phase: &Phase,
    request: &mut Request,
    row: &mut Option<&'static Route>,
) -> Answer {
    request.check_target()?;
    let segments = request.segments()?;
    let found = TABLE.find(&segments, request.method.as_str());
    let is_for = |serve: fn(&Serve) -> bool| match &found {
        Found::Row(route, _) => serve(&route.serve),
        Found::Otherwise(_) | Found::Nothing => false,
    };
    // Whatever else may be wrong with a request, it is not looked at yet.
    if let Phase::Setup(setup) = phase
        && !is_for(|serve| !matches!(serve, Serve::Running(_)))
    {
        return Err(setup.not_yet());
    }
    let is_open = matches!(&found, Found::Row(route, _) if route.permission.is_none());
    if !matches!(&found, Found::Row(route, _) if route.is_for_all_hosts) {
        host::check(request)?;
    }
    // What is not there is told to those only who may know what is there.
    let is_inside = matches!(segments.first().map(String::as_str), Some("api" | "metrics"));
    if !is_open && is_inside && !request.local {
        check_token(api, request)?;
    }
    let (route, parts) = match found {
        Found::Row(route, parts) => (route, parts),
        Found::Otherwise(methods) => return Err(ApiError::method(&methods)),
        Found::Nothing => return Err(nowhere(&request.path)),
    };
    *row = Some(route);
    let mut call = checked(route, parts, &segments, request).await?;
    match (route.serve, phase) {
        (Serve::Always(serve), _) => serve(api, &mut call).await,
        (Serve::Setup(serve), Phase::Setup(setup)) => serve(setup, &mut call).await,
        (Serve::Running(serve), Phase::Running(app)) => serve(app, &mut call).await,
        (Serve::Setup(_), Phase::Running(_)) => {
            Err(nowhere(&request.path).hint("this node is a member; nothing is left to set up"))
        }
        (Serve::Running(_), Phase::Setup(setup)) => Err(setup.not_yet()),
    }
}

/// Checks what a request says against its row, and reads its body.
async fn checked(
    route: &'static Route,
    parts: Vec<String>,
    segments: &[String],
    request: &mut Request,
) -> Result<Call, ApiError> {
    let mut given: Vec<(&'static Param, String)> = Vec::new();
    for (param, text) in route.params_of(Place::Path).zip(parts) {
        given.push((param, formed(param, text)?));
    }
    for (name, text) in request.pairs()? {
        let Some(param) = route.params_of(Place::Query).find(|param| param.name == name) else {
            return Err(unknown(route, &shown(&name)));
        };
        if given.iter().any(|(known, _)| known.is(param)) {
            return Err(ApiError::invalid(param.name, "it is there twice"));
        }
        given.push((param, formed(param, text)?));
    }
    check_headers(route, request)?;
    for param in route.params_of(Place::Header) {
        if let Some(text) = request.header(param.name)? {
            given.push((param, formed(param, text.to_owned())?));
        }
    }
    // What a client takes is a wish, and a header of it that is no text says nothing.
    let accepts = request.headers.get_all(header::ACCEPT).iter();
    let accept: Vec<&str> = accepts.filter_map(|text| text.to_str().ok()).collect();
    let accept = accept.join(",");
    let body = body(route, request).await?;
    Ok(Call {
        route,
        given,
        body,
        accept,
        path: format!("/{}", segments.join("/")),
        connection: request.connection.clone(),
        is_local: request.local,
        is_head: request.is_head,
    })
}

fn formed(param: &Param, text: String) -> Result<String, ApiError> {
    param.form.check(&text).map_err(|reason| ApiError::invalid(param.name, reason))?;
    Ok(text)
}

fn unknown(route: &Route, name: &str) -> ApiError {
    let known: Vec<&str> = route.params_of(Place::Query).map(|param| param.name).collect();
    let reason = match known.is_empty() {
        true => "this path takes no parameters".to_owned(),
        false => format!("there is no such parameter here; there is {}", known.join(", ")),
    };
    ApiError::invalid(if name.is_empty() { "query" } else { name }, reason)
}

fn check_headers(route: &Route, request: &Request) -> Result<(), ApiError> {
    // A read of something without a tag is whole whatever its reader has.
    let is_harmless = |name: &str| {
        route.method == Verb::Get && matches!(name, "if-none-match" | "if-modified-since")
    };
    for name in request.headers.keys().map(HeaderName::as_str) {
        let counts = PROMISES.contains(&name) || name.starts_with(OWN_HEADERS);
        let is_declared = route.params_of(Place::Header).any(|param| param.name == name);
        if !counts || is_declared || is_harmless(name) {
            continue;
        }
        return Err(match name.starts_with("if-") {
            true => ApiError::new("CONDITION_UNSUPPORTED", format!("this path knows no {name}"))
                .hint("leave the condition out"),
            false => ApiError::invalid(name, "this path does not take it; leave it out"),
        });
    }
    Ok(())
}

async fn body(route: &Route, request: &mut Request) -> Result<Vec<u8>, ApiError> {
    // Where there are no bytes none is there, whatever is said of it.
    let is_there = request.has_body().await;
    let Some(body) = &route.body else {
        return match is_there {
            true => Err(ApiError::invalid("body", "this path takes none; leave it out")),
            false => Ok(Vec::new()),
        };
    };
    if !is_there {
        return match body.is_required {
            true => Err(ApiError::invalid("body", "it is missing; send a JSON object")),
            false => Ok(Vec::new()),
        };
    }
    check_encoding(request)?;
    // A missing one is the route's own.
    let given = request.header("content-type")?;
    if let Some(given) = given.filter(|text| !media::is(text, body.content_type)) {
        let wanted = body.content_type;
        let detail = format!("the body is {:?}, and this path takes {wanted}", shown(given));
        return Err(ApiError::new("MEDIA_TYPE_WRONG", detail)
            .header(header::ACCEPT, wanted)
            .hint(format!("send it with `Content-Type: {wanted}`")));
    }
    request.body_up_to(body.most, body.over).await
}

/// A body is taken as it is: what is encoded would be kept that way.
fn check_encoding(request: &Request) -> Result<(), ApiError> {
    for (name, plain) in [("content-encoding", "identity"), ("transfer-encoding", "chunked")] {
        let encoding = request.header(name)?;
        if let Some(encoding) = encoding.filter(|text| !text.eq_ignore_ascii_case(plain)) {
            let detail = format!("the body is encoded as {:?}", shown(encoding));
            return Err(ApiError::new("MEDIA_TYPE_WRONG", detail)
                .header(header::ACCEPT_ENCODING, "identity")
                .hint(format!("send it as it is, without {name}")));
        }
    }
    Ok(())
}

/// Nothing is at this path.
fn nowhere(path: &str) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", shown(path)))
        .hint("the paths of the API begin with /api/v1/, as in /api/v1/status")
}

#[cfg(test)]
mod tests;
