//! A command that members of the older build do not understand: nobody takes it before all are
//! upgraded, and it goes through afterwards.

use std::time::Duration;

use bzzz::core::front::{Reply, Request};
use bzzz::core::refusal::Refusal;
use bzzz::messages::Refused;
use bzzz::messages::command::DutiesCommand;
use bzzz::types::Level;

use super::Workload;

/// A duty that rests for longer than any run: pausing it changes nothing else.
const DUTY: &str = "evaluation";

impl Workload {
    /// Has a command of the newest level decided through a node, if it can be.
    pub async fn ask_for_more(&self, node: usize) -> Option<Result<(), Refusal>> {
        let node = self.world.node(node)?;
        let command = DutiesCommand::Pause { duty: DUTY.into() }.into();
        match node.env().directory.front.ask(Request::Write { id: None, command }).await {
            Ok(Reply::Written(result)) => Some(result.map(drop)),
            _ => None,
        }
    }

    /// The same while some members may be of the older build: then it must not have been decided.
    pub async fn ask_for_too_much(&self, node: usize) {
        if self.world.old_builds().is_empty() {
            return;
        }
        let answer = self.ask_for_more(node).await;
        // Those that were upgraded meanwhile make it a command like any other.
        if matches!(answer, Some(Ok(()))) && !self.world.old_builds().is_empty() {
            let how = format!("node {node} took a command that not all members understand");
            self.world.book.fail("a command waits until all members understand it", how);
        }
    }

    /// The liveness phase: half a minute after all were upgraded, the cluster speaks the newest level, and
    /// every node takes what needs it.
    pub async fn new_commands_go_through(&self) {
        for node in 0..self.world.settings.nodes {
            let mut last = None;
            for _ in 0..150 {
                last = self.ask_for_more(node).await;
                if matches!(last, Some(Ok(()))) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            if !matches!(last, Some(Ok(()))) {
                let how = match last {
                    Some(Err(Refusal::Refused(Refused::LevelTooLow { level, .. }))) => {
                        format!("node {node} still speaks level {level}")
                    }
                    other => format!(
                        "node {node} takes no command of level {}: {other:?}",
                        Level::NEWEST
                    ),
                };
                self.world.book.fail("what needs all members upgraded works once they are", how);
            }
        }
    }
}
