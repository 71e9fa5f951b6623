//! `/api/v1/setup`: what a process does that is no member.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::answer::{Answer, ok};
use crate::http::api::SCHEMA;
use crate::http::app::Setup;
use crate::http::call::Call;
use crate::http::route::{Reply, Route, setup};

/// `GET /api/v1/setup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetupStage {
    /// Version of this object.
    pub schema: u32,
    /// `starting`, or `joining` a cluster.
    pub stage: String,
}

/// The routes.
pub const ROUTES: &[Route] = &[Route::get(
    "/api/v1/setup",
    "setup",
    "What a process does that is no member yet",
    setup!(show),
)
.permission("cluster:read")
.replies(&[Reply::json::<SetupStage>(200, "Its stage; a member answers NOT_FOUND")])];

async fn show(setup: &Setup, _: &mut Call) -> Answer {
    let stage = match setup {
        Setup::Starting => "starting",
        Setup::Joining => "joining",
    };
    ok(&SetupStage { schema: SCHEMA, stage: stage.to_owned() })
}
