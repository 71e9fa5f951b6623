//! `/api/v1/actors`: the supervision tree.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::http::StatusCode;

use crate::actors::ActorState;
use crate::http::answer::{Answer, json, ok};
use crate::http::api::{self, SCHEMA};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::problem::ApiError;
use crate::http::route::{Form, Param, Reply, Route, anything, running};

const NAME: Param = Param::path(
    "name",
    "Name of an actor",
    Form::Text { min: 1, max: 64, pattern: None, check: anything },
)
.example("front");

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

/// The routes.
pub const ROUTES: &[Route] = &[
    Route::get("/api/v1/actors", "actors", "The supervision tree", running!(list))
        .permission("cluster:read")
        .replies(&[Reply::json::<Actors>(200, "All actors, in the order of their first start")]),
    Route::post("/api/v1/actors/{name}/kill", "actor_kill", "Makes an actor fail", running!(kill))
        .permission("faults:inject")
        .params(&[&NAME])
        .replies(&[Reply::json::<api::Accepted>(202, "It fails, and is started again")])
        .refuses(&[&["FAULT_INJECTION_OFF", "NOT_FOUND"]])
        .drastic(),
];

fn state(state: ActorState) -> &'static str {
    match state {
        ActorState::Stopped => "stopped",
        ActorState::Starting => "starting",
        ActorState::Running => "running",
        ActorState::Stopping => "stopping",
    }
}

/// All actors of this node.
async fn list(app: &App, _: &mut Call) -> Answer {
    let row = |(path, info): (String, crate::actors::ActorInfo)| ActorRow {
        path,
        state: state(info.state).to_owned(),
        restarts: info.restarts,
        mailbox: info.mailbox,
        last_failure: info.last_failure,
    };
    ok(&Actors { schema: SCHEMA, items: app.node.actors().into_iter().map(row).collect() })
}

/// Makes an actor fail, to watch it being restarted.
async fn kill(app: &App, call: &mut Call) -> Answer {
    app.breakable("this node lets no actor be killed")?;
    let name: String = call.needed(&NAME)?;
    let name = name.as_str();
    // Supervisors only react to their children, so there is nothing to kill in them.
    let rows = app.node.actors();
    let is_parent =
        |path: &str| rows.iter().any(|(other, _)| other.starts_with(&format!("{path}/")));
    let found =
        rows.iter().any(|(path, _)| path.rsplit('/').next() == Some(name) && !is_parent(path));
    if !found || !app.node.crash(name) {
        let error = ApiError::not_found(format!("there is no actor {name:?} to kill"));
        return Err(error.hint("`bzzz actor tree` shows the actors"));
    }
    tracing::warn!(actor = name, "killed through the API");
    json(StatusCode::ACCEPTED, &api::Accepted { schema: SCHEMA, accepted: true })
}
