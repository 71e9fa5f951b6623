//! Errors of the API, and how they are told.
//!
//! Every error is a problem of RFC 9457 with a code for programs, a sentence for people, and what
//! to do about it. `codes` has the statuses and titles.

use warp::http::header::{HeaderName, HeaderValue};
use warp::http::{StatusCode, header};

use super::api::{FieldError, Problem};
use super::codes;
use crate::actors::directory::Unavailable;
use crate::core::refusal::Refusal;
use crate::messages::Refused;
use crate::types::limits::HTTP_SHOWN_MAX;

/// An error on its way to a client.
#[derive(Clone, Debug)]
pub struct ApiError {
    problem: Box<Problem>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// An error of the kind `code`.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        let known = codes::find(code);
        debug_assert!(known.is_some(), "{code} has no row");
        let (status, title) = known.map_or((500, code), |row| (row.status, row.title));
        let problem = Problem {
            kind: format!("https://bzzz.dev/problems/{}", code.to_ascii_lowercase()),
            title: title.to_owned(),
            status,
            code: code.to_owned(),
            detail: detail.into(),
            ..Problem::default()
        };
        Self { problem: Box::new(problem), headers: Vec::new() }
    }

    /// A field of the request is wrong.
    pub fn invalid(field: &str, reason: impl Into<String>) -> Self {
        Self::of_field(FieldError { field: field.to_owned(), reason: reason.into() })
    }

    /// A field of the request is wrong.
    pub fn of_field(wrong: FieldError) -> Self {
        let mut error = Self::new("INVALID", format!("{}: {}", wrong.field, wrong.reason));
        error.problem.errors = vec![wrong];
        error
    }

    /// Nothing is there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new("NOT_FOUND", detail)
    }

    /// The path exists, but not for this method.
    pub fn method(allowed: &str) -> Self {
        Self::new("METHOD_NOT_ALLOWED", format!("this path takes {allowed} only"))
            .header(header::ALLOW, allowed)
    }

    /// Too much is going on; the same request can succeed in a moment.
    pub fn busy(detail: impl Into<String>) -> Self {
        let mut error = Self::new("BUSY", detail).header(header::RETRY_AFTER, "1");
        error.problem.retryable = true;
        error
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hint = Some(hint.into());
        self
    }

    /// Says that the same request can succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.problem.retryable = true;
        self
    }

    /// Adds a header. Values that no header can carry are left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// The code.
    pub fn code(&self) -> &str {
        &self.problem.code
    }

    /// The parts of the answer.
    pub fn into_parts(
        mut self,
        request_id: &str,
        node_id: Option<String>,
    ) -> (StatusCode, Problem, Vec<(HeaderName, HeaderValue)>) {
        self.problem.request_id = request_id.to_owned();
        self.problem.node_id = node_id;
        let status =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, *self.problem, self.headers)
    }
}

/// Something of a request, as far as an answer repeats it.
pub fn shown(text: &str) -> String {
    text.chars().take(HTTP_SHOWN_MAX).collect()
}

/// What to do about a refusal.
fn hint_for(refusal: &Refusal) -> Option<&'static str> {
    Some(match refusal {
        Refusal::NoLeader => "repeat the request in a moment",
        Refusal::Minority { .. } => {
            "reconnect the missing voters, or write through a node on the side of the majority"
        }
        Refusal::ReplicasUnavailable { .. } => {
            "bring more of the members back that hold the record; `bzzz node list` shows who answers"
        }
        Refusal::NoMajorityLeft { .. } => {
            "bring the voters back that do not answer, then repeat it"
        }
        Refusal::VotersChanging(_) => "repeat the request in a moment",
        Refusal::TimedOut => "repeat the request; `bzzz node list` shows how far the members are",
        Refusal::ClockWrong { .. } => {
            "set the time of the machines where it is wrong, best by NTP; it goes on by itself then"
        }
        Refusal::ClockUnknown => {
            "repeat the request; if that goes on, see with `bzzz node list` whether the ways to the voters are slow"
        }
        Refusal::AddressAhead(_) => {
            "publish at another address, for example of a new task; what is there can be read"
        }
        Refusal::AddressFull => "publish at another address, for example of a new task",
        Refusal::NoHandover(_) => "name a voter that answers and does not lead",
        Refusal::Behind => "repeat the request in a moment, or ask another node",
        Refusal::DiskFull => "free some room on the file system of the data directory",
        Refusal::DiskFailed => {
            "write through another node; look into the disk of this one, then restart it"
        }
        Refusal::Busy => "repeat the request in a moment, and send fewer at once",
        Refusal::OutcomeUnknown => {
            "read the value, or repeat the request with the same Idempotency-Key"
        }
        Refusal::Refused(Refused::VersionMismatch { .. }) => {
            "read the value and repeat the request with its ETag in If-Match, and under another Idempotency-Key if it had one"
        }
        Refusal::Refused(Refused::KeyReused) => "take a fresh Idempotency-Key",
        Refusal::Refused(_) | Refusal::NotFound(_) => return None,
    })
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let mut error = Self::new(refusal.code(), refusal.to_string());
        error.problem.retryable = refusal.is_retryable();
        error.problem.hint = hint_for(&refusal).map(str::to_owned);
        match refusal {
            Refusal::Minority { reachable, needed, voters } => {
                error.problem.reachable = Some(reachable);
                error.problem.needed = Some(needed);
                error.problem.voters = Some(voters);
                error.header(HeaderName::from_static(super::api::READ_ONLY_HEADER), "true")
            }
            Refusal::Busy => error.header(header::RETRY_AFTER, "1"),
            Refusal::Refused(Refused::VersionMismatch { current }) => {
                error.problem.current_version = Some(current);
                if current == 0 {
                    error
                } else {
                    error.header(header::ETAG, &format!("\"{current}\""))
                }
            }
            _ => error,
        }
    }
}

impl From<Unavailable> for ApiError {
    fn from(unavailable: Unavailable) -> Self {
        Self::busy(unavailable.to_string()).hint("repeat the request in a moment")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MemberId;

    fn status_of(refusal: Refusal) -> u16 {
        ApiError::from(refusal).into_parts("r", None).0.as_u16()
    }

    #[test]
    fn refusals_have_the_status_of_their_code() {
        assert_eq!(status_of(Refusal::NoLeader), 503);
        assert_eq!(status_of(Refusal::DiskFull), 507);
        assert_eq!(status_of(Refusal::OutcomeUnknown), 504);
        assert_eq!(status_of(Refusal::Refused(Refused::NoSuchMember(MemberId(7)))), 404);
        assert_eq!(status_of(Refusal::Refused(Refused::Invalid("x".into()))), 400);
        assert_eq!(status_of(Refusal::Refused(Refused::LastMember)), 409);
    }

    #[test]
    fn a_minority_says_who_is_missing() {
        let refusal = Refusal::Minority { reachable: 1, needed: 2, voters: 3 };
        let (status, problem, headers) = ApiError::from(refusal).into_parts("abc", None);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            (problem.reachable, problem.needed, problem.voters),
            (Some(1), Some(2), Some(3))
        );
        assert_eq!(problem.kind, "https://bzzz.dev/problems/read_only_minority");
        assert!(problem.retryable);
        assert_eq!(headers[0].0.as_str(), "x-bzzz-read-only");
    }

    #[test]
    fn a_mismatch_carries_the_version_twice() {
        let refusal = Refusal::Refused(Refused::VersionMismatch { current: 4 });
        let (status, problem, headers) = ApiError::from(refusal).into_parts("abc", None);
        assert_eq!(status.as_u16(), 412);
        assert_eq!(problem.current_version, Some(4));
        assert_eq!(headers[0].1, "\"4\"");
    }
}
