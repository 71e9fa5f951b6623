//! Every bound of the product, in one place, related to each other at compile time.
//!
//! A bound that is not here does not exist: code that grows something takes its limit from this
//! page, so that it can be read, reviewed and tested in one sitting.

use std::time::Duration;

// ---- Time: consensus and lease ----------------------------------------------------------------

/// Interval at which a leader shows that it is alive.
pub const HEARTBEAT_MS: u64 = 50;
/// Shortest time a voter waits for its leader before the safety net campaigns.
pub const ELECTION_TIMEOUT_MIN_MS: u64 = 150;
/// Longest such time. No voter grants a vote within it, so it is the floor of failover.
pub const ELECTION_TIMEOUT_MAX_MS: u64 = 300;
/// How long an answer of the leader lets a node accept writes, counted from the sending of the
/// last round that a quorum acknowledged. The rest up to the election timeout covers clock drift.
pub const LEASE_MS: u64 = 240;
/// A node this far behind the committed index of its lease coordinates no writes.
pub const LEASE_LAG_MAX_MS: u64 = 1_000;
/// A voter that has not answered for this long is replaced if another member can vote.
pub const VOTER_SILENT_MS: u64 = 60_000;
/// Without a write for this long a node lets its lease lapse.
pub const LEASE_IDLE_MS: u64 = 10_000;
/// How often a voter that knows no leader asks for votes, once its turn has come.
pub const ELECT_RETRY_MS: u64 = 20;
/// Least distance in time between two candidates of neighbouring rank.
pub const RANK_STEP_MS: u64 = 15;
/// Slack that a candidate adds to the election timeout before its turn.
pub const CANDIDACY_SLACK_MS: u64 = 10;
/// Clocks may run apart by this many parts in a thousand before a lease is at risk.
pub const CLOCK_DRIFT_PERMILLE_MAX: u64 = 100;

const _: () = assert!(LEASE_MS == ELECTION_TIMEOUT_MAX_MS * 8 / 10);
const _: () = assert!(
    LEASE_MS + LEASE_MS * CLOCK_DRIFT_PERMILLE_MAX / 1_000 <= ELECTION_TIMEOUT_MAX_MS,
    "a drifting clock must not carry a lease past the next election"
);
const _: () =
    assert!(HEARTBEAT_MS * 3 <= ELECTION_TIMEOUT_MIN_MS, "two lost heartbeats are no failure");

// ---- Time: requests -----------------------------------------------------------------------------

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

const _: () =
    assert!(LEASE_WAIT_MS > ELECTION_TIMEOUT_MAX_MS, "a write outlives a normal failover");
const _: () = assert!(LEASE_WAIT_MS < 1_000, "a minority refuses writes within a second");

// ---- Counts: members ----------------------------------------------------------------------------

/// Up to this many members, every member votes.
pub const VOTERS_MAX: usize = 7;
/// Members in a roster.
pub const MEMBERS_MAX: usize = 1_000;
/// Join tokens that can be open at once.
pub const JOIN_TOKENS_MAX: usize = 256;
/// Uses of one join token.
pub const JOIN_TOKEN_USES_MAX: u32 = 1_000;
/// Longest life of a join token.
pub const JOIN_TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Peer ids that a join token names: the issuer and the voters.
pub const JOIN_TOKEN_PEERS_MAX: usize = VOTERS_MAX + 1;
/// Labels of one node.
pub const LABELS_MAX: usize = 32;
/// Bytes of a label's key, and of its value.
pub const LABEL_LEN_MAX: usize = 63;
/// Listening addresses that one node announces.
pub const ADDRESSES_MAX: usize = 8;
/// Bytes of one address in text form.
pub const ADDRESS_LEN_MAX: usize = 300;
/// Bytes of a node's display name.
pub const NODE_NAME_LEN_MAX: usize = 64;
/// Most that one holder of records weighs beside the others.
pub const HOLDER_WEIGHT_MAX: u8 = 16;
/// GPUs that one node announces.
pub const GPUS_MAX: usize = 64;
/// Bytes of the name of a GPU's model.
pub const GPU_MODEL_LEN_MAX: usize = 96;
/// Members that one node announces its distance to.
pub const LINKS_ANNOUNCED_MAX: usize = 128;

// ---- Sizes: addresses ---------------------------------------------------------------------------

/// Bytes of one segment of a decision's address.
pub const UCXL_SEGMENT_MAX: usize = 64;
/// Bytes of an address in any spelling.
pub const UCXL_TEXT_MAX: usize = 512;

// ---- Sizes: heads -------------------------------------------------------------------------------

/// Bytes of a configuration value that stands in the control state itself.
pub const HEAD_VALUE_MAX: usize = 4 * 1024;
/// Bytes of a configuration key, all segments together.
pub const HEAD_KEY_MAX: usize = 256;
/// Heads in the control state.
pub const HEADS_MAX: usize = 4_096;
/// Rows of one listing; what lies beyond is reached by a cursor.
pub const PAGE_ROWS_MAX: usize = 500;
/// Outcomes of proposals that are remembered, so that a repeated proposal is answered alike.
pub const OUTCOMES_MAX: usize = 4_096;

// ---- Sizes: records -----------------------------------------------------------------------------

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
/// Bytes of frames and gossip that have arrived and were not handed on yet.
pub const INTAKE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How far a stamp may be ahead of a replica's own time of day.
pub const CLOCK_AHEAD_MAX_MS: u64 = 60_000;
/// By how many milliseconds the times of two nodes may differ that both go by the same clocks.
pub const CLUSTER_TIME_SPREAD_MS: u64 = 2 * CLOCK_AHEAD_MAX_MS;

const _: () = assert!(CONTENT_BODY_MAX + 16 * 1024 < FRAME_LEN_MAX, "a content fits in a frame");
const _: () = assert!(RECORDS_BYTES_MAX + 512 * 1024 < FRAME_LEN_MAX, "so does a page of records");
const _: () = assert!(2 * VERSIONS_MAX * 96 < FRAME_LEN_MAX, "so do all versions of an address");

// ---- Gossip -------------------------------------------------------------------------------------

/// How old a note may be; for as long notes of kept topics are kept for members that missed them.
pub const GOSSIP_WINDOW: Duration = Duration::from_secs(600);
/// How long a note that was heard is remembered: until its time would not let it in again, even if
/// its publisher's clock is ahead.
pub const GOSSIP_REMEMBERED: Duration = Duration::from_secs(600 + 61);
/// Bytes of one signed note.
pub const NOTE_LEN_MAX: usize = 60 * 1024;
/// Bytes of one message of the mesh.
pub const GOSSIP_LEN_MAX: usize = 64 * 1024;
/// Notes of one stream that are remembered.
pub const STREAM_NOTES_MAX: usize = 4_096;
/// Runs of one publisher that are remembered, on each topic. One that keeps crashing makes many in ten minutes.
pub const STREAMS_MAX: usize = 32;
/// Bytes of all notes that are kept.
pub const GOSSIP_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Notes of one publisher on one topic that are taken in a second, on average and at once.
pub const NOTES_PER_SECOND: u32 = 100;
/// See `NOTES_PER_SECOND`.
pub const NOTES_BURST: u32 = 1_000;
/// Messages of the mesh that are taken from one peer in a second, whoever wrote them.
pub const GOSSIP_PER_SECOND_MAX: u32 = 5_000;
/// Streams in one digest.
pub const DIGEST_STREAMS_MAX: usize = 64;
/// Runs of numbers of one stream in a digest.
pub const DIGEST_RANGES_MAX: usize = 32;
/// Notes in one message between two members.
pub const NOTES_MAX: usize = 64;
/// Bytes of these, unless a single one is larger.
pub const NOTES_BYTES_MAX: usize = 256 * 1024;
/// Publications in one note.
pub const PUBLISHED_MAX: usize = 64;
/// Bytes of the name of an application's event.
pub const EVENT_NAME_MAX: usize = 128;
/// Bytes of the data of an application's event, as JSON.
pub const EVENT_DATA_MAX: usize = 32 * 1024;
/// Publications of events that wait for a confirmation.
pub const EVENTS_PENDING_MAX: usize = 1_024;

const _: () = assert!(NOTE_LEN_MAX + 1024 < GOSSIP_LEN_MAX, "a signed note fits in a message");
const _: () = assert!(EVENT_DATA_MAX + EVENT_NAME_MAX + 512 < NOTE_LEN_MAX, "so does an event");
const _: () = assert!(PUBLISHED_MAX * (UCXL_TEXT_MAX + 256) < NOTE_LEN_MAX, "so do publications");
const _: () = assert!(NOTES_BYTES_MAX + GOSSIP_LEN_MAX < FRAME_LEN_MAX, "so does a page of notes");
const _: () = assert!(
    GOSSIP_REMEMBERED.as_secs() * 1_000 > GOSSIP_WINDOW.as_secs() * 1_000 + CLOCK_AHEAD_MAX_MS
);

// ---- Sizes: wire --------------------------------------------------------------------------------

/// Bytes of one frame on a stream; checked against the length prefix before anything is allocated.
pub const FRAME_LEN_MAX: usize = 1024 * 1024 + 128 * 1024;
/// Bytes of one frame of the join protocol, which strangers may speak.
pub const JOIN_FRAME_LEN_MAX: usize = 16 * 1024;
/// Frames that wait for one peer on one lane; further ones are dropped and counted.
pub const SEND_QUEUE_FRAMES_MAX: usize = 1_024;
/// Bytes that wait for one peer on one lane.
pub const SEND_QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes after which a writer lets other streams have a turn.
pub const WRITE_CHUNK: usize = 64 * 1024;
/// Payloads above this go on the bulk lane.
pub const BULK_ABOVE: usize = 16 * 1024;
/// Connections to peers of the roster and to strangers, together.
pub const CONNECTIONS_MAX: usize = 500;
/// Members that one member is connected to in a large cluster.
pub const LINKS_MAX: usize = 64;
/// How long a connection to another member that was made on demand may be idle.
pub const LINK_IDLE: Duration = Duration::from_secs(300);
/// Connections of peers that are not in the roster.
pub const STRANGERS_MAX: usize = 32;
/// How long a stranger may stay connected without having joined.
pub const STRANGER_TIMEOUT_MS: u64 = 10_000;
/// Frames that one peer may send in a second before its stream is slowed down.
pub const FRAMES_PER_SECOND_MAX: u32 = 50_000;
/// Join requests that one node answers in a second.
pub const JOINS_PER_SECOND_MAX: u32 = 40;
/// Join requests from one source (a host, an IPv6 network or a relay) that one node answers in a
/// second.
pub const JOINS_PER_SOURCE_MAX: u32 = 10;
/// Consensus requests of one peer that may be in work at once.
pub const CONSENSUS_INFLIGHT_MAX: usize = 64;
/// Entries in one replication message.
pub const APPEND_ENTRIES_MAX: u64 = 128;
/// Bytes of a snapshot of the control state.
pub const SNAPSHOT_LEN_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one part of a snapshot on the wire.
pub const SNAPSHOT_PART: usize = 256 * 1024;

const _: () = assert!(JOIN_FRAME_LEN_MAX < FRAME_LEN_MAX);
const _: () = assert!(JOINS_PER_SOURCE_MAX < JOINS_PER_SECOND_MAX, "no source takes all of them");
const _: () = assert!(SNAPSHOT_PART * 2 < FRAME_LEN_MAX, "a part of a snapshot fits in a frame");
const _: () = assert!(
    APPEND_ENTRIES_MAX as usize * (HEAD_VALUE_MAX + HEAD_KEY_MAX + 512) < FRAME_LEN_MAX,
    "the largest replication message fits in a frame"
);
const _: () = assert!(FRAME_LEN_MAX <= SEND_QUEUE_BYTES_MAX);

// ---- Sizes: node --------------------------------------------------------------------------------

/// Calls that wait in one actor; further ones are refused as busy.
pub const MAILBOX_MAX: usize = 4_096;
/// Effects that one actor may hold back while a disk write is under way.
pub const PARKED_MAX: usize = 16_384;
/// Requests from clients that a gateway works on at once.
pub const REQUESTS_MAX: usize = 1_024;
/// Proposals and other operations that wait for consensus.
pub const CONSENSUS_QUEUE_MAX: usize = 1_024;
/// Events that a node keeps for clients that reconnect.
pub const EVENTS_KEPT: usize = 10_000;
/// Bytes of the names and data of the events of applications among them.
pub const EVENTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of one record of a journal.
pub const JOURNAL_RECORD_MAX: usize = 68 * 1024 * 1024;
/// A journal is rewritten when it is larger than this and mostly garbage.
pub const JOURNAL_REWRITE_ABOVE: u64 = 1024 * 1024;
/// Log entries after which the control state is saved and the log before it dropped.
pub const SNAPSHOT_EVERY: u64 = 1_000;
/// Log entries kept behind a snapshot for members that are a little behind.
pub const LOG_KEPT_BEHIND_SNAPSHOT: u64 = 200;
/// How long a voter waits for something new before it answers a member that does not vote.
pub const FOLLOW_WAIT_MS: u64 = 200;
/// How old what a member has applied may be for it to answer members that do not vote.
pub const FOLLOW_STALE_MS: u64 = 2_000;
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

const _: () = assert!(HTTP_BODY_MAX <= HTTP_DRAIN_MAX, "what is too long by little is taken in");
const _: () = assert!(DRAFT_LEN_MAX as u64 <= HTTP_LINGER_MAX, "so is the longest body");
const _: () = assert!(SNAPSHOT_LEN_MAX < JOURNAL_RECORD_MAX);
const _: () = assert!(HEAD_VALUE_MAX * 8 <= HTTP_BODY_MAX as usize);
const _: () =
    assert!(5 * (UCXL_SEGMENT_MAX + 1) + 64 < UCXL_TEXT_MAX, "every address can be written");
const _: () = assert!(HEAD_KEY_MAX + 64 < UCXL_TEXT_MAX, "so can every configuration key");
const _: () = assert!(SNAPSHOT_EVERY > LOG_KEPT_BEHIND_SNAPSHOT);

// ---- Supervision --------------------------------------------------------------------------------

/// Restarts of one child that are tolerated within `RESTART_PERIOD`.
pub const RESTART_INTENSITY: u32 = 5;
/// The period over which restarts are counted.
pub const RESTART_PERIOD: Duration = Duration::from_secs(10);
/// How long a child may take from its start until it reports that it has loaded.
pub const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long a child may take to stop before it is killed.
pub const STOP_DEADLINE: Duration = Duration::from_secs(5);
