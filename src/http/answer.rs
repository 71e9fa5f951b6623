//! What routes answer with, and how it is put together.

use std::time::Duration;

use serde::Serialize;
use warp::http::header::{HeaderName, HeaderValue};
use warp::http::{StatusCode, header};
use warp::reply::Response;

use super::api::STALE_HEADER;
use super::problem::ApiError;
use crate::adapters::entropy::SystemEntropy;
use crate::ports::Entropy as _;
use crate::types::MemberId;

/// What a route answers.
pub type Answer = Result<Response, ApiError>;

/// An actor answered another question than the one that was asked.
pub fn unexpected() -> ApiError {
    ApiError::new("INTERNAL", "an actor gave an unexpected answer; please report this bug")
}

/// A JSON answer.
pub fn json(status: StatusCode, object: &impl Serialize) -> Answer {
    typed(status, "application/json", object)
}

/// A JSON answer to a request that succeeded.
pub fn ok(object: &impl Serialize) -> Answer {
    json(StatusCode::OK, object)
}

/// An object under a content type of its own.
pub fn typed(status: StatusCode, content_type: &'static str, object: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(object)
        .map_err(|error| ApiError::new("INTERNAL", format!("the answer has no JSON: {error}")))?;
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// Sets a header of a response. Values that no header can carry are left out.
pub fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Says whether something that was acknowledged before may be missing in an answer.
pub fn mark_stale(response: &mut Response, stale: bool) {
    set(response, HeaderName::from_static(STALE_HEADER), if stale { "true" } else { "false" });
}

/// Milliseconds, as far as JSON carries them.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Member ids as the API writes them.
pub fn ids<'a>(members: impl IntoIterator<Item = &'a MemberId>) -> Vec<String> {
    members.into_iter().map(ToString::to_string).collect()
}

/// An id for a request that names none.
pub fn fresh_id() -> String {
    data_encoding::HEXLOWER.encode(&SystemEntropy.seed()[..8])
}
