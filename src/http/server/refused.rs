//! What is said without a service: to those that find no place, and to what is no request.

use warp::http::header;

use crate::http::answer::fresh_id;
use crate::http::api::{PROBLEM_TYPE, REQUEST_ID_HEADER};
use crate::http::problem::ApiError;
use crate::types::limits::{HTTP_HEAD_LEN_MAX, HTTP_HEADERS_MAX};

/// The answer to a connection that there is no place for.
pub fn no_place() -> String {
    let error =
        ApiError::busy("as many clients as this node serves at once have requests under way")
            .hint("repeat the request in a moment");
    on_its_own(error)
}

/// The answer to what is no request, which is refused with this status.
pub fn no_request(status: u16) -> String {
    let error = match status {
        431 => {
            let most = format!("{HTTP_HEAD_LEN_MAX} bytes and {HTTP_HEADERS_MAX} headers");
            ApiError::new("HEAD_TOO_LARGE", format!("the head of a request may have {most}"))
        }
        414 => ApiError::new("TARGET_TOO_LONG", "path and query are too long"),
        _ => ApiError::invalid("request", "it is no request of HTTP/1.1")
            .hint("the API speaks plain HTTP/1.1; from elsewhere use `ssh -L`"),
    };
    on_its_own(error)
}

/// A whole answer, after which the connection ends.
fn on_its_own(error: ApiError) -> String {
    let id = fresh_id();
    let (status, problem, headers) = error.into_parts(&id, None);
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let mut head = format!("HTTP/1.1 {status}\r\n");
    let length = body.len().to_string();
    for (name, value) in [
        (header::CONTENT_TYPE.as_str(), PROBLEM_TYPE),
        (header::CONTENT_LENGTH.as_str(), &length),
        (header::CONNECTION.as_str(), "close"),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff"),
        (REQUEST_ID_HEADER, &id),
    ] {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    for (name, value) in headers {
        let value = value.to_str().unwrap_or_default();
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    format!("{head}\r\n{body}")
}
