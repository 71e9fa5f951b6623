//! `/api/v1/slurp`: what the duties of the leader have done, and plan.

use warp::http::Method;

use super::api::{self, SCHEMA};
use super::nodes::done;
use super::problem::ApiError;
use super::request::Request;
use super::router::{Answer, App, nowhere, ok};
use crate::core::duties::NAMES;
use crate::core::orchestrator;
use crate::core::refusal::Refusal;
use crate::messages::command::{DutiesCommand, Refused};
use crate::messages::wire::{DutyRow, DutyStep};

/// Finds the handler of a path below `slurp`.
pub async fn route(app: &App, request: &Request, rest: &[&str]) -> Answer {
    match (rest, &request.method) {
        ([], &Method::GET) => show(app).await,
        ([], _) => Err(ApiError::method("GET")),
        ([duty, "pause"], &Method::POST) => {
            done(app, DutiesCommand::Pause { duty: known(duty)? }.into()).await
        }
        ([duty, "resume"], &Method::POST) => {
            done(app, DutiesCommand::Resume { duty: known(duty)? }.into()).await
        }
        ([_, "pause" | "resume"], _) => Err(ApiError::method("POST")),
        _ => Err(nowhere(&request.path)),
    }
}

/// The name of a duty that this node knows of.
fn known(duty: &str) -> Result<String, ApiError> {
    match NAMES.contains(&duty) {
        true => Ok(duty.to_owned()),
        false => Err(Refusal::Refused(Refused::NoSuchDuty(duty.chars().take(64).collect())).into()),
    }
}

/// What the leader has told; the same on every voter, a second later at most.
async fn show(app: &App) -> Answer {
    let status = app.node.env().directory.orchestrator.ask(orchestrator::Request::Status).await?;
    let step = |step: &DutyStep| api::DutyStepInfo {
        what: step.what.clone(),
        term: step.term,
        at: step.at.to_string(),
        outcome: step.outcome.clone(),
    };
    let duty = |row: &DutyRow| api::DutyInfo {
        name: row.name.clone(),
        paused: status.paused.contains(&row.name),
        last: row.last.as_ref().map(step),
        plan: row.plan.clone(),
        why: row.why.clone(),
        again_at: row.again_at.map(|at| at.to_string()),
    };
    ok(&api::Slurp {
        schema: SCHEMA,
        term: status.table.term,
        version: status.table.version,
        on_duty: status.on_duty.is_some(),
        duties: status.table.rows.iter().map(duty).collect(),
    })
}
