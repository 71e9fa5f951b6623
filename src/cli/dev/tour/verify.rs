//! The end of the tour: is everything still there that was ever acknowledged?

use std::collections::BTreeSet;
use std::time::Instant;

use super::Tour;
use super::report::Step;
use crate::cli::error::CliError;
use crate::core::event::EventBody;
use crate::http::api::Events;

/// Events of the election that a node still has.
const EVENTS: &str = "/api/v1/events?since=0&topic=election";

impl Tour {
    /// Reads every acknowledged write through another node than the one that took it.
    pub(super) fn verify(&mut self) -> Result<(), CliError> {
        let began = Instant::now();
        let mut lost = Vec::new();
        for written in &self.written {
            if !self.reads_back(written, self.other_than(written.through))? {
                lost.push(written.what.name().to_owned());
            }
        }
        let changes = self.leader_changes()?;
        let count = self.written.len();
        self.summary.lost = Some(lost.len());
        self.summary.leader_changes = Some(changes);
        if let Some(first) = lost.first() {
            let lost = lost.len();
            return Err(CliError::failure(format!(
                "{lost} of {count} acknowledged writes are lost, the first is {first}"
            )));
        }
        let reader = if self.cluster.nodes.len() > 1 { "another node" } else { "the one node" };
        let decisions = self.summary.decisions;
        let text = format!(
            "{count} acknowledged writes, {decisions} of them decisions, read back through {reader}, none is lost"
        );
        let step = Step::new("verify", began.elapsed(), text)
            .field("acknowledged", count)
            .field("decisions", decisions)
            .field("lost", lost.len())
            .field("leader_changes", changes);
        self.report.step(&step)
    }

    /// How many leaders followed the first one, by what all nodes together have seen.
    fn leader_changes(&self) -> Result<usize, CliError> {
        let mut seen = BTreeSet::new();
        for node in &self.cluster.nodes {
            let headers = [("accept", "application/json")];
            let events: Events = node.client()?.send("GET", EVENTS, &headers, None)?.parse()?;
            seen.extend(events.items.iter().filter_map(|event| match &event.body {
                EventBody::Leader { term, leader: Some(leader) } => Some((*term, *leader)),
                _ => None,
            }));
        }
        Ok(seen.len().saturating_sub(1))
    }
}
