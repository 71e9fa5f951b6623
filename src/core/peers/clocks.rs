//! The part of the peers that compares clocks: see [`cluster_time`].

use std::time::Duration;

use super::machine::{Peers, Reply};
use crate::core::cluster_time::{self, Clocks, Middle};
use crate::core::ctx::{Ctx, Effect};
use crate::core::event::EventBody;
use crate::core::records::coordinator;
use crate::core::{gateway, gossip};
use crate::types::limits::CLOCK_AHEAD_MAX_MS;
use crate::types::{MemberId, Mono, PeerId};

/// For how long the clock of a member that does not answer goes on counting: a minority that is
/// wrong must not become a majority of those that are left.
const REMEMBERED: Duration = Duration::from_secs(600);

impl Peers {
    /// Compares the clocks as soon as that says something.
    pub(super) fn settle_clocks(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if !self.clocks.is_known() {
            self.compare(ctx, false);
        }
    }

    /// Finds out by which time to go, and whose clock is wrong. As long as too few answer, what was
    /// found before holds.
    pub(super) fn compare_clocks(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.compare(ctx, true);
    }

    /// With `may_guess`, a node that is connected to too few voters goes by whoever it is connected to.
    fn compare(&mut self, ctx: &mut Ctx<'_, Reply>, may_guess: bool) {
        let own = cluster_time::offset_ms(ctx.wall, ctx.now);
        for (peer, link) in &self.links {
            if let Some(offset) = link.clock_ms() {
                self.seen_clocks.insert(*peer, (offset, ctx.now));
            }
        }
        let is_kept = |peer: &PeerId, seen: Mono| {
            self.by_peer.contains_key(peer) && ctx.now.since(seen) < REMEMBERED
        };
        self.seen_clocks.retain(|peer, (_, seen)| is_kept(peer, *seen));
        let measured: Vec<(MemberId, i64)> = self
            .members
            .iter()
            .filter_map(|(member, (peer, _))| match *member == self.id.member {
                true => Some((*member, own)),
                false => Some((*member, self.seen_clocks.get(peer)?.0)),
            })
            .collect();
        let knew = self.clocks.is_known();
        if let Some((middle, clocks)) = self.judge_clocks(&measured, own, may_guess) {
            if clocks.split_ms.is_none() {
                self.agreed = Some(middle);
                ctx.out.effects.push(Effect::GoBy(middle));
            }
            for (member, ahead_ms) in &clocks.wrong {
                if !self.clocks.wrong.contains_key(member) {
                    let ahead_s = ahead_ms / 1_000;
                    ctx.out.event(EventBody::ClockWrong { member: *member, ahead_s });
                }
            }
            for member in self.clocks.wrong.keys().filter(|m| !clocks.wrong.contains_key(m)) {
                ctx.out.event(EventBody::ClockRight { member: *member });
            }
            self.clocks = clocks;
            if self.clocks.is_known() && !knew {
                // With a wrong time nobody has taken what was announced before.
                self.announce(ctx);
            }
        }
        // Told again for those that were restarted meanwhile.
        ctx.out.cast(gateway::Msg::Clocks(self.clocks.clone()));
        ctx.out.cast(coordinator::Msg::Clocks(self.clocks.clone()));
        ctx.out.cast(gossip::Msg::Clocks(self.clocks.clone()));
    }

    fn judge_clocks(
        &self,
        measured: &[(MemberId, i64)],
        own: i64,
        may_guess: bool,
    ) -> Option<(Middle, Clocks)> {
        let voters = measured.iter().filter(|(member, _)| self.voters.contains(member));
        let mut judges: Vec<i64> = voters.map(|(_, offset)| *offset).collect();
        let mut needed = self.voters.len() / 2 + 1;
        let is_voter = self.voters.contains(&self.id.member);
        if judges.len() < needed && !is_voter && measured.len() > 1 && may_guess {
            // In a large cluster those that do not vote may be connected to no voter.
            judges = measured.iter().map(|(_, offset)| *offset).collect();
            needed = judges.len() / 2 + 1;
        }
        if judges.len() < needed || self.voters.is_empty() {
            return None;
        }
        let middle = Middle::of(judges.iter().copied())?;
        let time = own.saturating_sub(middle.ahead_ms(own));
        let is_far = |one: i64| Middle::of([one]).is_some_and(|one| one.is_wrong(time));
        let agrees = |other: &&i64| !is_far(**other);
        let others = measured.iter().filter(|(member, _)| *member != self.id.member);
        let is_split = judges.iter().filter(agrees).count() < needed;
        let split_ms = Middle::of(others.map(|(_, offset)| *offset))
            .filter(|_| is_split)
            .map(|others| others.ahead_ms(own));
        let wrong = |by: &dyn Fn(i64) -> i64| {
            let ahead = measured.iter().map(|(member, offset)| (*member, by(*offset)));
            ahead.filter(|(_, ahead)| ahead.unsigned_abs() > CLOCK_AHEAD_MAX_MS).collect()
        };
        Some(match (split_ms, self.agreed) {
            (None, _) => {
                let wrong = wrong(&|offset| middle.ahead_ms(offset));
                (middle, Clocks { is_settled: true, wrong, split_ms })
            }
            // Too few of those that are left agree. What most agreed on goes on: this node's monotonic clock has kept it.
            (Some(_), Some(agreed)) => {
                let wrong = wrong(&|offset| agreed.ahead_ms(offset));
                (agreed, Clocks { is_settled: true, wrong, split_ms: None })
            }
            (Some(_), None) => {
                let wrong = wrong(&|offset| offset.saturating_sub(own));
                (middle, Clocks { is_settled: true, wrong, split_ms })
            }
        })
    }
}
