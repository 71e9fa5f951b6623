//! 19: a listing that is not marked stale holds every acknowledged address once, in order.

use std::collections::BTreeMap;

use bzzz::types::record::Version;
use bzzz::types::ucxl::DecisionAddress;

use super::{Invariant, Observation};

/// Remembers what was acknowledged when a listing began.
#[derive(Default)]
pub struct ListingsAreWhole {
    newest: BTreeMap<DecisionAddress, Version>,
    open: BTreeMap<u64, BTreeMap<DecisionAddress, Version>>,
}

impl Invariant for ListingsAreWhole {
    fn number(&self) -> u32 {
        19
    }

    fn statement(&self) -> &'static str {
        "a listing that is not marked stale holds every acknowledged address once, in order, as it was then or is since"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Published { publication, .. } => {
                let version = publication.version;
                let newest = self.newest.entry(publication.address.clone()).or_insert(version);
                *newest = version.max(*newest);
            }
            Observation::ListingBegins { token } => {
                self.open.insert(*token, self.newest.clone());
            }
            Observation::ListingEnds { token, rows } => {
                let owed = self.open.remove(token).unwrap_or_default();
                if let Some(pair) = rows.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
                    let (first, second) = (&pair[0].0, &pair[1].0);
                    return Err(format!("a listing shows {second} after {first}"));
                }
                let listed: BTreeMap<&DecisionAddress, Version> =
                    rows.iter().map(|(address, version)| (address, *version)).collect();
                for (address, version) in &owed {
                    let Some(found) = listed.get(address) else {
                        return Err(format!(
                            "a listing leaves {address} out, where {version:?} was acknowledged"
                        ));
                    };
                    if found < version {
                        return Err(format!(
                            "a listing shows {found:?} of {address}, {version:?} was there before it began"
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bzzz::types::record::{DecisionKind, Hlc};
    use bzzz::types::{BodyHash, ContentHash, MemberId, RequestId};

    use super::super::Publication;
    use super::*;

    fn row(task: u64, ms: u64) -> (DecisionAddress, Version) {
        let version = Version {
            at: Hlc { ms, counter: 0 },
            writer: MemberId(1),
            content: ContentHash([1; 32]),
            request: RequestId([ms as u8; 16]),
            kind: DecisionKind::Generic,
            body: BodyHash([0; 32]),
        };
        (format!("a/b/c/t{task}/e").parse().expect("an address"), version)
    }

    fn published(invariant: &mut ListingsAreWhole, (address, version): (DecisionAddress, Version)) {
        let publication = &Publication {
            at_us: 1,
            node: 0,
            member: MemberId(1),
            disk: 0,
            address,
            version,
            lease_term: 1,
        };
        assert!(invariant.observe(&Observation::Published { token: 0, publication }).is_ok());
    }

    fn listed(invariant: &mut ListingsAreWhole, rows: &[(DecisionAddress, Version)]) -> bool {
        let ends = Observation::ListingEnds { token: 1, rows };
        let is_fine = invariant.observe(&ends).is_ok();
        assert!(invariant.observe(&Observation::ListingBegins { token: 1 }).is_ok());
        is_fine
    }

    #[test]
    fn a_listing_that_lacks_repeats_swaps_or_goes_back_is_seen() {
        let mut invariant = ListingsAreWhole::default();
        published(&mut invariant, row(1, 5));
        published(&mut invariant, row(2, 6));
        assert!(listed(&mut invariant, &[]), "it began before anything was acknowledged");
        published(&mut invariant, row(3, 7));
        assert!(listed(&mut invariant, &[row(1, 5), row(2, 6)]), "the third came meanwhile");
        assert!(!listed(&mut invariant, &[row(1, 5), row(3, 7)]));
        assert!(!listed(&mut invariant, &[row(1, 5), row(2, 6)]), "at the end");
        assert!(!listed(&mut invariant, &[row(1, 5), row(2, 6), row(2, 6), row(3, 7)]));
        assert!(!listed(&mut invariant, &[row(1, 5), row(3, 7), row(2, 6)]));
        assert!(!listed(&mut invariant, &[row(1, 4), row(2, 6), row(3, 7)]), "an old version");
        assert!(listed(&mut invariant, &[row(0, 1), row(1, 9), row(2, 6), row(3, 7)]));
    }
}
