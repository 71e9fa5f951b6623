//! All routes: one line for each file here, which holds its objects, its rows and what serves them.
//!
//! None of them names another one, or the router.

pub mod actors;
pub mod contents;
pub mod decisions;
mod document;
pub mod election;
pub mod events;
pub mod faults;
mod metrics;
pub mod nodes;
pub mod setup;
pub mod slurp;
pub mod status;
pub mod tokens;
pub mod values;

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
