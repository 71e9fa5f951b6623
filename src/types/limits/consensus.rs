//! Consensus, elections and the lease. How far clocks may drift apart for the lease to hold is asserted beside the other
//! components' bounds (`limits`) and where the lease is (`core::election::lease`).

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
/// Proposals and other operations that wait for consensus.
pub const CONSENSUS_QUEUE_MAX: usize = 1_024;
/// Log entries after which the control state is saved and the log before it dropped.
pub const SNAPSHOT_EVERY: u64 = 1_000;
/// Log entries kept behind a snapshot for members that are a little behind.
pub const LOG_KEPT_BEHIND_SNAPSHOT: u64 = 200;
/// How long a voter waits for something new before it answers a member that does not vote.
pub const FOLLOW_WAIT_MS: u64 = 200;
/// How old what a member has applied may be for it to answer members that do not vote.
pub const FOLLOW_STALE_MS: u64 = 2_000;
/// Consensus requests of one peer that may be in work at once.
pub const CONSENSUS_INFLIGHT_MAX: usize = 64;
/// Entries in one replication message.
pub const APPEND_ENTRIES_MAX: u64 = 128;
/// Bytes of a snapshot of the control state.
pub const SNAPSHOT_LEN_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one part of a snapshot on the wire.
pub const SNAPSHOT_PART: usize = 256 * 1024;

const _: () = assert!(LEASE_MS == ELECTION_TIMEOUT_MAX_MS * 8 / 10);
const _: () =
    assert!(HEARTBEAT_MS * 3 <= ELECTION_TIMEOUT_MIN_MS, "two lost heartbeats are no failure");
