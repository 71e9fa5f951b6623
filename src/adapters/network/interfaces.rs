//! Which addresses this machine has.
//!
//! Problem: the library says that an address is gone also when it has only become part of another
//! network. Whether a socket can be bound to it tells nothing: systems can be set up to let any
//! address be bound (`ip_nonlocal_bind`). So the addresses of the interfaces are watched here.
//!
//! Invariant: an address is lost once no network of any interface has it any more. Where nobody
//! tells which there are, none is there, and what the library says holds.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::StreamExt;
use if_watch::tokio::IfWatcher;
use if_watch::{IfEvent, IpNet};

/// The addresses, each with the network that it is part of.
#[derive(Default)]
struct Networks(BTreeSet<IpNet>);

impl Networks {
    /// Takes note of a change; returns the address that is lost by it.
    fn change(&mut self, event: IfEvent) -> Option<IpAddr> {
        match event {
            IfEvent::Up(network) => {
                self.0.insert(network);
                None
            }
            IfEvent::Down(network) => {
                let was_there = self.0.remove(&network);
                Some(network.addr()).filter(|ip| was_there && !self.have(*ip))
            }
        }
    }

    fn have(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.addr() == ip)
    }
}

/// See the module.
pub(super) struct Interfaces {
    watcher: Option<IfWatcher>,
    networks: Networks,
}

impl Interfaces {
    /// Begins to watch, on the runtime that is entered.
    pub(super) fn new() -> Self {
        let watcher = IfWatcher::new()
            .map_err(
                |error| tracing::warn!(%error, "the addresses of this machine are not watched"),
            )
            .ok();
        Self { watcher, networks: Networks::default() }
    }

    /// True for an address that this machine has, as far as that was heard.
    pub(super) fn have(&self, ip: IpAddr) -> bool {
        self.networks.have(ip)
    }

    /// The next address that this machine loses. Nothing is missed if this is dropped.
    pub(super) async fn next_lost(&mut self) -> IpAddr {
        loop {
            let Some(watcher) = &mut self.watcher else { return std::future::pending().await };
            match watcher.select_next_some().await {
                Ok(event) => {
                    if let Some(lost) = self.networks.change(event) {
                        return lost;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the addresses of this machine are watched no more");
                    *self = Self { watcher: None, networks: Networks::default() };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn an_address_that_becomes_part_of_another_network_is_not_lost() {
        let mut networks = Networks::default();
        let network = |text: &str| text.parse::<IpNet>().unwrap();
        let (narrow, wide) = (network("10.0.0.7/24"), network("10.0.0.7/16"));
        assert_eq!(networks.change(IfEvent::Up(narrow)), None);
        assert_eq!(networks.change(IfEvent::Up(wide)), None);
        assert_eq!(networks.change(IfEvent::Down(narrow)), None);
        assert!(networks.have(wide.addr()));
        assert_eq!(networks.change(IfEvent::Down(wide)), Some(wide.addr()));
        assert_eq!(networks.change(IfEvent::Down(wide)), None, "it was gone already");
        assert!(!networks.have(wide.addr()));
    }

    #[tokio::test]
    async fn the_addresses_of_this_machine_are_known_soon_and_no_others() {
        let mut interfaces = Interfaces::new();
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let known = async {
            while !interfaces.have(loopback) {
                // It returns only if an address is lost, so it is left again and again.
                let _ = timeout(Duration::from_millis(10), interfaces.next_lost()).await;
            }
        };
        timeout(Duration::from_secs(30), known).await.expect("loopback is known");
        // TEST-NET-1 (RFC 5737); nobody has it, whatever may be bound.
        assert!(!interfaces.have(IpAddr::from([192, 0, 2, 1])));
    }
}
