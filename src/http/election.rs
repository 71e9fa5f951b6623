//! `/api/v1/election`: who leads, why, and how to change that.

use warp::http::StatusCode;

use super::api::{self, SCHEMA};
use super::request::Request;
use super::router::{Answer, App, json, member, ok, unexpected};
use super::status::{ids, millis};
use crate::core::{election, front};
use crate::messages::wire::Scores;

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
pub async fn show(app: &App) -> Answer {
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
pub async fn transfer(app: &App, request: &mut Request) -> Answer {
    let body: api::TransferRequest = request.json().await?;
    let to = body.to.as_deref().map(|to| member("to", to)).transpose()?;
    match app.ask(front::Request::Transfer { to }).await? {
        front::Reply::Transfer(result) => result?,
        _ => return Err(unexpected()),
    }
    json(StatusCode::ACCEPTED, &api::Accepted { schema: SCHEMA, accepted: true })
}
