//! The replica: serves the record store of this node to coordinators, its own among them.
//!
//! Flow: a question is checked against layout, lease, placement and bounds, handed to the store, and
//! answered when the store has done it, which is when it is on disk. Views come from `control`; the
//! copier is told of each only once this machine goes by it, so whatever was taken under an older
//! layout is in the store before a copy for the newer one is answered.
//!
//! Invariants:
//! 1. A write is taken only under a lease of the term that the coordinator names, and only once this
//!    node has applied what that lease says is committed.
//! 2. Nothing is taken under another layout than the one that this node knows.
//! 3. A store that may have lost something vouches for nothing: until the copier has brought everything
//!    back, no question is answered from it. If nobody can, none is until an operator has given up what is lost.
//! 4. What does not check is never stored: content against its hash and signature, a version against its address and
//!    this node's time of day, and against its writer when that sends it. This node's own coordinator has made or
//!    checked the content that it hands over. Whoever repairs or copies brings versions of others; that a member of the
//!    cluster does not stamp those anew is trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::content::Content;
use super::store::{Kept, StoreAnswer, StoreOp};
use super::{coordinator, copier, placement};
use crate::core::control::View;
use crate::core::ctx::{Ctx, Effect, ReplyTo};
use crate::core::election::lease::Lease;
use crate::core::event::EventBody;
use crate::core::init::Init;
use crate::core::machine::{Hears, Machine, Service};
use crate::core::news::{Applied, Kind, News};
use crate::core::work::{Done, Work};
use crate::core::{election, standing::Standing};
use crate::crypto::Vault;
use crate::messages::wire::{Message, RecordsAnswer, RecordsAsk, RecordsMessage, ReplicaMessage};
use crate::types::fault::{Fault, planted};
use crate::types::limits::{RECORDS_ROWS_MAX, REPLICA_OPEN_MAX, UCXL_TEXT_MAX};
use crate::types::metrics;
use crate::types::record::{Partition, Version};
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, ContentHash, MemberId, PeerId, Term, Wall};

/// What the replica is told.
#[derive(Debug)]
pub enum Msg {
    /// The copier has just started and knows no view yet.
    CopierStarted,
    /// The copier has brought back whatever the store may have lost.
    Restored {
        /// By the holders of this layout.
        layout: u64,
    },
    /// The store has lost what nobody else has.
    Lost {
        /// By this layout.
        layout: u64,
        /// Of how many partitions.
        partitions: u16,
    },
    /// This node's own coordinator asks.
    Ask {
        /// Copied into the answer.
        id: u64,
        /// Term of the coordinator's lease.
        term: Term,
        /// Layout that it goes by.
        layout: u64,
        /// What it asks.
        ask: RecordsAsk,
    },
    /// The coordinator of another node asks.
    Message {
        /// Authenticated sender.
        from: PeerId,
        /// The question.
        message: ReplicaMessage,
    },
}

/// What the replica says of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// True if it has everything, and answers.
    pub whole: bool,
    /// Partitions of which it has lost something that nobody else has.
    pub lost_partitions: u16,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asker {
    Own,
    Peer(PeerId),
}

/// Why a question does not come to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TurnedAway {
    /// There is too much to do, or the store vouches for nothing.
    Unavailable,
    /// The coordinator goes by another layout than this one.
    OtherLayout(u64),
    /// The coordinator's lease is of another term than ours.
    OtherTerm(Term),
    /// Something about it is wrong.
    Rejected,
    /// It was stamped by a clock that is ahead, or ours is behind.
    ClockAhead,
}

impl From<TurnedAway> for RecordsAnswer {
    fn from(why: TurnedAway) -> Self {
        match why {
            TurnedAway::Unavailable => Self::Unavailable,
            TurnedAway::OtherLayout(layout) => Self::OtherLayout(layout),
            TurnedAway::OtherTerm(term) => Self::OtherTerm(term),
            TurnedAway::Rejected => Self::Rejected,
            TurnedAway::ClockAhead => Self::ClockAhead,
        }
    }
}

/// The replica of one node.
pub struct Replica {
    own_peer: PeerId,
    vault: Arc<dyn Vault>,
    standing: Standing,
    /// How much the store has of what it once had.
    kept: Kept,
    /// Partitions of which it has lost something that nobody else has.
    lost_partitions: u16,
    /// Questions that the store works on.
    open: BTreeMap<u64, (Asker, u64)>,
    /// The same, by who asks.
    asked: BTreeSet<(Asker, u64)>,
    next_token: u64,
}

impl Replica {
    /// The replica of a member that has just started.
    pub fn new(own: MemberId, own_peer: PeerId, vault: Arc<dyn Vault>, kept: Kept) -> Self {
        let standing = Standing::new(own);
        let (open, asked) = (BTreeMap::new(), BTreeSet::new());
        let lost_partitions = 0;
        Self { own_peer, vault, standing, kept, lost_partitions, open, asked, next_token: 0 }
    }

    /// True if this node has applied everything that a lease says is committed.
    fn knows(&self, lease: &Lease) -> bool {
        self.standing.view.index() >= lease.committed
    }

    /// A roster and a layout that others act on, too: the copier is told of them.
    fn note_view(&self, ctx: &mut Ctx<'_, Status>, view: &Arc<View>) {
        let known = &self.standing.view;
        let changed = view.layout.version != known.layout.version
            || !Arc::ptr_eq(&view.roster, &known.roster);
        if changed {
            ctx.out.cast(copier::Msg::View(view.clone()));
        }
    }

    /// The copier has brought everything back that others have under this layout. Whether that is the
    /// layout in force only a lease can tell.
    fn on_restored(&mut self, ctx: &mut Ctx<'_, Status>, layout: u64) {
        if !self.is_in_force(ctx, layout) {
            return;
        }
        ctx.out.cast(copier::Msg::Whole);
        self.lost_partitions = 0;
        if std::mem::replace(&mut self.kept, Kept::Whole) != Kept::Whole {
            ctx.out.effects.push(Effect::StoreRestored);
            ctx.out.count(&metrics::REPLICA_RESTORED);
        }
    }

    /// The copier knows of nobody who could have what the store has lost.
    fn on_lost(&mut self, ctx: &mut Ctx<'_, Status>, layout: u64, partitions: u16) {
        if !self.is_in_force(ctx, layout) || self.kept != Kept::Lost {
            return;
        }
        if std::mem::replace(&mut self.lost_partitions, partitions) == 0 {
            tracing::error!(
                partitions,
                "the record store has lost records that no other member holds: this member answers \
                 no question about records before that is given up, for which it has to be started \
                 once with --accept-lost-records; what was found damaged is kept beside the store"
            );
            ctx.out.event(EventBody::RecordsLost { partitions });
        }
    }

    /// True if this layout is the one in force. Otherwise a lease is asked for, as only that can tell.
    fn is_in_force(&self, ctx: &mut Ctx<'_, Status>, layout: u64) -> bool {
        let lease = self.standing.lease(ctx.now).filter(|lease| self.knows(lease));
        let is_in_force = lease.is_some() && layout == self.standing.view.layout.version;
        if !is_in_force {
            election::want_lease(ctx.out);
        }
        is_in_force
    }

    fn tell_copier(&self, ctx: &mut Ctx<'_, Status>) {
        if self.kept != Kept::Whole {
            ctx.out.cast(copier::Msg::Restore { lost: self.kept == Kept::Lost });
        }
    }

    fn answer(&self, ctx: &mut Ctx<'_, Status>, asker: Asker, id: u64, answer: RecordsAnswer) {
        match asker {
            Asker::Own => {
                let from = self.standing.own;
                ctx.out.cast(coordinator::Msg::Answer { from, id, answer });
            }
            Asker::Peer(peer) => {
                ctx.out.send(peer, Message::Records(RecordsMessage::Answer { id, answer }));
            }
        }
    }

    fn on_ask(
        &mut self,
        ctx: &mut Ctx<'_, Status>,
        asker: Asker,
        id: u64,
        (term, layout): (Term, u64),
        ask: RecordsAsk,
    ) {
        if self.asked.contains(&(asker, id)) {
            // Asked again while the store works on it: one answer will do.
            return;
        }
        match self.admit(ctx, asker, term, layout, ask) {
            Ok(ops) => {
                self.next_token += 1;
                self.open.insert(self.next_token, (asker, id));
                self.asked.insert((asker, id));
                ctx.out.work(self.next_token, Work::Records(ops));
            }
            Err(why) => self.answer(ctx, asker, id, why.into()),
        }
    }

    /// The operations that a question stands for, or the answer if there are none.
    fn admit(
        &self,
        ctx: &mut Ctx<'_, Status>,
        asker: Asker,
        term: Term,
        layout: u64,
        ask: RecordsAsk,
    ) -> Result<Vec<StoreOp>, TurnedAway> {
        if self.kept != Kept::Whole || self.open.len() >= REPLICA_OPEN_MAX {
            return Err(TurnedAway::Unavailable);
        }
        let ours = &self.standing.view.layout;
        if layout != ours.version {
            return Err(TurnedAway::OtherLayout(ours.version));
        }
        let is_write = matches!(
            ask,
            RecordsAsk::Put { .. }
                | RecordsAsk::Add { .. }
                | RecordsAsk::Post { .. }
                | RecordsAsk::Merge { .. }
        );
        if is_write {
            election::want_lease(ctx.out);
            // A view that went back, as after a restart, may not know of a layout that copies were
            // answered for already.
            let current = self.standing.lease(ctx.now).filter(|lease| self.knows(lease));
            let held = current.map_or(0, |lease| lease.term);
            let excused =
                planted(Fault::RepairWithoutLease) && matches!(ask, RecordsAsk::Merge { .. });
            if (held == 0 || held != term) && !excused {
                return Err(TurnedAway::OtherTerm(held));
            }
        }
        let misplaced =
            |partition: &Partition| !placement::holds(ours, self.standing.own, *partition);
        if partition_of(&ask).iter().chain(&brought(&ask)).any(misplaced) {
            ctx.out.count(&metrics::REPLICA_MISPLACED);
            return Err(TurnedAway::Rejected);
        }
        self.check(asker, ctx.wall, ask).inspect_err(|_| ctx.out.count(&metrics::REPLICA_REJECTED))
    }

    fn check(&self, asker: Asker, wall: Wall, ask: RecordsAsk) -> Result<Vec<StoreOp>, TurnedAway> {
        let Standing { own, view, .. } = &self.standing;
        let vouched = partition_of(&ask)
            .and_then(|partition| placement::set_of(&view.layout, *own, partition));
        Ok(match ask {
            RecordsAsk::Put { hash, content } => vec![self.put(asker, hash, content)?],
            RecordsAsk::Add { address, version, settled } => {
                self.check_writer(asker, &version)?;
                check_version(&address, &version, wall)?;
                vec![StoreOp::Add { address, version, settled, vouched }]
            }
            RecordsAsk::Post { address, version, content, settled } => {
                self.check_writer(asker, &version)?;
                check_version(&address, &version, wall)?;
                let generation = self.check_content(asker, version.content, &content)?;
                vec![StoreOp::Post { address, version, generation, content, settled, vouched }]
            }
            RecordsAsk::Merge { address, version, content } => {
                check_version(&address, &version, wall)?;
                let put = content.map(|content| self.put(asker, version.content, content));
                let put = put.transpose()?;
                // One group of the store is on disk as a whole or not at all.
                put.into_iter().chain([StoreOp::Merge { address, version, vouched }]).collect()
            }
            RecordsAsk::Content { hash } => vec![StoreOp::Content(hash)],
            RecordsAsk::Newest { address } => vec![StoreOp::Newest(address)],
            RecordsAsk::Find { address, request } => {
                vec![StoreOp::Find { address, request, vouched }]
            }
            RecordsAsk::Versions { address } => vec![StoreOp::Versions(address)],
            RecordsAsk::Scan { prefix, after, limit } => {
                if prefix.len() > UCXL_TEXT_MAX {
                    return Err(TurnedAway::Rejected);
                }
                let limit = usize::try_from(limit).unwrap_or(RECORDS_ROWS_MAX);
                vec![StoreOp::Scan { prefix, after, limit }]
            }
        })
    }

    fn put(&self, asker: Asker, hash: ContentHash, content: Bytes) -> Result<StoreOp, TurnedAway> {
        let generation = self.check_content(asker, hash, &content)?;
        Ok(StoreOp::Put { hash, generation, content })
    }

    /// The generation of a content that checks.
    fn check_content(
        &self,
        asker: Asker,
        hash: ContentHash,
        content: &Bytes,
    ) -> Result<u32, TurnedAway> {
        // What this node's own coordinator sends was made, or checked, by this node just now.
        let checked = match asker {
            Asker::Own => Content::named(content, &hash),
            Asker::Peer(_) => Content::check(content, &hash, self.vault.as_ref()),
        };
        checked.map(|content| content.generation()).map_err(|_| TurnedAway::Rejected)
    }

    /// Nobody can write for others.
    fn check_writer(&self, asker: Asker, version: &Version) -> Result<(), TurnedAway> {
        let writer = match asker {
            Asker::Own => Some(self.standing.own),
            Asker::Peer(peer) => self.standing.view.member_of(peer).map(|member| member.id),
        };
        if writer == Some(version.writer) { Ok(()) } else { Err(TurnedAway::Rejected) }
    }
}

/// A version of another address is none of this one; stamps from the far future would stay the newest for as long.
fn check_version(
    address: &DecisionAddress,
    version: &Version,
    wall: Wall,
) -> Result<(), TurnedAway> {
    if !version.is_of(address) {
        return Err(TurnedAway::Rejected);
    }
    if version.at.is_ahead_of(wall) { Err(TurnedAway::ClockAhead) } else { Ok(()) }
}

/// The partition that a question is about; a scan is about all of them.
pub(super) fn partition_of(ask: &RecordsAsk) -> Option<Partition> {
    match ask {
        RecordsAsk::Put { hash, .. } | RecordsAsk::Content { hash } => {
            Some(Partition::of_content(hash))
        }
        RecordsAsk::Add { address, .. }
        | RecordsAsk::Post { address, .. }
        | RecordsAsk::Merge { address, .. }
        | RecordsAsk::Newest { address }
        | RecordsAsk::Find { address, .. }
        | RecordsAsk::Versions { address } => Some(Partition::of_address(address)),
        RecordsAsk::Scan { .. } => None,
    }
}

/// The partition of a content that comes along.
fn brought(ask: &RecordsAsk) -> Option<Partition> {
    match ask {
        RecordsAsk::Post { version, .. } | RecordsAsk::Merge { version, content: Some(_), .. } => {
            Some(Partition::of_content(&version.content))
        }
        _ => None,
    }
}

impl Service for Replica {
    fn init(init: &Init<'_>) -> Result<Self, String> {
        let kept = (init.open_records)().map_err(|fault| fault.to_string())?;
        Ok(Self::new(init.run.member, init.run.peer, init.vault.clone(), kept))
    }
}

impl Hears<ReplicaMessage> for Replica {
    fn heard(from: PeerId, message: ReplicaMessage) -> Msg {
        Msg::Message { from, message }
    }
}

impl Machine for Replica {
    const NAME: &'static str = "replica";
    const NEWS: &'static [Kind] = &[Kind::Applied, Kind::Lease];
    type Msg = Msg;
    type Request = ();
    type Reply = Status;

    fn on_start(&mut self, ctx: &mut Ctx<'_, Status>) {
        self.tell_copier(ctx);
    }

    fn on_news(&mut self, ctx: &mut Ctx<'_, Status>, news: News) {
        if let News::Applied(Applied { view, .. }) = &news {
            self.note_view(ctx, view);
        }
        self.standing.on_news(ctx.now, &news);
    }

    fn on_msg(&mut self, ctx: &mut Ctx<'_, Status>, msg: Msg) {
        match msg {
            Msg::Restored { layout } => self.on_restored(ctx, layout),
            Msg::Lost { layout, partitions } => self.on_lost(ctx, layout, partitions),
            Msg::CopierStarted => {
                ctx.out.cast(copier::Msg::View(self.standing.view.clone()));
                self.tell_copier(ctx);
            }
            Msg::Ask { id, term, layout, ask } => {
                self.on_ask(ctx, Asker::Own, id, (term, layout), ask);
            }
            Msg::Message { from, message: ReplicaMessage::Ask { id, term, layout, ask } } => {
                let known = from != self.own_peer && self.standing.view.member_of(from).is_some();
                if known {
                    self.on_ask(ctx, Asker::Peer(from), id, (term, layout), ask);
                }
            }
        }
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, Status>, (): (), reply: ReplyTo) {
        let Self { kept, lost_partitions, .. } = *self;
        ctx.out.reply(reply, Status { whole: kept == Kept::Whole, lost_partitions });
    }

    fn on_wake(&mut self, _ctx: &mut Ctx<'_, Status>) {}

    fn on_done(&mut self, ctx: &mut Ctx<'_, Status>, token: u64, done: Done) {
        let Some((asker, id)) = self.open.remove(&token) else { return };
        self.asked.remove(&(asker, id));
        let last = match done {
            Done::Records(Ok(mut answers)) => answers.pop(),
            _ => None,
        };
        let answer = match last {
            Some(StoreAnswer::Stored) => RecordsAnswer::Stored,
            Some(StoreAnswer::NotGreater(newest)) => RecordsAnswer::NotGreater(newest),
            Some(StoreAnswer::Repeated(first, content)) => RecordsAnswer::Repeated(first, content),
            Some(StoreAnswer::Full) => RecordsAnswer::Full,
            Some(StoreAnswer::Content(content)) => RecordsAnswer::Content(content),
            Some(StoreAnswer::Newest(newest)) => RecordsAnswer::Newest(newest),
            Some(StoreAnswer::Versions(versions)) => RecordsAnswer::Versions(versions),
            Some(StoreAnswer::Page(rows, more)) => RecordsAnswer::Page(rows, more),
            _ => RecordsAnswer::Unavailable,
        };
        self.answer(ctx, asker, id, answer);
    }
}

#[cfg(test)]
mod tests;
