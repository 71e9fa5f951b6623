//! `/api/v1/slurp`: what the duties of the leader have done, and plan.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::core::duties::NAMES;
use crate::core::orchestrator;
use crate::core::refusal::Refusal;
use crate::http::answer::{Answer, ok};
use crate::http::api::{self, SCHEMA};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::codes;
use crate::http::problem::ApiError;
use crate::http::route::{Form, Param, Reply, Route, anything, running};
use crate::messages::command::{DutiesCommand, Refused};
use crate::messages::wire::{DutyRow, DutyStep};
use crate::types::limits::DUTY_NAME_LEN_MAX;

const DUTY: Param = Param::path(
    "duty",
    "Name of a duty",
    Form::Text { min: 1, max: DUTY_NAME_LEN_MAX, pattern: None, check: anything },
)
.example("voters");

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

/// The routes.
pub const ROUTES: &[Route] = &[
    Route::get(
        "/api/v1/slurp",
        "slurp",
        "What the leader's duties have done, and plan",
        running!(show),
    )
    .permission("cluster:read")
    .replies(&[Reply::json::<Slurp>(200, "All duties")]),
    Route::post(
        "/api/v1/slurp/{duty}/pause",
        "duty_pause",
        "Has a duty take no step",
        running!(pause),
    )
    .permission("cluster:admin")
    .params(&[&DUTY])
    .replies(&[Reply::json::<api::Done>(200, "It pauses")])
    .refuses(&[codes::WRITE, &["NO_SUCH_DUTY"]]),
    Route::post("/api/v1/slurp/{duty}/resume", "duty_resume", "Has it go on", running!(resume))
        .permission("cluster:admin")
        .params(&[&DUTY])
        .replies(&[Reply::json::<api::Done>(200, "It goes on")])
        .refuses(&[codes::WRITE, &["NO_SUCH_DUTY"]]),
];

async fn pause(app: &App, call: &mut Call) -> Answer {
    app.done(DutiesCommand::Pause { duty: known(call)? }).await
}

async fn resume(app: &App, call: &mut Call) -> Answer {
    app.done(DutiesCommand::Resume { duty: known(call)? }).await
}

/// The name of a duty that this node knows of.
fn known(call: &Call) -> Result<String, ApiError> {
    let duty: String = call.needed(&DUTY)?;
    match NAMES.contains(&duty.as_str()) {
        true => Ok(duty),
        false => Err(Refusal::Refused(Refused::NoSuchDuty(duty)).into()),
    }
}

/// What the leader has told; the same on every voter, a second later at most.
async fn show(app: &App, _: &mut Call) -> Answer {
    let status = app.node.env().directory.orchestrator.ask(orchestrator::Request::Status).await?;
    let step = |step: &DutyStep| DutyStepInfo {
        what: step.what.clone(),
        term: step.term,
        at: step.at.to_string(),
        outcome: step.outcome.clone(),
    };
    let duty = |row: &DutyRow| DutyInfo {
        name: row.name.clone(),
        paused: status.paused.contains(&row.name),
        last: row.last.as_ref().map(step),
        plan: row.plan.clone(),
        why: row.why.clone(),
        again_at: row.again_at.map(|at| at.to_string()),
    };
    ok(&Slurp {
        schema: SCHEMA,
        term: status.table.term,
        version: status.table.version,
        on_duty: status.on_duty.is_some(),
        duties: status.table.rows.iter().map(duty).collect(),
    })
}
