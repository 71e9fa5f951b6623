//! `/api/v1/decisions` and `/api/v1/roles`: publishing decisions, reading them and looking for them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::http::StatusCode;

use crate::core::decision::{self, Draft, Filter, ReadError, SealFailure};
use crate::http::answer::{Answer, json, mark_stale, ok};
use crate::http::api::{SCHEMA, STALE_HEADER};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::codes;
use crate::http::params::{CURSOR, HASH, IDEMPOTENCY_KEY, LIMIT};
use crate::http::problem::ApiError;
use crate::http::route::{Body, Form, Param, Reply, Route, anything, reads, running};
use crate::services::decisions::{DecisionError, Found, Publication};
use crate::types::limits::{DRAFT_LEN_MAX, PAGE_ROWS_DEFAULT, UCXL_SEGMENT_MAX, UCXL_TEXT_MAX};
use crate::types::record::{DecisionKind, Version};
use crate::types::role::RoleKey;
use crate::types::ucxl::{CONTENT_PREFIX, DecisionAddress, Pattern, Temporal, Ucxl};
use crate::types::{ContentHash, RequestId, Wall};

const PART: Form = Form::Text {
    min: 1,
    max: UCXL_SEGMENT_MAX,
    pattern: Some("^[A-Za-z0-9_-][A-Za-z0-9._-]*$"),
    check: anything,
};
const AGENT: Param = Param::path("agent", "Who decided", PART).example("planner");
const ROLE: Param = Param::path("role", "In which role", PART).example("admin");
const PROJECT: Param = Param::path("project", "In which project", PART).example("bzzz");
const TASK: Param = Param::path("task", "For which task", PART).example("scheduling");
const NODE: Param = Param::path("node", "On which node", PART).example("n1");
const VERSION: Param = Param::path(
    "version",
    "Which version: `*^` the latest, `*~` the first, `~~N` N before the latest, `^^N` N after the first, or what stood at \
     a time",
    Form::Text { min: 2, max: UCXL_SEGMENT_MAX, pattern: None, check: anything },
)
.example("~~1");
const AS_ROLE: Param = Param::query(
    "role",
    "The role whose key is to decrypt it; any that can if none is named",
    Form::Text { min: 1, max: UCXL_SEGMENT_MAX, pattern: None, check: anything },
);
const PATTERN: Param = Param::query(
    "pattern",
    "Addresses that are wanted, as `any:admin@bzzz:any/*`",
    Form::Text { min: 1, max: UCXL_TEXT_MAX, pattern: None, check: reads::<Pattern> },
);
const TYPE: Param = Param::query(
    "type",
    "What they are about",
    Form::Word(|| DecisionKind::ALL.iter().map(|kind| kind.name()).collect()),
);
const AUTHOR: Param = Param::query(
    "author",
    "Who decided",
    Form::Text { min: 1, max: UCXL_TEXT_MAX, pattern: None, check: anything },
);
const TIME: Form = Form::Text { min: 1, max: 40, pattern: None, check: reads::<Wall> };
const SINCE: Param =
    Param::query("since", "Published at this time or later", TIME).example("2026-01-01T00:00:00Z");
const UNTIL: Param =
    Param::query("until", "Published before this time", TIME).example("2027-01-01T00:00:00Z");
const AT: &[&str] = &["NOT_FOUND", "KEYS_PENDING"];
const DECRYPTED: &[&str] = &["NOT_A_DECISION", "ROLE_CANNOT_READ", "ROLE_UNKNOWN"];

/// Answer of `POST /api/v1/decisions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionPublished {
    /// Version of this object.
    pub schema: u32,
    /// The version that stands for it.
    #[serde(flatten)]
    pub version: DecisionInfo,
    /// Address of its content.
    pub content_address: String,
    /// The roles that can read it.
    pub roles: Vec<String>,
    /// Term under which it was acknowledged.
    pub term: u64,
}

/// One version of a decision, as everybody can see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionInfo {
    /// Where it stands.
    pub address: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: DecisionKind,
    /// Who decided: the agent in its address.
    pub author: String,
    /// When it was published.
    pub published_at: String,
    /// Orders the versions of an address: the time, and a counter within its millisecond.
    pub version: String,
    /// The member that coordinated the publication.
    pub writer: String,
    /// Hash of its content, in hexadecimal.
    pub content: String,
}

/// `GET /api/v1/decisions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionPage {
    /// Version of this object.
    pub schema: u32,
    /// The latest version of each decision that was asked for, by address.
    pub items: Vec<DecisionInfo>,
    /// Where to go on; null at the end.
    pub next_cursor: Option<String>,
    /// True if a publication that was acknowledged before may be missing.
    pub stale: bool,
}

/// `GET /api/v1/decisions/{address}/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionHistory {
    /// Version of this object.
    pub schema: u32,
    /// Where the versions stand.
    pub address: String,
    /// All of them, oldest first.
    pub items: Vec<DecisionInfo>,
    /// True if a publication that was acknowledged before may be missing.
    pub stale: bool,
}

/// `GET /api/v1/decisions/{address}` and `GET /api/v1/decisions/{hash}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DecisionRead {
    /// Version of this object.
    pub schema: u32,
    /// Where it stands.
    pub address: String,
    /// When it was taken in, by the clock of the node that signed it.
    pub at: String,
    /// The node that signed it.
    pub signer: String,
    /// Hash of its content, in hexadecimal.
    pub content: String,
    /// Address of its content.
    pub content_address: String,
    /// The roles that can read it.
    pub roles: Vec<String>,
    /// The version that was read; null where it was read by its hash.
    pub version: Option<DecisionInfo>,
    /// True if a later version that was acknowledged before may be missing.
    pub stale: bool,
    /// What it says.
    #[serde(flatten)]
    pub body: decision::Body,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleInfo {
    /// Its name.
    pub name: String,
    /// How much it may decide: `master`, `decision`, `suggestion` or `read_only`.
    pub authority: String,
    /// What is encrypted to it is encrypted to this age recipient.
    pub recipient: String,
}

/// `GET /api/v1/roles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolePage {
    /// Version of this object.
    pub schema: u32,
    /// All roles, by name.
    pub items: Vec<RoleInfo>,
    /// True if this node holds the private halves of their keys, so that it can decrypt.
    pub keys_held: bool,
}

/// The routes.
pub const ROUTES: &[Route] = &[
    Route::get(
        "/api/v1/decisions",
        "decisions",
        "Decisions that fit, without what they say",
        running!(query),
    )
    .permission("decisions:read")
    .params(&[&PATTERN, &TYPE, &AUTHOR, &SINCE, &UNTIL, &LIMIT, &CURSOR])
    .replies(&[Reply::json::<DecisionPage>(200, "The latest version of each, by address")
        .headers(&[STALE_HEADER])])
    .refuses(&[codes::READ_RECORDS, &["CURSOR_INVALID"]]),
    Route::post("/api/v1/decisions", "decision_publish", "Publishes a decision", running!(publish))
        .permission("decisions:write")
        .params(&[&IDEMPOTENCY_KEY])
        .body(Body::json::<Draft>().most(DRAFT_LEN_MAX))
        .replies(&[Reply::json::<DecisionPublished>(201, "It is encrypted, and kept")])
        .refuses(&[
            codes::READ_RECORDS,
            codes::PUT_RECORDS,
            AT,
            DECRYPTED,
            &[
                "REFERENCE_MISSING",
                "NO_SUCH_VERSION",
                "CONTENT_GONE",
                "ADDRESS_FULL",
                "IDEMPOTENCY_KEY_REUSED",
                "DECISION_TOO_LARGE",
            ],
        ]),
    Route::get(
        "/api/v1/decisions/{hash}",
        "decision_content",
        "A decision by the hash of its content",
        running!(read_content),
    )
    .permission("decisions:read")
    .params(&[&HASH, &AS_ROLE])
    .replies(&[Reply::json::<DecisionRead>(200, "What it says").headers(&[STALE_HEADER])])
    .refuses(&[codes::READ_RECORDS, AT, DECRYPTED]),
    Route::get(
        "/api/v1/decisions/{agent}/{role}/{project}/{task}/{node}",
        "decision",
        "The latest version of a decision",
        running!(read_latest),
    )
    .permission("decisions:read")
    .params(&[&AGENT, &ROLE, &PROJECT, &TASK, &NODE, &AS_ROLE])
    .replies(&[Reply::json::<DecisionRead>(200, "What it says").headers(&[STALE_HEADER])])
    .refuses(&[codes::READ_RECORDS, AT, DECRYPTED, &["CONTENT_GONE", "NO_SUCH_VERSION"]]),
    Route::get(
        "/api/v1/decisions/{agent}/{role}/{project}/{task}/{node}/history",
        "decision_history",
        "All versions of a decision",
        running!(history),
    )
    .permission("decisions:read")
    .params(&[&AGENT, &ROLE, &PROJECT, &TASK, &NODE])
    .replies(&[Reply::json::<DecisionHistory>(200, "Oldest first").headers(&[STALE_HEADER])])
    .refuses(&[codes::READ_RECORDS, AT]),
    Route::get(
        "/api/v1/decisions/{agent}/{role}/{project}/{task}/{node}/{version}",
        "decision_version",
        "One version of a decision",
        running!(read_version),
    )
    .permission("decisions:read")
    .params(&[&AGENT, &ROLE, &PROJECT, &TASK, &NODE, &VERSION, &AS_ROLE])
    .replies(&[Reply::json::<DecisionRead>(200, "What it says").headers(&[STALE_HEADER])])
    .refuses(&[codes::READ_RECORDS, AT, DECRYPTED, &["CONTENT_GONE", "NO_SUCH_VERSION"]]),
    Route::get(
        "/api/v1/roles",
        "roles",
        "The roles, and the public halves of their keys",
        running!(roles),
    )
    .permission("cluster:read")
    .replies(&[Reply::json::<RolePage>(200, "All of them, by name")])
    .refuses(&[&["KEYS_PENDING"]]),
];

fn address(call: &Call) -> Result<DecisionAddress, ApiError> {
    let part = |param| call.text(param).unwrap_or_default();
    let parts = [&AGENT, &ROLE, &PROJECT, &TASK, &NODE].map(part);
    DecisionAddress::new(parts).map_err(|error| ApiError::invalid("address", error.to_string()))
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
fn publication(app: &App, call: &Call) -> Publication {
    let id =
        |bytes: [u8; 32]| RequestId(*bytes.first_chunk().expect("a hash is longer than an id"));
    match call.key("bzzz publication") {
        Some(key) => Publication::Keyed(id(key)),
        None => Publication::New(id(app.node.env().ports.entropy.seed())),
    }
}

async fn publish(app: &App, call: &mut Call) -> Answer {
    let publication = publication(app, call);
    let draft: Draft = call.json()?;
    if matches!(publication, Publication::Keyed(_)) && draft.address.is_none() {
        let reason =
            "with an Idempotency-Key give an address: one that is made here names this node";
        return Err(ApiError::invalid("address", reason));
    }
    let published = app.decisions.publish(draft, &app.name, publication).await?;
    let version = info(&published.address, &published.version);
    json(
        StatusCode::CREATED,
        &DecisionPublished {
            schema: SCHEMA,
            content_address: format!("{CONTENT_PREFIX}{}", version.content),
            version,
            roles: published.roles,
            term: published.lease_term,
        },
    )
}

fn info(address: &DecisionAddress, version: &Version) -> DecisionInfo {
    DecisionInfo {
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
    let mut response = ok(&DecisionRead {
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

async fn read_content(app: &App, call: &mut Call) -> Answer {
    let hash: ContentHash = call.needed(&HASH)?;
    found(app.decisions.read_content(hash, call.text(&AS_ROLE)).await?)
}

async fn read_latest(app: &App, call: &mut Call) -> Answer {
    read(app, call, &address(call)?, Temporal::Latest).await
}

async fn read_version(app: &App, call: &mut Call) -> Answer {
    let version = call.text(&VERSION).unwrap_or_default();
    match format!("{}/{version}", address(call)?).parse() {
        Ok(Ucxl::Decision(address, Some(temporal))) => read(app, call, &address, temporal).await,
        Ok(_) => Err(ApiError::invalid("version", "it names no version")),
        Err(error) => Err(ApiError::invalid("version", error.to_string())),
    }
}

async fn read(app: &App, call: &Call, address: &DecisionAddress, temporal: Temporal) -> Answer {
    found(app.decisions.read(address, temporal, call.text(&AS_ROLE)).await?)
}

async fn history(app: &App, call: &mut Call) -> Answer {
    let address = &address(call)?;
    let versions = app.decisions.history(address).await?;
    let mut response = ok(&DecisionHistory {
        schema: SCHEMA,
        address: address.to_string(),
        items: versions.value.iter().map(|version| info(address, version)).collect(),
        stale: versions.stale,
    })?;
    mark_stale(&mut response, versions.stale);
    Ok(response)
}

fn filter(call: &Call) -> Result<Filter, ApiError> {
    let named = |name: &str| DecisionKind::ALL.into_iter().find(|kind| kind.name() == name);
    Ok(Filter {
        pattern: call.parsed(&PATTERN)?.unwrap_or_else(Pattern::all),
        kind: call.text(&TYPE).and_then(named),
        author: call.parsed(&AUTHOR)?,
        since: call.parsed(&SINCE)?,
        until: call.parsed(&UNTIL)?,
    })
}

async fn query(app: &App, call: &mut Call) -> Answer {
    let filter = filter(call)?;
    let limit = call.number(&LIMIT).unwrap_or(PAGE_ROWS_DEFAULT) as usize;
    let cursor = call.text(&CURSOR);
    let page = app.decisions.query(&filter, cursor, limit).await?;
    let mut response = ok(&DecisionPage {
        schema: SCHEMA,
        items: page.rows.iter().map(|(address, version)| info(address, version)).collect(),
        next_cursor: page.next,
        stale: page.stale,
    })?;
    mark_stale(&mut response, page.stale);
    Ok(response)
}

/// The roles and the public halves of their keys.
async fn roles(app: &App, _: &mut Call) -> Answer {
    let roles = app.decisions.roles().await?;
    let role = |(name, role): (&String, &RoleKey)| RoleInfo {
        name: name.clone(),
        authority: role.authority.to_string(),
        recipient: role.recipient.to_string(),
    };
    ok(&RolePage {
        schema: SCHEMA,
        items: roles.roles.iter().map(role).collect(),
        keys_held: roles.whole,
    })
}
