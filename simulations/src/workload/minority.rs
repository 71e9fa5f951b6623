//! What has to go on while a minority is off.

use std::collections::BTreeSet;
use std::time::Duration;

use bzzz::core::control::View;
use bzzz::core::front::{Reply, Request, Status};
use bzzz::types::MemberId;
use bzzz::types::limits::VOTERS_MAX;

use super::{ADDRESSES, Workload, address};

impl Workload {
    /// The liveness phase with a minority off: while everybody holds everything, every address takes a decision through
    /// each node that is left, and shows its latest one as current, within half a minute. Cutting their power comes as a
    /// surprise to the others, and may hit the leader.
    pub async fn goes_on_without_a_minority(&self) {
        if self.world.settings.nodes > VOTERS_MAX {
            return;
        }
        let Some(status) = self.settled().await else {
            return self.world.trace.note("the layout does not settle, so nobody goes off");
        };
        let off = self.minority(&status);
        if off.is_empty() {
            return self.world.trace.note("there is no minority to be without");
        }
        off.iter().for_each(|node| self.world.crash(*node));
        let until_us = self.world.heap.now_us() + 30_000_000;
        let mut number = 3_000_000;
        let left = self.world.alive();
        for (node, address) in
            left.into_iter().flat_map(|node| (0..ADDRESSES).map(move |n| (node, address(n))))
        {
            let mut done = false;
            while !done && self.world.heap.now_us() < until_us {
                number += 1;
                done = self.publish(node, &address, number).await
                    && self.read_latest(node, &address).await;
                if !done {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            if !done {
                let how = format!(
                    "{address} takes nothing through node {node} half a minute after {off:?} went off"
                );
                self.world.book.fail("records go on without a minority", how);
            }
        }
        off.iter().for_each(|node| self.world.restart(*node));
    }

    /// How the cluster stands once everybody holds everything and no layout is under way, as it is for short times only
    /// while faults go on.
    async fn settled(&self) -> Option<Box<Status>> {
        for _ in 0..150 {
            if let Some(node) = self.world.alive().first().and_then(|node| self.world.node(*node))
                && let Ok(Reply::Status(status)) =
                    node.env().directory.front.ask(Request::Status).await
                && is_settled(&status.view)
            {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        None
    }

    /// As many nodes as may go without voters or holders losing their majority. Members that are gone for good count, too.
    fn minority(&self, status: &Status) -> BTreeSet<usize> {
        let voters = &status.role.voters;
        let holders: BTreeSet<MemberId> = status.view.layout.current.keys().copied().collect();
        let mut nodes: Vec<(usize, MemberId)> = self
            .world
            .alive()
            .into_iter()
            .filter_map(|index| Some((index, self.world.node(index)?.member())))
            .collect();
        let mut off = BTreeSet::new();
        while !nodes.is_empty() {
            let (index, _) = nodes.swap_remove(self.rng.pick(nodes.len()));
            let left: BTreeSet<MemberId> = nodes.iter().map(|(_, member)| *member).collect();
            let is_majority =
                |set: &BTreeSet<MemberId>| set.intersection(&left).count() > set.len() / 2;
            if !is_majority(voters) || !is_majority(&holders) {
                break;
            }
            off.insert(index);
        }
        off
    }
}

fn is_settled(view: &View) -> bool {
    let layout = &view.layout;
    layout.next.is_none()
        && layout.current.len() <= VOTERS_MAX
        && layout.current.keys().eq(view.roster.members.keys())
}
