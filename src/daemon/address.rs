//! Telling the cluster where this node listens now.
//!
//! Problem: a machine gets another address, before its node starts or while it runs. The others
//! learn of it when the node connects to them, but only the roster tells those that come later.
//!
//! Flow: the addresses are looked at every second -> they differ from what was told, and are the
//! same as a second ago -> the roster is read, and changed if it names others. It is read again now
//! and then, in case somebody has changed it back.
//!
//! Invariants:
//! 1. What lasts less than two looks is not told: while an interface changes, it has no address.
//! 2. Addresses are told at most `BURST` times at once, and else once a minute: each time is a
//!    command to all members, and interfaces of containers come and go.
//! 3. A node that others reach from elsewhere is not told to be on loopback alone.

use crate::messages::command::RosterCommand;
use std::sync::Arc;
use std::time::Duration;

use crate::core::front::{Query, Reply, Request};
use crate::messages::Command;
use crate::node::{Node, pause};
use crate::types::address::Host;
use crate::types::{Address, Mono};

/// How often it is looked which addresses there are.
const LOOK: Duration = Duration::from_secs(1);
/// How often the roster is looked at while nothing changes.
const AGAIN: Duration = Duration::from_secs(300);

/// How long it takes from telling to telling in the long run.
const GAP: Duration = Duration::from_secs(60);
/// How often something may be told sooner than that.
const BURST: u32 = 8;

/// What was seen last, and what the roster was told.
#[derive(Default)]
struct Told {
    seen: Vec<Address>,
    told: Option<(Vec<Address>, Mono)>,
    /// When all that was told would have been told with `GAP` between.
    even_at: Mono,
}

impl Told {
    /// True if the roster is to be looked at: it may not name these addresses.
    fn is_due(&mut self, now: Mono, addresses: &[Address]) -> bool {
        let is_settled = self.seen.is_empty() || self.seen == addresses;
        self.seen = addresses.to_vec();
        let may_be_told = match &self.told {
            Some((told, at)) if told == addresses => now.since(*at) >= AGAIN,
            _ => self.even_at <= now + GAP * (BURST - 1),
        };
        is_settled && !addresses.is_empty() && may_be_told
    }

    /// The roster names these addresses.
    fn done(&mut self, now: Mono, addresses: Vec<Address>) {
        self.told = Some((addresses, now));
        self.even_at = self.even_at.max(now) + GAP;
    }
}

/// Sees to it that the roster names the addresses of this node, for as long as it is polled.
pub async fn publish(node: Arc<Node>) {
    let clock = node.env().ports.clock.clone();
    let mut told = Told::default();
    loop {
        let mut addresses = node.env().ports.network.listen_addresses();
        addresses.sort();
        if told.is_due(clock.now(), &addresses) && is_published(&node, &addresses).await {
            told.done(clock.now(), addresses);
        }
        pause(clock.as_ref(), LOOK).await;
    }
}

async fn is_published(node: &Node, addresses: &[Address]) -> bool {
    let front = &node.env().directory.front;
    // What this node had applied before its restart may be old; a fresh read says what holds.
    let query = Query::Key(String::new());
    match front.ask(Request::Read { query, stale_ok: false }).await {
        Ok(Reply::Read(answer)) if !answer.staleness.stale => {}
        _ => return false,
    }
    let Ok(Reply::Status(status)) = front.ask(Request::Status).await else { return false };
    let member = node.member();
    let Some(known) = status.view.roster.members.get(&member) else { return false };
    let mut then = known.addresses.clone();
    then.sort();
    if then == addresses {
        return true;
    }
    let mut others = status.view.roster.members.values().flat_map(|member| &member.addresses);
    if is_loopback(addresses) && others.any(|address| !is_loopback(std::slice::from_ref(address))) {
        return false;
    }
    // In the order in which the network names them: the first is the best.
    let addresses = node.env().ports.network.listen_addresses();
    tracing::info!(?addresses, before = ?then, "telling the cluster where this node listens");
    let command = Command::Roster(RosterCommand::Moved { member, addresses });
    matches!(front.ask(Request::Write { id: None, command }).await, Ok(Reply::Written(Ok(_))))
}

/// True if only this machine itself can reach these.
fn is_loopback(addresses: &[Address]) -> bool {
    let is_local = |address: &Address| match &address.host {
        Host::Ip(ip) => ip.to_canonical().is_loopback(),
        Host::Dns(_) => false,
    };
    addresses.iter().all(is_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(host: &str) -> Vec<Address> {
        vec![format!("{host}:4001").parse().unwrap()]
    }

    fn second(second: u64) -> Mono {
        Mono(second * 1_000_000)
    }

    #[test]
    fn an_address_is_told_once_and_again_when_it_changes() {
        let (old, new) = (addresses("10.0.0.1"), addresses("10.0.1.1"));
        let mut told = Told::default();
        assert!(told.is_due(second(0), &old), "at the start");
        assert!(told.is_due(second(1), &old), "until it has been told");
        told.done(second(1), old.clone());
        assert!(!told.is_due(second(2), &old));
        assert!(!told.is_due(second(7), &new), "it may not last");
        assert!(told.is_due(second(8), &new));
        told.done(second(8), new.clone());
        assert!(!told.is_due(second(9), &old), "it may not last");
        assert!(told.is_due(second(10), &old), "also back");
    }

    #[test]
    fn addresses_that_come_and_go_are_told_at_once_only_so_often() {
        let mut told = Told::default();
        let mut times = Vec::new();
        for now in 0..600 {
            // Another one every three seconds.
            let here = addresses(&format!("10.0.0.{}", 1 + now / 3 % 50));
            if told.is_due(second(now), &here) {
                told.done(second(now), here);
                times.push(now);
            }
        }
        let (at_once, later) = times.split_at(BURST as usize);
        assert!(at_once.windows(2).all(|pair| pair[1] - pair[0] <= 4), "{times:?}");
        assert_eq!(later.len() as u64, 600 / GAP.as_secs() - 1, "{times:?}");
        assert!(later.windows(2).all(|pair| pair[1] - pair[0] >= 57), "{times:?}");
    }

    #[test]
    fn what_is_there_for_a_moment_is_not_told() {
        let (old, none) = (addresses("10.0.0.1"), addresses("127.0.0.1"));
        let mut told = Told::default();
        told.is_due(second(0), &old);
        told.done(second(0), old.clone());
        assert!(!told.is_due(second(1), &none), "between two addresses there is but loopback");
        assert!(!told.is_due(second(2), &old));
        assert!(!told.is_due(second(3), &[]));
        assert!(!told.is_due(second(4), &[]), "nowhere is not worth telling");
    }

    #[test]
    fn the_roster_is_looked_at_now_and_then() {
        let here = addresses("10.0.0.1");
        let mut told = Told::default();
        told.is_due(second(0), &here);
        told.done(second(0), here.clone());
        assert!(!told.is_due(second(AGAIN.as_secs() - 1), &here));
        assert!(told.is_due(second(AGAIN.as_secs()), &here));
    }
}
