//! 18: what was refused is never seen.

use std::collections::{BTreeMap, BTreeSet};

use bzzz::types::RequestId;

use super::{Invariant, Observation, Sight};

/// Tries of one publication.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Tries {
    begun: u64,
    refused: u64,
}

/// Remembers what was refused, and what was seen: a refusal may also come after what it denies was shown.
#[derive(Default)]
pub struct RefusedIsNeverSeen {
    refused_values: BTreeSet<(String, Vec<u8>)>,
    seen_values: BTreeSet<(String, Vec<u8>)>,
    tries: BTreeMap<RequestId, Tries>,
    seen_publications: BTreeSet<RequestId>,
}

impl RefusedIsNeverSeen {
    /// A publication may be sent again under its id. Only one of which every try was refused has to be nowhere: what
    /// became of a try that is under way, unknown or acknowledged may be shown.
    fn is_refused(&self, request: &RequestId) -> bool {
        self.tries.get(request).is_some_and(|tries| tries.begun == tries.refused)
    }

    fn judge(&self, node: Option<usize>, sight: Sight<'_>) -> Result<(), String> {
        let (what, is_refused, is_seen) = match sight {
            Sight::Value { key, value } => {
                let owned = (key.to_owned(), value.to_vec());
                let refused = self.refused_values.contains(&owned);
                (
                    format!("the value {value:?} of {key}"),
                    refused,
                    self.seen_values.contains(&owned),
                )
            }
            Sight::Publication(request) => {
                let seen = self.seen_publications.contains(&request);
                (format!("the publication {request:?}"), self.is_refused(&request), seen)
            }
        };
        match node {
            _ if !is_refused || !is_seen => Ok(()),
            Some(node) => Err(format!("node {node} shows {what}, which was refused")),
            None => Err(format!("{what} was refused after it had been shown")),
        }
    }

    fn see(&mut self, node: usize, sight: Sight<'_>) -> Result<(), String> {
        match sight {
            Sight::Value { key, value } => {
                self.seen_values.insert((key.to_owned(), value.to_vec()));
            }
            Sight::Publication(request) => {
                self.seen_publications.insert(request);
            }
        }
        self.judge(Some(node), sight)
    }

    fn refuse(&mut self, sight: Sight<'_>) -> Result<(), String> {
        match sight {
            Sight::Value { key, value } => {
                self.refused_values.insert((key.to_owned(), value.to_vec()));
            }
            Sight::Publication(request) => self.tries.entry(request).or_default().refused += 1,
        }
        self.judge(None, sight)
    }
}

impl Invariant for RefusedIsNeverSeen {
    fn number(&self) -> u32 {
        18
    }

    fn statement(&self) -> &'static str {
        "what was refused is never seen"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::PublishBegins { request, .. } => {
                self.tries.entry(*request).or_default().begun += 1;
                Ok(())
            }
            Observation::Refused(sight) => self.refuse(*sight),
            Observation::Seen { node, sight } => self.see(*node, *sight),
            Observation::Final { node, key, found: Some((_, value)) } => {
                self.see(*node, Sight::Value { key, value })
            }
            Observation::FinalVersions { node, versions, .. } => versions
                .iter()
                .try_for_each(|version| self.see(*node, Sight::Publication(version.request))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bzzz::types::ucxl::DecisionAddress;

    use super::*;

    fn value(value: &[u8]) -> Sight<'_> {
        Sight::Value { key: "k", value }
    }

    fn seen(invariant: &mut RefusedIsNeverSeen, sight: Sight<'_>) -> bool {
        invariant.observe(&Observation::Seen { node: 1, sight }).is_ok()
    }

    fn refused(invariant: &mut RefusedIsNeverSeen, sight: Sight<'_>) -> bool {
        invariant.observe(&Observation::Refused(sight)).is_ok()
    }

    #[test]
    fn a_value_that_was_refused_is_seen_wherever_it_is_shown() {
        let mut invariant = RefusedIsNeverSeen::default();
        assert!(refused(&mut invariant, value(b"a")));
        assert!(seen(&mut invariant, value(b"b")));
        assert!(seen(&mut invariant, Sight::Value { key: "l", value: b"a" }), "of another key");
        assert!(!seen(&mut invariant, value(b"a")));
        let found = Some((7, b"a".as_slice()));
        assert!(invariant.observe(&Observation::Final { node: 1, key: "k", found }).is_err());
        assert!(!refused(&mut invariant, value(b"b")), "it was shown before");
    }

    #[test]
    fn a_publication_is_refused_once_every_try_of_it_was() {
        let address: DecisionAddress = "a/b/c/d/e".parse().expect("an address");
        let request = RequestId([1; 16]);
        let sight = Sight::Publication(request);
        let begin = |invariant: &mut RefusedIsNeverSeen| {
            let begins = Observation::PublishBegins { token: 1, address: &address, request };
            assert!(invariant.observe(&begins).is_ok());
        };
        let mut invariant = RefusedIsNeverSeen::default();
        begin(&mut invariant);
        assert!(refused(&mut invariant, sight));
        begin(&mut invariant);
        assert!(seen(&mut invariant, sight), "it was sent again, and may have been made");
        assert!(!refused(&mut invariant, sight), "then it must not be refused");

        let mut invariant = RefusedIsNeverSeen::default();
        begin(&mut invariant);
        assert!(refused(&mut invariant, sight));
        assert!(!seen(&mut invariant, sight));

        let mut invariant = RefusedIsNeverSeen::default();
        (0..2).for_each(|_| begin(&mut invariant));
        assert!(refused(&mut invariant, sight));
        assert!(seen(&mut invariant, sight), "what became of the other try nobody was told");
    }
}
