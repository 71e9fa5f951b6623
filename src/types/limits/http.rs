//! The HTTP API.

/// Bytes of an HTTP request body.
pub const HTTP_BODY_MAX: u64 = 64 * 1024;
/// HTTP connections to the port at once.
pub const HTTP_CONNECTIONS_MAX: usize = 768;
/// HTTP connections to the socket in the data directory at once.
pub const HTTP_LOCAL_CONNECTIONS_MAX: usize = 64;
/// How long an HTTP client may take over the head of a request.
pub const HTTP_HEAD_TIMEOUT_MS: u64 = 5_000;
/// How long an HTTP client may take over the body of a request.
pub const HTTP_BODY_TIMEOUT_MS: u64 = 30_000;
/// How long no byte of a body may come.
pub const HTTP_BODY_GAP_MS: u64 = 5_000;
/// How long an HTTP connection may stay open between two requests.
pub const HTTP_IDLE_TIMEOUT_MS: u64 = 30_000;
/// How long an HTTP client may take nothing of an answer.
pub const HTTP_UNREAD_TIMEOUT_MS: u64 = 10_000;
/// Bytes of a body that nobody wanted which are taken in for the connection to go on.
pub const HTTP_DRAIN_MAX: u64 = 256 * 1024;
/// How long they are waited for.
pub const HTTP_DRAIN_MS: u64 = 1_000;
/// Bytes that are taken in after the last answer for the client to get to see it.
pub const HTTP_LINGER_MAX: u64 = 16 * 1024 * 1024;
/// How long they are waited for.
pub const HTTP_LINGER_MS: u64 = 2_000;
