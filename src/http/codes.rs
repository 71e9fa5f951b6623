//! The codes of problems: one row for each, with its status, its title and when it comes.
//!
//! The table of docs/api.md is made of these rows, and compared with them by a test. Groups name what a kind of request
//! can end in, so that a route says it in one word.

/// A kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// For programs.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// For people.
    pub title: &'static str,
    /// When it comes, for docs/api.md.
    pub when: &'static str,
}

const fn row(code: &'static str, status: u16, title: &'static str, when: &'static str) -> Code {
    Code { code, status, title, when }
}

/// Every code, by status.
pub const CODES: &[Code] = &[
    row(
        "INVALID",
        400,
        "The request is invalid",
        "a part of the path, a query parameter, a header or a field of the body is wrong, twice there, or unknown; or it is no request of HTTP/1.1",
    ),
    row(
        "CONDITION_UNSUPPORTED",
        400,
        "The condition is not supported",
        "a condition other than one version or \"none yet\", or one where the path knows none",
    ),
    row(
        "CURSOR_INVALID",
        400,
        "The cursor is of no use",
        "a cursor of another query, prefix or cluster, or an altered one",
    ),
    row("ROLE_UNKNOWN", 400, "No such role", "a role that does not exist"),
    row("UNAUTHORIZED", 401, "The token is missing or wrong", "no token, or a wrong one"),
    row(
        "HOST_WRONG",
        403,
        "The node is not called that",
        "`Host` names something else than this machine's loopback",
    ),
    row(
        "ORIGIN_WRONG",
        403,
        "Pages of others may not ask",
        "`Origin` names a page that was not loaded from here",
    ),
    row(
        "FAULT_INJECTION_OFF",
        403,
        "Fault injection is off",
        "killing an actor, or setting the clock, of a node that does not allow it",
    ),
    row(
        "ROLE_CANNOT_READ",
        403,
        "The role cannot decrypt it",
        "a decision was not encrypted to that role; the detail names those that can read it",
    ),
    row("NOT_FOUND", 404, "Not found", "no such path, key, content, decision or actor"),
    row("NO_SUCH_MEMBER", 404, "No such member", "no such member"),
    row("TOKEN_UNKNOWN", 404, "No such join token", "no such join token"),
    row("NO_SUCH_DUTY", 404, "No such duty", "no such duty"),
    row(
        "NO_SUCH_VERSION",
        404,
        "No such version",
        "a version out of range; the detail names the range",
    ),
    row("METHOD_NOT_ALLOWED", 405, "Method not allowed", "`Allow` names the methods"),
    row("LAST_MEMBER", 409, "The last member cannot be removed", "nobody would be left"),
    row(
        "LIMIT_REACHED",
        409,
        "A limit is reached",
        "the cluster has as many of these as it may have",
    ),
    row(
        "LEVEL_TOO_LOW",
        409,
        "Not every member understands this yet",
        "some members run an older build, which does not understand this; upgrade them",
    ),
    row(
        "RECORDS_AT_RISK",
        409,
        "Too few holders of records would be left",
        "without the member too few would be left of those that hold some records; `retryable` while others are taking over from the last one that went",
    ),
    row(
        "NO_MAJORITY_LEFT",
        409,
        "The rest would have no majority",
        "too few of the other voters answer for the member to be removed",
    ),
    row(
        "VOTERS_CHANGING",
        409,
        "The voters are still changing",
        "the same, but only until the member that was removed before does not vote any more",
    ),
    row(
        "NO_HANDOVER",
        409,
        "Leadership can't go there",
        "it leads already, does not vote, or does not answer",
    ),
    row(
        "ADDRESS_FULL",
        409,
        "The address has as many versions as it may have",
        "an address has 4,096 versions and takes no more",
    ),
    row(
        "IDEMPOTENCY_KEY_REUSED",
        409,
        "The idempotency key was used for something else",
        "something else came under the key before, at this path, and was answered; take a fresh key",
    ),
    row(
        "REFERENCE_MISSING",
        409,
        "Something that is referred to does not exist",
        "a parent, or what a decision supersedes, does not exist",
    ),
    row(
        "NOT_A_DECISION",
        409,
        "The content is not a decision",
        "the content of that hash is one that everybody can read",
    ),
    row(
        "ALREADY_FOUNDED",
        409,
        "The cluster exists already",
        "of joining and founding; no path answers with it",
    ),
    row(
        "ALREADY_MEMBER",
        409,
        "The node is a member already",
        "of joining; no path answers with it",
    ),
    row(
        "DUPLICATE_IDENTITY",
        409,
        "Another node has the same key",
        "of joining; no path answers with it",
    ),
    row(
        "OTHER_LEVEL",
        409,
        "The build does not fit the cluster",
        "of joining; no path answers with it",
    ),
    row("TOKEN_EXPIRED", 409, "The join token has expired", "of joining; no path answers with it"),
    row("TOKEN_USED", 409, "The join token is used up", "of joining; no path answers with it"),
    row(
        "CONTENT_GONE",
        410,
        "The content is gone",
        "a version is known, and every member that should hold its content says that it does not",
    ),
    row(
        "VERSION_MISMATCH",
        412,
        "The value stands at another version",
        "with `current_version` (0: there is none) and, unless 0, `ETag`",
    ),
    row("BODY_TOO_LARGE", 413, "The body is too large", "a body over what the path takes"),
    row("VALUE_TOO_LARGE", 413, "The value is too large", "a value over 4,096 bytes"),
    row("DECISION_TOO_LARGE", 413, "The decision is too large", "a decision over 1 MiB as stored"),
    row(
        "TARGET_TOO_LONG",
        414,
        "The path and query are too long",
        "path and query over 4 KiB together",
    ),
    row(
        "MEDIA_TYPE_WRONG",
        415,
        "The body is of another type",
        "a body of another `Content-Type` than the path takes, or in an encoding",
    ),
    row(
        "PRECONDITION_REQUIRED",
        428,
        "A condition is required",
        "a write that does not say what it replaces",
    ),
    row(
        "HEAD_TOO_LARGE",
        431,
        "The head of the request is too large",
        "over 16 KiB, or over 64 headers",
    ),
    row("INTERNAL", 500, "This node made an error", "a bug"),
    row(
        "CONTENT_DAMAGED",
        500,
        "The content is damaged",
        "a content does not match its hash, its signature or its address",
    ),
    row("NO_LEADER", 503, "There is no leader", "repeat in a moment"),
    row("NODE_BEHIND", 503, "This node is catching up", "repeat in a moment"),
    row(
        "READ_ONLY_MINORITY",
        503,
        "This side of the cluster is read-only",
        "with `X-Bzzz-Read-Only: true`, `reachable`, `needed`, `voters`",
    ),
    row(
        "REPLICAS_UNAVAILABLE",
        503,
        "Too few holders of the record answer",
        "too few holders of a decision or content answer for it to be kept, or for it to be said that there is none; repeat when more are back",
    ),
    row(
        "TIMED_OUT",
        503,
        "The holders of the record did not answer in time",
        "the holders of a record seem to answer, but did not in time; repeat",
    ),
    row(
        "KEYS_PENDING",
        503,
        "This node lacks keys",
        "a node that has just joined has no keys of roles yet; repeat in a moment",
    ),
    row(
        "CLOCK_WRONG",
        503,
        "The clock of this machine is too far from the others'",
        "no majority of the voters' clocks agrees with the time that this node goes by, so it publishes no decisions and events, and makes and takes no join tokens; or it could not compare them yet; or the latest version of the address is stamped by a clock that was ahead, and takes no more until a time that `detail` names",
    ),
    row("BUSY", 503, "This node is busy", "with `Retry-After: 1`"),
    row(
        "STARTING",
        503,
        "This node is starting",
        "the node has not started yet; with `Retry-After: 1`, on every path but `/health`, `/livez`, `/api/v1/setup` and `/api/openapi.json`",
    ),
    row("JOINING", 503, "This node is joining a cluster", "the same, while it joins a cluster"),
    row(
        "WRITE_OUTCOME_UNKNOWN",
        504,
        "The outcome of the write is not known",
        "the write may have happened; read, or repeat with its `Idempotency-Key`",
    ),
    row(
        "DISK_FULL",
        507,
        "The disk is full",
        "a write while the disk of the node has no room; the node looks once a second",
    ),
    row(
        "DISK_FAILED",
        507,
        "The disk has failed",
        "a write once the disk of the node refused one, until the node is restarted",
    ),
];

/// The row of a code.
pub fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|row| row.code == code)
}

/// What every path can answer.
pub const ALL: &[&str] = &[
    "INVALID",
    "CONDITION_UNSUPPORTED",
    "TARGET_TOO_LONG",
    "METHOD_NOT_ALLOWED",
    "BUSY",
    "INTERNAL",
];
/// What every path can answer that does not take any Host, beside these.
pub const HOSTS: &[&str] = &["HOST_WRONG", "ORIGIN_WRONG"];
/// What every path can answer that is served by running nodes only, beside these.
pub const BEFORE: &[&str] = &["STARTING", "JOINING"];
/// What every path can answer that takes a body, beside these.
pub const BODY: &[&str] = &["MEDIA_TYPE_WRONG"];
/// What a command can end in.
pub const WRITE: &[&str] = &[
    "READ_ONLY_MINORITY",
    "NO_LEADER",
    "NODE_BEHIND",
    "DISK_FULL",
    "DISK_FAILED",
    "WRITE_OUTCOME_UNKNOWN",
    "LEVEL_TOO_LOW",
    "LIMIT_REACHED",
];
/// What reading records can end in.
pub const READ_RECORDS: &[&str] = &[
    "REPLICAS_UNAVAILABLE",
    "READ_ONLY_MINORITY",
    "NO_LEADER",
    "NODE_BEHIND",
    "TIMED_OUT",
    "CLOCK_WRONG",
    "CONTENT_DAMAGED",
];
/// What keeping records can end in, beside that.
pub const PUT_RECORDS: &[&str] = &["DISK_FULL", "DISK_FAILED", "WRITE_OUTCOME_UNKNOWN"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_stands_once_and_in_the_order_of_statuses() {
        for pair in CODES.windows(2) {
            assert!(pair[0].status <= pair[1].status, "{}", pair[1].code);
        }
        for (at, row) in CODES.iter().enumerate() {
            assert!(CODES[..at].iter().all(|other| other.code != row.code), "{}", row.code);
        }
        for code in [ALL, HOSTS, BEFORE, BODY, WRITE, READ_RECORDS, PUT_RECORDS].concat() {
            assert!(find(code).is_some(), "{code}");
        }
    }

    #[test]
    fn the_document_has_the_table_of_codes() {
        let line = |row: &Code| format!("| `{}` | {} | {} |", row.code, row.status, row.when);
        let rows: Vec<String> = CODES.iter().map(line).collect();
        let document = include_str!("../../docs/api.md");
        assert!(
            document.contains(&rows.join("\n")),
            "docs/api.md has to have this table of codes:\n{}",
            rows.join("\n")
        );
    }
}
