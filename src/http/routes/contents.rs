//! `/api/v1/dht`: contents by their hash, and who holds records.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::http::{StatusCode, header};
use warp::reply::Response;

use crate::core::records::{self, Content};
use crate::http::answer::{Answer, json, ok, set, unexpected};
use crate::http::api::SCHEMA;
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::params::HASH;
use crate::http::problem::ApiError;
use crate::http::route::{Body, Reply, Route, running};
use crate::http::{codes, media, schema};
use crate::types::limits::CONTENT_LEN_MAX;
use crate::types::ucxl::CONTENT_PREFIX;
use crate::types::{Bytes, ContentHash, MemberId};

/// `GET /api/v1/dht`: who holds records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dht {
    /// Version of this object.
    pub schema: u32,
    /// Counts the changes of the layout.
    pub layout_version: u64,
    /// Members that hold records.
    pub holders: Vec<String>,
    /// Members that will, once they have everything; null while no change is under way.
    pub next_holders: Option<Vec<String>>,
    /// Copies of a record.
    pub replicas: usize,
    /// Copies that are on disk when a write is acknowledged.
    pub write_quorum: usize,
    /// Holders that a read asks.
    pub read_quorum: usize,
}

/// Answer of `POST /api/v1/dht/contents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContentStored {
    /// Version of this object.
    pub schema: u32,
    /// BLAKE3 of the bytes, in hexadecimal.
    pub hash: String,
    /// Its address.
    pub address: String,
    /// Length.
    pub bytes: usize,
}

/// Answer of `GET /api/v1/dht/contents/{hash}` for whoever accepts JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContentRead {
    /// Version of this object.
    pub schema: u32,
    /// Its hash.
    pub hash: String,
    /// Its bytes.
    pub content_base64: String,
}

/// The routes.
pub const ROUTES: &[Route] = &[
    Route::get("/api/v1/dht", "dht", "Who holds records", running!(status))
        .permission("cluster:read")
        .replies(&[Reply::json::<Dht>(200, "The holders, and how many of them count")]),
    Route::post(
        "/api/v1/dht/contents",
        "content_put",
        "Keeps a content that everybody may read",
        running!(put),
    )
    .permission("contents:write")
    .body(Body::bytes(CONTENT_LEN_MAX))
    .replies(&[Reply::json::<ContentStored>(201, "It is kept")])
    .refuses(&[codes::READ_RECORDS, codes::PUT_RECORDS]),
    Route::get("/api/v1/dht/contents/{hash}", "content", "A content, by its hash", running!(get))
        .permission("contents:read")
        .params(&[&HASH])
        .replies(&[
            Reply::other(200, media::BYTES, schema::bytes, "Its bytes"),
            Reply::other(
                200,
                media::AGE,
                schema::bytes,
                "Its bytes, where they are encrypted to roles",
            ),
            Reply::json::<ContentRead>(200, "For whoever accepts JSON"),
        ])
        .refuses(&[codes::READ_RECORDS, &["NOT_FOUND"]])
        .tagged(),
];

async fn ask(app: &App, request: records::Request) -> Result<records::Reply, ApiError> {
    Ok(app.node.env().directory.records.ask(request).await?)
}

/// Who holds records.
async fn status(app: &App, _: &mut Call) -> Answer {
    let layout = app.status().await?.view.layout.clone();
    let ids = |holders: &crate::core::control::Holders| -> Vec<String> {
        holders.keys().map(MemberId::to_string).collect()
    };
    let set = records::placement::replica_set(&layout.current, crate::types::record::Partition(0));
    ok(&Dht {
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
async fn put(app: &App, call: &mut Call) -> Answer {
    let bytes = call.bytes();
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
        &ContentStored {
            schema: SCHEMA,
            hash: hash.to_string(),
            address: format!("{CONTENT_PREFIX}{hash}"),
            bytes: length,
        },
    )
}

/// A content: its bytes, or an object with them for whoever wants JSON.
async fn get(app: &App, call: &mut Call) -> Answer {
    let parsed: ContentHash = call.needed(&HASH)?;
    let found = match ask(app, records::Request::Content { hash: parsed, named: false }).await? {
        records::Reply::Content(found) => found?,
        _ => return Err(unexpected()),
    };
    let stored =
        found.ok_or_else(|| ApiError::not_found(format!("there is no content {parsed}")))?;
    let content = Content::read(&stored)
        .map_err(|error| ApiError::new("CONTENT_DAMAGED", format!("{parsed}: {error}")))?;
    let (bytes, kind) = match content {
        Content::Raw(bytes) => (bytes.0, media::BYTES),
        Content::Sealed(envelope) => (envelope.file.0, media::AGE),
    };
    let is_object = call.accepts(media::JSON);
    let mut response = if is_object {
        ok(&ContentRead {
            schema: SCHEMA,
            hash: parsed.to_string(),
            content_base64: data_encoding::BASE64.encode(&bytes),
        })?
    } else {
        let mut response = Response::new(bytes.into());
        set(&mut response, header::CONTENT_TYPE, kind);
        response
    };
    // What stands at a hash never changes, and is told in two forms.
    let form = if is_object { ".json" } else { "" };
    set(&mut response, header::ETAG, &format!("\"{parsed}{form}\""));
    Ok(response)
}
