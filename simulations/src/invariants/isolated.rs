//! 4 and 13. 4: no write is acknowledged by a node that has been cut off from a majority of the voters, and from a
//! leader that has one, for longer than a lease. 13: no replica takes a write for longer than that. Judged from the
//! links, not from the nodes' opinion.

use std::collections::BTreeMap;

use bzzz::types::limits::LEASE_MS;

use super::{Invariant, Observation};

/// Clocks of the simulation drift by up to this many parts in a thousand.
pub const DRIFT_PERMILLE: u64 = 20;
/// A lease on the slowest clock, granted by the fastest, plus the grain of the timers.
const LIMIT_US: u64 = LEASE_MS * (1_000 + 2 * DRIFT_PERMILLE) + 2_000;

/// Remembers who is cut off.
#[derive(Default)]
pub struct NoAckWhileCutOff {
    cut_since_us: BTreeMap<usize, u64>,
}

impl Invariant for NoAckWhileCutOff {
    fn number(&self) -> u32 {
        4
    }

    fn statement(&self) -> &'static str {
        "no write is acknowledged by a node cut off from a voter majority for longer than a lease"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Reach { node, cut_since_us } => {
                match cut_since_us {
                    Some(since) => self.cut_since_us.insert(*node, *since),
                    None => self.cut_since_us.remove(node),
                };
                Ok(())
            }
            Observation::Ack(ack) => self.judge(ack.node, ack.at_us, &ack.key),
            Observation::Published { publication, .. } => {
                self.judge(publication.node, publication.at_us, publication.address.as_str())
            }
            _ => Ok(()),
        }
    }
}

impl NoAckWhileCutOff {
    fn judge(&self, node: usize, at_us: u64, what: &str) -> Result<(), String> {
        match self.cut_since_us.get(&node) {
            Some(since) if at_us > since + LIMIT_US => Err(format!(
                "node {node} acknowledged {what} {} ms after it was cut off",
                (at_us - since) / 1_000
            )),
            _ => Ok(()),
        }
    }
}

/// What a replica has taken under its lease it may still have to bring to disk.
const STORE_US: u64 = 1_000_000;

/// Remembers who is cut off, for what replicas take.
#[derive(Default)]
pub struct NoReplicaWritesWhileCutOff(NoAckWhileCutOff);

impl Invariant for NoReplicaWritesWhileCutOff {
    fn number(&self) -> u32 {
        13
    }

    fn statement(&self) -> &'static str {
        "no replica takes a write while it is cut off from a voter majority for longer than a lease"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Reach { .. } => self.0.observe(observation),
            Observation::ReplicaStored { at_us, node } => {
                let at_us = at_us.saturating_sub(STORE_US);
                self.0.judge(*node, at_us, "as a replica what a coordinator wrote")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ack;
    use super::*;

    #[test]
    fn a_replica_that_writes_without_a_majority_is_seen() {
        let mut invariant = NoReplicaWritesWhileCutOff::default();
        let cut = Observation::Reach { node: 0, cut_since_us: Some(1_000_000) };
        assert!(invariant.observe(&cut).is_ok());
        let stored = |at_us, node| Observation::ReplicaStored { at_us, node };
        assert!(invariant.observe(&stored(2_200_000, 0)).is_ok(), "it was on its way to the disk");
        assert!(invariant.observe(&stored(2_300_000, 1)).is_ok());
        assert!(invariant.observe(&stored(2_300_000, 0)).is_err());
    }

    #[test]
    fn an_acknowledgement_after_the_lease_is_seen() {
        let mut invariant = NoAckWhileCutOff::default();
        let cut = |since| Observation::Reach { node: 0, cut_since_us: since };
        assert!(invariant.observe(&cut(Some(1_000_000))).is_ok());
        assert!(invariant.observe(&Observation::Ack(&ack(1_200_000, 0, "k", 1, b""))).is_ok());
        assert!(invariant.observe(&Observation::Ack(&ack(1_300_000, 1, "k", 2, b""))).is_ok());
        assert!(invariant.observe(&Observation::Ack(&ack(1_300_000, 0, "k", 3, b""))).is_err());
        assert!(invariant.observe(&cut(None)).is_ok());
        assert!(invariant.observe(&Observation::Ack(&ack(1_400_000, 0, "k", 4, b""))).is_ok());
    }
}
