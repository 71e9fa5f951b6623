//! The coordinator: carries out what clients of this node want of the records.
//!
//! States of a write: waiting for a lease (it can still be refused); content and version sent, together
//! where the same members hold both, else one after the other; only the acknowledgement left. States of a
//! read: asked; its content looked for; written back. All are bounded in number and in time.
//!
//! The module `records` says what holds.

mod reads;
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::reads::Read;
use self::writes::Write;
use super::placement::{ReplicaSet, sets};
use super::replica;
use crate::core::cluster_time::Clocks;
use crate::core::ctx::{Ctx, ReplyTo};
use crate::core::election;
use crate::core::election::lease::Lease;
use crate::core::init::Init;
use crate::core::machine::{Hears, Machine, Service};
use crate::core::news::{Kind, News};
use crate::core::refusal::Refusal;
use crate::core::standing::Standing;
use crate::crypto::Vault;
use crate::messages::wire::{Message, RecordsAnswer, RecordsAsk, RecordsMessage, ReplicaMessage};
use crate::types::limits::{CONTENT_BODY_MAX, PROPOSAL_RETRY_MS, REQUESTS_MAX};
use crate::types::record::{DecisionKind, Hlc, Partition, Version};
use crate::types::ucxl::DecisionAddress;
use crate::types::{
    BodyHash, Bytes, ContentHash, MemberId, Mono, PeerId, PlaceHash, RequestId, Term,
};

/// How long an answer is waited for before everybody who has not given one is asked again. What is large takes its time.
fn retry_after(ask: &RecordsAsk) -> Duration {
    // A megabyte a second.
    let large = match ask {
        RecordsAsk::Put { content, .. }
        | RecordsAsk::Post { content, .. }
        | RecordsAsk::Merge { content: Some(content), .. } => content.0.len(),
        RecordsAsk::Content { .. } => CONTENT_BODY_MAX,
        _ => 0,
    };
    let large_ms = u64::try_from(large / 1_024).unwrap_or(u64::MAX);
    Duration::from_millis(PROPOSAL_RETRY_MS + large_ms)
}

/// Least time between two looks at everything that is open.
const GRAIN: Duration = Duration::from_millis(1);

/// What the coordinator is told.
#[derive(Debug)]
pub enum Msg {
    /// A replica answers.
    Answer {
        /// Which.
        from: MemberId,
        /// From the question.
        id: u64,
        /// What it says.
        answer: RecordsAnswer,
    },
    /// A message arrived.
    Message {
        /// Authenticated sender.
        from: PeerId,
        /// The message.
        message: RecordsMessage,
    },
}

/// What clients ask.
#[derive(Debug)]
pub enum Request {
    /// Keep a content.
    Put {
        /// Its hash.
        hash: ContentHash,
        /// It, encoded.
        content: Bytes,
    },
    /// Keep a content, and a version that names it.
    Publish {
        /// Where.
        address: DecisionAddress,
        /// What about.
        kind: DecisionKind,
        /// Repeated under the same id it is one publication.
        request: RequestId,
        /// What the content is a hash of, beside all that.
        body: BodyHash,
        /// The content, encoded.
        content: Bytes,
    },
    /// Read a content.
    Content {
        /// Its hash.
        hash: ContentHash,
        /// True if a version names it. Then one holder alone may have it, as long as its publication is not
        /// acknowledged: it is gone only if every holder says so.
        named: bool,
    },
    /// Read the newest version of an address.
    Newest {
        /// The address.
        address: DecisionAddress,
    },
    /// Read the newest version of one publication, if as many as a write takes know that it is above what was acknowledged
    /// before: then it was acknowledged, or is as good as that.
    Find {
        /// The address.
        address: DecisionAddress,
        /// The publication.
        request: RequestId,
    },
    /// Read all versions of an address.
    Versions {
        /// The address.
        address: DecisionAddress,
    },
    /// List addresses and their newest versions.
    Scan {
        /// What they begin with.
        prefix: String,
        /// The last one of the page before.
        after: Option<DecisionAddress>,
        /// Rows wanted.
        limit: u32,
    },
}

/// A publication or a content that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The version that stands for it; none for a content alone.
    pub version: Option<Version>,
    /// Term of the lease under which it was acknowledged.
    pub lease_term: Term,
}

/// Something that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh<T> {
    /// It.
    pub value: T,
    /// True if a write that was acknowledged before the read may be missing.
    pub stale: bool,
}

/// Addresses with their newest versions, and whether there are more.
pub type Rows = (Vec<(DecisionAddress, Version)>, bool);

/// What clients get.
#[derive(Debug)]
pub enum Reply {
    /// To `Put` and `Publish`.
    Written(Result<Acknowledged, Refusal>),
    /// To `Content`.
    Content(Result<Option<Bytes>, Refusal>),
    /// To `Newest`.
    Newest(Result<Fresh<Option<Version>>, Refusal>),
    /// To `Find`.
    Found(Result<Option<Acknowledged>, Refusal>),
    /// To `Versions`: oldest first.
    Versions(Result<Fresh<Vec<Version>>, Refusal>),
    /// To `Scan`.
    Page(Result<Fresh<Rows>, Refusal>),
}

/// The coordinator of one node.
pub struct Coordinator {
    own_peer: PeerId,
    vault: Arc<dyn Vault>,
    standing: Standing,
    clock: Hlc,
    writes: BTreeMap<u64, Write>,
    reads: BTreeMap<u64, Read>,
    /// Which write or read a question belongs to.
    asked: BTreeMap<u64, u64>,
    /// Numbers writes, reads and questions alike.
    next: u64,
}

impl Coordinator {
    /// The coordinator of a member that has just started.
    pub fn new(own: MemberId, own_peer: PeerId, vault: Arc<dyn Vault>) -> Self {
        Self {
            own_peer,
            vault,
            standing: Standing::new(own),
            clock: Hlc::default(),
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            asked: BTreeMap::new(),
            next: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The lease, if this node has applied everything that it says is committed: then it knows
    /// every layout that others may go by.
    fn ready(&self, now: Mono) -> Option<Lease> {
        let lease = self.standing.lease(now)?;
        (self.standing.view.index() >= lease.committed).then_some(lease)
    }

    fn layout(&self) -> u64 {
        self.standing.view.layout.version
    }

    /// The sets that a question concerns: of its partition, or of the whole layout for a listing.
    fn sets(&self, partition: Option<Partition>) -> Vec<ReplicaSet> {
        let layout = &self.standing.view.layout;
        match partition {
            Some(partition) => sets(layout, partition),
            None => std::iter::once(&layout.current)
                .chain(&layout.next)
                .map(|holders| ReplicaSet { members: holders.keys().copied().collect() })
                .collect(),
        }
    }

    /// The sets that have to have what a write brings.
    fn sets_of(&self, ask: &RecordsAsk) -> Vec<ReplicaSet> {
        let mut sets = self.sets(replica::partition_of(ask));
        if let RecordsAsk::Post { version, .. } = ask {
            for set in self.sets(Some(Partition::of_content(&version.content))) {
                if !sets.contains(&set) {
                    sets.push(set);
                }
            }
        }
        sets
    }

    /// True while everybody holds everything. That two partitions happen to have the same few holders
    /// is not enough: where few hold a record, repairs and copies rely on contents having gone first.
    fn is_together(&self) -> bool {
        self.standing.view.layout.is_whole()
    }

    /// Sends a question to a replica.
    fn ask(&self, ctx: &mut Ctx<'_, Reply>, to: MemberId, id: u64, term: Term, ask: &RecordsAsk) {
        let layout = self.layout();
        let ask = ask.clone();
        if to == self.standing.own {
            ctx.out.cast(replica::Msg::Ask { id, term, layout, ask });
        } else if let Some(peer) = self.standing.view.peer_of(to) {
            let message = ReplicaMessage::Ask { id, term, layout, ask };
            ctx.out.send(peer, Message::Replica(message));
        }
    }

    /// Why a write can't be served by these sets.
    fn refusal(&self, now: Mono, sets: &[ReplicaSet]) -> Refusal {
        self.standing.disk_refusal().unwrap_or_else(|| self.read_refusal(now, sets))
    }

    /// Why a read can't: it needs no room on the disk of this node.
    fn read_refusal(&self, now: Mono, sets: &[ReplicaSet]) -> Refusal {
        if let Some(refusal) = self.standing.minority() {
            return refusal;
        }
        if self.standing.lease(now).is_some() && self.standing.is_behind(now) {
            return Refusal::Behind;
        }
        let answers = |member: &&MemberId| self.standing.answers(**member);
        for set in sets {
            let reachable = set.members.iter().filter(answers).count();
            let needed = set.write_quorum();
            if reachable < needed {
                let replicas = set.members.len();
                return Refusal::ReplicasUnavailable { reachable, needed, replicas };
            }
        }
        match self.standing.lease(now) {
            Some(lease) if self.standing.view.index() < lease.committed => Refusal::Behind,
            Some(_) => Refusal::TimedOut,
            None => Refusal::NoLeader,
        }
    }

    fn note_split(&self, clocks: &Clocks) {
        if let Some(ms) = clocks.split_ms.filter(|_| self.standing.clocks.split_ms.is_none()) {
            tracing::error!(
                ahead_by_ms = ms,
                "no majority of the clocks agrees with this machine's, so it publishes nothing; set them right"
            );
        }
    }

    fn is_busy(&self) -> bool {
        self.writes.len() + self.reads.len() >= REQUESTS_MAX
    }

    fn on_answer(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        from: MemberId,
        id: u64,
        answer: RecordsAnswer,
    ) {
        // An answer to a question that is not open any more says nothing.
        let Some(number) = self.asked.get(&id).copied() else { return };
        if self.writes.contains_key(&number) {
            self.on_write_answer(ctx, number, from, id, answer);
        } else {
            self.on_read_answer(ctx, number, from, id, answer);
        }
    }

    fn advance_all(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let writes: Vec<u64> = self.writes.keys().copied().collect();
        for number in writes {
            self.advance_write(ctx, number);
        }
        let reads: Vec<u64> = self.reads.keys().copied().collect();
        for number in reads {
            self.advance_read(ctx, number);
        }
    }

    fn on_message(&mut self, ctx: &mut Ctx<'_, Reply>, from: PeerId, message: RecordsMessage) {
        let member = self.standing.view.member_of(from).map(|member| member.id);
        let Some(member) = member.filter(|_| from != self.own_peer) else { return };
        match message {
            RecordsMessage::Answer { id, answer } => self.on_answer(ctx, member, id, answer),
        }
    }
}

impl Service for Coordinator {
    fn init(init: &Init<'_>) -> Result<Self, String> {
        Ok(Self::new(init.run.member, init.run.peer, init.vault.clone()))
    }
}

impl Hears<RecordsMessage> for Coordinator {
    fn heard(from: PeerId, message: RecordsMessage) -> Msg {
        Msg::Message { from, message }
    }
}

impl Machine for Coordinator {
    const NAME: &'static str = "records";
    const NEWS: &'static [Kind] = Standing::NEWS;
    type Msg = Msg;
    type Request = Request;
    type Reply = Reply;

    fn on_start(&mut self, ctx: &mut Ctx<'_, Reply>) {
        // Answers to questions of an earlier incarnation must not fit to ours.
        self.next = ctx.rng.next_u64() >> 1;
    }

    fn on_news(&mut self, ctx: &mut Ctx<'_, Reply>, news: News) {
        let (layout, knew) = (self.layout(), self.standing.knows_time());
        if let News::Clocks(clocks) = &news {
            self.note_split(clocks);
        }
        self.standing.on_news(ctx.now, &news);
        match news {
            News::Applied(_) => {
                if layout != self.layout() {
                    self.on_layout();
                }
                if !self.writes.is_empty() || !self.reads.is_empty() {
                    self.advance_all(ctx);
                }
            }
            News::Lease(Some(_)) => self.advance_all(ctx),
            News::Clocks(_) if self.standing.knows_time() && !knew => self.advance_all(ctx),
            _ => {}
        }
    }

    fn on_msg(&mut self, ctx: &mut Ctx<'_, Reply>, msg: Msg) {
        match msg {
            Msg::Answer { from, id, answer } => self.on_answer(ctx, from, id, answer),
            Msg::Message { from, message } => self.on_message(ctx, from, message),
        }
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, Reply>, request: Request, reply: ReplyTo) {
        election::want_lease(ctx.out);
        match request {
            Request::Put { hash, content } => self.begin_write(ctx, reply, hash, content, None),
            Request::Publish { address, kind, request, body, content } => {
                let hash =
                    ContentHash::of_publication(&body, &PlaceHash::of(&address, &request, kind));
                let target = writes::Target { address, kind, request, body };
                self.begin_write(ctx, reply, hash, content, Some(target));
            }
            Request::Content { hash, named } => {
                self.begin_read(ctx, reply, RecordsAsk::Content { hash }, named);
            }
            Request::Newest { address } => {
                self.begin_read(ctx, reply, RecordsAsk::Newest { address }, false);
            }
            Request::Find { address, request } => {
                self.begin_read(ctx, reply, RecordsAsk::Find { address, request }, false);
            }
            Request::Versions { address } => {
                self.begin_read(ctx, reply, RecordsAsk::Versions { address }, false);
            }
            Request::Scan { prefix, after, limit } => {
                self.begin_read(ctx, reply, RecordsAsk::Scan { prefix, after, limit }, false);
            }
        }
    }

    fn on_wake(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.advance_all(ctx);
    }
}

#[cfg(test)]
mod tests;
