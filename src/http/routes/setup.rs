//! `/api/v1/setup`: what a process does that is no member.

use crate::http::answer::{Answer, ok};
use crate::http::api::{self, SCHEMA};
use crate::http::app::Setup;
use crate::http::call::Call;
use crate::http::route::{Reply, Route, setup};

/// The routes.
pub const ROUTES: &[Route] = &[Route::get(
    "/api/v1/setup",
    "setup",
    "What a process does that is no member yet",
    setup!(show),
)
.permission("cluster:read")
.replies(&[Reply::json::<api::SetupStage>(200, "Its stage; a member answers NOT_FOUND")])];

async fn show(setup: &Setup, _: &mut Call) -> Answer {
    let stage = match setup {
        Setup::Starting => "starting",
        Setup::Joining => "joining",
    };
    ok(&api::SetupStage { schema: SCHEMA, stage: stage.to_owned() })
}
