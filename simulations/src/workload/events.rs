//! Clients that publish events of applications.

use std::collections::BTreeSet;
use std::time::Duration;

use bzzz::core::event::EventBody;
use bzzz::core::gossip::{Reply, Request};
use bzzz::node::{TIME_WAIT, cluster_time};
use bzzz::types::limits::GOSSIP_WINDOW;

use super::Workload;
use crate::invariants::Observation;

/// How long after its publication an event is asked for at the end of a run: nodes keep it a little longer.
const ASKED_FOR: Duration = Duration::from_secs(GOSSIP_WINDOW.as_secs() / 2);

impl Workload {
    /// Publishes an event through a node; what it says is when.
    pub(super) async fn publish_event(&self, index: usize) {
        let Some(node) = self.world.node(index) else { return };
        cluster_time(node.env(), TIME_WAIT).await;
        // Whoever was restarted in a minority goes by its own clock then, and if that is wrong the others drop what it
        // tells.
        if node.env().known_wall().is_none() && !self.world.has_right_clock(index) {
            return;
        }
        let data = self.world.heap.now_us().to_string();
        let request = Request::Publish { name: "sim/event".into(), data: data.clone() };
        if let Ok(Reply::Published { id, .. }) = node.env().directory.gossip.ask(request).await {
            let id = id.to_string();
            self.world.trace.step("event", index, 0, 0);
            self.world.book.observe(&Observation::EventPublished { id: &id, data: &data });
        }
    }

    /// Who is a member now.
    fn members(&self) -> BTreeSet<String> {
        let nodes = (0..self.world.settings.nodes).filter_map(|index| self.world.node(index));
        nodes.map(|node| node.member().to_string()).collect()
    }

    /// Ids of the events that a node has told, but for those from long ago, and those of members that were removed
    /// since: they are not passed on any more.
    fn told_by(&self, index: usize) -> Option<BTreeSet<String>> {
        let node = self.world.node(index)?;
        let oldest = self.world.heap.now_us().saturating_sub(ASKED_FOR.as_micros() as u64);
        let (members, told) = (self.members(), node.env().events.after(0, usize::MAX));
        let recent = told.into_iter().filter_map(|event| match event.body {
            EventBody::Application { id, data, .. } => {
                let publisher = id.split('-').next().unwrap_or_default();
                (data.0.parse::<u64>().ok()? >= oldest && members.contains(publisher)).then_some(id)
            }
            _ => None,
        });
        Some(recent.collect())
    }

    /// True if the gossip of a node has run since its start: one that failed has forgotten what it kept for others.
    fn still_keeps(&self, index: usize) -> bool {
        let starts = self.world.node(index).map(|node| node.env().starts.all());
        starts.is_some_and(|starts| starts.get("gossip") == Some(&1))
    }

    /// After healing every node has told each event that is kept anywhere.
    pub async fn events_converge(&self) {
        let mut missing: Vec<Vec<String>> = Vec::new();
        for _ in 0..600 {
            let all = || 0..self.world.settings.nodes;
            let kept: BTreeSet<String> = all()
                .filter(|node| self.still_keeps(*node))
                .filter_map(|node| self.told_by(node))
                .flatten()
                .collect();
            missing = all()
                .filter_map(|node| self.told_by(node))
                .map(|told| kept.difference(&told).cloned().collect())
                .collect();
            if missing.iter().all(Vec::is_empty) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let how = format!("two minutes after healing the nodes have not told {missing:?}");
        self.world.book.fail("events reach every node", how);
    }
}
