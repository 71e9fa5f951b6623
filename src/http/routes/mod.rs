//! All routes: one line for each file here, which holds its rows and what serves them.
//!
//! None of them names another one, or the router.

mod actors;
mod contents;
mod decisions;
mod document;
mod election;
mod events;
mod faults;
mod metrics;
mod nodes;
mod setup;
mod slurp;
mod status;
mod tokens;
mod values;

use super::route::Route;

/// All of them.
const ALL: &[&[Route]] = &[
    actors::ROUTES,
    contents::ROUTES,
    decisions::ROUTES,
    document::ROUTES,
    election::ROUTES,
    events::ROUTES,
    faults::ROUTES,
    metrics::ROUTES,
    nodes::ROUTES,
    setup::ROUTES,
    slurp::ROUTES,
    status::ROUTES,
    tokens::ROUTES,
    values::ROUTES,
];

/// All of them, one after the other.
pub fn all() -> impl Iterator<Item = &'static Route> {
    ALL.iter().copied().flatten()
}
