//! From a request to its handler, and from what the handler says to a response.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use warp::http::header::{HeaderName, HeaderValue};
use warp::http::{Method, StatusCode, header};
use warp::reply::Response;

use super::api::{PROBLEM_TYPE, REQUEST_ID_HEADER, STALE_HEADER, TOKEN_FILE};
use super::problem::ApiError;
use super::request::Request;
use super::server::Connections;
use super::token::ApiToken;
use super::{
    actors, decisions, dht, election, events, faults, metrics, nodes, slurp, status, tokens, ucxl,
};
use crate::adapters::clock::SystemClock;
use crate::adapters::entropy::SystemEntropy;
use crate::adapters::journal::JournalStats;
use crate::adapters::lines::Lines;
use crate::adapters::network::NetworkStats;
use crate::adapters::records::RecordStats;
use crate::core::front;
use crate::node::Node;
use crate::ports::Entropy as _;
use crate::services::decisions::Decisions;
use crate::types::{Lock, MemberId, Mono};

/// Bytes of a request id that a client chose.
const REQUEST_ID_LEN_MAX: usize = 64;

/// What a handler answers.
pub type Answer = Result<Response, ApiError>;

/// Counters of adapters, for `/metrics`.
#[derive(Clone, Default)]
pub struct Sources {
    /// Of the network.
    pub network: Option<Arc<NetworkStats>>,
    /// Of the journals, by name.
    pub journals: Vec<(&'static str, Arc<JournalStats>)>,
    /// Of the record store.
    pub records: Option<Arc<RecordStats>>,
    /// The log's way out.
    pub log: Option<Lines>,
}

/// What the handlers share.
pub struct App {
    /// The node.
    pub node: Arc<Node>,
    /// Its display name until the cluster tells one.
    pub name: String,
    /// How often its data directory was started.
    pub boot_counter: u64,
    /// When it was started.
    pub started: Mono,
    /// Where the API listens.
    pub api: SocketAddr,
    /// The token of the API.
    pub token: ApiToken,
    /// The clock, which may be set wrong, on a node that lets faults be injected; else nothing.
    pub fault_injection: Option<Arc<SystemClock>>,
    /// Counters of the adapters.
    pub sources: Sources,
    /// Turns true when the server stops; streams end then.
    pub(super) stopping: watch::Sender<bool>,
    /// Decisions on the node.
    pub(super) decisions: Decisions,
    /// Places for clients that listen to events.
    pub(super) listeners: Arc<Semaphore>,
    /// Places for those of them that came through the socket.
    pub(super) local_listeners: Arc<Semaphore>,
    /// The connections that requests come on.
    pub(super) connections: Connections,
    /// Requests that ended in a problem, by its code.
    pub(super) refused: Mutex<BTreeMap<String, u64>>,
}

impl App {
    /// What the handlers share on `node`.
    pub fn new(
        node: Arc<Node>,
        name: String,
        boot_counter: u64,
        api: SocketAddr,
        token: ApiToken,
    ) -> Self {
        let started = node.env().ports.clock.now();
        let decisions = Decisions::of(&node);
        Self {
            decisions,
            node,
            name,
            boot_counter,
            started,
            api,
            token,
            fault_injection: None,
            sources: Sources::default(),
            stopping: watch::Sender::new(false),
            listeners: Arc::new(Semaphore::new(events::LISTENERS_MAX)),
            local_listeners: Arc::new(Semaphore::new(events::LOCAL_LISTENERS_MAX)),
            connections: Connections::default(),
            refused: Mutex::default(),
        }
    }

    /// How the node stands.
    pub(super) async fn status(&self) -> Result<Box<front::Status>, ApiError> {
        match self.ask(front::Request::Status).await? {
            front::Reply::Status(status) => Ok(status),
            _ => Err(unexpected()),
        }
    }

    /// Has a command decided.
    pub(super) async fn write(
        &self,
        id: Option<crate::types::ProposalId>,
        command: crate::messages::Command,
    ) -> Result<front::Written, ApiError> {
        match self.ask(front::Request::Write { id, command }).await? {
            front::Reply::Written(result) => Ok(result?),
            _ => Err(unexpected()),
        }
    }

    /// Asks the front.
    pub(super) async fn ask(&self, request: front::Request) -> Result<front::Reply, ApiError> {
        Ok(self.node.env().directory.front.ask(request).await?)
    }
}

/// An actor answered another question than the one that was asked.
pub(super) fn unexpected() -> ApiError {
    ApiError::new("INTERNAL", "an actor gave an unexpected answer; please report this bug")
}

/// A member id as a client wrote it.
pub(super) fn member(field: &str, text: &str) -> Result<MemberId, ApiError> {
    let number = text.parse().map(MemberId);
    number.map_err(|_| {
        ApiError::invalid(field, "expected a member id, a whole number")
            .hint("`bzzz node list` shows the members")
    })
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, object: &impl Serialize) -> Answer {
    typed(status, "application/json", object)
}

/// A JSON answer to a request that succeeded.
pub(super) fn ok(object: &impl Serialize) -> Answer {
    json(StatusCode::OK, object)
}

fn typed(status: StatusCode, content_type: &'static str, object: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(object)
        .map_err(|error| ApiError::new("INTERNAL", format!("the answer has no JSON: {error}")))?;
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// Sets a header of a response. Values that no header can carry are left out.
pub(super) fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Says whether something that was acknowledged before may be missing in an answer.
pub(super) fn mark_stale(response: &mut Response, stale: bool) {
    set(response, HeaderName::from_static(STALE_HEADER), if stale { "true" } else { "false" });
}

/// Answers a request, whatever it is.
pub async fn answer(app: &Arc<App>, request: &mut Request) -> Response {
    let id = request_id(request);
    let result = route(app, request).await;
    if let Err(error) = &result {
        let (method, path) = (&request.method, &request.path);
        tracing::debug!(%method, path, request_id = id, code = error.code(), "request refused");
        let mut refused = app.refused.locked();
        *refused.entry(error.code().to_owned()).or_default() += 1;
    }
    finish(result, &id, Some(app.node.member().to_string()))
}

/// The response to a request, with what every response carries.
pub(super) fn finish(answer: Answer, id: &str, node_id: Option<String>) -> Response {
    let mut response = answer.unwrap_or_else(|error| problem(error, id, node_id));
    set(&mut response, HeaderName::from_static(REQUEST_ID_HEADER), id);
    set(&mut response, header::CACHE_CONTROL, "no-store");
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
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
pub(super) fn request_id(request: &Request) -> String {
    let chosen = request.headers.get(REQUEST_ID_HEADER).and_then(|id| id.to_str().ok());
    let harmless = |id: &&str| {
        (1..=REQUEST_ID_LEN_MAX).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b))
    };
    match chosen.filter(harmless) {
        Some(id) => id.to_owned(),
        None => data_encoding::HEXLOWER.encode(&SystemEntropy.seed()[..8]),
    }
}

fn check_token(app: &App, request: &Request) -> Result<(), ApiError> {
    let refused = |detail: &str| {
        Err(ApiError::new("UNAUTHORIZED", detail).header(header::WWW_AUTHENTICATE, "Bearer").hint(
            format!(
                "send `Authorization: Bearer TOKEN` with the token in the file {TOKEN_FILE} of \
                 the node's data directory"
            ),
        ))
    };
    let Some(value) = request.headers.get(header::AUTHORIZATION) else {
        return refused("the request carries no token");
    };
    match value.as_bytes().split_first_chunk::<7>() {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
            if app.token.is(token.trim_ascii()) {
                return Ok(());
            }
            refused("the token is not the one of this node")
        }
        _ => refused("the Authorization header is not of the form `Bearer TOKEN`"),
    }
}

/// Finds the handler. From here on every way out is an answer or a problem.
async fn route(app: &Arc<App>, request: &mut Request) -> Answer {
    request.check_target()?;
    let segments = request.segments()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if matches!(segments.as_slice(), ["api" | "metrics", ..]) && !request.local {
        check_token(app, request)?;
    }
    let method = request.method.clone();
    let get = || if method == Method::GET { Ok(()) } else { Err(ApiError::method("GET")) };
    match segments.as_slice() {
        ["health" | "livez"] => get().and_then(|()| status::health()),
        ["ready" | "readyz"] => {
            get()?;
            status::ready(app).await
        }
        ["metrics"] => {
            get()?;
            metrics::page(app).await
        }
        ["api", "v1", "status"] => {
            get()?;
            status::status(app).await
        }
        ["api", "v1", "events"] => match method {
            Method::GET => events::events(app, request),
            Method::POST => events::publish(app, request).await,
            _ => Err(ApiError::method("GET, POST")),
        },
        ["api", "v1", "election"] => {
            get()?;
            election::show(app).await
        }
        ["api", "v1", "election", "transfer"] => match method {
            Method::POST => election::transfer(app, request).await,
            _ => Err(ApiError::method("POST")),
        },
        ["api", "v1", "actors"] => get().and_then(|()| actors::list(app)),
        ["api", "v1", "actors", name, "kill"] => match method {
            Method::POST => actors::kill(app, name),
            _ => Err(ApiError::method("POST")),
        },
        ["api", "v1", "faults", "clock"] => match method {
            Method::POST => faults::clock(app, request).await,
            _ => Err(ApiError::method("POST")),
        },
        ["api", "v1", "slurp", rest @ ..] => slurp::route(app, request, rest).await,
        ["api", "v1", "nodes", rest @ ..] => nodes::route(app, request, rest).await,
        ["api", "v1", "join-tokens", rest @ ..] => tokens::route(app, request, rest).await,
        ["api", "v1", "decisions", rest @ ..] => decisions::route(app, request, rest).await,
        ["api", "v1", "roles"] => {
            get()?;
            decisions::roles(app).await
        }
        ["api", "v1", "dht", rest @ ..] => dht::route(app, request, rest).await,
        ["api", "v1", "ucxl", rest @ ..] => ucxl::route(app, request, rest).await,
        _ => Err(nowhere(&request.path)),
    }
}

/// Nothing is at this path.
pub(super) fn nowhere(path: &str) -> ApiError {
    let shown: String = path.chars().take(200).collect();
    ApiError::not_found(format!("there is nothing at {shown}"))
        .hint("the paths of the API begin with /api/v1/, as in /api/v1/status")
}
