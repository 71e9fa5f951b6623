//! `/api/v1/faults`: what may be broken on purpose, on a node that was started to let it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::answer::{Answer, ok};
use crate::http::api::SCHEMA;
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::problem::ApiError;
use crate::http::route::{Body, Reply, Route, running};
use crate::ports::Clock as _;
use crate::types::limits::CLOCK_FAULT_S_MAX;

/// Body of `POST /api/v1/faults/clock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockFault {
    /// Seconds by which the node's time of day is to be ahead of its machine's; below 0 for behind.
    #[schema(minimum = -3_155_760_000i64, maximum = 3_155_760_000i64)]
    pub ahead_s: i64,
}

/// Answer to `POST /api/v1/faults/clock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClockSet {
    /// Version of this object.
    pub schema: u32,
    /// As it was asked for.
    pub ahead_s: i64,
    /// The node's time of day.
    pub now: String,
}

/// The routes.
pub const ROUTES: &[Route] = &[Route::post(
    "/api/v1/faults/clock",
    "fault_clock",
    "Shows the node a wrong time of day",
    running!(clock),
)
.permission("faults:inject")
.body(Body::json::<ClockFault>())
.replies(&[Reply::json::<ClockSet>(200, "The time that it shows now")])
.refuses(&[&["FAULT_INJECTION_OFF"]])
.drastic()];

/// Shows this node a wrong time of day, to watch what the cluster makes of it.
async fn clock(app: &App, call: &mut Call) -> Answer {
    let clock = app.breakable("this node lets nobody set its clock wrong")?;
    let ClockFault { ahead_s } = call.json()?;
    if !(-CLOCK_FAULT_S_MAX..=CLOCK_FAULT_S_MAX).contains(&ahead_s) {
        let reason = format!("expected -{CLOCK_FAULT_S_MAX} to {CLOCK_FAULT_S_MAX} seconds");
        return Err(ApiError::invalid("ahead_s", reason));
    }
    clock.set_ahead(ahead_s);
    tracing::warn!(ahead_s, "the time of day of this node was set through the API");
    ok(&ClockSet { schema: SCHEMA, ahead_s, now: clock.wall().to_string() })
}
