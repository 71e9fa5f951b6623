//! The duties of the leader: what it sees to for the cluster, each in a file of its own.
//!
//! Problem: somebody has to see to it that the members that are fit vote, that records lie with those
//! that are there, that the cluster is founded, evaluated and upgraded. One does, so that there is one
//! change of a kind at a time: the leader, for as long as it leads.
//!
//! Flow: the orchestrator shows each duty what this node sees. The duty says what its next step is, if
//! one is due, what it plans, why, and when to look again. The orchestrator has the step carried out,
//! tells the duty how it ended, and keeps a row for people: `bzzz slurp status`.
//!
//! Invariants:
//! 1. A duty has one step under way at most.
//! 2. A duty decides by what it is shown alone; it holds nothing that a new leader could not find out.
//! 3. A step is safe even if this node does not lead any more: it is decided by the log.

pub mod evaluation;
pub mod founding;
pub mod layout;
pub mod level;
pub mod voters;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::consensus::{Quorum, VoterChange};
use crate::core::init::Init;
use crate::core::standing::Standing;
use crate::messages::Command;
use crate::types::limits::DUTIES_MAX;
use crate::types::{MemberId, Mono, Wall};

/// What this node sees, and a duty goes by.
pub struct Sight<'a> {
    /// Monotonic time.
    pub now: Mono,
    /// Time of day as most of the cluster has it.
    pub wall: Wall,
    /// How the node stands.
    pub standing: &'a Standing,
    /// Members that are connected, and not only presumed to answer.
    pub linked: &'a BTreeSet<MemberId>,
    /// Newest proof that a majority follows this leader.
    pub quorum: Option<Quorum>,
}

/// A step of a duty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Have this decided.
    Propose(Command),
    /// Change who votes.
    Voters(VoterChange),
}

/// What a duty makes of what it was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What is due now, and that in words.
    pub step: Option<(Step, String)>,
    /// What it plans.
    pub plan: String,
    /// Why.
    pub why: String,
    /// When time alone makes it worth looking again.
    pub again: Option<Mono>,
}

impl Look {
    /// Nothing is due.
    pub fn rest(why: impl Into<String>) -> Self {
        Self { plan: "nothing".into(), why: why.into(), ..Self::default() }
    }

    /// Nothing is due before this is.
    pub fn wait(plan: impl Into<String>, why: impl Into<String>, until: Mono) -> Self {
        Self { plan: plan.into(), why: why.into(), again: Some(until), step: None }
    }

    /// This is due.
    pub fn act(step: Step, what: impl Into<String>, why: impl Into<String>) -> Self {
        let what = what.into();
        Self { plan: what.clone(), step: Some((step, what)), why: why.into(), again: None }
    }
}

/// Something that the leader sees to.
pub trait Duty: Send {
    /// What people call it.
    fn name(&self) -> &'static str;

    /// How long a step may take before it counts as lost.
    fn step_timeout(&self) -> Duration {
        Duration::from_secs(6)
    }

    /// This node has begun to lead: no proposal of it is under way any more.
    fn begin(&mut self, sight: &Sight<'_>);

    /// Something may have changed. Comes before each look, and also while there is none: because the
    /// duty is paused, or its step is under way.
    fn sees(&mut self, _sight: &Sight<'_>) {}

    /// What is due, and what is planned.
    fn look(&mut self, sight: &Sight<'_>) -> Look;

    /// Its step has ended; false if it did not take place, or nobody knows.
    fn ended(&mut self, _now: Mono, _done: bool) {}

    /// A member has all that it gains with this layout.
    fn gained(&mut self, _member: MemberId, _layout: u64) {}
}

/// All duties, in the order in which they are shown.
pub fn all(init: &Init<'_>) -> Vec<Box<dyn Duty>> {
    vec![
        Box::new(founding::Founding::new(init.settings.founding.clone())),
        Box::new(voters::Voters::default()),
        Box::new(layout::Rebalance::default()),
        Box::new(evaluation::Evaluation::new(init.settings.election.interval)),
        Box::new(level::Raising),
    ]
}

/// Names of all duties.
pub const NAMES: [&str; 5] =
    [founding::NAME, voters::NAME, layout::NAME, evaluation::NAME, level::NAME];

const _: () = assert!(NAMES.len() <= DUTIES_MAX, "a table of more is not taken");

/// Member ids in words.
fn named<'a>(members: impl IntoIterator<Item = &'a MemberId>) -> String {
    let names: Vec<String> = members.into_iter().map(ToString::to_string).collect();
    names.join(", ")
}
