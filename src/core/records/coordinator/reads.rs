//! Reads that are under way.

mod repairs;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::repairs::Repair;
use super::{Acknowledged, Coordinator, Fresh, GRAIN, Reply, Rows, retry_after};
use crate::core::ctx::{Ctx, ReplyTo};
use crate::core::election;
use crate::core::records::content::Content;
use crate::core::records::placement::ReplicaSet;
use crate::core::records::replica::partition_of;
use crate::core::refusal::Refusal;
use crate::messages::wire::{RecordsAnswer, RecordsAsk};
use crate::types::fault::{Fault, planted};
use crate::types::limits::{CONTENT_TIMEOUT_MS, PROPOSAL_RETRY_MS, READ_TIMEOUT_MS, VOTERS_MAX};
use crate::types::metrics;
use crate::types::record::Version;
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, MemberId, Mono};

/// How long a replica that goes by another layout is left alone.
const SOON: Duration = Duration::from_millis(5);

/// A read that is under way.
#[derive(Debug)]
pub(super) struct Read {
    reply: ReplyTo,
    ask: RecordsAsk,
    /// True for a content that a version names.
    named: bool,
    /// Id of the question.
    id: u64,
    /// Who was asked so far.
    members: BTreeSet<MemberId>,
    answers: BTreeMap<MemberId, RecordsAnswer>,
    reach: Reach,
    /// Version of the layout that the answers were given under.
    layout: u64,
    again_at: Mono,
    deadline: Mono,
    /// True once it has been given more time.
    is_prolonged: bool,
    /// The newest version, on its way to the replicas that lack it.
    repair: Option<Repair>,
    /// Answers with a version that is too far ahead of this node's time of day.
    ahead: BTreeMap<MemberId, RecordsAnswer>,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// As many as it takes if all of them answer.
    Few,
    /// They were asked; the others are next.
    FewAsked,
    /// Everybody.
    All,
}

impl Read {
    /// One of those that were asked can't help: the others are asked now.
    fn ask_others(&mut self, now: Mono) {
        if self.reach == Reach::FewAsked {
            self.again_at = now;
        }
    }
}

impl Coordinator {
    pub(super) fn begin_read(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        reply: ReplyTo,
        ask: RecordsAsk,
        named: bool,
    ) {
        if self.is_busy() {
            return ctx.out.reply(reply, failure(&ask, Refusal::Busy));
        }
        let (number, id) = (self.number(), self.number());
        let read = Read {
            reply,
            reach: Reach::Few,
            members: BTreeSet::new(),
            layout: self.layout(),
            ask,
            named,
            id,
            answers: BTreeMap::new(),
            again_at: ctx.now,
            deadline: ctx.now + Duration::from_millis(READ_TIMEOUT_MS),
            is_prolonged: false,
            repair: None,
            ahead: BTreeMap::new(),
        };
        self.reads.insert(number, read);
        self.asked.insert(id, number);
        self.advance_read(ctx, number);
    }

    pub(super) fn advance_read(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64) {
        let Some(read) = self.reads.get(&number) else { return };
        if read.deadline <= ctx.now {
            return self.give_up(ctx, number);
        }
        if read.layout != self.layout() {
            self.ask_under_new_layout(ctx, number);
        }
        let Some(read) = self.reads.get(&number) else { return };
        let sets = self.sets(partition_of(&read.ask));
        if enough(&sets, &read.ask, &read.answers) && self.conclude(ctx, number, &sets) {
            return;
        }
        let Some(read) = self.reads.get(&number) else { return };
        if read.again_at <= ctx.now {
            self.send_read(ctx, number, &sets);
        }
        if let Some(read) = self.reads.get(&number) {
            ctx.out.wake_at(read.again_at.min(read.deadline).max(ctx.now + GRAIN));
        }
    }

    /// What was answered under another layout may come from a holder that did not have all yet.
    fn ask_under_new_layout(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64) {
        let (id, layout) = (self.number(), self.layout());
        let Some(read) = self.reads.get_mut(&number) else { return };
        self.asked.remove(&read.id);
        if let Some(repair) = read.repair.take() {
            self.asked.remove(&repair.id);
        }
        self.asked.insert(id, number);
        (read.id, read.layout, read.reach, read.again_at) = (id, layout, Reach::All, ctx.now);
        read.answers.clear();
        read.ahead.clear();
    }

    fn send_read(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64, sets: &[ReplicaSet]) {
        let Some(mut read) = self.reads.remove(&number) else { return };
        (read.members, read.reach) = match read.reach {
            Reach::Few => (self.few(ctx, sets, &read.ask), Reach::FewAsked),
            Reach::FewAsked | Reach::All => (members(sets), Reach::All),
        };
        for member in &read.members {
            if !read.answers.contains_key(member) {
                self.ask(ctx, *member, read.id, 0, &read.ask);
            }
        }
        let repairing = self.send_repair(ctx, &mut read, sets);
        let asking = match read.reach {
            Reach::All => retry_after(&read.ask),
            // One of the few may be gone.
            _ => Duration::from_millis(PROPOSAL_RETRY_MS),
        };
        read.again_at = ctx.now + repairing.unwrap_or(asking);
        self.reads.insert(number, read);
    }

    /// Whom to ask first: this node's own replica, if it is one, and others that seem to answer. Of a
    /// content any good copy is as good as another; a version is only the answer once as many have it
    /// as a write takes.
    fn few(
        &self,
        ctx: &mut Ctx<'_, Reply>,
        sets: &[ReplicaSet],
        ask: &RecordsAsk,
    ) -> BTreeSet<MemberId> {
        let own = self.standing.own;
        let mut few = BTreeSet::new();
        for set in sets {
            let wanted = match ask {
                RecordsAsk::Content { .. } => 1,
                RecordsAsk::Newest { .. }
                | RecordsAsk::Find { .. }
                | RecordsAsk::Versions { .. } => set.write_quorum(),
                _ => needed(set, ask),
            };
            let other = |member: &MemberId| *member != own && self.standing.answers(*member);
            let mut others: Vec<MemberId> = set.members.iter().copied().filter(other).collect();
            if others.len() > 1 {
                // The same ones each time would carry the load of all.
                let first = ctx.rng.below(others.len() as u64);
                others.rotate_left(usize::try_from(first).unwrap_or(0));
            }
            let own = set.members.contains(&own).then_some(own);
            few.extend(own.into_iter().chain(others).take(wanted));
        }
        few
    }

    /// Enough replicas have answered. True if that was the end of the read.
    fn conclude(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64, sets: &[ReplicaSet]) -> bool {
        if self.ready(ctx.now).is_none() && !planted(Fault::RepairWithoutLease) {
            election::want_lease(ctx.out);
            return false;
        }
        let Some(read) = self.reads.get(&number) else { return true };
        if self.may_be_elsewhere(read, sets) {
            self.ask_others(ctx, number);
            return false;
        }
        // Whoever reads next must not see less, so as many must have it as a write takes.
        if let Some(newest) = read.answers.values().filter_map(newest_of).max() {
            let has = |(member, answer): (&MemberId, &RecordsAnswer)| {
                (newest_of(answer) == Some(newest)).then_some(*member)
            };
            let mut have: BTreeSet<MemberId> = read.answers.iter().filter_map(has).collect();
            let repair = read.repair.as_ref().filter(|repair| repair.version == newest);
            have.extend(repair.iter().flat_map(|repair| &repair.have));
            if sets.iter().any(|set| set.count(&have) < set.write_quorum()) {
                // It is probably on its way to the others, and to wait for that is less work than a
                // repair.
                let is_open = |member: &MemberId| {
                    !read.answers.contains_key(member) && self.standing.answers(*member)
                };
                let waits = read.again_at > ctx.now && read.members.iter().any(is_open);
                if repair.is_some() || waits {
                    return false;
                }
                if read.reach != Reach::All && members(sets).iter().any(is_open) {
                    self.ask_others(ctx, number);
                } else if matches!(read.ask, RecordsAsk::Find { .. }) {
                    // It may be below what was acknowledged before it began: whoever asks makes it again.
                    if let Some(read) = self.reads.get_mut(&number) {
                        read.answers.clear();
                    }
                    self.finish_read(ctx, number, false);
                    return true;
                } else {
                    self.begin_repair(ctx, number, newest, have);
                }
                return false;
            }
        }
        self.finish_read(ctx, number, false);
        true
    }

    /// True for a content that enough holders lack, while another one that may have it has not answered: that it was not
    /// acknowledged does not make it nothing. A holder that failed, or is busy or incomplete, has not answered.
    fn may_be_elsewhere(&self, read: &Read, sets: &[ReplicaSet]) -> bool {
        let counts = |member: &MemberId| read.named || self.standing.answers(*member);
        let is_open = |member: &MemberId| !read.answers.contains_key(member) && counts(member);
        matches!(read.ask, RecordsAsk::Content { .. }) && members(sets).iter().any(is_open)
    }

    fn ask_others(&mut self, ctx: &Ctx<'_, Reply>, number: u64) {
        if let Some(read) = self.reads.get_mut(&number) {
            read.ask_others(ctx.now);
        }
    }

    pub(super) fn on_read_answer(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        number: u64,
        from: MemberId,
        id: u64,
        answer: RecordsAnswer,
    ) {
        let Some(read) = self.reads.get_mut(&number) else { return };
        if read.repair.as_ref().is_some_and(|repair| repair.id == id) {
            return self.on_repair_answer(ctx, number, from, answer);
        }
        let answer = if is_fit(&read.ask, &answer) { answer } else { RecordsAnswer::Rejected };
        // A version of a clock that is wrong can't be written back: it counts for nobody. But it may be this node's
        // clock that is wrong.
        if newest_of(&answer).is_some_and(|newest| newest.at.is_ahead_of(ctx.wall)) {
            ctx.out.count(&metrics::RECORDS_CLOCK_AHEAD);
            read.ahead.insert(from, answer);
            read.ask_others(ctx.now);
            return self.advance_read(ctx, number);
        }
        match (&read.ask, answer) {
            (RecordsAsk::Content { .. }, RecordsAnswer::Content(Some(content))) => {
                return self.on_content(ctx, number, from, content);
            }
            (RecordsAsk::Content { .. }, answer @ RecordsAnswer::Content(None)) => {
                read.answers.insert(from, answer);
                read.ask_others(ctx.now);
            }
            (
                RecordsAsk::Newest { .. } | RecordsAsk::Find { .. },
                answer @ RecordsAnswer::Newest(_),
            )
            | (RecordsAsk::Versions { .. }, answer @ RecordsAnswer::Versions(_)) => {
                read.answers.insert(from, answer);
            }
            (RecordsAsk::Scan { prefix, after, .. }, RecordsAnswer::Page(rows, more)) => {
                if is_page(prefix, after.as_ref(), &rows) {
                    read.answers.insert(from, RecordsAnswer::Page(rows, more));
                } else {
                    ctx.out.count(&metrics::RECORDS_ANSWERS_REJECTED);
                }
            }
            (_, RecordsAnswer::OtherLayout(_)) => {
                read.again_at = read.again_at.min(ctx.now + SOON);
            }
            (_, RecordsAnswer::Unavailable) => read.ask_others(ctx.now),
            _ => {
                ctx.out.count(&metrics::RECORDS_ANSWERS_REJECTED);
                read.ask_others(ctx.now);
            }
        }
        self.advance_read(ctx, number);
    }

    /// Somebody has the content, or says so.
    fn on_content(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        number: u64,
        from: MemberId,
        content: Bytes,
    ) {
        let Some(read) = self.reads.get_mut(&number) else { return };
        let RecordsAsk::Content { hash } = &read.ask else { return };
        if Content::check(&content, hash, self.vault.as_ref()).is_ok() {
            let reply = read.reply;
            self.drop_read(number);
            ctx.out.reply(reply, Reply::Content(Ok(Some(content))));
            return;
        }
        // Its word that there is none would not be worth more.
        ctx.out.count(&metrics::RECORDS_ANSWERS_REJECTED);
        tracing::warn!(member = %from, content = %hash, "a replica answers with a damaged content");
        read.ask_others(ctx.now);
        self.advance_read(ctx, number);
    }

    /// Time is up: what is known is the answer, marked stale, or there is none.
    fn give_up(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64) {
        let Some(read) = self.reads.get_mut(&number) else { return };
        // That a content or a publication is nowhere is not known before enough have said so.
        let is_all = matches!(read.ask, RecordsAsk::Content { .. } | RecordsAsk::Find { .. });
        if !is_all {
            read.answers.append(&mut read.ahead);
            if !read.answers.is_empty() {
                return self.finish_read(ctx, number, true);
            }
        }
        let Some(read) = self.reads.get(&number) else { return };
        let sets = self.sets(partition_of(&read.ask));
        let is_content = matches!(read.ask, RecordsAsk::Content { .. });
        let is_enough = enough(&sets, &read.ask, &read.answers);
        if is_content && !read.named && is_enough && self.ready(ctx.now).is_some() {
            // Whoever is silent can't have what was acknowledged alone.
            return self.finish_read(ctx, number, false);
        }
        let answers = |member: &MemberId| self.standing.answers(*member);
        let is_silent = |member: &MemberId| !read.answers.contains_key(member) && answers(member);
        let may_come = is_content && members(&sets).iter().any(is_silent);
        let refusal = self.why_given_up(ctx, read, &sets);
        let is_short = matches!(refusal, Refusal::ReplicasUnavailable { .. }) && !is_enough;
        let Some(read) = self.reads.get_mut(&number) else { return };
        if may_come && !is_short && !std::mem::replace(&mut read.is_prolonged, true) {
            // It may be large, and on its way.
            read.deadline = ctx.now + Duration::from_millis(CONTENT_TIMEOUT_MS);
            return ctx.out.wake_at(read.again_at.max(ctx.now + GRAIN));
        }
        let answer = failure(&read.ask, refusal);
        let reply = read.reply;
        self.drop_read(number);
        ctx.out.reply(reply, answer);
    }

    /// Why a read has no answer.
    fn why_given_up(&self, ctx: &Ctx<'_, Reply>, read: &Read, sets: &[ReplicaSet]) -> Refusal {
        let answers = |member: &&MemberId| self.standing.answers(**member);
        let reachable = |set: &ReplicaSet| set.members.iter().filter(answers).count();
        let replicas = |set: &ReplicaSet| set.members.len();
        if let Some(set) = sets.iter().find(|set| reachable(set) < set.read_quorum()) {
            let (reachable, needed) = (reachable(set), set.read_quorum());
            return Refusal::ReplicasUnavailable { reachable, needed, replicas: replicas(set) };
        }
        if let Some(ahead) = read.ahead.values().filter_map(newest_of).max() {
            let behind_s = ahead.at.ms.saturating_sub(ctx.wall.0) / 1_000;
            let behind_s = i64::try_from(behind_s).unwrap_or(i64::MAX);
            return Refusal::ClockWrong { ahead_s: behind_s.saturating_neg() };
        }
        let answered: BTreeSet<MemberId> = read.answers.keys().copied().collect();
        let lacking = sets.iter().find(|set| set.count(&answered) < replicas(set));
        if let Some(set) = lacking
            && read.named
            && enough(sets, &read.ask, &read.answers)
            && self.ready(ctx.now).is_some()
        {
            let (reachable, needed) = (set.count(&answered), replicas(set));
            return Refusal::ReplicasUnavailable { reachable, needed, replicas: needed };
        }
        match read.ask {
            // Only whoever publishes asks this.
            RecordsAsk::Find { .. } => self.refusal(ctx.now, sets),
            _ => self.read_refusal(ctx.now, sets),
        }
    }

    fn finish_read(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64, stale: bool) {
        let Some(read) = self.drop_read(number) else { return };
        ctx.out.count(if stale { &metrics::RECORDS_READS_STALE } else { &metrics::RECORDS_READS });
        let reply = match read.ask {
            RecordsAsk::Find { .. } => {
                let found = read.answers.values().filter_map(newest_of).max();
                let lease_term = self.ready(ctx.now).map_or(0, |lease| lease.term);
                Reply::Found(Ok(
                    found.map(|found| Acknowledged { version: Some(found), lease_term })
                ))
            }
            RecordsAsk::Newest { .. } => {
                let value = read.answers.values().filter_map(newest_of).max();
                Reply::Newest(Ok(Fresh { value, stale }))
            }
            RecordsAsk::Versions { .. } => {
                Reply::Versions(Ok(Fresh { value: versions(read.answers), stale }))
            }
            RecordsAsk::Scan { limit, .. } => {
                Reply::Page(Ok(Fresh { value: rows(read.answers, limit), stale }))
            }
            _ => Reply::Content(Ok(None)),
        };
        ctx.out.reply(read.reply, reply);
    }

    fn drop_read(&mut self, number: u64) -> Option<Read> {
        let read = self.reads.remove(&number)?;
        self.asked.remove(&read.id);
        if let Some(repair) = &read.repair {
            self.asked.remove(&repair.id);
        }
        Some(read)
    }
}

fn members(sets: &[ReplicaSet]) -> BTreeSet<MemberId> {
    sets.iter().flat_map(|set| set.members.iter().copied()).collect()
}

fn enough(
    sets: &[ReplicaSet],
    ask: &RecordsAsk,
    answers: &BTreeMap<MemberId, RecordsAnswer>,
) -> bool {
    let answered: BTreeSet<MemberId> = answers.keys().copied().collect();
    sets.iter().all(|set| set.count(&answered) >= needed(set, ask))
}

/// How many of a set have to answer. A listing goes over all partitions: where each has three holders
/// of its own, no two of these may be missing.
fn needed(set: &ReplicaSet, ask: &RecordsAsk) -> usize {
    match ask {
        RecordsAsk::Scan { .. } if set.members.len() > VOTERS_MAX => set.members.len() - 1,
        _ => set.read_quorum(),
    }
}

/// The address that versions are asked of.
fn address_of(ask: &RecordsAsk) -> Option<&DecisionAddress> {
    match ask {
        RecordsAsk::Newest { address }
        | RecordsAsk::Find { address, .. }
        | RecordsAsk::Versions { address } => Some(address),
        _ => None,
    }
}

/// True for an answer that can be one to this question: of this address, and of this publication.
fn is_fit(ask: &RecordsAsk, answer: &RecordsAnswer) -> bool {
    let is_of = |version: &Version| address_of(ask).is_some_and(|address| version.is_of(address));
    match (ask, answer) {
        (RecordsAsk::Find { request, .. }, RecordsAnswer::Newest(Some(version))) => {
            version.request == *request && is_of(version)
        }
        (_, RecordsAnswer::Newest(version)) => version.iter().all(is_of),
        (_, RecordsAnswer::Versions(versions)) => versions.iter().all(is_of),
        _ => true,
    }
}

fn newest_of(answer: &RecordsAnswer) -> Option<Version> {
    match answer {
        RecordsAnswer::Newest(newest) => *newest,
        RecordsAnswer::Versions(versions) => versions.iter().max().copied(),
        _ => None,
    }
}

/// All versions, oldest first, each publication once: the last of its stamps counts.
fn versions(answers: BTreeMap<MemberId, RecordsAnswer>) -> Vec<Version> {
    // A key that was used twice may stand for two contents: both were published.
    let mut by_publication = BTreeMap::new();
    for answer in answers.into_values() {
        let RecordsAnswer::Versions(versions) = answer else { continue };
        for version in versions {
            let publication = (version.request, version.content);
            let kept = by_publication.entry(publication).or_insert(version);
            *kept = version.max(*kept);
        }
    }
    let mut versions: Vec<Version> = by_publication.into_values().collect();
    versions.sort_unstable();
    versions
}

/// True for rows that can be the answer to this question.
fn is_page(
    prefix: &str,
    after: Option<&DecisionAddress>,
    rows: &[(DecisionAddress, Version)],
) -> bool {
    let rising = rows.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let fits = |(address, _): &(DecisionAddress, Version)| {
        address.as_str().starts_with(prefix) && after.is_none_or(|after| address > after)
    };
    let rising = rising && rows.iter().all(|(address, version)| version.is_of(address));
    rising && rows.iter().all(fits)
}

/// One page out of many: nothing beyond where the first cut one ends is known.
fn rows(answers: BTreeMap<MemberId, RecordsAnswer>, limit: u32) -> Rows {
    let mut merged = BTreeMap::<DecisionAddress, Version>::new();
    let mut end: Option<DecisionAddress> = None;
    let mut more = false;
    for answer in answers.into_values() {
        let RecordsAnswer::Page(rows, cut) = answer else { continue };
        if cut && let Some((last, _)) = rows.last() {
            more = true;
            end = Some(end.map_or(last.clone(), |end| end.min(last.clone())));
        }
        for (address, version) in rows {
            let newest = merged.entry(address).or_insert(version);
            *newest = version.max(*newest);
        }
    }
    if let Some(end) = end {
        merged.retain(|address, _| *address <= end);
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
    more |= merged.len() > limit;
    (merged.into_iter().take(limit).collect(), more)
}

fn failure(ask: &RecordsAsk, refusal: Refusal) -> Reply {
    match ask {
        RecordsAsk::Newest { .. } => Reply::Newest(Err(refusal)),
        RecordsAsk::Find { .. } => Reply::Found(Err(refusal)),
        RecordsAsk::Versions { .. } => Reply::Versions(Err(refusal)),
        RecordsAsk::Scan { .. } => Reply::Page(Err(refusal)),
        _ => Reply::Content(Err(refusal)),
    }
}

#[cfg(test)]
mod tests;
