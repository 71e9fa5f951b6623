//! `/api/v1/election`: who leads, why, and how to change that.

use warp::http::StatusCode;

use crate::core::{election, front};
use crate::http::answer::{Answer, ids, json, millis, ok, unexpected};
use crate::http::api::{self, SCHEMA};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::params::member_id;
use crate::http::problem::ApiError;
use crate::http::route::{Body, Reply, Route, running};
use crate::messages::wire::Scores;

/// The routes.
pub const ROUTES: &[Route] = &[
    Route::get("/api/v1/election", "election", "Who leads, and why", running!(show))
        .permission("cluster:read")
        .replies(&[Reply::json::<api::Election>(200, "The election as this node sees it")]),
    Route::post(
        "/api/v1/election/transfer",
        "election_transfer",
        "Has the leader hand over",
        running!(transfer),
    )
    .permission("cluster:admin")
    .body(Body::json::<api::TransferRequest>().optional())
    .replies(&[Reply::json::<api::Accepted>(202, "It is asked to")])
    .refuses(&[&[
        "READ_ONLY_MINORITY",
        "NO_LEADER",
        "DISK_FULL",
        "DISK_FAILED",
        "NO_SUCH_MEMBER",
        "NO_HANDOVER",
    ]])
    .drastic(),
];

/// Hundredths as a number with two decimals.
fn number(hundredths: u16) -> f64 {
    f64::from(hundredths) / 100.0
}

fn scores(scores: &Scores) -> api::ScoreInfo {
    api::ScoreInfo {
        stability: number(scores.stability),
        hardware: number(scores.hardware),
        position: number(scores.position),
        geography: number(scores.geography),
        load: number(scores.load),
        overall: number(scores.overall),
    }
}

/// The election as this node sees it.
async fn show(app: &App, _: &mut Call) -> Answer {
    let status = app.node.env().directory.election.ask(election::Request::Status).await?;
    let table = &status.table;
    let weights = &status.weights;
    ok(&api::Election {
        schema: SCHEMA,
        term: status.role.term,
        leader: status.role.leader.map(|leader| leader.to_string()),
        voters: ids(&status.role.voters),
        next_evaluation: status.next_evaluation.to_string(),
        handover: status.handover.map(|to| to.to_string()),
        lease: status.lease.map(|(term, left)| api::LeaseInfo { term, remaining_ms: millis(left) }),
        weights: api::WeightsInfo {
            stability: weights.stability,
            resources: weights.resources,
            position: weights.position,
            geography: weights.geography,
            load: weights.load,
        },
        table: api::ScoreTableInfo {
            term: table.term,
            version: table.version,
            scores: table.scores.iter().map(|(id, row)| (id.to_string(), scores(row))).collect(),
        },
        inputs: status.inputs.into_iter().map(|(id, row)| (id.to_string(), row)).collect(),
    })
}

/// Asks the leader to hand over.
async fn transfer(app: &App, call: &mut Call) -> Answer {
    let body: api::TransferRequest = call.json()?;
    let read = |to: &str| member_id(to).map_err(|reason| ApiError::invalid("to", reason));
    let to = body.to.as_deref().map(read).transpose()?;
    match app.ask(front::Request::Transfer { to }).await? {
        front::Reply::Transfer(result) => result?,
        _ => return Err(unexpected()),
    }
    json(StatusCode::ACCEPTED, &api::Accepted { schema: SCHEMA, accepted: true })
}
