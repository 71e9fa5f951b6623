//! 8: no member id acknowledges in two histories.

use std::collections::BTreeMap;

use bzzz::types::MemberId;

use super::{Invariant, Observation};

/// Remembers the disk behind each member.
#[derive(Default)]
pub struct OneHistoryPerMember {
    disks: BTreeMap<MemberId, u64>,
}

impl Invariant for OneHistoryPerMember {
    fn number(&self) -> u32 {
        8
    }

    fn statement(&self) -> &'static str {
        "no member id acknowledges in two histories"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        let (member, disk) = match observation {
            Observation::Ack(ack) => (ack.member, ack.disk),
            Observation::Published { publication, .. } => (publication.member, publication.disk),
            _ => return Ok(()),
        };
        let first = *self.disks.entry(member).or_insert(disk);
        if first == disk {
            Ok(())
        } else {
            Err(format!("member {member} acknowledged from disk {first} and from disk {disk}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ack;
    use super::*;

    #[test]
    fn a_member_with_two_disks_is_seen() {
        let mut invariant = OneHistoryPerMember::default();
        let mut first = ack(1, 0, "k", 1, b"");
        assert!(invariant.observe(&Observation::Ack(&first)).is_ok());
        first.disk = 99;
        assert!(invariant.observe(&Observation::Ack(&first)).is_err());
    }
}
