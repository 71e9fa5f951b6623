//! What all routes of the HTTP API share, as both its sides see it; the objects of a route stand beside it.
//!
//! The server writes them and the command line reads them, so neither can drift from the other.
//! Every answer is an object with `schema`; what may be added to it later are new fields only, so
//! readers ignore what they do not know. Times are RFC 3339 in UTC, member ids are texts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Version of the objects, the value of every `schema` field.
pub const SCHEMA: u32 = 1;
/// Content type of an error.
pub const PROBLEM_TYPE: &str = "application/problem+json";
/// Name of the file in the data directory that holds the token of the API.
pub const TOKEN_FILE: &str = "api.token";
/// Name of the socket in the data directory, at which the operator of the machine needs no token.
pub const SOCKET_FILE: &str = "api.sock";
/// Bytes of a socket's path: 108, less the one that ends it.
pub const SOCKET_PATH_LEN_MAX: usize = 107;
/// Header under which a client names itself as the author of a value.
pub const AUTHOR_HEADER: &str = "x-bzzz-author";
/// Header that makes a repeated write harmless.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// Header with the index that an answer reflects.
pub const INDEX_HEADER: &str = "x-bzzz-index";
/// Header that says whether a write that was acknowledged before may be missing in an answer.
pub const STALE_HEADER: &str = "x-bzzz-stale";
/// Header of answers to writes that a minority refused.
pub const READ_ONLY_HEADER: &str = "x-bzzz-read-only";
/// Header with the id of a request.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// An error, as RFC 9457 describes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of error; nothing has to be found there.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of error in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Code for programs, such as `READ_ONLY_MINORITY`.
    pub code: String,
    /// What went wrong this time.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// True if the same request can succeed later.
    pub retryable: bool,
    /// Id of the request, for finding it in logs.
    pub request_id: String,
    /// The member that answered.
    #[serde(default)]
    pub node_id: Option<String>,
    /// Fields of the request that are wrong.
    #[serde(default)]
    pub errors: Vec<FieldError>,
    /// With `VERSION_MISMATCH`: where the value stands, 0 if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u64>,
    /// With `READ_ONLY_MINORITY`: voters that answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachable: Option<usize>,
    /// With `READ_ONLY_MINORITY`: voters that a write needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<usize>,
    /// With `READ_ONLY_MINORITY`: all voters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voters: Option<usize>,
}

/// A field of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Which.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A change that was made and has nothing more to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// Version of this object.
    pub schema: u32,
    /// Always true.
    pub done: bool,
    /// Index of the change in the log.
    pub index: u64,
}

/// Something that was begun and shows its effect later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// Version of this object.
    pub schema: u32,
    /// Always true.
    pub accepted: bool,
}

/// The file that `bzzz run --ready-file FILE` writes once the API serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyFile {
    /// Where the API listens.
    pub api: String,
    /// Member id.
    pub member: String,
    /// Peer id.
    pub peer: String,
    /// Where other nodes reach it.
    pub addresses: Vec<String>,
    /// Process id.
    pub pid: u32,
}
