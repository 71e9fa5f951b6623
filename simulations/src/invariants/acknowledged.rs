//! 3: no acknowledged write is lost.

use std::collections::BTreeMap;

use super::{Invariant, Observation};

/// Remembers every acknowledged version of every key.
#[derive(Default)]
pub struct NoAcknowledgedWriteLost {
    acknowledged: BTreeMap<String, BTreeMap<u64, Vec<u8>>>,
}

impl Invariant for NoAcknowledgedWriteLost {
    fn number(&self) -> u32 {
        3
    }

    fn statement(&self) -> &'static str {
        "no acknowledged write is lost"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Ack(ack) => {
                let versions = self.acknowledged.entry(ack.key.clone()).or_default();
                match versions.insert(ack.version, ack.value.clone()) {
                    Some(other) if other != ack.value => Err(format!(
                        "version {} of {} was acknowledged to two writers",
                        ack.version, ack.key
                    )),
                    _ => Ok(()),
                }
            }
            Observation::Final { node, key, found } => {
                let Some((version, value)) =
                    self.acknowledged.get(*key).and_then(|v| v.last_key_value())
                else {
                    return Ok(());
                };
                match found {
                    Some((found, _)) if found > version => Ok(()),
                    Some((found, bytes)) if found == version && bytes == value => Ok(()),
                    _ => Err(format!(
                        "version {version} of {key} was acknowledged, node {node} has {:?}",
                        found.map(|(version, _)| version)
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

impl NoAcknowledgedWriteLost {
    /// Every key that was acknowledged.
    #[cfg(test)]
    fn keys(&self) -> usize {
        self.acknowledged.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ack;
    use super::*;

    #[test]
    fn a_missing_older_or_other_value_is_seen() {
        let mut invariant = NoAcknowledgedWriteLost::default();
        assert!(invariant.observe(&Observation::Ack(&ack(1, 0, "k", 1, b"a"))).is_ok());
        assert!(invariant.observe(&Observation::Ack(&ack(2, 0, "k", 2, b"b"))).is_ok());
        assert_eq!(invariant.keys(), 1);
        let mut finally =
            |found| invariant.observe(&Observation::Final { node: 1, key: "k", found }).is_ok();
        assert!(finally(Some((2, b"b".as_slice()))));
        assert!(finally(Some((3, b"c".as_slice()))));
        assert!(!finally(Some((2, b"x".as_slice()))));
        assert!(!finally(Some((1, b"a".as_slice()))));
        assert!(!finally(None));
    }

    #[test]
    fn one_version_for_two_writers_is_seen() {
        let mut invariant = NoAcknowledgedWriteLost::default();
        assert!(invariant.observe(&Observation::Ack(&ack(1, 0, "k", 1, b"a"))).is_ok());
        assert!(invariant.observe(&Observation::Ack(&ack(2, 1, "k", 1, b"b"))).is_err());
    }
}
