//! `/api/v1/faults`: what may be broken on purpose, on a node that was started to let it.

use crate::http::answer::{Answer, ok};
use crate::http::api::{self, SCHEMA};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::problem::ApiError;
use crate::http::route::{Body, Reply, Route, running};
use crate::ports::Clock as _;
use crate::types::limits::CLOCK_FAULT_S_MAX;

/// The routes.
pub const ROUTES: &[Route] = &[Route::post(
    "/api/v1/faults/clock",
    "fault_clock",
    "Shows the node a wrong time of day",
    running!(clock),
)
.permission("faults:inject")
.body(Body::json::<api::ClockFault>())
.replies(&[Reply::json::<api::ClockSet>(200, "The time that it shows now")])
.refuses(&[&["FAULT_INJECTION_OFF"]])
.drastic()];

/// Shows this node a wrong time of day, to watch what the cluster makes of it.
async fn clock(app: &App, call: &mut Call) -> Answer {
    let clock = app.breakable("this node lets nobody set its clock wrong")?;
    let api::ClockFault { ahead_s } = call.json()?;
    if !(-CLOCK_FAULT_S_MAX..=CLOCK_FAULT_S_MAX).contains(&ahead_s) {
        let reason = format!("expected -{CLOCK_FAULT_S_MAX} to {CLOCK_FAULT_S_MAX} seconds");
        return Err(ApiError::invalid("ahead_s", reason));
    }
    clock.set_ahead(ahead_s);
    tracing::warn!(ahead_s, "the time of day of this node was set through the API");
    ok(&api::ClockSet { schema: SCHEMA, ahead_s, now: clock.wall().to_string() })
}
