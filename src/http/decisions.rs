//! `/api/v1/decisions` and `/api/v1/roles`: publishing decisions, reading them and looking for them.

use warp::http::{Method, StatusCode};

use super::api::{self, SCHEMA};
use super::problem::ApiError;
use super::request::Request;
use super::router::{Answer, App, json, mark_stale, nowhere, ok};
use crate::core::decision::{Draft, Filter, ReadError, SealFailure};
use crate::services::decisions::{DecisionError, Found, Publication};
use crate::types::limits::{DRAFT_LEN_MAX, PAGE_ROWS_MAX, UCXL_TEXT_MAX};
use crate::types::record::{DecisionKind, Version};
use crate::types::role::RoleKey;
use crate::types::ucxl::{CONTENT_PREFIX, DecisionAddress, Pattern, Temporal, Ucxl};
use crate::types::{ContentHash, RequestId, Wall};

/// Rows of a page if the client does not say.
const LIMIT_DEFAULT: u64 = 100;
/// The last part of the path of a history.
const HISTORY: &str = "history";

/// Finds the handler of a path below `decisions`.
pub async fn route(app: &App, request: &mut Request, rest: &[&str]) -> Answer {
    let only_get = |request: &Request| match request.method {
        Method::GET => Ok(()),
        _ => Err(ApiError::method("GET")),
    };
    match (rest, &request.method) {
        ([], &Method::GET) => query(app, request).await,
        ([], &Method::POST) => publish(app, request).await,
        ([], _) => Err(ApiError::method("GET, POST")),
        ([hash], _) => {
            only_get(request)?;
            let hash: ContentHash = hash.parse().map_err(|_| {
                ApiError::invalid("hash", "expected the 64 hexadecimal digits of a content's hash")
                    .hint("an address has five parts: agent/role/project/task/node")
            })?;
            let role = role(request)?;
            found(app.decisions.read_content(hash, role.as_deref()).await?)
        }
        ([agent, role, project, task, node], _) => {
            only_get(request)?;
            let address = address([agent, role, project, task, node])?;
            read(app, request, &address, Temporal::Latest).await
        }
        ([agent, role, project, task, node, last], _) => {
            only_get(request)?;
            let address = address([agent, role, project, task, node])?;
            if *last == HISTORY {
                return history(app, &address).await;
            }
            match format!("{address}/{last}").parse() {
                Ok(Ucxl::Decision(address, Some(temporal))) => {
                    read(app, request, &address, temporal).await
                }
                Ok(_) => Err(nowhere(&request.path)),
                Err(error) => Err(ApiError::invalid("version", error.to_string())),
            }
        }
        _ => Err(nowhere(&request.path)),
    }
}

fn address(segments: [&str; 5]) -> Result<DecisionAddress, ApiError> {
    DecisionAddress::new(segments).map_err(|error| ApiError::invalid("address", error.to_string()))
}

fn role(request: &Request) -> Result<Option<String>, ApiError> {
    Ok(request.query("role")?.filter(|role| !role.is_empty()))
}

impl From<DecisionError> for ApiError {
    fn from(error: DecisionError) -> Self {
        let text = error.to_string();
        match error {
            DecisionError::Refused(refusal) => refusal.into(),
            DecisionError::Unavailable(unavailable) => unavailable.into(),
            DecisionError::Invalid(problem) => Self::invalid(problem.field, problem.reason),
            DecisionError::Cursor(_) => Self::new("CURSOR_INVALID", text),
            DecisionError::NoRoles => Self::new("KEYS_PENDING", text).retryable(),
            DecisionError::KeyReused(_) => Self::new("IDEMPOTENCY_KEY_REUSED", text),
            DecisionError::ReferenceMissing(_) => Self::new("REFERENCE_MISSING", text)
                .hint("publish what it refers to first, or leave the reference out"),
            DecisionError::Unsure { .. } => Self::new("REPLICAS_UNAVAILABLE", text)
                .retryable()
                .hint("repeat the request in a moment, or ask a node on the side of the majority"),
            DecisionError::NotFound(_) | DecisionError::NoContent(_) => Self::not_found(text),
            DecisionError::NoVersion { .. } => Self::new("NO_SUCH_VERSION", text)
                .hint("`bzzz ucxl history ADDRESS` shows the versions that there are"),
            DecisionError::Gone { .. } => Self::new("CONTENT_GONE", text)
                .hint("another version may still be there; `bzzz ucxl history ADDRESS` shows them"),
            DecisionError::Seal(failure) => match failure {
                SealFailure::UnknownRole { .. } => Self::new("ROLE_UNKNOWN", text),
                SealFailure::TooLarge { .. } => Self::new("DECISION_TOO_LARGE", text)
                    .hint("keep large files elsewhere, or with `bzzz dht put`, and name them here"),
                SealFailure::Seal(_) => Self::new("INTERNAL", text),
            },
            DecisionError::Read(failure) => match failure {
                ReadError::OtherRoles { .. } => Self::new("ROLE_CANNOT_READ", text),
                ReadError::KeysPending { .. } => Self::new("KEYS_PENDING", text)
                    .retryable()
                    .hint("it gets them from another member; repeat the request in a moment"),
                ReadError::NotADecision => Self::new("NOT_A_DECISION", text)
                    .hint("`bzzz dht get HASH` prints such a content"),
                ReadError::Damaged(_) => Self::new("CONTENT_DAMAGED", text),
            },
        }
    }
}

/// A repetition is the same publication, on whichever node it arrives.
fn publication(app: &App, request: &Request) -> Result<Publication, ApiError> {
    if let Some(given) = request.idempotency("bzzz publication")? {
        return Ok(Publication::Keyed(RequestId(given)));
    }
    let drawn = app.node.env().ports.entropy.seed().first_chunk().copied();
    Ok(Publication::New(RequestId(drawn.expect("a seed is longer than an id"))))
}

async fn publish(app: &App, request: &mut Request) -> Answer {
    let publication = publication(app, request)?;
    let bytes = request.body_up_to(DRAFT_LEN_MAX as u64).await?;
    let draft: Draft = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::invalid("body", error.to_string()))?;
    if matches!(publication, Publication::Keyed(_)) && draft.address.is_none() {
        let reason =
            "with an Idempotency-Key give an address: one that is made here names this node";
        return Err(ApiError::invalid("address", reason));
    }
    let published = app.decisions.publish(draft, &app.name, publication).await?;
    let version = info(&published.address, &published.version);
    json(
        StatusCode::CREATED,
        &api::DecisionPublished {
            schema: SCHEMA,
            content_address: format!("{CONTENT_PREFIX}{}", version.content),
            version,
            roles: published.roles,
            term: published.lease_term,
        },
    )
}

fn info(address: &DecisionAddress, version: &Version) -> api::DecisionInfo {
    api::DecisionInfo {
        address: address.to_string(),
        kind: version.kind,
        author: address.agent().to_owned(),
        published_at: Wall(version.at.ms).to_string(),
        version: version.at.to_string(),
        writer: version.writer.to_string(),
        content: version.content.to_string(),
    }
}

fn found(found: Found) -> Answer {
    let decision = found.opened.decision;
    let mut response = ok(&api::DecisionRead {
        schema: SCHEMA,
        at: decision.at.to_string(),
        signer: found.opened.signer.to_string(),
        content: found.content.to_string(),
        content_address: format!("{CONTENT_PREFIX}{}", found.content),
        roles: found.roles,
        version: found.version.map(|version| info(&decision.address, &version)),
        address: decision.address.to_string(),
        stale: found.stale,
        body: decision.body,
    })?;
    mark_stale(&mut response, found.stale);
    Ok(response)
}

async fn read(
    app: &App,
    request: &Request,
    address: &DecisionAddress,
    temporal: Temporal,
) -> Answer {
    let role = role(request)?;
    found(app.decisions.read(address, temporal, role.as_deref()).await?)
}

async fn history(app: &App, address: &DecisionAddress) -> Answer {
    let versions = app.decisions.history(address).await?;
    let mut response = ok(&api::DecisionHistory {
        schema: SCHEMA,
        address: address.to_string(),
        items: versions.value.iter().map(|version| info(address, version)).collect(),
        stale: versions.stale,
    })?;
    mark_stale(&mut response, versions.stale);
    Ok(response)
}

/// A query parameter that is read from its text.
fn parsed<T: std::str::FromStr<Err: ToString>>(
    request: &Request,
    name: &str,
) -> Result<Option<T>, ApiError> {
    let text = request.query(name)?.filter(|text| !text.is_empty());
    let read = |text: String| {
        if text.len() > UCXL_TEXT_MAX {
            return Err(ApiError::invalid(name, format!("it is over {UCXL_TEXT_MAX} bytes")));
        }
        text.parse().map_err(|error: T::Err| ApiError::invalid(name, error.to_string()))
    };
    text.map(read).transpose()
}

fn filter(request: &Request) -> Result<Filter, ApiError> {
    let kind = request.query("type")?.filter(|kind| !kind.is_empty());
    let kind = kind.map(|name| {
        let found = DecisionKind::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = DecisionKind::ALL.iter().map(|kind| kind.name()).collect();
            ApiError::invalid("type", format!("expected one of {}", names.join(", ")))
        })
    });
    Ok(Filter {
        pattern: parsed(request, "pattern")?.unwrap_or_else(Pattern::all),
        kind: kind.transpose()?,
        author: parsed(request, "author")?,
        since: parsed(request, "since")?,
        until: parsed(request, "until")?,
    })
}

async fn query(app: &App, request: &Request) -> Answer {
    let filter = filter(request)?;
    let cursor: Option<String> = parsed(request, "cursor")?;
    let limit = request.query_number("limit")?.unwrap_or(LIMIT_DEFAULT);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if !(1..=PAGE_ROWS_MAX).contains(&limit) {
        return Err(ApiError::invalid("limit", format!("expected 1 to {PAGE_ROWS_MAX}")));
    }
    let page = app.decisions.query(&filter, cursor.as_deref(), limit).await?;
    let mut response = ok(&api::DecisionPage {
        schema: SCHEMA,
        items: page.rows.iter().map(|(address, version)| info(address, version)).collect(),
        next_cursor: page.next,
        stale: page.stale,
    })?;
    mark_stale(&mut response, page.stale);
    Ok(response)
}

/// The roles and the public halves of their keys.
pub async fn roles(app: &App) -> Answer {
    let roles = app.decisions.roles().await?;
    let role = |(name, role): (&String, &RoleKey)| api::RoleInfo {
        name: name.clone(),
        authority: role.authority.to_string(),
        recipient: role.recipient.to_string(),
    };
    ok(&api::RolePage {
        schema: SCHEMA,
        items: roles.roles.iter().map(role).collect(),
        keys_held: roles.whole,
    })
}
