//! Repairs: what a read has found to be the newest, and too few replicas have, on its way to the others.
//!
//! Problem: whoever reads next must not see less than was shown before.
//!
//! Flow: where few hold a record its content was kept before its version, so the version goes to those that lack it.
//! Where everybody holds everything, a single replica may have both: the content is looked for, and goes along, or to
//! its own replicas first.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Reach, Read, SOON, address_of, members};
use crate::core::control::is_whole;
use crate::core::ctx::Ctx;
use crate::core::election;
use crate::core::records::content::Content;
use crate::core::records::coordinator::{Coordinator, Reply, retry_after};
use crate::core::records::placement::ReplicaSet;
use crate::messages::wire::{RecordsAnswer, RecordsAsk};
use crate::types::fault::{Fault, planted};
use crate::types::limits::PROPOSAL_RETRY_MS;
use crate::types::metrics;
use crate::types::record::{Partition, Version};
use crate::types::{Bytes, MemberId};

/// A version on its way to the replicas that lack it.
#[derive(Debug)]
pub(super) struct Repair {
    /// Id of the question that is open.
    pub(super) id: u64,
    pub(super) version: Version,
    /// Who has it.
    pub(super) have: BTreeSet<MemberId>,
    step: Step,
}

/// How far a repair is. A version that was not acknowledged may be all that a single replica has of its
/// publication: then its content has to come along, or readers would be shown what nobody can read.
#[derive(Debug)]
enum Step {
    /// Looking for the content: from one that has the version, then from everybody.
    Fetch { reach: Reach },
    /// Its replicas are others than those of the version: they get it first.
    Put { content: Bytes, have: BTreeSet<MemberId> },
    /// On to those that lack the version, with the content if they are to hold that, too.
    Merge { content: Option<Bytes> },
}

impl Coordinator {
    /// Sends what is open of a repair; says how long to wait for answers.
    pub(super) fn send_repair(
        &self,
        ctx: &mut Ctx<'_, Reply>,
        read: &mut Read,
        sets: &[ReplicaSet],
    ) -> Option<Duration> {
        let address = address_of(&read.ask)?;
        let repair = read.repair.as_mut()?;
        let (version, hash) = (repair.version, repair.version.content);
        let of_content = || self.sets(Some(Partition::of_content(&hash)));
        let term = self.ready(ctx.now).map(|lease| lease.term);
        let term = term.or(planted(Fault::RepairWithoutLease).then_some(0));
        let (to, ask, term) = match &mut repair.step {
            Step::Fetch { reach } => {
                let own = Some(self.standing.own).filter(|own| repair.have.contains(own));
                let first = own.or_else(|| repair.have.first().copied());
                let (to, asked) = match reach {
                    Reach::Few => (first.into_iter().collect(), Reach::FewAsked),
                    Reach::FewAsked | Reach::All => {
                        (&repair.have | &members(&of_content()), Reach::All)
                    }
                };
                *reach = asked;
                (to, RecordsAsk::Content { hash }, Some(0))
            }
            Step::Put { content, have } => {
                let to = &members(&of_content()) - have;
                (to, RecordsAsk::Put { hash, content: content.clone() }, term)
            }
            Step::Merge { content } => {
                let (address, content) = (address.clone(), content.clone());
                let to = &members(sets) - &repair.have;
                (to, RecordsAsk::Merge { address, version, content }, term)
            }
        };
        let term = term?;
        for member in to {
            self.ask(ctx, member, repair.id, term, &ask);
        }
        let is_first = matches!(repair.step, Step::Fetch { reach: Reach::FewAsked });
        let wait =
            if is_first { Duration::from_millis(PROPOSAL_RETRY_MS) } else { retry_after(&ask) };
        Some(wait)
    }

    pub(super) fn begin_repair(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        number: u64,
        version: Version,
        have: BTreeSet<MemberId>,
    ) {
        let id = self.number();
        // Where few hold a record, no version is written before its content is kept.
        let is_kept =
            !is_whole(&self.standing.view.layout.current) || planted(Fault::RepairWithoutContent);
        let step =
            if is_kept { Step::Merge { content: None } } else { Step::Fetch { reach: Reach::Few } };
        let Some(read) = self.reads.get_mut(&number) else { return };
        if let Some(old) = read.repair.replace(Repair { id, version, have, step }) {
            self.asked.remove(&old.id);
        }
        self.asked.insert(id, number);
        read.again_at = ctx.now;
        ctx.out.count(&metrics::RECORDS_READ_REPAIRS);
    }

    pub(super) fn on_repair_answer(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        number: u64,
        from: MemberId,
        answer: RecordsAnswer,
    ) {
        let vault = self.vault.clone();
        let Some(read) = self.reads.get_mut(&number) else { return };
        let Some(repair) = &mut read.repair else { return };
        let hash = repair.version.content;
        match (&mut repair.step, answer) {
            (Step::Fetch { .. }, RecordsAnswer::Content(Some(content)))
                if Content::check(&content, &hash, vault.as_ref()).is_ok() =>
            {
                self.on_repair_content(ctx, number, content);
            }
            (Step::Fetch { reach }, RecordsAnswer::Content(found)) => {
                if found.is_some() {
                    ctx.out.count(&metrics::RECORDS_ANSWERS_REJECTED);
                }
                // Everybody is asked once at once, and then at the pace of all retries.
                if *reach == Reach::FewAsked {
                    read.again_at = ctx.now;
                }
            }
            (Step::Put { have, .. }, RecordsAnswer::Stored) => {
                have.insert(from);
                let have = have.clone();
                let sets = self.sets(Some(Partition::of_content(&hash)));
                if sets.iter().all(|set| set.count(&have) >= set.write_quorum()) {
                    self.next_step(ctx, number, Step::Merge { content: None });
                }
            }
            (Step::Merge { .. }, RecordsAnswer::Stored) => {
                repair.have.insert(from);
            }
            (_, RecordsAnswer::OtherTerm(_) | RecordsAnswer::OtherLayout(_)) => {
                election::want_lease(ctx.out);
                read.again_at = read.again_at.min(ctx.now + SOON);
            }
            _ => {}
        }
        self.advance_read(ctx, number);
    }

    /// The content of a version that is to be written back was found.
    fn on_repair_content(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64, content: Bytes) {
        let step = match self.is_together() {
            true => Step::Merge { content: Some(content) },
            false => Step::Put { content, have: BTreeSet::new() },
        };
        self.next_step(ctx, number, step);
    }

    /// Answers to the question of the step before don't count any more.
    fn next_step(&mut self, ctx: &mut Ctx<'_, Reply>, number: u64, step: Step) {
        let id = self.number();
        let Some(read) = self.reads.get_mut(&number) else { return };
        let Some(repair) = &mut read.repair else { return };
        self.asked.remove(&repair.id);
        self.asked.insert(id, number);
        (repair.id, repair.step, read.again_at) = (id, step, ctx.now);
    }
}
