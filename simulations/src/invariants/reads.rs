//! 9: a read that is not marked stale sees every write that was acknowledged before it began.

use std::collections::BTreeMap;

use super::{Invariant, Observation};

/// Remembers what was acknowledged, and what each open read has to see.
#[derive(Default)]
pub struct ReadsSeeWhatWasAcknowledged {
    acknowledged: BTreeMap<String, u64>,
    open: BTreeMap<u64, (String, u64)>,
}

impl Invariant for ReadsSeeWhatWasAcknowledged {
    fn number(&self) -> u32 {
        9
    }

    fn statement(&self) -> &'static str {
        "a read that is not marked stale sees every write acknowledged before it began"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Ack(ack) => {
                let version = self.acknowledged.entry(ack.key.clone()).or_default();
                *version = (*version).max(ack.version);
                Ok(())
            }
            Observation::ReadBegins { read, key } => {
                let version = self.acknowledged.get(*key).copied().unwrap_or(0);
                self.open.insert(*read, ((*key).to_owned(), version));
                Ok(())
            }
            Observation::ReadEnds { read, version } => match self.open.remove(read) {
                Some((key, needed)) if *version < needed => Err(format!(
                    "a read of {key} saw version {version}, {needed} was acknowledged before"
                )),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ack;
    use super::*;

    #[test]
    fn a_read_of_the_past_is_seen() {
        let mut invariant = ReadsSeeWhatWasAcknowledged::default();
        let begin = |read| Observation::ReadBegins { read, key: "k" };
        assert!(invariant.observe(&begin(1)).is_ok());
        assert!(invariant.observe(&Observation::Ack(&ack(1, 0, "k", 1, b""))).is_ok());
        assert!(invariant.observe(&Observation::ReadEnds { read: 1, version: 0 }).is_ok());
        assert!(invariant.observe(&begin(2)).is_ok());
        assert!(invariant.observe(&Observation::ReadEnds { read: 2, version: 0 }).is_err());
    }
}
