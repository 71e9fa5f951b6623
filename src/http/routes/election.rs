//! `/api/v1/election`: who leads, why, and how to change that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::http::StatusCode;

use crate::core::fitness::Inputs;
use crate::core::{election, front};
use crate::http::answer::{Answer, ids, json, millis, ok, unexpected};
use crate::http::api::{self, SCHEMA};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::params::member_id;
use crate::http::problem::ApiError;
use crate::http::route::{Body, Reply, Route, running};
use crate::messages::wire::Scores;

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

/// The routes.
pub const ROUTES: &[Route] = &[
    Route::get("/api/v1/election", "election", "Who leads, and why", running!(show))
        .permission("cluster:read")
        .replies(&[Reply::json::<Election>(200, "The election as this node sees it")]),
    Route::post(
        "/api/v1/election/transfer",
        "election_transfer",
        "Has the leader hand over",
        running!(transfer),
    )
    .permission("cluster:admin")
    .body(Body::json::<TransferRequest>().optional())
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

fn scores(scores: &Scores) -> ScoreInfo {
    ScoreInfo {
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
    ok(&Election {
        schema: SCHEMA,
        term: status.role.term,
        leader: status.role.leader.map(|leader| leader.to_string()),
        voters: ids(&status.role.voters),
        next_evaluation: status.next_evaluation.to_string(),
        handover: status.handover.map(|to| to.to_string()),
        lease: status.lease.map(|(term, left)| LeaseInfo { term, remaining_ms: millis(left) }),
        weights: WeightsInfo {
            stability: weights.stability,
            resources: weights.resources,
            position: weights.position,
            geography: weights.geography,
            load: weights.load,
        },
        table: ScoreTableInfo {
            term: table.term,
            version: table.version,
            scores: table.scores.iter().map(|(id, row)| (id.to_string(), scores(row))).collect(),
        },
        inputs: status.inputs.into_iter().map(|(id, row)| (id.to_string(), row)).collect(),
    })
}

/// Asks the leader to hand over.
async fn transfer(app: &App, call: &mut Call) -> Answer {
    let body: TransferRequest = call.json()?;
    let read = |to: &str| member_id(to).map_err(|reason| ApiError::invalid("to", reason));
    let to = body.to.as_deref().map(read).transpose()?;
    match app.ask(front::Request::Transfer { to }).await? {
        front::Reply::Transfer(result) => result?,
        _ => return Err(unexpected()),
    }
    json(StatusCode::ACCEPTED, &api::Accepted { schema: SCHEMA, accepted: true })
}
