//! Decisions, contents, and the store of records: how many copies, how long, how many at once.

use std::time::Duration;

/// Copies of a record where not everybody holds it.
pub const REPLICAS: usize = 3;
/// Bytes of a decision, and of any other content before it is encrypted.
pub const CONTENT_LEN_MAX: usize = 1024 * 1024;
/// Bytes of the body of a content: what encryption adds included.
pub const CONTENT_BODY_MAX: usize = CONTENT_LEN_MAX + 16 * 1024;
/// Tags of a decision.
pub const TAGS_MAX: usize = 64;
/// Bytes of a tag.
pub const TAG_LEN_MAX: usize = 64;
/// Decisions that one follows from.
pub const PARENTS_MAX: usize = 64;
/// Entries of a list in a decision.
pub const LIST_ITEMS_MAX: usize = 1_024;
/// Bytes of such an entry.
pub const LIST_ITEM_LEN_MAX: usize = 4_096;
/// Names with values in a decision.
pub const DETAILS_MAX: usize = 256;
/// Bytes of such a name, and of its value.
pub const DETAIL_LEN_MAX: usize = 4_096;
/// How deeply the values in a generic decision may stand in each other.
pub const DATA_DEPTH_MAX: usize = 32;
/// Bytes of a draft as a client sends it; escapes make it longer than what is kept.
pub const DRAFT_LEN_MAX: usize = 2 * CONTENT_LEN_MAX + 64 * 1024;
/// Rows that one query looks at; what matches beyond is reached by a cursor.
pub const QUERY_ROWS_MAX: usize = 16 * RECORDS_ROWS_MAX;
/// Roles of a cluster.
pub const ROLES_MAX: usize = 64;
/// Roles that one content is encrypted to.
pub const ROLES_PER_CONTENT_MAX: usize = ROLES_MAX;
/// Versions that may be added at one address.
pub const VERSIONS_MAX: usize = 4_096;
/// Bytes of contents that a node keeps in memory after they were read.
pub const CACHE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long it keeps them.
pub const CACHE_TTL: Duration = Duration::from_secs(600);
/// Rows of one page of addresses.
pub const RECORDS_ROWS_MAX: usize = 512;
/// Keys of one page of a partition, and in one question about them.
pub const RECORD_KEYS_MAX: usize = 256;
/// Bytes of records in one answer, unless a single one is larger.
pub const RECORDS_BYTES_MAX: usize = 512 * 1024;
/// Requests of other nodes that a replica works on at once.
pub const REPLICA_OPEN_MAX: usize = 4_096;
/// How long a question about records waits for its answer while they are copied.
pub const COPY_TIMEOUT_MS: u64 = 2_000;
/// How often, on average, a holder compares what it has with another one.
pub const COPY_INTERVAL_MS: u64 = 10_000;
