//! The copier: brings what this holder lacks from others, and gives others what they lack.
//!
//! Problem: a holder was away while records were written, or gains partitions with the next layout. It
//! must end up with everything that was acknowledged, without anybody keeping a list of what it missed.
//!
//! Flow of a copy: the digests of all partitions of a partner, unless the digest over them is ours; for
//! each partition that both hold and whose digests differ its keys, page by page; of those that are
//! missing here the records, before a version its content where everybody holds everything; into the
//! store, then on. A node copies from one partner at a time: from
//! every current holder while a next layout names it, else from a random one now and then and
//! from one that has just come back.
//!
//! Invariants:
//! 1. A question for another layout than this node goes by is not answered. So whoever got an answer knows
//!    that this node takes no more writes under an older one (`replica`), and nobody copies by the rules
//!    of a layout that is over.
//! 2. A member reports that it has all it gains with a layout only after complete copies, begun
//!    under that layout, from a read quorum of the current holders of each of its next partitions; where an operator
//!    has given so many of them up that fewer are left, from all of those.
//! 3. What is copied is checked like what is written. A partner whose records do not check is left.
//! 4. A store that lost something has everything again after complete copies from a read quorum of
//!    the *other* holders of each partition: of the W that had an acknowledged record W - 1 are left among
//!    the R - 1, so R + 1 - W of these meet them. What it lost of a partition that nobody else holds is lost: it says
//!    so, and vouches for nothing before an operator has given that up.
//! 5. A copier that restores gives nothing: others would take its word for everything.
//! 6. One copy at a time, one question at a time, and each has an end in time.
//! 7. While everybody holds everything a version is copied after its content, unless the partner lacks
//!    that: then enough others have it (`records`). A holder that has neither copies from *all* holders
//!    before content and version may part, that is when the next layout has more than seven.

mod giving;
mod needs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::needs::Needs;
use super::content::Content;
use super::placement::{self, SetId, holds};
use super::replica;
use super::store::{StoreAnswer, StoreFault, StoreOp};
use crate::core::control::{Layout, View, is_whole};
use crate::core::ctx::{Ctx, ReplyTo};
use crate::core::init::Init;
use crate::core::machine::{Hears, Machine, Service};
use crate::core::news::{Kind, News};
use crate::core::orchestrator;
use crate::core::work::{Done, Work};
use crate::crypto::Vault;
use crate::messages::wire::{CopyAnswer, CopyAsk, CopyMessage, Message, OrchestratorMessage};
use crate::types::limits::{COPY_INTERVAL_MS, COPY_TIMEOUT_MS, RECORD_KEYS_MAX};
use crate::types::metrics;
use crate::types::record::{PARTITIONS, Partition, Record, RecordKey};
use crate::types::{MemberId, Mono, PeerId, Wall};

/// How soon a member that has just come back is copied from, and a failed copy tried again.
const SOON: Duration = Duration::from_millis(300);
/// How often the leader is told.
const REPORT: Duration = Duration::from_secs(1);

/// What the copier is told.
#[derive(Debug)]
pub enum Msg {
    /// Roster or layout may have changed; told by the replica, once it goes by it.
    View(Arc<View>),
    /// The store of this node may lack what it once had.
    Restore {
        /// True if it does, and nobody has given that up.
        lost: bool,
    },
    /// The replica takes it that the store has everything again.
    Whole,
    /// A message arrived.
    Message {
        /// Authenticated sender.
        from: PeerId,
        /// The message.
        message: CopyMessage,
    },
}

/// What the store works on.
#[derive(Clone, Copy, Debug)]
enum Task {
    /// A question of another holder, and the digest that it has.
    Serve { to: PeerId, id: u64, root: Option<u64> },
    /// A step of our own copy.
    Step(u64),
}

/// A copy from one partner.
#[derive(Debug)]
struct Copying {
    /// Which copy: answers to an earlier one are no news.
    number: u64,
    partner: MemberId,
    layout: u64,
    /// The question that is open at the partner.
    asked: u64,
    /// When it is given up.
    until: Mono,
    ours: Vec<u64>,
    partitions: VecDeque<Partition>,
    /// Where to go on in the first partition.
    after: Option<RecordKey>,
    /// True if its keys go on after the page in hand.
    more: bool,
    /// Keys of the page that are missing here, in the order in which they are asked for.
    wanted: Vec<RecordKey>,
    copied: u64,
}

/// The copier of one node.
pub struct Copier {
    own: MemberId,
    own_peer: PeerId,
    vault: Arc<dyn Vault>,
    view: Arc<View>,
    leader: Option<MemberId>,
    answering: BTreeSet<MemberId>,
    tasks: BTreeMap<u64, Task>,
    copying: Option<Copying>,
    /// Members that everything was copied from under the layout that is known now.
    copied_from: BTreeSet<MemberId>,
    /// Whether that is all that this member gains with the next layout.
    gained: bool,
    /// True while the store may lack what it once had.
    restoring: bool,
    /// True if it does lack something that nobody has given up.
    lost: bool,
    /// Whether everything that it can have lost was copied from the holders of the layout known now.
    restored: bool,
    needs: Needs,
    /// Members that came back since they were copied from.
    back: BTreeSet<MemberId>,
    next: u64,
    look_at: Mono,
    report_at: Option<Mono>,
    restored_at: Option<Mono>,
}

impl Copier {
    /// The copier of a member that has just started.
    pub fn new(own: MemberId, own_peer: PeerId, vault: Arc<dyn Vault>) -> Self {
        Self {
            own,
            own_peer,
            vault,
            view: Arc::default(),
            leader: None,
            answering: BTreeSet::new(),
            tasks: BTreeMap::new(),
            copying: None,
            copied_from: BTreeSet::new(),
            gained: false,
            restoring: false,
            lost: false,
            restored: false,
            needs: Needs::default(),
            back: BTreeSet::new(),
            next: 0,
            look_at: Mono(0),
            report_at: None,
            restored_at: None,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn store(&mut self, ctx: &mut Ctx<'_, ()>, task: Task, ops: Vec<StoreOp>) {
        let token = self.number();
        self.tasks.insert(token, task);
        ctx.out.work(token, Work::Records(ops));
    }

    /// True if the next layout names this member and it does not have everything yet.
    fn is_gaining(&self) -> bool {
        let layout = &self.view.layout;
        layout.next.as_ref().is_some_and(|next| next.contains_key(&self.own)) && !self.gained
    }

    /// True if what this member has lost can be had from nobody.
    fn has_lost(&self) -> bool {
        self.restoring && self.lost && self.needs.alone > 0
    }

    /// Works out whether everything is here (invariant 2), after what can change it.
    fn note_gained(&mut self) {
        let layout = &self.view.layout;
        if !self.needs.fits(&self.view) {
            self.needs = Needs::of(&self.view, self.own);
        }
        let seen = |member: &&MemberId| self.copied_from.contains(*member);
        self.restored = layout.version > 0
            && !self.has_lost()
            && self.needs.to_restore.iter().all(|(members, quorum)| {
                let others = members.iter().filter(|member| **member != self.own);
                others.filter(seen).count() >= *quorum
            });
        // What this node holds itself counts only while nothing can be missing of it.
        let has = |member: &&MemberId| (**member == self.own && !self.restoring) || seen(member);
        self.gained = layout.next.as_ref().is_some_and(|next| next.contains_key(&self.own))
            && self
                .needs
                .to_gain
                .iter()
                .all(|(members, wanted)| members.iter().filter(has).count() >= *wanted);
    }

    /// Whom to copy from next.
    fn partner(&self, ctx: &mut Ctx<'_, ()>) -> Option<MemberId> {
        let layout = &self.view.layout;
        let fit = |member: &&MemberId| **member != self.own && self.answering.contains(*member);
        let holders = layout.current.keys().filter(fit).copied();
        let pick = |candidates: Vec<MemberId>, ctx: &mut Ctx<'_, ()>| {
            let count = u64::try_from(candidates.len()).unwrap_or(0);
            (count > 0).then(|| candidates[usize::try_from(ctx.rng.below(count)).unwrap_or(0)])
        };
        if self.is_gaining() || self.restoring {
            return pick(holders.filter(|m| !self.copied_from.contains(m)).collect(), ctx);
        }
        let involved = std::iter::once(&layout.current).chain(&layout.next);
        if !involved.into_iter().any(|holders| holders.contains_key(&self.own)) {
            return None;
        }
        let back = holders.clone().filter(|member| self.back.contains(member)).collect();
        pick(back, ctx).or_else(|| pick(holders.collect(), ctx))
    }

    /// Begins a copy if one is due, and tells the leader if all is here.
    fn tend(&mut self, ctx: &mut Ctx<'_, ()>) {
        if self.copying.as_ref().is_some_and(|copying| copying.until <= ctx.now) {
            ctx.out.count(&metrics::COPIES_TIMED_OUT);
            self.end(ctx, false);
        }
        if self.copying.is_none() && self.look_at <= ctx.now {
            self.look_at = ctx.now + self.interval(ctx);
            if let Some(partner) = self.partner(ctx) {
                self.begin(ctx, partner);
            }
        }
        self.report(ctx);
        let until = self.copying.as_ref().map(|copying| copying.until);
        let at = until.unwrap_or(self.look_at);
        ctx.out.wake_at(self.report_at.map_or(at, |report| report.min(at)));
        if let Some(at) = self.restored_at.filter(|_| self.restoring) {
            ctx.out.wake_at(at);
        }
    }

    fn interval(&self, ctx: &mut Ctx<'_, ()>) -> Duration {
        if self.is_gaining() || self.restoring || !self.back.is_empty() {
            return SOON;
        }
        // Spread, so that nodes that were started together don't all copy together.
        Duration::from_millis(COPY_INTERVAL_MS / 2 + ctx.rng.below(COPY_INTERVAL_MS))
    }

    fn begin(&mut self, ctx: &mut Ctx<'_, ()>, partner: MemberId) {
        let number = self.number();
        self.back.remove(&partner);
        self.copying = Some(Copying {
            number,
            partner,
            layout: self.view.layout.version,
            asked: 0,
            until: ctx.now + Duration::from_millis(COPY_TIMEOUT_MS),
            ours: Vec::new(),
            partitions: VecDeque::new(),
            after: None,
            more: false,
            wanted: Vec::new(),
            copied: 0,
        });
        self.store(ctx, Task::Step(number), vec![StoreOp::Digests]);
    }

    fn end(&mut self, ctx: &mut Ctx<'_, ()>, complete: bool) {
        let Some(copying) = self.copying.take() else { return };
        if copying.copied > 0 {
            ctx.out.count(&metrics::COPIES_WITH_NEWS);
        }
        if complete {
            ctx.out.count(&metrics::COPIES_COMPLETE);
        }
        let current = copying.layout == self.view.layout.version;
        if complete && current {
            self.copied_from.insert(copying.partner);
            self.note_gained();
        }
        let at = if (self.is_gaining() || self.restoring) && complete {
            ctx.now
        } else {
            ctx.now + self.interval(ctx)
        };
        self.look_at = self.look_at.min(at).max(ctx.now);
    }

    /// Asks the partner, and waits for no other answer.
    fn ask(&mut self, ctx: &mut Ctx<'_, ()>, ask: CopyAsk) {
        let id = self.number();
        let Some(copying) = self.copying.as_mut() else { return };
        copying.asked = id;
        copying.until = ctx.now + Duration::from_millis(COPY_TIMEOUT_MS);
        let layout = copying.layout;
        match self.view.peer_of(copying.partner) {
            Some(peer) => send(ctx, peer, CopyMessage::Ask { id, layout, ask }),
            None => self.end(ctx, false),
        }
    }

    /// Keys of the next partition, or of the rest of this one.
    fn go_on(&mut self, ctx: &mut Ctx<'_, ()>) {
        let Some(copying) = self.copying.as_mut() else { return };
        if !copying.wanted.is_empty() {
            let keys = copying.wanted.iter().take(RECORD_KEYS_MAX).cloned().collect();
            return self.ask(ctx, CopyAsk::Fetch { keys });
        }
        if !std::mem::take(&mut copying.more) {
            copying.after = None;
            copying.partitions.pop_front();
        }
        match copying.partitions.front() {
            Some(partition) => {
                let (partition, after) = (*partition, copying.after.clone());
                self.ask(ctx, CopyAsk::Keys { partition, after });
            }
            None => self.end(ctx, true),
        }
    }

    fn on_answer(&mut self, ctx: &mut Ctx<'_, ()>, from: MemberId, id: u64, answer: CopyAnswer) {
        let Some(copying) = self.copying.as_mut() else { return };
        if copying.partner != from || copying.asked != id {
            return;
        }
        copying.asked = 0;
        let number = copying.number;
        match answer {
            CopyAnswer::Same => self.end(ctx, true),
            CopyAnswer::Digests(theirs) if theirs.len() == usize::from(PARTITIONS) => {
                self.on_digests(ctx, &theirs);
            }
            CopyAnswer::Keys(keys, more)
                if keys.len() <= RECORD_KEYS_MAX && copying.is_page(&keys) =>
            {
                copying.after = keys.last().cloned();
                // An empty page that says that there is more would keep us here for ever.
                copying.more = more && !keys.is_empty();
                let with_contents = is_whole(&self.view.layout.current);
                let missing = StoreOp::Missing { keys, with_contents };
                self.store(ctx, Task::Step(number), vec![missing]);
            }
            CopyAnswer::Records(records) => self.on_records(ctx, records),
            CopyAnswer::Unavailable => self.end(ctx, false),
            CopyAnswer::Digests(_) | CopyAnswer::Keys(..) => {
                ctx.out.count(&metrics::COPIES_REJECTED);
                self.end(ctx, false);
            }
        }
    }

    fn on_digests(&mut self, ctx: &mut Ctx<'_, ()>, theirs: &[u64]) {
        let layout = &self.view.layout;
        let Some(copying) = self.copying.as_mut() else { return };
        let (own, partner) = (self.own, copying.partner);
        let shared = |partition: &Partition| {
            let at = usize::from(partition.0);
            copying.ours.get(at) != theirs.get(at)
                && holds(layout, own, *partition)
                && holds(layout, partner, *partition)
        };
        let mut partitions: VecDeque<Partition> =
            (0..PARTITIONS).map(Partition).filter(shared).collect();
        // `go_on` drops the one that was worked on before.
        partitions.push_front(Partition(0));
        copying.partitions = partitions;
        self.go_on(ctx);
    }

    fn on_records(&mut self, ctx: &mut Ctx<'_, ()>, records: Vec<Record>) {
        let Some(copying) = self.copying.as_mut() else { return };
        let number = copying.number;
        let before = copying.wanted.len();
        let (mut ops, mut done) = (Vec::new(), 0);
        for record in records {
            // They come in the order in which they were asked for; what is left out is not there.
            let rest = &copying.wanted[done..];
            let Some(at) = rest.iter().position(|key| is_named(&record, key)) else { break };
            let set = set_of(&record, &self.view.layout, self.own);
            let vouched = set.filter(|_| !self.restoring);
            match checked(&record, ctx.wall, self.vault.as_ref(), vouched) {
                Some(op) => ops.push(op),
                // Stamped by a clock that is wrong: no majority has it.
                None if matches!(&record, Record::Version(at, version) if version.is_of(at)) => {}
                None => break,
            }
            done += at + 1;
        }
        copying.wanted.drain(..done);
        if copying.wanted.len() == before {
            // Nothing of what was asked for, or nothing that checks.
            ctx.out.count(&metrics::COPIES_REJECTED);
            return self.end(ctx, false);
        }
        copying.copied += ops.len() as u64;
        self.store(ctx, Task::Step(number), ops);
    }

    /// The store has done a step of the copy.
    fn on_step(
        &mut self,
        ctx: &mut Ctx<'_, ()>,
        number: u64,
        result: Result<Vec<StoreAnswer>, StoreFault>,
    ) {
        let Some(copying) = self.copying.as_mut().filter(|c| c.number == number) else { return };
        let Ok(mut answers) = result else { return self.end(ctx, false) };
        match answers.pop() {
            Some(StoreAnswer::Digests(ours)) => {
                let root = root_of(&ours);
                copying.ours = ours;
                self.ask(ctx, CopyAsk::Digests { root });
            }
            Some(StoreAnswer::Keys(missing, _)) => {
                copying.wanted = missing;
                self.go_on(ctx);
            }
            _ => self.go_on(ctx),
        }
    }

    fn report(&mut self, ctx: &mut Ctx<'_, ()>) {
        if self.restoring && self.restored && self.restored_at.is_none_or(|at| at <= ctx.now) {
            // Said again until the replica has a lease to believe it by.
            self.restored_at = Some(ctx.now + SOON);
            let layout = self.view.layout.version;
            ctx.out.cast(replica::Msg::Restored { layout });
        }
        if self.has_lost() && self.restored_at.is_none_or(|at| at <= ctx.now) {
            self.restored_at = Some(ctx.now + REPORT);
            let (layout, partitions) = (self.view.layout.version, self.needs.alone);
            ctx.out.cast(replica::Msg::Lost { layout, partitions });
        }
        let named = self.view.layout.next.as_ref().is_some_and(|n| n.contains_key(&self.own));
        if !named || !self.gained {
            self.report_at = None;
            return;
        }
        if self.report_at.is_some_and(|at| at > ctx.now) {
            return;
        }
        self.report_at = Some(ctx.now + REPORT);
        let layout = self.view.layout.version;
        match self.leader {
            Some(leader) if leader == self.own => {
                orchestrator::gained(ctx.out, self.own, layout);
            }
            Some(leader) => {
                if let Some(peer) = self.view.peer_of(leader) {
                    let gained = OrchestratorMessage::Gained { layout };
                    ctx.out.send(peer, Message::Orchestrator(gained));
                }
            }
            None => {}
        }
    }

    fn on_view(&mut self, ctx: &mut Ctx<'_, ()>, view: Arc<View>) {
        let changed = view.layout.version != self.view.layout.version;
        let less = view.layout.given_up != self.view.layout.given_up;
        self.view = view;
        if less && !changed {
            // Less may be asked for.
            self.note_gained();
        }
        if changed {
            self.copied_from.clear();
            self.note_gained();
            self.report_at = None;
            self.look_at = ctx.now;
            // What was begun under another layout proves nothing about this one.
            if self.copying.is_some() {
                self.end(ctx, false);
            }
        }
    }
}

impl Copying {
    /// True for keys of the partition in hand that rise from where the page before has ended: a page
    /// that came again would keep us here for ever.
    fn is_page(&self, keys: &[RecordKey]) -> bool {
        let rising = keys.windows(2).all(|pair| pair[0] < pair[1])
            && keys.first().is_none_or(|first| Some(first) > self.after.as_ref());
        rising
            && keys.iter().all(|key| {
                let partition = match key {
                    RecordKey::Content(hash, _) => Partition::of_content(hash),
                    RecordKey::Version(address, _) => Partition::of_address(address),
                };
                Some(&partition) == self.partitions.front()
            })
    }
}

fn send(ctx: &mut Ctx<'_, ()>, to: PeerId, message: CopyMessage) {
    ctx.out.send(to, Message::Copy(message));
}

fn root_of(digests: &[u64]) -> u64 {
    // Hashed at once: eight bytes at a time take several times as long.
    let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.to_le_bytes()).collect();
    let mut root = [0; 8];
    root.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..8]);
    u64::from_le_bytes(root)
}

fn is_named(record: &Record, key: &RecordKey) -> bool {
    match (record, key) {
        (Record::Content(hash, _), RecordKey::Content(named, _)) => hash == named,
        (Record::Version(address, version), RecordKey::Version(named, other)) => {
            address == named && version == other
        }
        _ => false,
    }
}

/// The current set of the replicas of a version, if this member is in it.
fn set_of(record: &Record, layout: &Layout, own: MemberId) -> Option<SetId> {
    match record {
        Record::Content(..) => None,
        Record::Version(address, _) => {
            placement::set_of(layout, own, Partition::of_address(address))
        }
    }
}

/// The operation that keeps a record, if it checks.
fn checked(
    record: &Record,
    wall: Wall,
    vault: &dyn Vault,
    vouched: Option<SetId>,
) -> Option<StoreOp> {
    match record {
        Record::Content(hash, content) => {
            let generation = Content::check(content, hash, vault).ok()?.generation();
            Some(StoreOp::Put { hash: *hash, generation, content: content.clone() })
        }
        Record::Version(address, version) => {
            let op = StoreOp::Merge { address: address.clone(), version: *version, vouched };
            (version.is_of(address) && !version.at.is_ahead_of(wall)).then_some(op)
        }
    }
}

impl Service for Copier {
    fn init(init: &Init<'_>) -> Result<Self, String> {
        Ok(Self::new(init.run.member, init.run.peer, init.vault.clone()))
    }
}

impl Hears<CopyMessage> for Copier {
    fn heard(from: PeerId, message: CopyMessage) -> Msg {
        Msg::Message { from, message }
    }
}

impl Machine for Copier {
    const NAME: &'static str = "copier";
    // Views it gets from the replica, once that goes by them.
    const NEWS: &'static [Kind] = &[Kind::Role, Kind::Answering];
    type Msg = Msg;
    type Request = ();
    type Reply = ();

    fn on_start(&mut self, ctx: &mut Ctx<'_, ()>) {
        // Answers to questions of an earlier incarnation must not fit to ours.
        self.next = ctx.rng.next_u64() >> 1;
        ctx.out.cast(replica::Msg::CopierStarted);
        self.look_at = ctx.now + SOON;
        self.tend(ctx);
    }

    fn on_news(&mut self, ctx: &mut Ctx<'_, ()>, news: News) {
        match news {
            News::Role(role) => {
                self.leader = role.leader;
                self.report_at = None;
            }
            News::Answering(members) => {
                let came = members.difference(&self.answering).copied();
                self.back.extend(came);
                self.back.retain(|member| members.contains(member));
                if !self.back.is_empty() {
                    self.look_at = self.look_at.min(ctx.now + SOON);
                }
                self.answering = members;
            }
            _ => {}
        }
        self.tend(ctx);
    }

    fn on_msg(&mut self, ctx: &mut Ctx<'_, ()>, msg: Msg) {
        match msg {
            Msg::View(view) => self.on_view(ctx, view),
            Msg::Restore { lost } => {
                (self.restoring, self.lost) = (true, lost);
                self.copied_from.clear();
                self.note_gained();
                self.look_at = ctx.now;
            }
            Msg::Whole => {
                self.restoring = false;
                self.note_gained();
            }
            Msg::Message { from, message } => {
                let member = self.view.member_of(from).map(|member| member.id);
                let Some(member) = member.filter(|_| from != self.own_peer) else { return };
                match message {
                    CopyMessage::Ask { id, layout, ask } => {
                        self.on_ask(ctx, from, id, layout, ask);
                    }
                    CopyMessage::Answer { id, answer } => self.on_answer(ctx, member, id, answer),
                }
            }
        }
        self.tend(ctx);
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, ()>, (): (), reply: ReplyTo) {
        ctx.out.reply(reply, ());
    }

    fn on_wake(&mut self, ctx: &mut Ctx<'_, ()>) {
        self.tend(ctx);
    }

    fn on_done(&mut self, ctx: &mut Ctx<'_, ()>, token: u64, done: Done) {
        let result = match done {
            Done::Records(result) => result,
            Done::Computed(_) | Done::Busy | Done::Failed => Err(StoreFault::Busy),
        };
        match self.tasks.remove(&token) {
            Some(Task::Serve { to, id, root }) => Self::serve(ctx, to, id, root, result),
            Some(Task::Step(number)) => self.on_step(ctx, number, result),
            None => {}
        }
        self.tend(ctx);
    }
}

#[cfg(test)]
mod tests;
