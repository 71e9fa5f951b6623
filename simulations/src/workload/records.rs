//! Clients of the records: they publish at a few addresses, and read versions and contents back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bzzz::core::decision::{Draft, ReadError};
use bzzz::core::front;
use bzzz::core::records::placement;
use bzzz::core::records::{Fresh, Reply, Request};
use bzzz::core::refusal::Refusal;
use bzzz::node::Node;
use bzzz::services::Decisions;
use bzzz::services::decisions::{DecisionError, Publication as Sent, Published};
use bzzz::types::limits::VOTERS_MAX;
use bzzz::types::record::Version;
use bzzz::types::ucxl::DecisionAddress;
use bzzz::types::{ContentHash, Lock, MemberId, RequestId, Wall};

use super::Workload;
use crate::invariants::{Observation, Publication, Sight};

/// Addresses that are published at: few, so that writers meet.
pub const ADDRESSES: u64 = 3;

/// Contents that are remembered to be read again: the last ones, as whatever is older is everywhere.
const SHOWN_MAX: usize = 3;

fn draft(address: &DecisionAddress, number: u64) -> Draft {
    let text = format!("decision {number} ").repeat(1 + (number % 40) as usize);
    Draft { address: Some(address.to_string()), decision: text, ..Draft::default() }
}

fn request_id(number: u64) -> RequestId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    RequestId(id)
}

/// The address that a client uses.
pub fn address(number: u64) -> DecisionAddress {
    format!("sim/observer/bzzz/task-{number}/here").parse().expect("an address")
}

impl Workload {
    fn an_address(&self) -> DecisionAddress {
        address(self.rng.below(ADDRESSES))
    }

    /// Publishes through a node at one of the addresses; now and then twice, as a client does that
    /// did not get its answer.
    pub(super) async fn publish_somewhere(&self, node: usize, number: u64) {
        let address = self.an_address();
        let done = self.publish(node, &address, number).await;
        // Even if it was acknowledged: the answer may have been lost.
        if Self::is_keyed(number) && self.rng.chance(if done { 30 } else { 100 }) {
            let alive = self.world.alive();
            if !alive.is_empty() {
                let other = alive[self.rng.pick(alive.len())];
                self.publish(other, &address, number).await;
            }
        }
    }

    /// Publishes much through one node for a while.
    pub async fn publish_through(&self, node: usize, length: Duration) {
        let end_us = self.world.heap.now_us() + length.as_micros() as u64;
        while self.world.heap.now_us() < end_us {
            let number = self.counts.begun.fetch_add(1, Ordering::Relaxed);
            let client = self.clone();
            tokio::spawn(async move { client.publish_somewhere(node, number).await });
            tokio::time::sleep(self.rng.micros(10_000, 60_000)).await;
        }
    }

    /// Reads the latest of every address through one node.
    pub async fn read_through(&self, node: usize) {
        for number in 0..ADDRESSES {
            self.read_latest(node, &address(number)).await;
        }
    }

    /// Whether the client that publishes this chose the id of its publication: only then it can send it twice.
    fn is_keyed(number: u64) -> bool {
        number.is_multiple_of(2)
    }

    /// A number under which a client may publish the same twice.
    pub fn repeatable(&self) -> u64 {
        self.number(true)
    }

    /// A number under which a client can publish once only.
    pub fn unrepeatable(&self) -> u64 {
        self.number(false)
    }

    fn number(&self, is_keyed: bool) -> u64 {
        let next = || self.counts.begun.fetch_add(1, Ordering::Relaxed);
        let mut numbers = std::iter::repeat_with(next);
        numbers.find(|number| Self::is_keyed(*number) == is_keyed).unwrap_or_default()
    }

    /// Publishes through a node. Returns true if it was acknowledged.
    pub async fn publish(&self, index: usize, address: &DecisionAddress, number: u64) -> bool {
        let Some(node) = self.world.node(index) else { return false };
        let token = self.world.book.next();
        let disk = self.world.disk_id(index);
        let request = request_id(number);
        // Some clients choose the ids of what they publish, others can't send anything twice.
        let sent = match Self::is_keyed(number) {
            true => Sent::Keyed(request),
            false => Sent::New(request),
        };
        self.world.book.observe(&Observation::PublishBegins { token, address, request });
        let answer = Decisions::of(&node).publish(draft(address, number), "here", sent).await;
        let count = match answer {
            Ok(Published { version, lease_term, .. }) => {
                self.world.trace.step("published", index, 0, version.at.ms);
                self.world.judge_stamp(
                    "a publication",
                    Wall(version.at.ms),
                    !Self::is_keyed(number),
                );
                let publication = Publication {
                    at_us: self.world.heap.now_us(),
                    node: index,
                    member: node.member(),
                    disk,
                    address: address.clone(),
                    version,
                    lease_term,
                };
                self.world
                    .book
                    .observe(&Observation::Published { token, publication: &publication });
                self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
                self.published.locked().insert(address.clone());
                return true;
            }
            Err(DecisionError::Refused(Refusal::OutcomeUnknown)) => &self.counts.unknown,
            Err(DecisionError::Refused(_)) => {
                self.world.trace.step("not published", index, 0, number);
                self.world.book.observe(&Observation::Refused(Sight::Publication(request)));
                &self.counts.refused
            }
            Err(DecisionError::Unavailable(_)) => &self.counts.unknown,
            Err(_) => &self.counts.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        false
    }

    pub(super) async fn read_latest_somewhere(&self, node: usize) {
        let address = self.an_address();
        self.read_latest(node, &address).await;
    }

    /// Reads the latest version and its content. Returns true if the answer was current, and could be
    /// decrypted.
    pub async fn read_latest(&self, index: usize, address: &DecisionAddress) -> bool {
        let Some(node) = self.world.node(index) else { return false };
        let token = self.world.book.next();
        self.world.trace.step("asks latest", index, token as usize, 0);
        self.world.book.observe(&Observation::LatestBegins { token, address });
        let request = Request::Newest { address: address.clone() };
        let Ok(Reply::Newest(Ok(Fresh { value, stale }))) =
            node.env().directory.records.ask(request).await
        else {
            self.counts.stale.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        if let Some(version) = value {
            let sight = Sight::Publication(version.request);
            self.world.book.observe(&Observation::Seen { node: index, sight });
        }
        if stale {
            self.counts.stale.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counts.reads.fetch_add(1, Ordering::Relaxed);
            let ms = value.map_or(0, |version| version.at.ms);
            self.world.trace.step("latest", index, token as usize, ms);
            self.world.book.observe(&Observation::LatestEnds { token, version: value });
        }
        if let Some(version) = value.filter(|_| !stale) {
            let mut shown = self.shown.locked();
            shown.push_back(version.content);
            if shown.len() > SHOWN_MAX {
                shown.pop_front();
            }
        }
        let is_read = match value {
            Some(version) => self.read_content(index, version.content).await,
            None => true,
        };
        is_read && !stale
    }

    /// Reads through one node what others were shown not long ago: who has shown it may be gone.
    pub async fn read_shown(&self, node: usize) {
        let shown = self.shown.locked().clone();
        if !shown.is_empty() {
            self.read_content(node, shown[self.rng.pick(shown.len())]).await;
        }
    }

    /// Reads a content, and shows the book what came. Returns true if it was there.
    async fn read_content(&self, index: usize, hash: ContentHash) -> bool {
        let Some(node) = self.world.node(index) else { return false };
        let token = self.world.book.next();
        self.world.book.observe(&Observation::ContentBegins { token, hash });
        let request = Request::Content { hash, named: false };
        match node.env().directory.records.ask(request).await {
            Ok(Reply::Content(Ok(found))) => {
                let found = found.as_ref();
                let read = Observation::ContentRead { token, node: index, hash, found };
                self.world.book.observe(&read);
                found.is_some() && self.decrypt(&node, index, hash).await
            }
            _ => false,
        }
    }

    /// Reads a decision as a client does. Returns true if all of its checks passed.
    async fn decrypt(&self, node: &Node, index: usize, hash: ContentHash) -> bool {
        match Decisions::of(node).read_content(hash, None).await {
            Ok(_) => true,
            Err(DecisionError::Read(why @ (ReadError::Damaged(_) | ReadError::NotADecision))) => {
                let how = format!("node {index} reads the content {hash}: {why}");
                self.world.book.fail("every decision is read as it was published", how);
                false
            }
            Err(_) => false,
        }
    }

    /// The liveness phase: through every node, within half a minute, a decision is published and the
    /// latest one is read as current.
    pub async fn every_node_publishes(&self) {
        for node in 0..self.world.settings.nodes {
            let address = address(100 + node as u64);
            let mut done = false;
            for attempt in 0..150 {
                let number = 2_000_000 + node as u64 * 1_000 + attempt;
                if self.publish(node, &address, number).await
                    && self.read_latest(node, &address).await
                {
                    done = true;
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            if !done {
                let how = format!(
                    "node {node} publishes nothing half a minute after everything was healed"
                );
                self.world.book.fail("records come back to life", how);
            }
        }
    }

    /// Shows the book what every node says of every address in the end.
    pub async fn read_all_versions(&self) {
        let addresses = self.published.locked().clone();
        for index in 0..self.world.settings.nodes {
            for address in &addresses {
                let Some(node) = self.world.node(index) else { continue };
                let request = Request::Versions { address: address.clone() };
                let Ok(Reply::Versions(Ok(Fresh { value, stale: false }))) =
                    node.env().directory.records.ask(request).await
                else {
                    continue;
                };
                let versions: &[Version] = &value;
                let seen = Observation::FinalVersions { node: index, address, versions };
                self.world.book.observe(&seen);
                for version in versions {
                    self.read_content(index, version.content).await;
                }
                self.read_history(&node, index, address).await;
            }
        }
    }

    /// What was sent twice stands in a history once.
    async fn read_history(&self, node: &Node, index: usize, address: &DecisionAddress) {
        let Ok(history) = Decisions::of(node).history(address).await else { return };
        for version in &history.value {
            let sight = Sight::Publication(version.request);
            self.world.book.observe(&Observation::Seen { node: index, sight });
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = history.value.iter().find(|version| !seen.insert(version.request)) {
            let how = format!("node {index} shows {:?} of {address} twice", twice.request);
            self.world.book.fail("a publication stands in a history once", how);
        }
    }

    /// After healing all holders of a record come to hold the same. Where few hold one they meet less often, which takes
    /// long: so only some of the large runs wait for it.
    pub async fn replicas_converge(&self) {
        let count = self.world.settings.nodes;
        let few = count > VOTERS_MAX;
        if few && (count > 2 * VOTERS_MAX || !self.world.settings.seed.is_multiple_of(10)) {
            return;
        }
        for _ in 0..if few { 3_000 } else { 600 } {
            if self.replicas_agree().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let how = "long after healing the replicas still differ".to_owned();
        self.world.book.fail("replicas converge", how);
    }

    async fn replicas_agree(&self) -> bool {
        let Some(node) = self.world.node(0) else { return false };
        let Ok(front::Reply::Status(status)) =
            node.env().directory.front.ask(front::Request::Status).await
        else {
            return false;
        };
        let holders = &status.view.layout.current;
        let digests: BTreeMap<MemberId, Vec<u64>> = (0..self.world.settings.nodes)
            .filter_map(|index| {
                let member = self.world.node(index)?.member();
                Some((member, self.world.disk(index).record_digests()))
            })
            .collect();
        if status.view.layout.next.is_some()
            || !digests.keys().all(|member| holders.contains_key(member))
        {
            return false;
        }
        placement::representatives(&status.view.layout).all(|partition| {
            let number = usize::from(partition.0);
            let set = placement::replica_set(holders, partition).members;
            let of_set = || set.iter().filter_map(|member| digests.get(member));
            if holders.len() <= VOTERS_MAX {
                // One partition stands for all.
                return of_set().zip(of_set().skip(1)).all(|(a, b)| a == b);
            }
            let mut of_partition = of_set().filter_map(|digests| digests.get(number));
            let first = of_partition.next();
            of_partition.all(|digest| Some(digest) == first)
        })
    }
}
