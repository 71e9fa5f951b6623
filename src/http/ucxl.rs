//! `/api/v1/ucxl`: configuration values.
//!
//! A write names the version that it replaces, as an ETag, or says that there must be none. So two
//! writers cannot overwrite each other without noticing.

use crate::messages::command::HeadsCommand;
use warp::http::header::{self, HeaderName};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

use super::api::{self, SCHEMA};
use super::problem::ApiError;
use super::request::Request;
use super::router::{Answer, App, json, mark_stale, ok, set, unexpected};
use super::status::millis;
use crate::core::front::{self, Entry, Query, ReadAnswer, Staleness};
use crate::core::refusal::Refusal;
use crate::messages::command::Expect;
use crate::messages::{Command, Outcome};
use crate::types::limits::{HEAD_KEY_MAX, HEAD_VALUE_MAX, NODE_NAME_LEN_MAX, PAGE_ROWS_MAX};
use crate::types::ucxl::{CONFIG_PREFIX, check_config_key};
use crate::types::{Bytes, ClusterId, Listing, ProposalId};

/// Rows of a page if the client does not say.
const LIMIT_DEFAULT: u64 = 100;
/// Author of a value if the client does not say.
const AUTHOR_DEFAULT: &str = "api";

/// Finds the handler of a path below `ucxl`.
pub async fn route(app: &App, request: &mut Request, rest: &[&str]) -> Answer {
    let key = rest.join("/");
    match (key.as_str(), &request.method) {
        ("", &Method::GET) => list(app, request).await,
        ("", _) => Err(ApiError::method("GET")),
        (key, &Method::GET) => read(app, request, key).await,
        (key, &Method::PUT) => write(app, request, key).await,
        _ => Err(ApiError::method("GET, PUT")),
    }
}

fn check_key(key: &str) -> Result<(), ApiError> {
    check_config_key(key).map(|_| ()).map_err(|reason| ApiError::invalid("key", reason))
}

fn info(entry: &Entry) -> api::HeadInfo {
    let head = &entry.head;
    api::HeadInfo {
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
    set(response, HeaderName::from_static(api::INDEX_HEADER), &staleness.index.to_string());
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
fn place(request: &Request, cluster: ClusterId) -> Result<(String, Option<String>), ApiError> {
    let prefix = request.query("prefix")?.unwrap_or_default();
    if prefix.len() > HEAD_KEY_MAX {
        return Err(ApiError::invalid("prefix", format!("it is over {HEAD_KEY_MAX} bytes")));
    }
    let cursor = request.query("cursor")?.filter(|cursor| !cursor.is_empty());
    let after = cursor.map(|cursor| listing(cluster, &prefix).read(&cursor)).transpose();
    let after = after.map_err(|error| ApiError::new("CURSOR_INVALID", error.to_string()))?;
    Ok((prefix, after))
}

async fn list(app: &App, request: &Request) -> Answer {
    let cluster = app.node.identity().cluster;
    let (prefix, after) = place(request, cluster)?;
    let pages = listing(cluster, &prefix);
    let limit = request.query_number("limit")?.unwrap_or(LIMIT_DEFAULT);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if !(1..=PAGE_ROWS_MAX).contains(&limit) {
        return Err(ApiError::invalid("limit", format!("expected 1 to {PAGE_ROWS_MAX}")));
    }
    let stale_ok = request.query_flag("stale")?;
    let answer = ask(app, Query::Prefix { prefix, after, limit }, stale_ok).await?;
    let mut response = ok(&api::UcxlPage {
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

async fn read(app: &App, request: &Request, key: &str) -> Answer {
    check_key(key)?;
    let stale_ok = request.query_flag("stale")?;
    let answer = ask(app, Query::Key(key.to_owned()), stale_ok).await?;
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
            .header(HeaderName::from_static(api::STALE_HEADER), stale)
            .header(HeaderName::from_static(api::INDEX_HEADER), &staleness.index.to_string()));
    };
    let head = info(entry);
    let etag = format!("\"{}\"", head.version);
    let mut response = ok(&api::UcxlEntry {
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
fn expectation(request: &Request) -> Result<Expect, ApiError> {
    let unsupported = |reason: &str| {
        ApiError::new("CONDITION_UNSUPPORTED", reason)
            .hint("send `If-Match: \"VERSION\"` with the ETag, or `If-None-Match: *`")
    };
    match (request.header("if-match")?, request.header("if-none-match")?) {
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
            let version = quoted.unwrap_or(tag).parse().ok().filter(|version| *version > 0);
            version
                .map(Expect::Version)
                .ok_or_else(|| unsupported("If-Match can only be one version, such as \"3\""))
        }
    }
}

fn author(request: &Request) -> Result<String, ApiError> {
    let author = request.header(api::AUTHOR_HEADER)?.unwrap_or(AUTHOR_DEFAULT);
    if (1..=NODE_NAME_LEN_MAX).contains(&author.len()) {
        Ok(author.to_owned())
    } else {
        let reason = format!("expected 1 to {NODE_NAME_LEN_MAX} characters");
        Err(ApiError::invalid(api::AUTHOR_HEADER, reason))
    }
}

/// The id that makes a repetition of this write the same write, on whichever node it arrives.
fn proposal_id(request: &Request) -> Result<Option<ProposalId>, ApiError> {
    Ok(request.idempotency("bzzz idempotency")?.map(ProposalId))
}

async fn write(app: &App, request: &mut Request, key: &str) -> Answer {
    check_key(key)?;
    let expect = expectation(request)?;
    let author = author(request)?;
    let id = proposal_id(request)?;
    let value = request.body().await?;
    if value.len() > HEAD_VALUE_MAX {
        let detail = format!("the value has {} bytes, {HEAD_VALUE_MAX} are allowed", value.len());
        let error = ApiError::new("VALUE_TOO_LARGE", detail);
        return Err(error.hint("store large values elsewhere and write their address here"));
    }
    let command = Command::Heads(HeadsCommand::Set {
        key: key.to_owned(),
        expect,
        value: Bytes(value),
        author,
    });
    let written = app.write(id, command).await?;
    let Outcome::HeadSet { version } = written.outcome else { return Err(unexpected()) };
    let mut response = json(
        StatusCode::OK,
        &api::UcxlWritten {
            schema: SCHEMA,
            address: format!("{CONFIG_PREFIX}{key}"),
            key: key.to_owned(),
            version,
            term: written.log_id.term,
            log_index: written.log_id.index,
        },
    )?;
    set(&mut response, header::ETAG, &format!("\"{version}\""));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use warp::http::{HeaderMap, HeaderValue};

    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> Request {
        asked("", headers)
    }

    fn asked(query: &str, headers: &[(&'static str, &'static str)]) -> Request {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        Request::for_test(Method::PUT, &format!("/api/v1/ucxl/ai_models/x?{query}"), map)
    }

    #[test]
    fn a_listing_goes_on_with_its_own_cursor_only() {
        let cluster = ClusterId([1; 16]);
        let place = |query: &str| {
            place(&asked(query, &[]), cluster).map_err(|error| error.code().to_owned())
        };
        let at = |prefix: &str, key: Option<&str>| -> Result<(String, Option<String>), String> {
            Ok((prefix.to_owned(), key.map(str::to_owned)))
        };
        assert_eq!(place(""), at("", None));
        assert_eq!(place("prefix=ai_models/&cursor="), at("ai_models/", None));
        let cursor =
            |cluster: u8, prefix| listing(ClusterId([cluster; 16]), prefix).after("ai_models/a");
        let with =
            |prefix: &str, cursor: String| place(&format!("prefix={prefix}&cursor={cursor}"));
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
        let long = format!("prefix={}", "x".repeat(HEAD_KEY_MAX + 1));
        assert_eq!(place(&long), Err("INVALID".into()));
    }

    #[test]
    fn a_write_has_exactly_one_condition_that_can_be_checked() {
        let expect = |headers: &[(&'static str, &'static str)]| {
            expectation(&request(headers)).map_err(|error| error.code().to_owned())
        };
        assert_eq!(expect(&[("if-match", "\"3\"")]), Ok(Expect::Version(3)));
        assert_eq!(expect(&[("if-match", "3")]), Ok(Expect::Version(3)));
        assert_eq!(expect(&[("if-none-match", "*")]), Ok(Expect::Absent));
        assert_eq!(expect(&[]), Err("PRECONDITION_REQUIRED".into()));
        for bad in ["*", "\"a\"", "W/\"3\"", "\"3\", \"4\"", "0", ""] {
            assert_eq!(expect(&[("if-match", bad)]), Err("CONDITION_UNSUPPORTED".into()), "{bad}");
        }
        let both = expect(&[("if-match", "3"), ("if-none-match", "*")]);
        assert_eq!(both, Err("CONDITION_UNSUPPORTED".into()));
    }

    #[test]
    fn the_same_idempotency_key_is_the_same_write_on_the_same_path_only() {
        let id = |key| proposal_id(&request(&[("idempotency-key", key)])).unwrap();
        assert_eq!(id("a"), id("a"));
        assert_ne!(id("a"), id("b"));
        assert_eq!(proposal_id(&request(&[])).unwrap(), None);
        let mut other = request(&[("idempotency-key", "a")]);
        other.path.push('y');
        assert_ne!(proposal_id(&other).unwrap(), id("a"));
    }
}
