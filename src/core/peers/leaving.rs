//! Leaving: a voter whose membership has ended still has a vote.
//!
//! Problem: the membership ends with one entry, the vote with a later one that may need the leaver's
//! own acknowledgement: of two voters, both have to agree that one is enough. A leaver that stopped
//! at once, or was cut off at once, would leave the others without a majority for good.
//!
//! Flow: the others keep the connection to it while it votes. It hands leadership over if it has it,
//! again and again, because a write that is under way makes consensus refuse to: nobody else could
//! win while its log is the longest. It stops when it sees the voters without itself, when the others
//! have closed their connections, or when another one has led for `LEAVE_TIMEOUT`; `LEAD_TIMEOUT` ends it in any case.
//! Started again it is still on its way out, as the roster that it stored says: it keeps
//! connections to those that may need its vote, until it knows that they do not, or they have told
//! it that it is nobody any more.

use std::collections::BTreeSet;
use std::time::Duration;

use super::machine::{Peers, Reply};
use crate::core::ctx::{Ctx, Effect, Halt};
use crate::core::election;
use crate::types::limits::LINKS_MAX;
use crate::types::{Address, MemberId, Mono, PeerId};

/// How long a removed voter waits under another leader for the end of its vote.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a removed voter stays at most.
const LEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long after a try to hand over it makes the next one.
const RESIGN_INTERVAL: Duration = Duration::from_millis(500);

/// A node on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    /// When it saw that its membership has ended.
    since: Mono,
    /// When it led last, or nobody was known to: its vote is needed for some time after that.
    led_at: Mono,
    /// When it tries to hand leadership over again.
    resign_at: Mono,
}

impl Peers {
    /// Other members are not in the roster any more.
    pub(super) fn let_go(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        gone: Vec<(MemberId, PeerId, Vec<Address>)>,
    ) {
        for (member, peer, addresses) in gone {
            if self.voters.contains(&member) {
                self.departing.insert(member, (peer, addresses));
            } else {
                self.release(ctx, peer);
            }
        }
    }

    pub(super) fn release(&mut self, ctx: &mut Ctx<'_, Reply>, peer: PeerId) {
        self.links.remove(&peer);
        self.demand.forget(peer);
        self.greeted.remove(&peer);
        self.announced.remove(&peer);
        ctx.out.effects.push(Effect::Release(peer));
    }

    /// The voters have changed: whoever has lost its vote by that can go.
    pub(super) fn tend_departing(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let voters = &self.voters;
        let over: Vec<PeerId> = self
            .departing
            .iter()
            .filter(|(member, _)| !voters.contains(member))
            .map(|(_, (peer, _))| *peer)
            .collect();
        self.departing.retain(|member, _| voters.contains(member));
        for peer in &over {
            // The same key may have a new membership by now.
            if !self.by_peer.contains_key(peer) {
                self.release(ctx, *peer);
            }
        }
        if !over.is_empty() {
            self.connect(ctx);
        }
    }

    /// True if the newest roster that this node knows is without it. A roster that a node joined
    /// with has it, and one that founds a cluster knows none.
    pub(super) fn is_removed(&self) -> bool {
        !self.members.is_empty() && !self.members.contains_key(&self.id.member)
    }

    /// Whom it keeps connections to on its way out: those that may need its vote, and are to tell
    /// it when it is out.
    pub(super) fn remaining(&self) -> BTreeSet<MemberId> {
        let votes = |member: &&MemberId| self.voters.contains(*member);
        let knows_voters = self.members.keys().any(|member| votes(&member));
        let remaining = self.members.keys().filter(|member| !knows_voters || votes(member));
        remaining.copied().take(LINKS_MAX).collect()
    }

    /// This node's own membership has ended.
    pub(super) fn begin_leaving(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.leaving.get_or_insert(Leaving { since: ctx.now, led_at: ctx.now, resign_at: ctx.now });
        self.tend_leaving(ctx);
    }

    pub(super) fn tend_leaving(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let Some(leaving) = &mut self.leaving else { return };
        let leads = self.leader == Some(self.id.member);
        if leads || self.leader.is_none() {
            leaving.led_at = ctx.now;
        }
        let by = (leaving.led_at + LEAVE_TIMEOUT).min(leaving.since + LEAD_TIMEOUT);
        // Whoever has just been started does not know yet who votes.
        let votes = self.voters.is_empty() || self.voters.contains(&self.id.member);
        let cut_off = self.met && self.links.is_empty();
        if !votes || cut_off || by <= ctx.now {
            return ctx.out.halt(Halt::Removed);
        }
        if leads && leaving.resign_at <= ctx.now {
            leaving.resign_at = ctx.now + RESIGN_INTERVAL;
            let reason = "the leader was removed from the cluster".to_owned();
            election::resign(ctx.out, reason);
        }
        ctx.out.wake_at(if leads { by.min(leaving.resign_at) } else { by });
    }
}
