//! What clients of a node do with decisions: publish, read, look for. The HTTP API and the simulator
//! call the same functions.
//!
//! Nothing here decides about the protocol: sealing and checking are `core::decision`, order and
//! copies are the coordinator's.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::actors::Env;
use crate::actors::directory::Unavailable;
use crate::core::decision::{
    Cursor, Decision, Draft, FieldProblem, Filter, Opened, ReadError, Reference, SealFailure,
    Trust, check_readers, open, seal,
};
use crate::core::keys;
use crate::core::records::{Acknowledged, Content, Fresh, Reply, Request};
use crate::core::refusal::Refusal;
use crate::node::{Node, NodeIdentity, TIME_WAIT, cluster_time};
use crate::types::codec::decode_durable;
use crate::types::limits::{QUERY_ROWS_MAX, RECORDS_ROWS_MAX};
use crate::types::metrics;
use crate::types::record::Version;
use crate::types::role::Roles;
use crate::types::ucxl::{DecisionAddress, Temporal, TemporalError};
use crate::types::{ClusterId, ContentHash, CursorError, PeerId, RequestId, Term, Wall};

/// Contents that are opened at most to tell whether two of a history are one publication.
const COMPARED_MAX: usize = 16;

/// Which publication a draft becomes: the same one is published once, however often it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// Its id was drawn just now, so it is a new one.
    New(RequestId),
    /// A client chose its id, and may have sent it before.
    Keyed(RequestId),
}

impl Publication {
    fn request(self) -> RequestId {
        match self {
            Self::New(request) | Self::Keyed(request) => request,
        }
    }
}

/// Why something was not done with a decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// A field of the draft is wrong.
    #[error(transparent)]
    Invalid(#[from] FieldProblem),
    /// It can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealFailure),
    /// The id of the publication was used for another decision.
    #[error(
        "another decision was published at {0} under this idempotency key; take a new key for a new decision"
    )]
    KeyReused(DecisionAddress),
    /// Something that it refers to does not exist.
    #[error("{0} does not exist")]
    ReferenceMissing(String),
    /// The cluster did not do it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An actor is busy.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// This node has not seen the roles of the cluster yet.
    #[error("this node has not seen the roles of the cluster yet; try again shortly")]
    NoRoles,
    /// Too few replicas have answered to say that there is none.
    #[error("{what} is not known here, and too few of the members that would know have answered")]
    Unsure {
        /// What was looked for.
        what: String,
    },
    /// There is no decision at this address.
    #[error("there is no decision at {0}")]
    NotFound(DecisionAddress),
    /// There is no content of this hash.
    #[error("there is no content {0}")]
    NoContent(ContentHash),
    /// A version is known, its content is nowhere.
    #[error(
        "the version of {address} is known, but its content {content} is held by none of the members that should hold it"
    )]
    Gone {
        /// Where.
        address: DecisionAddress,
        /// What is missing.
        content: ContentHash,
    },
    /// There is no such version.
    #[error("{address}: {error}")]
    NoVersion {
        /// Where.
        address: DecisionAddress,
        /// What was asked for, and what there is.
        error: TemporalError,
    },
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The cursor is of no use.
    #[error(transparent)]
    Cursor(#[from] CursorError),
}

/// A decision that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where.
    pub address: DecisionAddress,
    /// The version that stands for it.
    pub version: Version,
    /// The roles that can read it.
    pub roles: Vec<String>,
    /// Term of the lease under which it was acknowledged.
    pub lease_term: Term,
}

/// A decision that was read.
#[derive(Clone, Debug)]
pub struct Found {
    /// The decision and its signer.
    pub opened: Opened,
    /// Its content.
    pub content: ContentHash,
    /// The roles that can read it.
    pub roles: Vec<String>,
    /// The version, where it was read by its address.
    pub version: Option<Version>,
    /// True if a later version that was acknowledged before may be missing.
    pub stale: bool,
}

/// Decisions that were looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Addresses and their latest versions, in the order of the addresses.
    pub rows: Vec<(DecisionAddress, Version)>,
    /// Where to go on.
    pub next: Option<String>,
    /// True if something that was acknowledged before may be missing.
    pub stale: bool,
}

/// A client of one node's decisions.
#[derive(Clone)]
pub struct Decisions {
    env: Arc<Env>,
    cluster: ClusterId,
    peer: PeerId,
}

/// Pages that one query asks the replicas for.
const ROUNDS_MAX: usize = 2 * QUERY_ROWS_MAX / RECORDS_ROWS_MAX;

fn unsure(address: &DecisionAddress) -> DecisionError {
    DecisionError::Unsure { what: format!("the decision {address}, or this version of it,") }
}

fn roles_of(content: &Content) -> Vec<String> {
    match content {
        Content::Sealed(envelope) => envelope.roles.clone(),
        Content::Raw(_) => Vec::new(),
    }
}

fn unexpected() -> DecisionError {
    // A reply of another kind is dropped like one that never came.
    DecisionError::Unavailable(Unavailable { actor: "records" })
}

impl Decisions {
    /// Those that this node serves.
    pub fn of(node: &Node) -> Self {
        let NodeIdentity { cluster, peer, .. } = *node.identity();
        Self { env: node.env().clone(), cluster, peer }
    }

    /// The roles of the cluster, and whether this node holds the private halves of their keys.
    pub async fn roles(&self) -> Result<keys::Reply, DecisionError> {
        Ok(self.env.directory.keys.ask(keys::Request::Roles).await?)
    }

    async fn known_roles(&self) -> Result<Arc<Roles>, DecisionError> {
        let roles = self.roles().await?.roles;
        if roles.is_empty() { Err(DecisionError::NoRoles) } else { Ok(roles) }
    }

    async fn ask(&self, request: Request) -> Result<Reply, DecisionError> {
        Ok(self.env.directory.records.ask(request).await?)
    }

    /// Publishes a draft through a node of this name.
    pub async fn publish(
        &self,
        draft: Draft,
        node: &str,
        publication: Publication,
    ) -> Result<Published, DecisionError> {
        let request = publication.request();
        let roles = self.known_roles().await?;
        let address = draft.address(node)?;
        // What costs nothing to find goes before what other nodes have to be asked for.
        draft.check()?;
        check_readers(&draft.readers(&address), &roles)?;
        let (parents, supersedes) = draft.references()?;
        let found = try_join_all(parents.iter().map(|parent| self.resolve(parent))).await?;
        let mut resolved = Vec::with_capacity(found.len());
        for hash in found {
            if !resolved.contains(&hash) {
                resolved.push(hash);
            }
        }
        let supersedes = match &supersedes {
            Some(reference) => Some(self.resolve(reference).await?),
            None => None,
        };
        let seed = self.env.ports.entropy.seed();
        let (salt, _) = seed.split_first_chunk::<16>().expect("a seed is longer than a salt");
        let (kind, readers) = (draft.kind(), draft.readers.clone());
        let at = cluster_time(&self.env, TIME_WAIT).await;
        let decision = draft.compose(address.clone(), resolved, supersedes, at, *salt)?;
        if publication == Publication::Keyed(request)
            && let Some(done) = self.find(&address, request).await?
        {
            return self.published_before(done, &decision).await;
        }
        let readers: Vec<&str> =
            std::iter::once(address.role()).chain(readers.iter().map(String::as_str)).collect();
        let ports = &self.env.ports;
        let (vault, keyring) = (ports.vault.as_ref(), ports.keyring.as_ref());
        let envelope = seal((&decision, &request), &readers, &roles, self.peer, vault, keyring)?;
        let (hash, body, names) = (envelope.hash(), envelope.body(), envelope.roles.clone());
        let content = Content::Sealed(envelope);
        let encoded = content.encode();
        let publish =
            Request::Publish { address: address.clone(), kind, request, body, content: encoded };
        let Reply::Written(done) = self.ask(publish).await? else { return Err(unexpected()) };
        let done = done?;
        let version = done.version.ok_or_else(unexpected)?;
        if version.content != hash {
            // It is under way through another node, too.
            return self.published_before(done, &decision).await;
        }
        ports.cache.put(hash, Arc::new(content));
        Ok(Published { address, version, roles: names, lease_term: done.lease_term })
    }

    /// What became of a publication that may have been sent before.
    async fn find(
        &self,
        address: &DecisionAddress,
        request: RequestId,
    ) -> Result<Option<Acknowledged>, DecisionError> {
        let find = Request::Find { address: address.clone(), request };
        let Reply::Found(found) = self.ask(find).await? else { return Err(unexpected()) };
        Ok(found?)
    }

    /// Answers with what was published under the same id before, if that is this decision.
    async fn published_before(
        &self,
        done: Acknowledged,
        decision: &Decision,
    ) -> Result<Published, DecisionError> {
        let version = done.version.ok_or_else(unexpected)?;
        let roles = self.readers_of_first(version.content, decision).await;
        // It is acknowledged, but whether it is this decision could not be seen.
        let roles = roles.map_err(|error| match error {
            DecisionError::Refused(_) => DecisionError::Refused(Refusal::OutcomeUnknown),
            error => error,
        })?;
        let address = decision.address.clone();
        Ok(Published { address, version, roles, lease_term: done.lease_term })
    }

    /// The roles that can read what was published under the same id before, perhaps others than now.
    async fn readers_of_first(
        &self,
        content: ContentHash,
        decision: &Decision,
    ) -> Result<Vec<String>, DecisionError> {
        let Some(first) = self.content(content, false).await? else { return Ok(Vec::new()) };
        // A node that can't read it takes the client's word.
        match self.open(content, &first, None, None).await {
            Ok(opened) if !opened.decision.repeats(decision) => {
                Err(DecisionError::KeyReused(decision.address.clone()))
            }
            _ => Ok(roles_of(&first.0)),
        }
    }

    async fn resolve(&self, reference: &Reference) -> Result<ContentHash, DecisionError> {
        match reference {
            Reference::Content(hash) => {
                let found = self.content(*hash, false).await?;
                let missing = || DecisionError::ReferenceMissing(format!("the content {hash}"));
                found.map(|_| *hash).ok_or_else(missing)
            }
            Reference::Decision(address, temporal) => {
                let found = self.version(address, *temporal).await;
                match found {
                    // What is signed for ever should not be what was the latest some time ago.
                    Ok(Fresh { stale: true, .. }) => Err(unsure(address)),
                    Ok(found) => Ok(found.value.content),
                    Err(DecisionError::NotFound(_)) => {
                        Err(DecisionError::ReferenceMissing(format!("the decision {address}")))
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// A content that was checked, if there is one of this hash. What is in the cache was opened here
    /// before, or sealed. One that a version names is not called gone before every holder has said so.
    async fn content(
        &self,
        hash: ContentHash,
        named: bool,
    ) -> Result<Option<(Arc<Content>, Trust)>, DecisionError> {
        let cache = &self.env.ports.cache;
        if let Some(content) = cache.get(&hash) {
            self.env.counters.add(&metrics::CONTENTS_FROM_CACHE, 1);
            return Ok(Some((content, Trust::Proven)));
        }
        let Reply::Content(found) = self.ask(Request::Content { hash, named }).await? else {
            return Err(unexpected());
        };
        let Some(stored) = found? else { return Ok(None) };
        // The coordinator has checked it against its hash and its signature.
        let content: Content =
            decode_durable(&stored.0).map_err(|error| ReadError::Damaged(error.to_string()))?;
        Ok(Some((Arc::new(content), Trust::None)))
    }

    /// The version of a decision that is meant.
    pub async fn version(
        &self,
        address: &DecisionAddress,
        temporal: Temporal,
    ) -> Result<Fresh<Version>, DecisionError> {
        let not_found = || DecisionError::NotFound(address.clone());
        if temporal == Temporal::Latest {
            let request = Request::Newest { address: address.clone() };
            let Reply::Newest(found) = self.ask(request).await? else { return Err(unexpected()) };
            let Fresh { value, stale } = found?;
            let missing = || if stale { unsure(address) } else { not_found() };
            return value.map(|value| Fresh { value, stale }).ok_or_else(missing);
        }
        let Fresh { value: versions, stale } = self.history(address).await?;
        let at = |index: usize| Wall(versions[index].at.ms);
        let picked = temporal.pick(versions.len(), at);
        let missing = |error| match stale {
            true => unsure(address),
            false => DecisionError::NoVersion { address: address.clone(), error },
        };
        let index = picked.map_err(missing)?;
        Ok(Fresh { value: versions[index], stale })
    }

    /// All versions of a decision, oldest first; at least one.
    pub async fn history(
        &self,
        address: &DecisionAddress,
    ) -> Result<Fresh<Vec<Version>>, DecisionError> {
        let request = Request::Versions { address: address.clone() };
        let Reply::Versions(found) = self.ask(request).await? else { return Err(unexpected()) };
        let found = found?;
        if found.value.is_empty() {
            let not_found = DecisionError::NotFound(address.clone());
            return Err(if found.stale { unsure(address) } else { not_found });
        }
        let (value, unsure) = self.without_repeats(found.value).await;
        Ok(Fresh { value, stale: found.stale || unsure })
    }

    /// A client that repeats a publication through another node, before that has seen anything of the first try, makes
    /// two contents of it. Its last version stands for it. True if some could not be read now, and may stand there twice.
    async fn without_repeats(&self, versions: Vec<Version>) -> (Vec<Version>, bool) {
        let mut tries = BTreeMap::<RequestId, usize>::new();
        for version in &versions {
            *tries.entry(version.request).or_default() += 1;
        }
        if tries.values().all(|count| *count == 1) {
            return (versions, false);
        }
        let (mut kept, mut opened) = (Vec::with_capacity(versions.len()), Vec::new());
        let (mut looked_at, mut unsure) = (0, false);
        for version in versions.into_iter().rev() {
            let is_tried = tries.get(&version.request).is_some_and(|count| *count > 1);
            if is_tried && looked_at < COMPARED_MAX {
                looked_at += 1;
                match self.read_content(version.content, None).await {
                    Ok(found) => {
                        let decision = found.opened.decision;
                        let is_same = |(request, other): &(RequestId, Decision)| {
                            *request == version.request && other.repeats(&decision)
                        };
                        if opened.iter().any(is_same) {
                            continue;
                        }
                        opened.push((version.request, decision));
                    }
                    // What no role of this node can read can't be told apart from what else was published under this key.
                    Err(DecisionError::Read(_)) => {}
                    Err(_) => unsure = true,
                }
            }
            kept.push(version);
        }
        kept.reverse();
        (kept, unsure)
    }

    /// Reads a version of a decision, as `role` or as any role that can.
    pub async fn read(
        &self,
        address: &DecisionAddress,
        temporal: Temporal,
        role: Option<&str>,
    ) -> Result<Found, DecisionError> {
        let Fresh { value: version, stale } = self.version(address, temporal).await?;
        let found = self.content(version.content, true).await?;
        let content = found.ok_or_else(|| DecisionError::Gone {
            address: address.clone(),
            content: version.content,
        })?;
        let opened = self.open(version.content, &content, role, Some(address)).await?;
        let roles = roles_of(&content.0);
        Ok(Found { opened, content: version.content, roles, version: Some(version), stale })
    }

    /// Reads a decision by the hash of its content.
    pub async fn read_content(
        &self,
        hash: ContentHash,
        role: Option<&str>,
    ) -> Result<Found, DecisionError> {
        let content = self.content(hash, false).await?.ok_or(DecisionError::NoContent(hash))?;
        let opened = self.open(hash, &content, role, None).await?;
        let roles = roles_of(&content.0);
        Ok(Found { opened, content: hash, roles, version: None, stale: false })
    }

    async fn open(
        &self,
        hash: ContentHash,
        (content, trust): &(Arc<Content>, Trust),
        role: Option<&str>,
        address: Option<&DecisionAddress>,
    ) -> Result<Opened, DecisionError> {
        let roles = self.known_roles().await?;
        let ports = &self.env.ports;
        let (vault, keyring) = (ports.vault.as_ref(), ports.keyring.as_ref());
        let opened = open((content, *trust), role, address, &roles, vault, keyring)?;
        if *trust == Trust::None {
            // Only now it is known that what is inside has this hash: an envelope may claim any.
            ports.cache.put(hash, content.clone());
        }
        Ok(opened)
    }

    /// Looks for decisions. `limit` rows at most; it looks at `QUERY_ROWS_MAX` addresses before it
    /// says where to go on.
    pub async fn query(
        &self,
        filter: &Filter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, DecisionError> {
        let cursor = cursor.map(|text| Cursor::decode(text, self.cluster, filter)).transpose()?;
        let mut after = cursor.map(|cursor| cursor.0);
        let mut page = Page { rows: Vec::new(), next: None, stale: false };
        let (mut looked_at, mut rounds) = (0, 0);
        loop {
            let request = Request::Scan {
                prefix: filter.pattern.prefix(),
                after: after.take(),
                limit: RECORDS_ROWS_MAX as u32,
            };
            let Reply::Page(found) = self.ask(request).await? else { return Err(unexpected()) };
            let Fresh { value: (rows, more), stale } = found?;
            page.stale |= stale;
            looked_at += rows.len();
            let mut rows = rows.into_iter().peekable();
            while let Some((address, version)) = rows.next() {
                after = Some(address.clone());
                if filter.matches(&address, &version) {
                    page.rows.push((address, version));
                }
                if page.rows.len() == limit && (rows.peek().is_some() || more) {
                    page.next = after.map(|last| Cursor(last).encode(self.cluster, filter));
                    return Ok(page);
                }
            }
            let Some(last) = after.clone().filter(|_| more) else { return Ok(page) };
            rounds += 1;
            if looked_at >= QUERY_ROWS_MAX || rounds >= ROUNDS_MAX {
                page.next = Some(Cursor(last).encode(self.cluster, filter));
                return Ok(page);
            }
        }
    }
}
