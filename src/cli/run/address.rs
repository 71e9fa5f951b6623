//! Telling the cluster where this node listens now.
//!
//! A node that was moved, or that listens on a port the system chose, comes back elsewhere. The
//! others learn of it when it connects to them, but only the roster tells those that come later.

use std::sync::Arc;
use std::time::Duration;

use crate::core::gateway::{Query, Reply, Request};
use crate::messages::Command;
use crate::node::{Node, pause};

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Returns once the roster names the addresses of this node.
pub async fn publish(node: Arc<Node>) {
    while !is_published(&node).await {
        pause(node.env().ports.clock.as_ref(), RETRY).await;
    }
}

async fn is_published(node: &Node) -> bool {
    let gateway = &node.env().directory.gateway;
    // What this node had applied before its restart may be old; a fresh read says what holds.
    let query = Query::Key(String::new());
    match gateway.ask(Request::Read { query, stale_ok: false }).await {
        Ok(Reply::Read(answer)) if !answer.staleness.stale => {}
        _ => return false,
    }
    let Ok(Reply::Status(status)) = gateway.ask(Request::Status).await else { return false };
    let member = node.member();
    let Some(known) = status.view.members.get(&member) else { return false };
    let addresses = node.env().ports.network.listen_addresses();
    let (mut now, mut then) = (addresses.clone(), known.addresses.clone());
    now.sort();
    then.sort();
    if now == then || now.is_empty() {
        return true;
    }
    let command = Command::Moved { member, addresses };
    matches!(gateway.ask(Request::Write { id: None, command }).await, Ok(Reply::Written(Ok(_))))
}
