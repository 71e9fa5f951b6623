//! What is counted of requests, by the route that they were for.
//!
//! Invariant: a name of a series is made once for each route, not for each request. A series begins with the first request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ::metrics::{Counter, Histogram};

use super::route::Route;
use crate::adapters::meter::Registry;
use crate::types::{Lock, metrics};

/// Classes of answers.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What is counted of one route.
struct Row {
    durations: Histogram,
    answers: [OnceLock<Counter>; CLASSES.len()],
}

/// See the module.
pub struct Counts {
    meter: Arc<Registry>,
    /// By the id of the route.
    rows: Mutex<BTreeMap<&'static str, Arc<Row>>>,
}

impl Counts {
    /// Nothing so far.
    pub fn new(meter: Arc<Registry>) -> Self {
        Self { meter, rows: Mutex::default() }
    }

    /// A request was answered with this status after that time.
    pub fn answered(&self, route: &'static Route, status: u16, took: Duration) {
        // Its template, so that nobody can make up new ones.
        let template = || route.path.replace("..}", "}");
        let row = || {
            let labels = [&*template(), route.method.as_str()];
            let durations = self.meter.histogram(&metrics::API_REQUEST_SECONDS, &labels);
            Arc::new(Row { durations, answers: Default::default() })
        };
        let row = self.rows.locked().entry(route.id).or_insert_with(row).clone();
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        let counter = || {
            let labels = [&*template(), route.method.as_str(), CLASSES[class]];
            self.meter.counter(&metrics::API_REQUESTS, &labels)
        };
        row.answers[class].get_or_init(counter).increment(1);
        row.durations.record(took);
    }

    /// A request was refused with this code.
    pub fn refused(&self, code: &str) {
        self.meter.counter(&metrics::API_REFUSED, &[code]).increment(1);
    }
}
