//! 10, 11, 12 and 16: what holds for publications. All remember the same things: what was acknowledged, and what was
//! begun when.

use std::collections::{BTreeMap, BTreeSet};

use bzzz::types::record::Version;
use bzzz::types::ucxl::DecisionAddress;
use bzzz::types::{ContentHash, RequestId};

use super::{Invariant, Observation};

/// 10: no acknowledged publication is lost, nor the content of what was read as the latest.
#[derive(Default)]
pub struct NoPublicationLost {
    acknowledged: BTreeMap<DecisionAddress, BTreeMap<Version, ContentHash>>,
    contents: BTreeSet<ContentHash>,
    /// Reads of a content that had been published or read as the latest before they began.
    owed: BTreeSet<u64>,
}

impl Invariant for NoPublicationLost {
    fn number(&self) -> u32 {
        10
    }

    fn statement(&self) -> &'static str {
        "what was acknowledged or read as the latest is not lost, and a content has the bytes of its hash"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::Published { publication, .. } => {
                let versions = self.acknowledged.entry(publication.address.clone()).or_default();
                versions.insert(publication.version, publication.version.content);
                self.contents.insert(publication.version.content);
                Ok(())
            }
            Observation::LatestEnds { version: Some(version), .. } => {
                self.contents.insert(version.content);
                Ok(())
            }
            Observation::ContentBegins { token, hash } => {
                // What is on its way while somebody asks may be seen, or not yet.
                if self.contents.contains(hash) {
                    self.owed.insert(*token);
                }
                Ok(())
            }
            Observation::ContentRead { token, node, hash, found } => match found {
                None if self.owed.contains(token) => Err(format!(
                    "node {node} says that {hash} is not there, the content of what was published or read"
                )),
                None => Ok(()),
                Some(bytes) => {
                    let content = bzzz::types::codec::decode_durable::<bzzz::core::records::Content>(
                        &bytes.0,
                    );
                    match content {
                        Ok(content) if content.hash() == *hash => Ok(()),
                        _ => Err(format!("node {node} answered {hash} with other bytes")),
                    }
                }
            },
            Observation::FinalVersions { node, address, versions } => {
                let Some(acknowledged) = self.acknowledged.get(*address) else { return Ok(()) };
                // A publication may have been stamped anew since it was acknowledged.
                let there = |version: &Version| {
                    versions
                        .iter()
                        .any(|found| found.request == version.request && found >= version)
                };
                match acknowledged.keys().find(|version| !there(version)) {
                    Some(lost) => Err(format!("node {node} does not have {lost:?} of {address}")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// What was at an address when something began there.
#[derive(Default)]
struct Floors {
    newest: BTreeMap<DecisionAddress, Version>,
    open: BTreeMap<u64, (DecisionAddress, Option<Version>)>,
}

impl Floors {
    fn begin(&mut self, token: u64, address: &DecisionAddress) {
        self.open.insert(token, (address.clone(), self.newest.get(address).copied()));
    }

    fn raise(&mut self, address: &DecisionAddress, version: Version) {
        let newest = self.newest.entry(address.clone()).or_insert(version);
        *newest = version.max(*newest);
    }
}

/// 11: a publication that began after another one's acknowledgement is ordered after it.
#[derive(Default)]
pub struct PublicationsInOrder {
    newest: BTreeMap<DecisionAddress, Version>,
    /// What was there when a publication was tried first.
    began: BTreeMap<RequestId, Option<Version>>,
}

impl Invariant for PublicationsInOrder {
    fn number(&self) -> u32 {
        11
    }

    fn statement(&self) -> &'static str {
        "a publication that began after another one's acknowledgement is ordered after it"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::PublishBegins { address, request, .. } => {
                let floor = self.newest.get(*address).copied();
                self.began.entry(*request).or_insert(floor);
            }
            Observation::Published { publication, .. } => {
                let (address, version) = (&publication.address, publication.version);
                let newest = self.newest.entry(address.clone()).or_insert(version);
                *newest = version.max(*newest);
                let floor = self.began.get(&version.request).copied().flatten();
                if let Some(floor) = floor.filter(|floor| *floor >= version) {
                    return Err(format!(
                        "{version:?} was acknowledged at {address}, {floor:?} was before it began"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// 12: a read of the latest that is not marked stale sees every publication acknowledged before it
/// began, and nothing older than what any read that ended before it saw.
#[derive(Default)]
pub struct LatestIsTheLatest(Floors);

impl Invariant for LatestIsTheLatest {
    fn number(&self) -> u32 {
        12
    }

    fn statement(&self) -> &'static str {
        "a read that is not stale sees what was acknowledged, or read by others, before it began"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::LatestBegins { token, address } => self.0.begin(*token, address),
            Observation::Published { publication, .. } => {
                self.0.raise(&publication.address, publication.version);
            }
            Observation::LatestEnds { token, version } => {
                let Some((address, floor)) = self.0.open.remove(token) else { return Ok(()) };
                if let Some(version) = version {
                    self.0.raise(&address, *version);
                }
                if *version < floor {
                    return Err(format!(
                        "a read of {address} saw {version:?}, {floor:?} was there before it began"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Tries of one publication.
#[derive(Default)]
struct Tries {
    begun: u64,
    acknowledged: u64,
    version: Option<Version>,
}

/// 16: whoever repeats a publication that was acknowledged is told of no earlier version of it.
#[derive(Default)]
pub struct RepeatsGoNotBack {
    tries: BTreeMap<RequestId, Tries>,
    /// What repetitions that are under way have to be told.
    owed: BTreeMap<u64, Version>,
}

impl Invariant for RepeatsGoNotBack {
    fn number(&self) -> u32 {
        16
    }

    fn statement(&self) -> &'static str {
        "a publication that is repeated after it was acknowledged is no earlier version"
    }

    fn observe(&mut self, observation: &Observation<'_>) -> Result<(), String> {
        match observation {
            Observation::PublishBegins { token, request, .. } => {
                let tries = self.tries.entry(*request).or_default();
                // What became of a try that was not answered nobody knows: it may still be on its way.
                if let Some(version) = tries.version.filter(|_| tries.begun == tries.acknowledged) {
                    self.owed.insert(*token, version);
                }
                tries.begun += 1;
                Ok(())
            }
            Observation::Published { token, publication } => {
                let version = publication.version;
                let tries = self.tries.entry(version.request).or_default();
                tries.acknowledged += 1;
                tries.version = tries.version.max(Some(version));
                match self.owed.remove(token).filter(|owed| *owed > version) {
                    Some(owed) => Err(format!("{owed:?} was repeated and is {version:?} now")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bzzz::types::record::{DecisionKind, Hlc};
    use bzzz::types::{BodyHash, Bytes, MemberId};

    use super::super::Publication;
    use super::*;

    fn version(ms: u64) -> Version {
        Version {
            at: Hlc { ms, counter: 0 },
            writer: MemberId(1),
            content: ContentHash([ms as u8; 32]),
            request: RequestId([ms as u8; 16]),
            kind: DecisionKind::Generic,
            body: BodyHash([0; 32]),
        }
    }

    fn here() -> DecisionAddress {
        "a/b/c/d/e".parse().expect("an address")
    }

    fn publication(ms: u64) -> Publication {
        Publication {
            at_us: ms,
            node: 0,
            member: MemberId(1),
            disk: 0,
            address: here(),
            version: version(ms),
            lease_term: 1,
        }
    }

    fn published(invariant: &mut dyn Invariant, token: u64, ms: u64) -> bool {
        let publication = &publication(ms);
        invariant.observe(&Observation::Published { token, publication }).is_ok()
    }

    #[test]
    fn a_lost_version_and_a_lost_or_false_content_are_seen() {
        let mut invariant = NoPublicationLost::default();
        let (address, hash) = (here(), version(5).content);
        let begins = |token| Observation::ContentBegins { token, hash };
        assert!(invariant.observe(&begins(7)).is_ok());
        assert!(published(&mut invariant, 1, 5));
        assert!(invariant.observe(&begins(8)).is_ok());
        let mut finally = |versions: &[Version]| {
            let seen = Observation::FinalVersions { node: 1, address: &address, versions };
            invariant.observe(&seen).is_ok()
        };
        assert!(finally(&[version(4), version(5)]));
        assert!(
            finally(&[Version { at: Hlc { ms: 9, counter: 0 }, ..version(5) }]),
            "stamped anew"
        );
        assert!(!finally(&[version(4)]));
        let mut read = |token, found: Option<&Bytes>| {
            invariant.observe(&Observation::ContentRead { token, node: 1, hash, found }).is_ok()
        };
        assert!(read(7, None), "it was asked for before it was acknowledged");
        assert!(!read(8, None));
        assert!(!read(7, Some(&Bytes(vec![1]))));
    }

    #[test]
    fn a_publication_below_one_before_it_is_seen() {
        let address = here();
        let mut invariant = PublicationsInOrder::default();
        let begin = |invariant: &mut PublicationsInOrder, ms: u8| {
            let request = RequestId([ms; 16]);
            let begins = Observation::PublishBegins { token: 0, address: &address, request };
            assert!(invariant.observe(&begins).is_ok());
        };
        begin(&mut invariant, 5);
        begin(&mut invariant, 4);
        assert!(published(&mut invariant, 1, 5));
        assert!(published(&mut invariant, 2, 4), "they were under way together");
        begin(&mut invariant, 3);
        assert!(!published(&mut invariant, 3, 3));
    }

    #[test]
    fn a_read_of_the_past_is_seen() {
        let address = here();
        let mut invariant = LatestIsTheLatest::default();
        let begin = |invariant: &mut LatestIsTheLatest, token| {
            let begins = Observation::LatestBegins { token, address: &address };
            assert!(invariant.observe(&begins).is_ok());
        };
        let end = |invariant: &mut LatestIsTheLatest, token, ms: u64| {
            let version = (ms > 0).then(|| version(ms));
            invariant.observe(&Observation::LatestEnds { token, version }).is_ok()
        };
        begin(&mut invariant, 1);
        assert!(published(&mut invariant, 9, 5));
        assert!(end(&mut invariant, 1, 0));
        begin(&mut invariant, 2);
        assert!(end(&mut invariant, 2, 7), "not acknowledged yet, but somebody saw it");
        begin(&mut invariant, 3);
        assert!(!end(&mut invariant, 3, 5));
    }

    #[test]
    fn a_repetition_that_goes_back_is_seen() {
        let mut invariant = RepeatsGoNotBack::default();
        let begin = |invariant: &mut RepeatsGoNotBack, token| {
            let request = RequestId([1; 16]);
            let begins = Observation::PublishBegins { token, address: &here(), request };
            assert!(invariant.observe(&begins).is_ok());
        };
        let done = |invariant: &mut RepeatsGoNotBack, token, ms| {
            let version = Version { request: RequestId([1; 16]), ..version(ms) };
            let publication = &Publication { version, ..publication(ms) };
            invariant.observe(&Observation::Published { token, publication }).is_ok()
        };
        begin(&mut invariant, 1);
        assert!(done(&mut invariant, 1, 5));
        begin(&mut invariant, 2);
        assert!(done(&mut invariant, 2, 5));
        begin(&mut invariant, 3);
        begin(&mut invariant, 4);
        assert!(!done(&mut invariant, 3, 4));
        assert!(done(&mut invariant, 4, 6), "it began while another one was under way");
        begin(&mut invariant, 5);
        assert!(!done(&mut invariant, 5, 5), "it was acknowledged as a later one since");
    }
}
