//! The end of the tour: is everything still there that was ever acknowledged?

use std::collections::BTreeSet;
use std::time::Instant;

use super::Tour;
use super::report::Step;
use crate::cli::error::CliError;
use crate::core::event::{Event, EventBody};
use crate::http::routes::events::Events;

/// Events of the election that a node still has, behind a number.
const EVENTS: &str = "/api/v1/events?topic=election&since=";

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
            let client = node.client()?;
            let events = all_pages(|since| {
                let headers = [("accept", "application/json")];
                client.send("GET", &format!("{EVENTS}{since}"), &headers, None)?.parse()
            })?;
            seen.extend(events.iter().filter_map(|event| match &event.body {
                EventBody::Leader { term, leader: Some(leader) } => Some((*term, *leader)),
                _ => None,
            }));
        }
        Ok(seen.len().saturating_sub(1))
    }
}

/// The events of a list, whose pages are asked for by the number that they begin behind.
fn all_pages(
    mut page: impl FnMut(u64) -> Result<Events, CliError>,
) -> Result<Vec<Event>, CliError> {
    let (mut all, mut since) = (Vec::new(), 0);
    loop {
        let Events { items, .. } = page(since)?;
        let Some(last) = items.last().map(|event| event.seq) else { return Ok(all) };
        // A list that does not move would keep us here for ever.
        if last <= since {
            return Err(CliError::failure("a node repeats a page of its events"));
        }
        since = last;
        all.extend(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Wall;

    fn page(seqs: std::ops::Range<u64>) -> Result<Events, CliError> {
        let body = EventBody::Leader { term: 1, leader: None };
        let event = |seq| Event { seq, at: Wall(0), node: None, body: body.clone() };
        let items: Vec<Event> = seqs.map(event).collect();
        let seen = items.last().map_or(0, |event| event.seq);
        Ok(Events { schema: 1, items, gap: false, seen })
    }

    #[test]
    fn events_are_read_page_by_page_until_there_are_no_more() {
        let mut asked = Vec::new();
        let events = all_pages(|since| {
            asked.push(since);
            page(since + 1..1_200_u64.min(since + 501))
        });
        assert_eq!(events.unwrap().len(), 1_199);
        assert_eq!(asked, [0, 500, 1_000, 1_199]);
        let error = all_pages(|_| page(1..4)).unwrap_err();
        assert!(error.message.contains("repeats"), "{error}");
    }
}
