//! Comparing with one other member what both have heard.
//!
//! Flow: A sends the digest of a part of its streams to B -> B sends what A lacks, and its own digest
//! of that part if it lacks something -> A sends that. A page that is not the last one says so, and is
//! answered with the digest of what is had by then.
//!
//! Invariants:
//! 1. A digest that answers another one is not answered with a digest.
//! 2. Of one partner at most `PARTNER_NOTES_MAX` notes are looked at in a second, and `DIGESTS_MAX` digests are
//!    answered; each message counts as one note at least.

use std::time::Duration;

use super::machine::{Gossip, Reply};
use crate::core::ctx::Ctx;
use crate::messages::wire::{GossipMessage, Message, Part, StreamDigest, StreamId};
use crate::types::limits::{
    DIGEST_RANGES_MAX, DIGEST_STREAMS_MAX, NOTES_BURST, NOTES_BYTES_MAX, NOTES_MAX,
};
use crate::types::metrics;
use crate::types::{Mono, PeerId};

/// How often another member is compared with, on average, while any note is kept.
pub(super) const RECONCILE_INTERVAL: Duration = Duration::from_secs(5);
/// Notes of one partner that are looked at in a second, since each may cost a check of a signature; what is no note
/// counts as one. A second of comparing brings no more than a page for each digest, 1,280 notes; a member that
/// also hands over a burst of its events and confirms one of ours sends 3,280. Some room is left beyond that.
pub(super) const PARTNER_NOTES_MAX: u32 = 4 * NOTES_BURST;
/// Digests of one partner that are worked on in a second; each may cost a look at all that is kept.
const DIGESTS_MAX: u32 = 20;

const _: () = assert!(DIGESTS_MAX * (NOTES_MAX as u32 + 1) + 2 * NOTES_BURST < PARTNER_NOTES_MAX);

/// What is remembered of a partner.
pub(super) struct Partner {
    since: Mono,
    notes: u32,
    digests: u32,
    /// Where the next digest for it begins.
    next: Option<StreamId>,
}

impl Gossip {
    /// Counts a message of a partner; false if that is too much.
    pub(super) fn has_patience(
        &mut self,
        now: Mono,
        from: PeerId,
        message: &GossipMessage,
    ) -> bool {
        let (notes, digests) = match message {
            GossipMessage::Notes { notes, .. } => (notes.len().clamp(1, NOTES_MAX) as u32, 0),
            GossipMessage::Hand { .. } | GossipMessage::Taken { .. } => (1, 0),
            GossipMessage::Digest { .. } => (1, 1),
        };
        let partner = self.partner(now, from);
        if now.since(partner.since) >= Duration::from_secs(1) {
            (partner.since, partner.notes, partner.digests) = (now, 0, 0);
        }
        partner.notes = partner.notes.saturating_add(notes);
        partner.digests = partner.digests.saturating_add(digests);
        partner.notes <= PARTNER_NOTES_MAX && partner.digests <= DIGESTS_MAX
    }

    fn partner(&mut self, now: Mono, peer: PeerId) -> &mut Partner {
        self.partners.entry(peer).or_insert(Partner {
            since: now,
            notes: 0,
            digests: 0,
            next: None,
        })
    }

    /// Sets the time of the next comparison, if there is something to compare.
    pub(super) fn tend_reconciling(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if !self.streams.keeps_any() {
            self.reconcile_at = None;
        } else if self.reconcile_at.is_none() {
            // Members that heard the same note at once do not all compare at once.
            let spread = RECONCILE_INTERVAL.as_millis() as u64;
            let wait = Duration::from_millis(spread / 2 + ctx.rng.below(spread));
            self.reconcile_at = Some(ctx.now + wait);
        }
        if let Some(at) = self.reconcile_at {
            ctx.out.wake_at(at);
        }
    }

    /// Compares with a member that is drawn by chance.
    pub(super) fn reconcile(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.reconcile_at = None;
        self.streams.forget(ctx.now);
        for peer in self.some_that_answer(ctx, 1) {
            self.compare_with(ctx, peer);
        }
        self.tend_reconciling(ctx);
    }

    /// Tells a member what is here; nothing if there is nothing.
    pub(super) fn compare_with(&mut self, ctx: &mut Ctx<'_, Reply>, peer: PeerId) {
        if !self.streams.keeps_any() {
            return;
        }
        let from = self.partner(ctx.now, peer).next;
        let (streams, to) = self.streams.digest(Part { from, to: None }, DIGEST_STREAMS_MAX);
        // What did not fit comes first next time; after the end it begins anew.
        self.partner(ctx.now, peer).next = to;
        let digest = GossipMessage::Digest { part: Part { from, to }, streams, answer: false };
        ctx.out.send(peer, Message::Gossip(digest));
    }

    /// Another member says what it has.
    pub(super) fn on_digest(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        peer: PeerId,
        part: Part,
        theirs: &[StreamDigest],
        answer: bool,
    ) {
        let bounded = theirs.len() <= DIGEST_STREAMS_MAX
            && theirs.iter().all(|digest| digest.ranges.len() <= DIGEST_RANGES_MAX);
        if !bounded {
            return ctx.out.count(&metrics::GOSSIP_REJECTED);
        }
        let bounds = (NOTES_MAX, NOTES_BYTES_MAX);
        let (notes, more) = self.streams.lacking(part, ctx.wall, theirs, bounds);
        if !notes.is_empty() {
            let rest = more.then_some(part);
            ctx.out.send(peer, Message::Gossip(GossipMessage::Notes { notes, rest }));
        }
        if !answer && self.streams.is_behind(theirs) {
            self.answer(ctx, peer, part);
        }
    }

    /// Says what is here by now, to whoever has more.
    pub(super) fn ask_for_more(&self, ctx: &mut Ctx<'_, Reply>, peer: PeerId, part: Part) {
        self.answer(ctx, peer, part);
    }

    fn answer(&self, ctx: &mut Ctx<'_, Reply>, peer: PeerId, part: Part) {
        let (streams, to) = self.streams.digest(part, DIGEST_STREAMS_MAX);
        let part = Part { from: part.from, to };
        let digest = GossipMessage::Digest { part, streams, answer: true };
        ctx.out.send(peer, Message::Gossip(digest));
    }
}
