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
/// Bytes of a request's head.
pub const HTTP_HEAD_LEN_MAX: usize = 16 * 1024;
/// Headers of a request.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Bytes of a request's path and query together.
pub const HTTP_TARGET_LEN_MAX: usize = 4 * 1024;
/// Bytes of a request id that a client chose.
pub const HTTP_REQUEST_ID_LEN_MAX: usize = 64;
/// Bytes of an idempotency key.
pub const HTTP_IDEMPOTENCY_LEN_MAX: usize = 128;
/// Characters of something from a request that are repeated in an answer.
pub const HTTP_SHOWN_MAX: usize = 200;
/// Rows of a page if the client does not say.
pub const PAGE_ROWS_DEFAULT: u64 = 100;
/// Clients that listen to events at once. Each holds a connection for long, so it is far below the bound of
/// connections.
pub const HTTP_LISTENERS_MAX: usize = 64;
/// Clients that listen to events at once through the socket in the data directory.
pub const HTTP_LOCAL_LISTENERS_MAX: usize = 16;
/// Events that wait for one client.
pub const HTTP_EVENT_QUEUE_MAX: usize = 1_024;
/// Events in one list.
pub const HTTP_EVENT_LIST_MAX: usize = 500;
/// Seconds by which the time of day may be shown wrong, in either direction: 100 years.
pub const CLOCK_FAULT_S_MAX: i64 = 36_525 * 86_400;

const _: () = assert!(HTTP_LISTENERS_MAX * 4 < HTTP_CONNECTIONS_MAX);
const _: () = assert!(HTTP_LOCAL_LISTENERS_MAX * 4 <= HTTP_LOCAL_CONNECTIONS_MAX);
const _: () = assert!(HTTP_TARGET_LEN_MAX < HTTP_HEAD_LEN_MAX);
