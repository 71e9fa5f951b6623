//! 5 and 15. 5: a node takes no write of another term than its lease covers. 15: once a leader of a later term is there,
//! nobody acknowledges under a lease of an earlier one, be it that the old leader died or that it handed over.

use bzzz::core::consensus::ConsensusEvent;
use bzzz::types::Term;

use super::{Invariant, Observation};

/// Needs no memory: an acknowledgement carries both terms.
pub struct WritesStayInTheLeasesTerm;

impl Invariant for WritesStayInTheLeasesTerm {
    fn number(&self) -> u32 {
        5
    }

    fn statement(&self) -> &'static str {
        "no write is acknowledged under a lease of an older term than the write, or under none"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Ack(ack) if ack.lease_term < ack.log_id.term => Err(format!(
                "node {} acknowledged a write of term {} under a lease of term {}",
                ack.node, ack.log_id.term, ack.lease_term
            )),
            _ => Ok(()),
        }
    }
}

/// Remembers the newest term that anybody has won.
#[derive(Default)]
pub struct LeasesEndBeforeTheNextLeader {
    won: Term,
}

impl Invariant for LeasesEndBeforeTheNextLeader {
    fn number(&self) -> u32 {
        15
    }

    fn statement(&self) -> &'static str {
        "nothing is acknowledged under a lease of an earlier term than one that a leader has begun"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let (node, lease_term) = match observation {
            Observation::Consensus { event: ConsensusEvent::Role(role), .. } if role.leading => {
                self.won = self.won.max(role.term);
                return Ok(());
            }
            Observation::Ack(ack) => (ack.node, ack.lease_term),
            Observation::Published { publication, .. } => {
                (publication.node, publication.lease_term)
            }
            _ => return Ok(()),
        };
        if lease_term < self.won {
            return Err(format!(
                "node {node} acknowledged under a lease of term {lease_term}, and term {} has a leader",
                self.won
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ack, consensus, role};
    use super::*;

    #[test]
    fn an_acknowledgement_under_a_lease_of_the_last_leader_is_seen() {
        let mut invariant = LeasesEndBeforeTheNextLeader::default();
        let mut ack = ack(1, 0, "k", 1, b"");
        ack.lease_term = 3;
        assert!(invariant.observe(&consensus(1, &role(1, 3, true))).is_ok());
        assert!(invariant.observe(&consensus(2, &role(2, 4, false))).is_ok());
        assert!(invariant.observe(&Observation::Ack(&ack)).is_ok(), "nobody has won term 4");
        assert!(invariant.observe(&consensus(2, &role(2, 4, true))).is_ok());
        assert!(invariant.observe(&Observation::Ack(&ack)).is_err());
        ack.lease_term = 4;
        assert!(invariant.observe(&Observation::Ack(&ack)).is_ok());
    }

    #[test]
    fn a_write_of_a_newer_term_than_the_lease_is_seen() {
        let mut ack = ack(1, 0, "k", 1, b"");
        assert!(WritesStayInTheLeasesTerm.observe(&Observation::Ack(&ack)).is_ok());
        ack.log_id.term = 2;
        assert!(WritesStayInTheLeasesTerm.observe(&Observation::Ack(&ack)).is_err());
        ack.lease_term = 3;
        assert!(WritesStayInTheLeasesTerm.observe(&Observation::Ack(&ack)).is_ok());
    }
}
