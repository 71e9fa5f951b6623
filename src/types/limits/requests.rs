//! Requests of clients, and how long they take.

/// How long a write waits for a lease before it is refused.
pub const LEASE_WAIT_MS: u64 = 600;
/// How long a write may be under way before its outcome is reported as unknown.
pub const WRITE_TIMEOUT_MS: u64 = 5_000;
/// How long a read waits for the leader before it is answered from what this node has, marked stale.
pub const READ_TIMEOUT_MS: u64 = 400;
/// How long a read of a content goes on after that while enough of its holders seem to answer: it may be large, and
/// the way slow.
pub const CONTENT_TIMEOUT_MS: u64 = 5_000;
/// How long a proposal waits for its outcome before it is sent again under the same id.
pub const PROPOSAL_RETRY_MS: u64 = 100;
/// Requests from clients that a front works on at once.
pub const REQUESTS_MAX: usize = 1_024;
/// Rows of one listing; what lies beyond is reached by a cursor.
pub const PAGE_ROWS_MAX: usize = 500;
