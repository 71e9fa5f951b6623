//! `/health`, `/ready` and `/api/v1/status`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::http::StatusCode;

use crate::core::{front, orchestrator};
use crate::http::answer::{Answer, ids, json, millis, ok};
use crate::http::api::SCHEMA;
use crate::http::app::{Api, App};
use crate::http::call::Call;
use crate::http::route::{Reply, Route, always, running};
use crate::types::MemberId;

const HEALTHY: &[Reply] = &[Reply::json::<Health>(200, "It works")];
const READY: &[Reply] = &[
    Reply::json::<Ready>(200, "They are"),
    Reply::json::<Ready>(503, "This node does not know its cluster yet"),
];

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

/// The routes.
pub const ROUTES: &[Route] = &[
    Route::get("/health", "health", "Whether the process works", always!(health))
        .replies(HEALTHY)
        .for_all_hosts(),
    Route::get("/livez", "livez", "The same as /health", always!(health))
        .replies(HEALTHY)
        .for_all_hosts(),
    Route::get("/ready", "ready", "Whether reads, and maybe writes, are served", running!(ready))
        .replies(READY),
    Route::get("/readyz", "readyz", "The same as /ready", running!(ready)).replies(READY),
    Route::get(
        "/api/v1/status",
        "status",
        "Everything about this node on one page",
        running!(status),
    )
    .permission("cluster:read")
    .replies(&[Reply::json::<Status>(200, "How it stands")]),
];

/// The process works.
async fn health(_: &Api, _: &mut Call) -> Answer {
    ok(&Health { status: "ok".to_owned() })
}

/// Whether reads, and maybe writes, are served.
async fn ready(app: &App, _: &mut Call) -> Answer {
    let status = app.status().await?;
    let ready = status.view.cluster.made.is_some();
    let writable = ready && status.mode.writable;
    let object = Ready {
        schema: SCHEMA,
        ready,
        writable,
        reason: status.mode.reason,
        mode: if writable { "read_write" } else { "read_only" }.to_owned(),
        index: status.view.index(),
        members: status.view.roster.members.len(),
        voters: status.role.voters.len(),
        leader: status.role.leader.map(|leader| leader.to_string()),
    };
    json(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &object)
}

/// Everything about this node on one page.
async fn status(app: &App, _: &mut Call) -> Answer {
    let status = app.status().await?;
    let env = app.node.env();
    let duty = env.directory.orchestrator.ask(orchestrator::Request::Status).await?;
    // A store that fails takes its replica along: that is when the rest has to be seen.
    let held = env.directory.replica.ask(()).await.ok();
    let identity = app.node.identity();
    let (view, role, mode) = (&status.view, &status.role, &status.mode);
    let own = view.roster.members.get(&identity.member);
    let cluster = view.cluster.made.as_ref();
    ok(&Status {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: StatusNode {
            member: identity.member.to_string(),
            peer: identity.peer.to_string(),
            name: own.map_or_else(|| app.name.clone(), |own| own.name.clone()),
            boot_counter: app.boot_counter,
            uptime_s: env.ports.clock.now().since(app.started).as_millis() as f64 / 1_000.0,
            api: app.address.to_string(),
            addresses: addresses(app),
        },
        cluster: StatusCluster {
            id: identity.cluster.to_string(),
            name: cluster.map_or_else(|| identity.cluster_name.clone(), |c| c.name.clone()),
            founded_at: cluster.map_or_else(String::new, |c| c.founded_at.to_string()),
        },
        role: StatusRole {
            term: role.term,
            leader: role.leader.map(|leader| leader.to_string()),
            leading: role.leading,
            voters: ids(&role.voters),
        },
        mode: StatusMode {
            writable: mode.writable,
            reason: mode.reason.clone(),
            reachable: mode.reachable,
            needed: mode.needed,
        },
        index: view.index(),
        age_ms: millis(status.age),
        members: view.roster.members.len(),
        heads: view.heads.len(),
        survives: mode.reachable.saturating_sub(mode.needed),
        on_duty_term: duty.on_duty,
        refused_writes: status.refused,
        wrong_clocks: wrong_clocks(&status),
        records: held
            .map(|held| StatusRecords { whole: held.whole, lost_partitions: held.lost_partitions }),
    })
}

fn wrong_clocks(status: &front::Status) -> Vec<WrongClock> {
    let clock = |(member, ahead_ms): (&MemberId, &i64)| WrongClock {
        member: member.to_string(),
        ahead_s: ahead_ms / 1_000,
    };
    status.wrong_clocks.iter().map(clock).collect()
}

/// Where other nodes reach this one.
fn addresses(app: &App) -> Vec<String> {
    app.node.env().ports.network.listen_addresses().iter().map(ToString::to_string).collect()
}
