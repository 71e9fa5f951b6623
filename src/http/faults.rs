//! `/api/v1/faults`: what may be broken on purpose, on a node that was started to let it.

use super::api::{self, SCHEMA};
use super::problem::ApiError;
use super::request::Request;
use super::router::{Answer, App, ok};
use crate::adapters::SystemClock;
use crate::ports::Clock as _;

/// Seconds by which the time of day may be shown wrong, in either direction: 100 years.
const CLOCK_AHEAD_S_MAX: i64 = 36_525 * 86_400;

/// What faults are injected into, or why none are.
pub(super) fn allowed<'a>(app: &'a App, refusal: &str) -> Result<&'a SystemClock, ApiError> {
    app.fault_injection.as_deref().ok_or_else(|| {
        ApiError::new("FAULT_INJECTION_OFF", refusal)
            .hint("start the node with --enable-fault-injection")
    })
}

/// Shows this node a wrong time of day, to watch what the cluster makes of it.
pub async fn clock(app: &App, request: &mut Request) -> Answer {
    let clock = allowed(app, "this node lets nobody set its clock wrong")?;
    let api::ClockFault { ahead_s } = request.json().await?;
    if !(-CLOCK_AHEAD_S_MAX..=CLOCK_AHEAD_S_MAX).contains(&ahead_s) {
        let reason = format!("expected -{CLOCK_AHEAD_S_MAX} to {CLOCK_AHEAD_S_MAX} seconds");
        return Err(ApiError::invalid("ahead_s", reason));
    }
    clock.set_ahead(ahead_s);
    tracing::warn!(ahead_s, "the time of day of this node was set through the API");
    ok(&api::ClockSet { schema: SCHEMA, ahead_s, now: clock.wall().to_string() })
}
