//! `/health`, `/ready` and `/api/v1/status`.

use warp::http::StatusCode;

use crate::core::{front, orchestrator};
use crate::http::answer::{Answer, ids, json, millis, ok};
use crate::http::api::{self, SCHEMA};
use crate::http::app::{Api, App};
use crate::http::call::Call;
use crate::http::route::{Reply, Route, always, running};
use crate::types::MemberId;

const HEALTHY: &[Reply] = &[Reply::json::<api::Health>(200, "It works")];
const READY: &[Reply] = &[
    Reply::json::<api::Ready>(200, "They are"),
    Reply::json::<api::Ready>(503, "This node does not know its cluster yet"),
];

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
    .replies(&[Reply::json::<api::Status>(200, "How it stands")]),
];

/// The process works.
async fn health(_: &Api, _: &mut Call) -> Answer {
    ok(&api::Health { status: "ok".to_owned() })
}

/// Whether reads, and maybe writes, are served.
async fn ready(app: &App, _: &mut Call) -> Answer {
    let status = app.status().await?;
    let ready = status.view.cluster.made.is_some();
    let writable = ready && status.mode.writable;
    let object = api::Ready {
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
    ok(&api::Status {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: api::StatusNode {
            member: identity.member.to_string(),
            peer: identity.peer.to_string(),
            name: own.map_or_else(|| app.name.clone(), |own| own.name.clone()),
            boot_counter: app.boot_counter,
            uptime_s: env.ports.clock.now().since(app.started).as_millis() as f64 / 1_000.0,
            api: app.address.to_string(),
            addresses: addresses(app),
        },
        cluster: api::StatusCluster {
            id: identity.cluster.to_string(),
            name: cluster.map_or_else(|| identity.cluster_name.clone(), |c| c.name.clone()),
            founded_at: cluster.map_or_else(String::new, |c| c.founded_at.to_string()),
        },
        role: api::StatusRole {
            term: role.term,
            leader: role.leader.map(|leader| leader.to_string()),
            leading: role.leading,
            voters: ids(&role.voters),
        },
        mode: api::StatusMode {
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
        records: held.map(|held| api::StatusRecords {
            whole: held.whole,
            lost_partitions: held.lost_partitions,
        }),
    })
}

fn wrong_clocks(status: &front::Status) -> Vec<api::WrongClock> {
    let clock = |(member, ahead_ms): (&MemberId, &i64)| api::WrongClock {
        member: member.to_string(),
        ahead_s: ahead_ms / 1_000,
    };
    status.wrong_clocks.iter().map(clock).collect()
}

/// Where other nodes reach this one.
fn addresses(app: &App) -> Vec<String> {
    app.node.env().ports.network.listen_addresses().iter().map(ToString::to_string).collect()
}
