//! Writes that are under way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Acknowledged, Coordinator, GRAIN, Reply, retry_after};
use crate::core::ctx::{Ctx, ReplyTo};
use crate::core::election;
use crate::core::event::EventBody;
use crate::core::gossip;
use crate::core::records::content::Content;
use crate::core::records::placement::ReplicaSet;
use crate::core::refusal::Refusal;
use crate::messages::wire::{RecordsAnswer, RecordsAsk};
use crate::types::fault::{Fault, planted};
use crate::types::limits::{LEASE_WAIT_MS, PROPOSAL_RETRY_MS, WRITE_TIMEOUT_MS};
use crate::types::metrics;
use crate::types::record::{DecisionKind, Hlc, Version};
use crate::types::ucxl::DecisionAddress;
use crate::types::{BodyHash, Bytes, ContentHash, MemberId, Mono, RequestId, Wall};

/// How long a replica that could not take a write is left alone: lease and layout come within it.
const SOON: Duration = Duration::from_millis(5);

/// Where a publication goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: DecisionAddress,
    pub(super) kind: DecisionKind,
    pub(super) request: RequestId,
    pub(super) body: BodyHash,
}

/// A write that is under way.
#[derive(Debug)]
pub(super) struct Write {
    reply: ReplyTo,
    target: Option<Target>,
    /// What the replicas are asked now: content and version, or the content and then the version.
    ask: RecordsAsk,
    /// Id of the question.
    id: u64,
    /// True once it has the content of an earlier try of the same publication. It keeps that: two tries that are under
    /// way at once could take each other's for ever. They may still take each other's once; then both are made.
    settled: bool,
    /// Who has it on disk.
    have: BTreeSet<MemberId>,
    /// Who has said that the address takes no more, at least for now, and why.
    closed: BTreeMap<MemberId, Refusal>,
    /// True once a version of it may be kept by somebody whose refusal says nothing of that: under
    /// another stamp, or by a holder of an earlier layout.
    may_be_kept: bool,
    /// True once anybody was asked for anything: from then on it is only refused if everybody did.
    sent: bool,
    again_at: Mono,
    /// When it is refused if nothing was sent, or reported as unknown if only the lease is missing.
    lease_by: Mono,
    deadline: Mono,
    /// True once everybody who is needed has everything, and only the lease is waited for.
    done: bool,
}

impl Write {
    fn version(&self) -> Option<Version> {
        match &self.ask {
            RecordsAsk::Add { version, .. } | RecordsAsk::Post { version, .. } => Some(*version),
            _ => None,
        }
    }

    /// True if a replica that has this version can have turned ours away for it.
    fn can_be_below(&self, newest: &Version) -> bool {
        let address = self.target.as_ref().map(|target| &target.address);
        address.is_some_and(|address| newest.is_of(address))
            && self.version().is_some_and(|version| version < *newest)
    }

    fn next_at(&self) -> Mono {
        if self.done || !self.sent { self.lease_by } else { self.again_at }.min(self.deadline)
    }
}

impl Coordinator {
    pub(super) fn begin_write(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        reply: ReplyTo,
        hash: ContentHash,
        content: Bytes,
        target: Option<Target>,
    ) {
        let refusal = match self.is_busy() {
            true => Some(Refusal::Busy),
            // A content alone has no stamp.
            false => self
                .standing
                .disk_refusal()
                .or_else(|| target.as_ref().and_then(|_| self.standing.split_refusal())),
        };
        if let Some(refusal) = refusal {
            return ctx.out.reply(reply, Reply::Written(Err(refusal)));
        }
        let (number, id) = (self.number(), self.number());
        let write = Write {
            reply,
            target,
            ask: RecordsAsk::Put { hash, content },
            id,
            settled: false,
            have: BTreeSet::new(),
            closed: BTreeMap::new(),
            may_be_kept: false,
            sent: false,
            again_at: ctx.now,
            lease_by: ctx.now + Duration::from_millis(LEASE_WAIT_MS),
            deadline: ctx.now + Duration::from_millis(WRITE_TIMEOUT_MS),
            done: false,
        };
        self.writes.insert(number, write);
        self.asked.insert(id, number);
        self.advance_write(ctx, number);
    }

    /// True if enough replicas of every set in force have what was asked.
    fn is_kept(&self, ask: &RecordsAsk, have: &BTreeSet<MemberId>) -> bool {
        if planted(Fault::AckBeforeQuorum) && !have.is_empty() {
            return true;
        }
        let sets = self.sets_of(ask);
        let in_force = if planted(Fault::OneSetOnly) { &sets[..1] } else { &sets[..] };
        in_force.iter().all(|set| set.count(have) >= set.write_quorum())
    }

    /// Does whatever can be done about a write now.
    pub(super) fn advance_write(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64) {
        self.fit_to_layout(ctx, number);
        let Some(write) = self.writes.get(&number) else { return };
        if !write.done && self.is_kept(&write.ask, &write.have) {
            self.next_phase(ctx, number);
        }
        let Some(write) = self.writes.get(&number) else { return };
        if write.done {
            return self.acknowledge(ctx, number);
        }
        if let Some(refusal) = self.address_refusal(write) {
            return self.finish_write(ctx, number, Err(refusal));
        }
        if write.deadline <= ctx.now {
            let why =
                if write.sent { Refusal::OutcomeUnknown } else { self.why_waiting(ctx.now, write) };
            return self.finish_write(ctx, number, Err(why));
        }
        let may_refuse = !write.sent || planted(Fault::RefusedHappens);
        if may_refuse && write.lease_by <= ctx.now {
            let why = self.why_waiting(ctx.now, write);
            return self.finish_write(ctx, number, Err(why));
        }
        if write.again_at <= ctx.now {
            self.send_write(ctx, number);
        }
        if let Some(write) = self.writes.get(&number) {
            ctx.out.wake_at(write.next_at().max(ctx.now + GRAIN));
        }
    }

    /// Why a write that was not sent waits.
    fn why_waiting(&self, now: Mono, write: &Write) -> Refusal {
        match self.refusal(now, &self.sets_of(&write.ask)) {
            // Everybody is there who is needed.
            Refusal::TimedOut if write.target.is_some() => {
                self.standing.clock_refusal().unwrap_or(Refusal::TimedOut)
            }
            refusal => refusal,
        }
    }

    /// Why a publication has no effect, if every replica has turned it away: then nobody has it.
    fn address_refusal(&self, write: &Write) -> Option<Refusal> {
        let is_closed = |member: &MemberId| write.closed.contains_key(member);
        let all = |set: &ReplicaSet| set.members.iter().all(is_closed);
        if write.may_be_kept || !self.sets_of(&write.ask).iter().all(all) {
            return None;
        }
        // The one that holds for longest: an address that is full stays that.
        write.closed.values().cloned().max_by_key(|refusal| match refusal {
            Refusal::AddressAhead(until) => *until,
            _ => Wall(u64::MAX),
        })
    }

    fn send_write(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64) {
        let stamps =
            self.writes.get(&number).is_some_and(|write| write.target.is_some() && !write.sent);
        let lease = self.ready(ctx.now).filter(|_| !stamps || self.standing.knows_time());
        let Some(lease) = lease else {
            election::want_lease(ctx.out);
            if let Some(write) = self.writes.get_mut(&number).filter(|write| write.sent) {
                write.again_at = ctx.now + SOON;
            }
            return;
        };
        // It may have been stamped before the clocks were compared.
        self.stamp_back(ctx, number);
        let Some(mut write) = self.writes.remove(&number) else { return };
        let sets = self.sets_of(&write.ask);
        // Nothing may be begun that cannot be ended: what was sent is never refused.
        let answers = |member: &&MemberId| self.standing.answers(**member);
        let can_end =
            sets.iter().all(|set| set.members.iter().filter(answers).count() >= set.write_quorum());
        if write.sent || can_end {
            let members: BTreeSet<MemberId> =
                sets.iter().flat_map(|set| set.members.iter().copied()).collect();
            for member in members.difference(&write.have) {
                self.ask(ctx, *member, write.id, lease.term, &write.ask);
            }
            write.sent = true;
            write.again_at = ctx.now + retry_after(&write.ask);
        }
        self.writes.insert(number, write);
    }

    /// A publication takes one round where the same members hold content and version, and two where
    /// they don't: nobody may see a version whose content is not kept.
    fn fit_to_layout(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64) {
        let Some(write) = self.writes.get(&number).filter(|write| !write.done) else { return };
        let settled = write.settled;
        let ask = match (&write.ask, write.target.clone()) {
            // As long as it is not known what time it is, nothing is stamped.
            (RecordsAsk::Put { content, .. }, Some(target))
                if self.is_together() && self.standing.knows_time() =>
            {
                let content = content.clone();
                let version = self.stamp(ctx, &target);
                RecordsAsk::Post { address: target.address, version, content, settled }
            }
            (RecordsAsk::Post { version, content, .. }, _) if !self.is_together() => {
                RecordsAsk::Put { hash: version.content, content: content.clone() }
            }
            _ => return,
        };
        self.ask_anew(ctx, number, ask);
    }

    fn stamp(&mut self, ctx: &Ctx<'_, Reply>, target: &Target) -> Version {
        self.come_back(ctx.wall);
        self.clock = self.clock.next(ctx.wall);
        let Target { address, kind, request, body } = target;
        Version::new((self.clock, self.standing.own), address, *request, *kind, *body)
    }

    /// A clock that ran ahead of the cluster's, as after a machine's was wrong, would have every stamp
    /// refused until the others have caught up. It is set back: that a stamp is above what was
    /// acknowledged does not rest on it, but on the replicas.
    fn come_back(&mut self, wall: Wall) {
        if self.clock.is_ahead_of(wall) {
            self.clock = Hlc::default();
        }
    }

    /// Enough replicas have what was asked: on to what is asked next, or nothing is left.
    fn next_phase(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64) {
        let Some(write) = self.writes.get_mut(&number) else { return };
        match (&write.ask, write.target.clone()) {
            (RecordsAsk::Put { .. }, Some(target)) => {
                let settled = write.settled;
                let version = self.stamp(ctx, &target);
                let next = RecordsAsk::Add { address: target.address, version, settled };
                self.ask_anew(ctx, number, next);
                self.send_write(ctx, number);
            }
            _ => {
                write.done = true;
                write.lease_by = ctx.now + Duration::from_millis(PROPOSAL_RETRY_MS * 2);
            }
        }
    }

    /// Who was asked under another layout may be none of the holders any more, and have handed it on.
    pub(super) fn on_layout(&mut self) {
        for write in self.writes.values_mut() {
            write.may_be_kept |= write.sent && write.version().is_some();
            write.closed.clear();
        }
    }

    /// Asks all replicas something else; answers to what was asked before don't count.
    fn ask_anew(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64, ask: RecordsAsk) {
        let id = self.number();
        let Some(write) = self.writes.get_mut(&number) else { return };
        self.asked.remove(&write.id);
        self.asked.insert(id, number);
        write.may_be_kept |= write.version().is_some();
        write.closed.clear();
        write.id = id;
        write.ask = ask;
        write.have.clear();
        write.again_at = ctx.now;
    }

    fn acknowledge(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64) {
        let lease = self.standing.lease(ctx.now);
        let Some(write) = self.writes.get(&number) else { return };
        if let Some(lease) = lease {
            let done = Acknowledged { version: write.version(), lease_term: lease.term };
            self.announce(ctx, number);
            self.finish_write(ctx, number, Ok(done));
        } else if write.lease_by <= ctx.now {
            self.finish_write(ctx, number, Err(Refusal::OutcomeUnknown));
        } else {
            election::want_lease(ctx.out);
            ctx.out.wake_at(write.next_at());
        }
    }

    /// Tells of a publication. Whoever misses it finds it by asking.
    fn announce(&self, ctx: &mut Ctx<'_, Reply>, number: u64) {
        let Some(write) = self.writes.get(&number) else { return };
        let (RecordsAsk::Add { address, version, .. } | RecordsAsk::Post { address, version, .. }) =
            &write.ask
        else {
            return;
        };
        gossip::published(ctx.out, address.clone(), *version);
        ctx.out.event(EventBody::published(address.clone(), version));
    }

    fn finish_write(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        number: u64,
        result: Result<Acknowledged, Refusal>,
    ) {
        let Some(write) = self.writes.remove(&number) else { return };
        self.asked.remove(&write.id);
        match &result {
            Ok(_) => ctx.out.count(&metrics::RECORDS_WRITTEN),
            Err(Refusal::OutcomeUnknown) => ctx.out.count(&metrics::RECORDS_WRITES_UNKNOWN),
            Err(_) => ctx.out.count(&metrics::RECORDS_WRITES_REFUSED),
        }
        ctx.out.reply(write.reply, Reply::Written(result));
    }

    pub(super) fn on_write_answer(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        number: u64,
        from: MemberId,
        id: u64,
        answer: RecordsAnswer,
    ) {
        // Once enough have it, what another replica says changes nothing: neither the version that
        // they have nor that it is acknowledged.
        let open = |write: &&mut Write| write.id == id && !write.done;
        let Some(write) = self.writes.get_mut(&number).filter(open) else { return };
        match answer {
            RecordsAnswer::Stored => {
                write.have.insert(from);
            }
            // Following a clock that is wrong would make ours wrong for everybody else.
            RecordsAnswer::Repeated(other, _) if other.at.is_ahead_of(ctx.wall) => {
                ctx.out.count(&metrics::RECORDS_CLOCK_AHEAD);
            }
            RecordsAnswer::NotGreater(newest) if !write.can_be_below(&newest) => {
                ctx.out.count(&metrics::RECORDS_ANSWERS_REJECTED);
            }
            RecordsAnswer::NotGreater(newest) if newest.at.is_ahead_of(ctx.wall) => {
                ctx.out.count(&metrics::RECORDS_CLOCK_AHEAD);
                write.closed.insert(from, Refusal::AddressAhead(newest.at.fits_from()));
            }
            RecordsAnswer::NotGreater(newest) => self.stamp_above(ctx, number, newest.at),
            RecordsAnswer::Repeated(first, content) => self.adopt(ctx, number, first, content),
            RecordsAnswer::OtherTerm(_) | RecordsAnswer::OtherLayout(_) => {
                election::want_lease(ctx.out);
                write.again_at = write.again_at.min(ctx.now + SOON);
            }
            RecordsAnswer::ClockAhead => {
                ctx.out.count(&metrics::RECORDS_CLOCK_AHEAD);
                self.stamp_back(ctx, number);
            }
            RecordsAnswer::Full => {
                ctx.out.count(&metrics::RECORDS_ADDRESS_FULL);
                write.closed.insert(from, Refusal::AddressFull);
            }
            // It is asked again with the others that have not answered.
            _ => ctx.out.count(&metrics::RECORDS_REPLICA_REFUSED),
        }
        self.advance_write(ctx, number);
    }

    /// A version whose stamp lies in the future, as this node knows by now, gets one of now.
    fn stamp_back(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64) {
        self.come_back(ctx.wall);
        let Some(write) = self.writes.get(&number) else { return };
        let mut ask = write.ask.clone();
        if let RecordsAsk::Add { version, .. } | RecordsAsk::Post { version, .. } = &mut ask
            && version.at.is_ahead_of(ctx.wall)
        {
            self.clock = self.clock.next(ctx.wall);
            version.at = self.clock;
            self.ask_anew(ctx, number, ask);
        }
    }

    /// A replica has a version that is not smaller: ours is stamped above it and sent to all.
    fn stamp_above(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64, newest: Hlc) {
        let Some(write) = self.writes.get(&number) else { return };
        let mut ask = write.ask.clone();
        if let RecordsAsk::Add { version, .. } | RecordsAsk::Post { version, .. } = &mut ask {
            self.clock = self.clock.max(newest).next(ctx.wall);
            version.at = self.clock;
            ctx.out.count(&metrics::RECORDS_STAMPED_ANEW);
            self.ask_anew(ctx, number, ask);
        }
    }

    /// The publication was made before, perhaps on fewer replicas than it takes: it is made again,
    /// with the content of then. It gets a stamp of now, as the one of then may be below what was
    /// acknowledged before it began: those few may have lacked that.
    fn adopt(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        number: u64,
        first: Version,
        content: Option<Bytes>,
    ) {
        let vault = self.vault.clone();
        let Some(write) = self.writes.get_mut(&number) else { return };
        let Some(target) = write.target.as_mut() else { return };
        if first.request != target.request || write.settled {
            return;
        }
        let checks =
            |content: &Bytes| Content::check(content, &first.content, vault.as_ref()).is_ok();
        if !first.is_of(&target.address) || content.as_ref().is_some_and(|content| !checks(content))
        {
            ctx.out.count(&metrics::RECORDS_ANSWERS_REJECTED);
            return;
        }
        write.settled = true;
        (target.kind, target.body) = (first.kind, first.body);
        let target = target.clone();
        self.clock = self.clock.max(first.at);
        ctx.out.count(&metrics::RECORDS_PUBLICATIONS_REPEATED);
        let ask = match content {
            // It may be nowhere else.
            Some(content) => RecordsAsk::Put { hash: first.content, content },
            // A replica that has a version without its content knows that enough others have that.
            None => {
                let version = self.stamp(ctx, &target);
                RecordsAsk::Add { address: target.address, version, settled: true }
            }
        };
        self.ask_anew(ctx, number, ask);
    }
}
