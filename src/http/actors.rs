//! `/api/v1/actors`: the supervision tree.

use warp::http::StatusCode;

use super::api::{self, SCHEMA};
use super::faults;
use super::problem::ApiError;
use super::router::{Answer, App, json, ok};
use crate::actors::ActorState;

fn state(state: ActorState) -> &'static str {
    match state {
        ActorState::Stopped => "stopped",
        ActorState::Starting => "starting",
        ActorState::Running => "running",
        ActorState::Stopping => "stopping",
    }
}

/// All actors of this node.
pub fn list(app: &App) -> Answer {
    let row = |(path, info): (String, crate::actors::ActorInfo)| api::ActorRow {
        path,
        state: state(info.state).to_owned(),
        restarts: info.restarts,
        mailbox: info.mailbox,
        last_failure: info.last_failure,
    };
    ok(&api::Actors { schema: SCHEMA, items: app.node.actors().into_iter().map(row).collect() })
}

/// Makes an actor fail, to watch it being restarted.
pub fn kill(app: &App, name: &str) -> Answer {
    faults::allowed(app, "this node lets no actor be killed")?;
    // Supervisors only react to their children, so there is nothing to kill in them.
    let rows = app.node.actors();
    let is_parent =
        |path: &str| rows.iter().any(|(other, _)| other.starts_with(&format!("{path}/")));
    let found =
        rows.iter().any(|(path, _)| path.rsplit('/').next() == Some(name) && !is_parent(path));
    if !found || !app.node.crash(name) {
        let shown: String = name.chars().take(80).collect();
        let error = ApiError::not_found(format!("there is no actor {shown:?} to kill"));
        return Err(error.hint("`bzzz actor tree` shows the actors"));
    }
    tracing::warn!(actor = name, "killed through the API");
    json(StatusCode::ACCEPTED, &api::Accepted { schema: SCHEMA, accepted: true })
}
