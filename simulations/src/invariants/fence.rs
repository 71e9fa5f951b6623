//! 5: a node takes no write of another term than its lease covers.

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

#[cfg(test)]
mod tests {
    use super::super::ack;
    use super::*;

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
