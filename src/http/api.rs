//! The objects of the HTTP API, as both its sides see them.
//!
//! The server writes them and the command line reads them, so neither can drift from the other.
//! Every answer is an object with `schema`; what may be added to it later are new fields only, so
//! readers ignore what they do not know. Times are RFC 3339 in UTC, member ids are texts.

mod decisions;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use decisions::{
    DecisionHistory, DecisionInfo, DecisionPage, DecisionPublished, DecisionRead, RoleInfo,
    RolePage,
};

use crate::core::event::Event;
use crate::core::fitness::Inputs;
use crate::types::host::Capabilities;

/// Version of the objects, the value of every `schema` field.
pub const SCHEMA: u32 = 1;
/// Content type of an error.
pub const PROBLEM_TYPE: &str = "application/problem+json";
/// Name of the file in the data directory that holds the token of the API.
pub const TOKEN_FILE: &str = "api.token";
/// Name of the socket in the data directory, at which the operator of the machine needs no token.
pub const SOCKET_FILE: &str = "api.sock";
/// Bytes of a socket's path: 108, less the one that ends it.
pub const SOCKET_PATH_LEN_MAX: usize = 107;
/// Header under which a client names itself as the author of a value.
pub const AUTHOR_HEADER: &str = "x-bzzz-author";
/// Header that makes a repeated write harmless.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// Header with the index that an answer reflects.
pub const INDEX_HEADER: &str = "x-bzzz-index";
/// Header that says whether a write that was acknowledged before may be missing in an answer.
pub const STALE_HEADER: &str = "x-bzzz-stale";
/// Header of answers to writes that a minority refused.
pub const READ_ONLY_HEADER: &str = "x-bzzz-read-only";
/// Header with the id of a request.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// An error, as RFC 9457 describes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of error; nothing has to be found there.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of error in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Code for programs, such as `READ_ONLY_MINORITY`.
    pub code: String,
    /// What went wrong this time.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// True if the same request can succeed later.
    pub retryable: bool,
    /// Id of the request, for finding it in logs.
    pub request_id: String,
    /// The member that answered.
    #[serde(default)]
    pub node_id: Option<String>,
    /// Fields of the request that are wrong.
    #[serde(default)]
    pub errors: Vec<FieldError>,
    /// With `VERSION_MISMATCH`: where the value stands, 0 if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u64>,
    /// With `READ_ONLY_MINORITY`: voters that answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachable: Option<usize>,
    /// With `READ_ONLY_MINORITY`: voters that a write needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<usize>,
    /// With `READ_ONLY_MINORITY`: all voters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voters: Option<usize>,
}

/// A field of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Which.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
}

/// `GET /ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Version of this object.
    pub schema: u32,
    /// True if reads are served.
    pub ready: bool,
    /// True if writes are taken as well.
    pub writable: bool,
    /// Code of the reason why no write is taken.
    pub reason: Option<String>,
    /// `read_write` or `read_only`.
    pub mode: String,
    /// Index of the last entry that was applied.
    pub index: u64,
    /// Members of the cluster.
    pub members: usize,
    /// Members that vote.
    pub voters: usize,
    /// The leader, if this node knows one.
    pub leader: Option<String>,
}

/// `GET /api/v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of this object.
    pub schema: u32,
    /// Version of the program.
    pub version: String,
    /// The node that answers.
    pub node: StatusNode,
    /// Its cluster.
    pub cluster: StatusCluster,
    /// Who leads and who votes.
    pub role: StatusRole,
    /// Whether writes are taken.
    pub mode: StatusMode,
    /// Index of the last entry that was applied.
    pub index: u64,
    /// For how long the node has not known whether it is current, in milliseconds.
    pub age_ms: u64,
    /// Members of the cluster.
    pub members: usize,
    /// Configuration values.
    pub heads: usize,
    /// Voters that may be lost before writes stop.
    pub survives: usize,
    /// Term in which this node has the duties of the leader.
    pub on_duty_term: Option<u64>,
    /// Writes refused since the start because too few voters answered.
    pub refused_writes: u64,
    /// Members whose clock is more than a minute from that of most of the voters.
    #[serde(default)]
    pub wrong_clocks: Vec<WrongClock>,
    /// What this node has of the records; none while its replica does not answer.
    #[serde(default)]
    pub records: Option<StatusRecords>,
}

/// What a node has of the records, in its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusRecords {
    /// False while it may lack what it once had, and answers no question about them.
    pub whole: bool,
    /// Partitions of the records of which it has lost something that no other member has.
    pub lost_partitions: u16,
}

/// A member whose clock is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WrongClock {
    /// Whose.
    pub member: String,
    /// By how many seconds it is ahead; below zero if it is behind.
    pub ahead_s: i64,
}

/// A node, in its status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusNode {
    /// Member id.
    pub member: String,
    /// Peer id.
    pub peer: String,
    /// Display name.
    pub name: String,
    /// How often its data directory was started.
    pub boot_counter: u64,
    /// Time since its start, in seconds.
    pub uptime_s: f64,
    /// Where its API listens.
    pub api: String,
    /// Where other nodes reach it.
    pub addresses: Vec<String>,
}

/// A cluster, in a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusCluster {
    /// Its id, in hexadecimal.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made; empty as long as this node has not seen that.
    pub founded_at: String,
}

/// Who leads and who votes, in a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusRole {
    /// Term.
    pub term: u64,
    /// The leader, if this node knows one.
    pub leader: Option<String>,
    /// True if this node leads.
    pub leading: bool,
    /// Members that vote.
    pub voters: Vec<String>,
}

/// Whether writes are taken, in a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusMode {
    /// True if a write would be taken now.
    pub writable: bool,
    /// Code of the reason if not.
    pub reason: Option<String>,
    /// Voters that answer, this node included.
    pub reachable: usize,
    /// Voters that a write needs.
    pub needed: usize,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeInfo {
    /// Member id.
    pub member: String,
    /// Peer id.
    pub peer: String,
    /// Display name.
    pub name: String,
    /// Install kind or agent role.
    pub role: String,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Labels that somebody has set.
    pub labels: BTreeMap<String, String>,
    /// Labels that follow from what its machine is; one that somebody has set counts more.
    pub computed_labels: BTreeMap<String, String>,
    /// Smoothed round-trip time from it to the members that it talks to, in microseconds, as it
    /// announced.
    pub links_us: BTreeMap<String, u64>,
    /// When it was admitted.
    pub joined_at: String,
    /// What its build understands; the cluster speaks the lowest of all.
    pub level: u8,
    /// True if it votes.
    pub voter: bool,
    /// True if it leads.
    pub leader: bool,
    /// True if it is the node that answers this request.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// True while it answers the node that answers this request.
    pub answers: bool,
    /// True if it is not connected to that node, and has announced itself not long ago or votes: in a large cluster most
    /// members are reached on demand.
    #[serde(default)]
    pub presumed: bool,
    /// Smoothed round-trip time to it, in microseconds.
    pub rtt_us: Option<u64>,
    /// For how long it has answered without a gap, in seconds.
    pub up_s: Option<u64>,
    /// What its machine is, as it announced.
    pub capabilities: Option<Capabilities>,
}

impl NodeInfo {
    /// The value of a label, set or computed.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).or_else(|| self.computed_labels.get(name)).map(String::as_str)
    }
}

/// `GET /api/v1/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Nodes {
    /// Version of this object.
    pub schema: u32,
    /// All members, by id.
    pub items: Vec<NodeInfo>,
}

/// `GET /api/v1/nodes/{member}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Version of this object.
    pub schema: u32,
    /// The member.
    #[serde(flatten)]
    pub node: NodeInfo,
}

/// Body of `PUT /api/v1/nodes/{member}/labels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelChange {
    /// Labels to set.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Labels to remove.
    #[serde(default)]
    pub unset: Vec<String>,
}

/// A change that was made and has nothing more to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// Version of this object.
    pub schema: u32,
    /// Always true.
    pub done: bool,
    /// Index of the change in the log.
    pub index: u64,
}

/// Answer of `GET /api/v1/slurp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Slurp {
    /// Version of this object.
    pub schema: u32,
    /// Term of the leader that has told this.
    pub term: u64,
    /// Counts up within a term.
    pub version: u64,
    /// True if the node that answers has the duties.
    pub on_duty: bool,
    /// The duties.
    pub duties: Vec<DutyInfo>,
}

/// A duty of the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DutyInfo {
    /// Its name.
    pub name: String,
    /// True if it takes no step until it is resumed.
    pub paused: bool,
    /// What it did last, under this leader or one before.
    pub last: Option<DutyStepInfo>,
    /// What it plans, for people.
    pub plan: String,
    /// Why, for people.
    pub why: String,
    /// When it looks again, if time alone can bring something.
    pub again_at: Option<String>,
}

/// A step that a duty has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DutyStepInfo {
    /// What it was, for people.
    pub what: String,
    /// Term of the leader that took it.
    pub term: u64,
    /// When it ended.
    pub at: String,
    /// `done`, or why not.
    pub outcome: String,
}

/// `GET /api/v1/setup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetupStage {
    /// Version of this object.
    pub schema: u32,
    /// `starting`, or `joining` a cluster.
    pub stage: String,
}

/// Something that was begun and shows its effect later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// Version of this object.
    pub schema: u32,
    /// Always true.
    pub accepted: bool,
}

/// Body of `POST /api/v1/faults/clock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockFault {
    /// Seconds by which the node's time of day is to be ahead of its machine's; below 0 for behind.
    #[schema(minimum = -3_155_760_000i64, maximum = 3_155_760_000i64)]
    pub ahead_s: i64,
}

/// Answer to `POST /api/v1/faults/clock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClockSet {
    /// Version of this object.
    pub schema: u32,
    /// As it was asked for.
    pub ahead_s: i64,
    /// The node's time of day.
    pub now: String,
}

/// `GET /api/v1/dht`: who holds records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dht {
    /// Version of this object.
    pub schema: u32,
    /// Counts the changes of the layout.
    pub layout_version: u64,
    /// Members that hold records.
    pub holders: Vec<String>,
    /// Members that will, once they have everything; null while no change is under way.
    pub next_holders: Option<Vec<String>>,
    /// Copies of a record.
    pub replicas: usize,
    /// Copies that are on disk when a write is acknowledged.
    pub write_quorum: usize,
    /// Holders that a read asks.
    pub read_quorum: usize,
}

/// Answer of `POST /api/v1/dht/contents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContentStored {
    /// Version of this object.
    pub schema: u32,
    /// BLAKE3 of the bytes, in hexadecimal.
    pub hash: String,
    /// Its address.
    pub address: String,
    /// Length.
    pub bytes: usize,
}

/// Answer of `GET /api/v1/dht/contents/{hash}` for whoever accepts JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContentRead {
    /// Version of this object.
    pub schema: u32,
    /// Its hash.
    pub hash: String,
    /// Its bytes.
    pub content_base64: String,
}

/// Body of `POST /api/v1/join-tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// For how long it is good, in seconds.
    #[serde(default = "TokenRequest::default_ttl_s")]
    #[schema(minimum = 1, maximum = 604_800)]
    pub ttl_s: u64,
    /// How many nodes may join with it.
    #[serde(default = "TokenRequest::default_uses")]
    #[schema(minimum = 1, maximum = 1_000)]
    pub uses: u32,
}

impl TokenRequest {
    fn default_ttl_s() -> u64 {
        3_600
    }

    fn default_uses() -> u32 {
        1
    }
}

impl Default for TokenRequest {
    fn default() -> Self {
        Self { ttl_s: Self::default_ttl_s(), uses: Self::default_uses() }
    }
}

/// A join token that was just made. The only answer that holds its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// Version of this object.
    pub schema: u32,
    /// The token itself. A secret.
    pub token: String,
    /// Its public part, in hexadecimal.
    pub token_id: String,
    /// From when on it is refused.
    pub expires_at: String,
    /// How many nodes may join with it.
    pub uses: u32,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewToken({})", self.token_id)
    }
}

/// A join token as the cluster knows it: without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    /// Its public part, in hexadecimal.
    pub token_id: String,
    /// From when on it is refused.
    pub expires_at: String,
    /// How many nodes may join with it.
    pub uses: u32,
    /// How many did.
    pub used: u32,
}

/// `GET /api/v1/join-tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// Version of this object.
    pub schema: u32,
    /// All tokens, by id.
    pub items: Vec<TokenInfo>,
}

/// `GET /api/v1/election`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Election {
    /// Version of this object.
    pub schema: u32,
    /// Term.
    pub term: u64,
    /// The leader, if this node knows one.
    pub leader: Option<String>,
    /// Members that vote.
    pub voters: Vec<String>,
    /// When the leader is weighed against the others next.
    pub next_evaluation: String,
    /// Who is to take over, while a handover is under way.
    pub handover: Option<String>,
    /// This node's lease, if it holds one.
    pub lease: Option<LeaseInfo>,
    /// Weights of the criteria, in percent.
    pub weights: WeightsInfo,
    /// The last table of scores that this node saw.
    pub table: ScoreTableInfo,
    /// What the scores were computed from, by member; only the leader knows.
    pub inputs: BTreeMap<String, Inputs>,
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseInfo {
    /// Its term.
    pub term: u64,
    /// What is left of it, in milliseconds.
    pub remaining_ms: u64,
}

/// Weights of the criteria, in percent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WeightsInfo {
    /// Network stability.
    pub stability: u8,
    /// Hardware resources.
    pub resources: u8,
    /// Network position.
    pub position: u8,
    /// Geographic latency.
    pub geography: u8,
    /// Load capacity.
    pub load: u8,
}

/// A table of scores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScoreTableInfo {
    /// Term of the leader that computed it.
    pub term: u64,
    /// Counts its tables.
    pub version: u64,
    /// Scores by member.
    pub scores: BTreeMap<String, ScoreInfo>,
}

/// Scores of one member, from 0 to 100 with two decimals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScoreInfo {
    /// Network stability.
    pub stability: f64,
    /// Hardware resources.
    pub hardware: f64,
    /// Network position.
    pub position: f64,
    /// Geographic latency.
    pub geography: f64,
    /// Load capacity.
    pub load: f64,
    /// All of them, weighted.
    pub overall: f64,
}

/// Body of `POST /api/v1/election/transfer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// Who is to lead; the fittest other voter if nobody is named.
    #[serde(default)]
    #[schema(pattern = "^(0|[1-9][0-9]{0,18})$")]
    pub to: Option<String>,
}

/// A configuration value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeadInfo {
    /// Its whole address.
    pub address: String,
    /// Its key below the address of the configuration.
    pub key: String,
    /// Counts the writes of this key, from 1.
    pub version: u64,
    /// The value, if it is UTF-8 text.
    pub value: Option<String>,
    /// The value in Base64, always.
    pub value_base64: String,
    /// Who wrote it.
    pub author: String,
    /// When it was written.
    pub at: String,
    /// Term in which it was written.
    pub term: u64,
    /// Index of the write in the log.
    pub log_index: u64,
}

/// `GET /api/v1/ucxl/{key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UcxlEntry {
    /// Version of this object.
    pub schema: u32,
    /// The value.
    #[serde(flatten)]
    pub head: HeadInfo,
    /// True if a write that was acknowledged before may be missing.
    pub stale: bool,
    /// Index that the answer reflects.
    pub index: u64,
    /// For how long the node has not known whether it is current, in milliseconds.
    pub age_ms: u64,
}

/// `GET /api/v1/ucxl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UcxlPage {
    /// Version of this object.
    pub schema: u32,
    /// Values, by key.
    pub items: Vec<HeadInfo>,
    /// Cursor of the next page, if there is more.
    pub next_cursor: Option<String>,
    /// True if a write that was acknowledged before may be missing.
    pub stale: bool,
    /// Index that the answer reflects.
    pub index: u64,
    /// For how long the node has not known whether it is current, in milliseconds.
    pub age_ms: u64,
}

/// `PUT /api/v1/ucxl/{key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UcxlWritten {
    /// Version of this object.
    pub schema: u32,
    /// The whole address.
    pub address: String,
    /// The key.
    pub key: String,
    /// Version that it has now.
    pub version: u64,
    /// Term of the write.
    pub term: u64,
    /// Index of the write in the log.
    pub log_index: u64,
}

/// `GET /api/v1/actors`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Actors {
    /// Version of this object.
    pub schema: u32,
    /// All actors of the node, in the order of their first start.
    pub items: Vec<ActorRow>,
}

/// An actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActorRow {
    /// Path in the supervision tree.
    pub path: String,
    /// `starting`, `running`, `stopping` or `stopped`.
    pub state: String,
    /// Restarts since the node started.
    pub restarts: u64,
    /// Messages that wait for it.
    pub mailbox: usize,
    /// Why it failed last.
    pub last_failure: Option<String>,
}

/// `GET /api/v1/events` with `Accept: application/json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// Version of this object.
    pub schema: u32,
    /// Events, oldest first.
    pub items: Vec<Event>,
    /// True if some after the number that was given are not known any more, as from before a restart of
    /// the node: whoever keeps something up to date by events has to load it anew.
    #[serde(default)]
    pub gap: bool,
    /// Everything up to this number was looked at; the next list begins behind it.
    #[serde(default)]
    pub seen: u64,
}

/// Body of `POST /api/v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventPublish {
    /// Name of the event, such as `deploy.finished`.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:/-]+$")]
    pub name: String,
    /// What it says; any JSON.
    #[serde(default)]
    pub data: serde_json::Value,
}

/// Answer to `POST /api/v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventPublished {
    /// Version of this object.
    pub schema: u32,
    /// Which event it is, in the whole cluster.
    pub id: String,
    /// Nodes that were known to have it when the answer was sent, this one among them.
    pub held_by: usize,
    /// True if no other member could confirm that it has the event: it is told to the others once they
    /// can be reached, unless this node stops before.
    pub at_risk: bool,
}

/// The file that `bzzz run --ready-file FILE` writes once the API serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyFile {
    /// Where the API listens.
    pub api: String,
    /// Member id.
    pub member: String,
    /// Peer id.
    pub peer: String,
    /// Where other nodes reach it.
    pub addresses: Vec<String>,
    /// Process id.
    pub pid: u32,
}
