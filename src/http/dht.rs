//! `/api/v1/dht`: contents by their hash, and who holds records.

use warp::http::header::HeaderValue;
use warp::http::{Method, StatusCode, header};
use warp::reply::Response;

use super::api::{self, SCHEMA};
use super::problem::ApiError;
use super::request::Request;
use super::router::{Answer, App, json, ok, unexpected};
use crate::core::records::{self, Content};
use crate::types::codec::decode_durable;
use crate::types::limits::CONTENT_LEN_MAX;
use crate::types::ucxl::CONTENT_PREFIX;
use crate::types::{Bytes, ContentHash, MemberId};

/// Finds the handler of a path below `dht`.
pub async fn route(app: &App, request: &mut Request, rest: &[&str]) -> Answer {
    match (rest, &request.method) {
        ([], &Method::GET) => status(app).await,
        ([], _) => Err(ApiError::method("GET")),
        (["contents"], &Method::POST) => put(app, request).await,
        (["contents"], _) => Err(ApiError::method("POST")),
        (["contents", hash], &Method::GET) => get(app, request, hash).await,
        (["contents", _], _) => Err(ApiError::method("GET")),
        _ => Err(ApiError::not_found("there is nothing at this path")
            .hint("contents are at /api/v1/dht/contents, and who holds records at /api/v1/dht")),
    }
}

async fn ask(app: &App, request: records::Request) -> Result<records::Reply, ApiError> {
    Ok(app.node.env().directory.records.ask(request).await?)
}

/// Who holds records.
async fn status(app: &App) -> Answer {
    let layout = app.status().await?.view.layout.clone();
    let ids = |holders: &crate::core::control::Holders| -> Vec<String> {
        holders.keys().map(MemberId::to_string).collect()
    };
    let set = records::placement::replica_set(&layout.current, crate::types::record::Partition(0));
    ok(&api::Dht {
        schema: SCHEMA,
        layout_version: layout.version,
        holders: ids(&layout.current),
        next_holders: layout.next.as_ref().map(ids),
        replicas: set.members.len(),
        write_quorum: set.write_quorum(),
        read_quorum: set.read_quorum(),
    })
}

/// Keeps a content that everybody may read.
async fn put(app: &App, request: &mut Request) -> Answer {
    let bytes = request.body_up_to(CONTENT_LEN_MAX as u64).await?;
    let length = bytes.len();
    let content = Content::Raw(Bytes(bytes));
    let hash = content.hash();
    let put = records::Request::Put { hash, content: content.encode() };
    match ask(app, put).await? {
        records::Reply::Written(result) => result?,
        _ => return Err(unexpected()),
    };
    json(
        StatusCode::CREATED,
        &api::ContentStored {
            schema: SCHEMA,
            hash: hash.to_string(),
            address: format!("{CONTENT_PREFIX}{hash}"),
            bytes: length,
        },
    )
}

/// A content: its bytes, or an object with them for whoever wants JSON.
async fn get(app: &App, request: &Request, hash: &str) -> Answer {
    let parsed: ContentHash = hash.parse().map_err(|_| {
        ApiError::invalid("hash", "expected the 64 hexadecimal digits of a content's hash")
    })?;
    let found = match ask(app, records::Request::Content { hash: parsed, named: false }).await? {
        records::Reply::Content(found) => found?,
        _ => return Err(unexpected()),
    };
    let stored =
        found.ok_or_else(|| ApiError::not_found(format!("there is no content {parsed}")))?;
    let content: Content = decode_durable(&stored.0)
        .map_err(|error| ApiError::new("INTERNAL", format!("the content is damaged: {error}")))?;
    let (bytes, kind) = match content {
        Content::Raw(bytes) => (bytes.0, "application/octet-stream"),
        Content::Sealed(envelope) => (envelope.file.0, "application/age-encryption"),
    };
    if request.header("accept")?.is_some_and(|accept| accept.contains("application/json")) {
        return ok(&api::ContentRead {
            schema: SCHEMA,
            hash: parsed.to_string(),
            content_base64: data_encoding::BASE64.encode(&bytes),
        });
    }
    let mut response = Response::new(bytes.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
