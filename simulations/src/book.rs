//! The book: takes every observation, shows it to every invariant, keeps the first violation.

use std::sync::{Arc, Mutex};

use bzzz::types::Lock;

use crate::invariants::{Invariant, Observation, all};
use crate::trace::Trace;

/// A broken rule.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Number of the invariant; 0 for a run that did not come back to life at its end.
    pub number: u32,
    /// What it says.
    pub statement: String,
    /// How it was broken.
    pub how: String,
}

struct Inner {
    invariants: Vec<Box<dyn Invariant>>,
    violation: Option<Violation>,
    operations: u64,
}

/// The book of one run; cheap to clone.
#[derive(Clone)]
pub struct Book {
    trace: Trace,
    inner: Arc<Mutex<Inner>>,
}

impl Book {
    /// An empty book.
    pub fn new(trace: Trace) -> Self {
        Self {
            trace,
            inner: Arc::new(Mutex::new(Inner {
                invariants: all(),
                violation: None,
                operations: 0,
            })),
        }
    }

    /// Shows something to every invariant.
    pub fn observe(&self, observation: &Observation<'_>) {
        let mut inner = self.inner.locked();
        if inner.violation.is_some() {
            return;
        }
        let mut broken = None;
        for invariant in &mut inner.invariants {
            if let Err(how) = invariant.observe(observation) {
                let statement = invariant.statement().to_owned();
                broken = Some(Violation { number: invariant.number(), statement, how });
                break;
            }
        }
        if let Some(violation) = broken {
            self.trace
                .note(&format!("VIOLATION of invariant {}: {}", violation.number, violation.how));
            inner.violation = Some(violation);
        }
    }

    /// Notes a violation that no invariant judges.
    pub fn fail(&self, statement: &str, how: String) {
        let mut inner = self.inner.locked();
        self.trace.note(&format!("VIOLATION: {how}"));
        inner.violation.get_or_insert(Violation { number: 0, statement: statement.into(), how });
    }

    /// A number for an operation that will be judged when it ends.
    pub fn next(&self) -> u64 {
        let mut inner = self.inner.locked();
        inner.operations += 1;
        inner.operations
    }

    /// The first violation.
    pub fn violation(&self) -> Option<Violation> {
        self.inner.locked().violation.clone()
    }
}
