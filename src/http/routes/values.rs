//! `/api/v1/ucxl`: configuration values.
//!
//! A write names the version that it replaces, as an ETag, or says that there must be none. So two
//! writers cannot overwrite each other without noticing.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::http::header::{self, HeaderName};
use warp::reply::Response;

use crate::core::front::{self, Entry, Query, ReadAnswer, Staleness};
use crate::core::refusal::Refusal;
use crate::http::answer::{Answer, mark_stale, millis, ok, set, unexpected};
use crate::http::api::{AUTHOR_HEADER, INDEX_HEADER, SCHEMA, STALE_HEADER};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::codes;
use crate::http::params::{CURSOR, IDEMPOTENCY_KEY, LIMIT, VISIBLE, visible};
use crate::http::problem::ApiError;
use crate::http::route::{Body, Form, Param, Reply, Route, anything, number, running};
use crate::messages::Outcome;
use crate::messages::command::{Expect, HeadsCommand};
use crate::types::limits::{HEAD_KEY_MAX, HEAD_VALUE_MAX, NODE_NAME_LEN_MAX, PAGE_ROWS_DEFAULT};
use crate::types::ucxl::{CONFIG_PREFIX, check_config_key};
use crate::types::{Bytes, ClusterId, Listing, ProposalId};

/// Author of a value if the client does not say.
const AUTHOR_DEFAULT: &str = "api";

const KEY: Param = Param::path(
    "key",
    "Key of the value, below ucxl://bzzz.cluster.config/; a slash in it may be sent as it is, or as %2F",
    Form::Text {
        min: 1,
        max: HEAD_KEY_MAX,
        pattern: Some(
            "^(network_topology|resource_allocation|ai_models|user_projects|cost_management|monitoring)(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$",
        ),
        check: |key| check_config_key(key).map(drop),
    },
)
.example("monitoring/probe");
const STALE: Param = Param::query("stale", "Answer with what this node has", Form::Flag);
const PREFIX: Param = Param::query(
    "prefix",
    "What the keys begin with",
    Form::Text { min: 0, max: HEAD_KEY_MAX, pattern: None, check: anything },
);
// What a condition says is refused with codes of its own.
const IF_MATCH: Param = Param::header(
    "if-match",
    "Version that the value must stand at, in quotation marks",
    Form::Text { min: 0, max: 1_024, pattern: Some("^\"[1-9][0-9]{0,17}\"$"), check: anything },
)
.example("\"1\"");
const IF_NONE_MATCH: Param = Param::header(
    "if-none-match",
    "There must be no value yet",
    Form::Text { min: 0, max: 1_024, pattern: Some("^\\*$"), check: anything },
)
.example("*");
const AUTHOR: Param = Param::header(
    AUTHOR_HEADER,
    "Who writes it",
    Form::Text { min: 1, max: NODE_NAME_LEN_MAX, pattern: Some(VISIBLE), check: visible },
);

/// A configuration value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeadInfo {
    /// Its whole address.
    pub address: String,
    /// Its key below the address of the configuration.
    pub key: String,
    /// Counts the writes of this key, from 1.
    pub version: u64,
    /// The value, if it is UTF-8 text.
    pub value: Option<String>,
    /// The value in Base64, always.
    pub value_base64: String,
    /// Who wrote it.
    pub author: String,
    /// When it was written.
    pub at: String,
    /// Term in which it was written.
    pub term: u64,
    /// Index of the write in the log.
    pub log_index: u64,
}

/// `GET /api/v1/ucxl/{key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UcxlEntry {
    /// Version of this object.
    pub schema: u32,
    /// The value.
    #[serde(flatten)]
    pub head: HeadInfo,
    /// True if a write that was acknowledged before may be missing.
    pub stale: bool,
    /// Index that the answer reflects.
    pub index: u64,
    /// For how long the node has not known whether it is current, in milliseconds.
    pub age_ms: u64,
}

/// `GET /api/v1/ucxl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UcxlPage {
    /// Version of this object.
    pub schema: u32,
    /// Values, by key.
    pub items: Vec<HeadInfo>,
    /// Cursor of the next page, if there is more.
    pub next_cursor: Option<String>,
    /// True if a write that was acknowledged before may be missing.
    pub stale: bool,
    /// Index that the answer reflects.
    pub index: u64,
    /// For how long the node has not known whether it is current, in milliseconds.
    pub age_ms: u64,
}

/// `PUT /api/v1/ucxl/{key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UcxlWritten {
    /// Version of this object.
    pub schema: u32,
    /// The whole address.
    pub address: String,
    /// The key.
    pub key: String,
    /// Version that it has now.
    pub version: u64,
    /// Term of the write.
    pub term: u64,
    /// Index of the write in the log.
    pub log_index: u64,
}

/// The routes.
pub const ROUTES: &[Route] = &[
    Route::get("/api/v1/ucxl", "values", "Configuration values", running!(list))
        .permission("values:read")
        .params(&[&PREFIX, &LIMIT, &CURSOR, &STALE])
        .replies(&[
            Reply::json::<UcxlPage>(200, "Values, by key").headers(&[STALE_HEADER, INDEX_HEADER])
        ])
        .refuses(&[&["CURSOR_INVALID"]]),
    Route::get("/api/v1/ucxl/{key..}", "value", "A configuration value", running!(read))
        .permission("values:read")
        .params(&[&KEY, &STALE])
        .replies(&[Reply::json::<UcxlEntry>(200, "The value").headers(&[
            "etag",
            STALE_HEADER,
            INDEX_HEADER,
        ])])
        .refuses(&[&["NOT_FOUND", "READ_ONLY_MINORITY", "NODE_BEHIND"]])
        .tagged(),
    Route::put(
        "/api/v1/ucxl/{key..}",
        "value_write",
        "Writes a value that stands where the writer saw it",
        running!(write),
    )
    .permission("values:write")
    .params(&[&KEY, &IF_MATCH, &IF_NONE_MATCH, &IDEMPOTENCY_KEY, &AUTHOR])
    .body(Body::bytes(HEAD_VALUE_MAX).over("VALUE_TOO_LARGE"))
    .replies(&[Reply::json::<UcxlWritten>(200, "It is written").headers(&["etag"])])
    .refuses(&[
        codes::WRITE,
        &[
            "PRECONDITION_REQUIRED",
            "CONDITION_UNSUPPORTED",
            "VERSION_MISMATCH",
            "IDEMPOTENCY_KEY_REUSED",
        ],
    ]),
];

fn info(entry: &Entry) -> HeadInfo {
    let head = &entry.head;
    HeadInfo {
        address: format!("{CONFIG_PREFIX}{}", entry.key),
        key: entry.key.to_string(),
        version: head.version,
        value: std::str::from_utf8(&head.value.0).ok().map(str::to_owned),
        value_base64: data_encoding::BASE64.encode(&head.value.0),
        author: head.author.clone(),
        at: head.at.to_string(),
        term: head.log_id.term,
        log_index: head.log_id.index,
    }
}

fn mark(response: &mut Response, staleness: &Staleness) {
    mark_stale(response, staleness.stale);
    set(response, HeaderName::from_static(INDEX_HEADER), &staleness.index.to_string());
}

async fn ask(app: &App, query: Query, stale_ok: bool) -> Result<ReadAnswer, ApiError> {
    match app.ask(front::Request::Read { query, stale_ok }).await? {
        front::Reply::Read(answer) => Ok(answer),
        _ => Err(unexpected()),
    }
}

/// The values whose keys begin like that.
fn listing(cluster: ClusterId, prefix: &str) -> Listing {
    Listing { cluster, what: format!("values\n{prefix}") }
}

/// What a listing begins with, and the key that it goes on after.
fn place(call: &Call, cluster: ClusterId) -> Result<(String, Option<String>), ApiError> {
    let prefix = call.text(&PREFIX).unwrap_or_default().to_owned();
    let after = call.text(&CURSOR).map(|cursor| listing(cluster, &prefix).read(cursor)).transpose();
    let after = after.map_err(|error| ApiError::new("CURSOR_INVALID", error.to_string()))?;
    Ok((prefix, after))
}

async fn list(app: &App, call: &mut Call) -> Answer {
    let cluster = app.node.identity().cluster;
    let (prefix, after) = place(call, cluster)?;
    let pages = listing(cluster, &prefix);
    let limit = call.number(&LIMIT).unwrap_or(PAGE_ROWS_DEFAULT) as usize;
    let stale_ok = call.flag(&STALE);
    let answer = ask(app, Query::Prefix { prefix, after, limit }, stale_ok).await?;
    let mut response = ok(&UcxlPage {
        schema: SCHEMA,
        items: answer.page.entries.iter().map(info).collect(),
        next_cursor: answer.page.next.map(|next| pages.after(&next)),
        stale: answer.staleness.stale,
        index: answer.staleness.index,
        age_ms: millis(answer.staleness.age),
    })?;
    mark(&mut response, &answer.staleness);
    Ok(response)
}

/// Why this node can't say that there is nothing.
fn unsure(status: &front::Status) -> ApiError {
    let front::Mode { reachable, needed, .. } = status.mode;
    let voters = status.role.voters.len();
    let refusal = match reachable < needed {
        true => Refusal::Minority { reachable, needed, voters },
        false => Refusal::Behind,
    };
    refusal.into()
}

async fn read(app: &App, call: &mut Call) -> Answer {
    let key: String = call.needed(&KEY)?;
    let stale_ok = call.flag(&STALE);
    let answer = ask(app, Query::Key(key.clone()), stale_ok).await?;
    let staleness = answer.staleness;
    let Some(entry) = answer.page.entries.first() else {
        let stale = if staleness.stale { "true" } else { "false" };
        let nothing = format!("there is nothing at {CONFIG_PREFIX}{key}");
        let error = match staleness.stale {
            false => ApiError::not_found(nothing),
            // Whoever asks for what this node has is told just that.
            true if stale_ok => ApiError::not_found(format!(
                "{nothing} as far as this node knows, and it can't tell whether it is current"
            )),
            true => unsure(&*app.status().await?).hint(format!(
                "{nothing} as far as this node knows, which it can't tell for sure; ask again in a moment, or another \
                 node, or with `?stale=true` for what this one has"
            )),
        };
        return Err(error
            .header(HeaderName::from_static(STALE_HEADER), stale)
            .header(HeaderName::from_static(INDEX_HEADER), &staleness.index.to_string()));
    };
    let head = info(entry);
    let etag = format!("\"{}\"", head.version);
    let mut response = ok(&UcxlEntry {
        schema: SCHEMA,
        head,
        stale: staleness.stale,
        index: staleness.index,
        age_ms: millis(staleness.age),
    })?;
    mark(&mut response, &staleness);
    set(&mut response, header::ETAG, &etag);
    Ok(response)
}

/// What the client says must hold. Nothing but one version or "none yet" can be checked.
fn expectation(call: &Call) -> Result<Expect, ApiError> {
    let unsupported = |reason: &str| {
        ApiError::new("CONDITION_UNSUPPORTED", reason)
            .hint("send `If-Match: \"VERSION\"` with the ETag, or `If-None-Match: *`")
    };
    match (call.text(&IF_MATCH), call.text(&IF_NONE_MATCH)) {
        (None, None) => Err(ApiError::new(
            "PRECONDITION_REQUIRED",
            "a write must say which version it replaces, so that it overwrites nobody else's",
        )
        .hint(
            "send `If-None-Match: *` for a new value, or `If-Match: \"VERSION\"` with the ETag of \
             the one that you read",
        )),
        (Some(_), Some(_)) => Err(unsupported("If-Match and If-None-Match exclude each other")),
        (None, Some("*")) => Ok(Expect::Absent),
        (None, Some(_)) => Err(unsupported("If-None-Match can only be *")),
        (Some(tag), None) => {
            let quoted = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let version = quoted.and_then(number).filter(|version| *version > 0);
            version
                .map(Expect::Version)
                .ok_or_else(|| unsupported("If-Match can only be one version, such as \"3\""))
        }
    }
}

/// A repetition is the same write, on whichever node it arrives; what else comes under its key is another one.
fn proposal_id(call: &Call, expect: Expect, author: &str, value: &Bytes) -> Option<ProposalId> {
    let key = call.key("bzzz idempotency")?;
    let mut says = blake3::Hasher::new();
    let version = match expect {
        Expect::Absent => 0,
        Expect::Version(version) => version,
    };
    says.update(&version.to_be_bytes());
    says.update(&(author.len() as u64).to_be_bytes()).update(author.as_bytes()).update(&value.0);
    Some(ProposalId::keyed(&key, says.finalize().as_bytes()))
}

async fn write(app: &App, call: &mut Call) -> Answer {
    let key: String = call.needed(&KEY)?;
    let expect = expectation(call)?;
    let author = call.text(&AUTHOR).unwrap_or(AUTHOR_DEFAULT).to_owned();
    let value = Bytes(call.bytes());
    let id = proposal_id(call, expect, &author, &value);
    let command = HeadsCommand::Set { key: key.clone(), expect, value, author }.into();
    let written = app.write(id, command).await?;
    let Outcome::HeadSet { version } = written.outcome else { return Err(unexpected()) };
    let mut response = ok(&UcxlWritten {
        schema: SCHEMA,
        address: format!("{CONFIG_PREFIX}{key}"),
        key,
        version,
        term: written.log_id.term,
        log_index: written.log_id.index,
    })?;
    set(&mut response, header::ETAG, &format!("\"{version}\""));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(headers: &[(&'static Param, &str)]) -> Call {
        Call::for_test(&ROUTES[2], headers, b"")
    }

    #[test]
    fn a_listing_goes_on_with_its_own_cursor_only() {
        let cluster = ClusterId([1; 16]);
        let place = |query: &[(&'static Param, &str)]| {
            let call = Call::for_test(&ROUTES[0], query, b"");
            place(&call, cluster).map_err(|error| error.code().to_owned())
        };
        let at = |prefix: &str, key: Option<&str>| -> Result<(String, Option<String>), String> {
            Ok((prefix.to_owned(), key.map(str::to_owned)))
        };
        assert_eq!(place(&[]), at("", None));
        assert_eq!(place(&[(&PREFIX, "ai_models/")]), at("ai_models/", None));
        let cursor =
            |cluster: u8, prefix| listing(ClusterId([cluster; 16]), prefix).after("ai_models/a");
        let with = |prefix: &str, cursor: String| place(&[(&PREFIX, prefix), (&CURSOR, &cursor)]);
        let found = with("ai_models/", cursor(1, "ai_models/"));
        assert_eq!(found, at("ai_models/", Some("ai_models/a")));
        for bad in [
            with("ai_models/", cursor(2, "ai_models/")),
            with("ai_models/", cursor(1, "")),
            with("", cursor(1, "ai_models/")),
            with("", "ai_models/a".into()),
        ] {
            assert_eq!(bad, Err("CURSOR_INVALID".into()));
        }
    }

    #[test]
    fn a_write_has_exactly_one_condition_that_can_be_checked() {
        let expect = |headers: &[(&'static Param, &str)]| {
            expectation(&write(headers)).map_err(|error| error.code().to_owned())
        };
        assert_eq!(expect(&[(&IF_MATCH, "\"3\"")]), Ok(Expect::Version(3)));
        assert_eq!(expect(&[(&IF_NONE_MATCH, "*")]), Ok(Expect::Absent));
        assert_eq!(expect(&[]), Err("PRECONDITION_REQUIRED".into()));
        for bad in ["3", "\"+3\"", "\"03\"", "*", "\"a\"", "W/\"3\"", "\"3\", \"4\"", "0", ""] {
            assert_eq!(expect(&[(&IF_MATCH, bad)]), Err("CONDITION_UNSUPPORTED".into()), "{bad}");
        }
        let both = expect(&[(&IF_MATCH, "\"3\""), (&IF_NONE_MATCH, "*")]);
        assert_eq!(both, Err("CONDITION_UNSUPPORTED".into()));
    }

    #[test]
    fn a_key_stands_for_one_write_on_one_path() {
        let id = |call: &Call, value: &[u8]| {
            proposal_id(call, Expect::Version(1), "api", &Bytes(value.to_vec()))
        };
        let (a, b) = (write(&[(&IDEMPOTENCY_KEY, "a")]), write(&[(&IDEMPOTENCY_KEY, "b")]));
        assert_eq!(id(&a, b"x"), id(&a, b"x"));
        assert_eq!(id(&write(&[]), b"x"), None);
        let first = id(&a, b"x").unwrap();
        let same_key = |other: Option<ProposalId>| first.of_key().contains(&other.unwrap());
        for other in [
            id(&a, b"y"),
            proposal_id(&a, Expect::Absent, "api", &Bytes(b"x".to_vec())),
            proposal_id(&a, Expect::Version(1), "apix", &Bytes(Vec::new())),
        ] {
            assert!(other != Some(first) && same_key(other));
        }
        let mut elsewhere = write(&[(&IDEMPOTENCY_KEY, "a")]);
        elsewhere.path.push('y');
        assert!(!same_key(id(&b, b"x")) && !same_key(id(&elsewhere, b"x")));
    }
}
