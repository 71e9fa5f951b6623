//! The part of the peers that compares clocks: see [`cluster_time`].

use std::time::Duration;

use super::machine::{Peers, Reply};
use crate::core::cluster_time::{self, Clocks, Middle};
use crate::core::ctx::{Ctx, Effect};
use crate::core::event::EventBody;
use crate::core::records::coordinator;
use crate::core::{gateway, gossip};
use crate::types::{MemberId, Mono, PeerId};

/// For how long the clock of a member that does not answer goes on counting: a minority that is
/// wrong must not become a majority of those that are left.
const REMEMBERED: Duration = Duration::from_secs(600);

impl Peers {
    /// Compares the clocks as soon as that says something.
    pub(super) fn settle_clocks(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if !self.clocks.is_settled {
            self.compare_clocks(ctx);
        }
    }

    /// Finds out by which time to go, and whose clock is wrong. As long as too few answer, what was
    /// found before holds.
    pub(super) fn compare_clocks(&mut self, ctx: &mut Ctx<'_, Reply>) {
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
        if let Some((middle, clocks)) = self.judge_clocks(&measured, own) {
            // While no majority agrees, what it agreed on last goes on: others on this node may stamp
            // something before they hear that they must not.
            if clocks.split_ms.is_none() || !self.clocks.is_settled {
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

    fn judge_clocks(&self, measured: &[(MemberId, i64)], own: i64) -> Option<(Middle, Clocks)> {
        let voters = measured.iter().filter(|(member, _)| self.voters.contains(member));
        let mut judges: Vec<i64> = voters.map(|(_, offset)| *offset).collect();
        let mut needed = self.voters.len() / 2 + 1;
        if judges.len() < needed && !self.voters.contains(&self.id.member) && measured.len() > 1 {
            // In a large cluster those that do not vote may be connected to no voter.
            judges = measured.iter().map(|(_, offset)| *offset).collect();
            needed = judges.len() / 2 + 1;
        }
        if judges.len() < needed || self.voters.is_empty() {
            return None;
        }
        let middle = Middle::of(judges.iter().copied())?;
        let time = if middle.is_wrong(own) { own - middle.ahead_ms(own) } else { own };
        let agrees = |other: &&i64| !Middle::of([**other]).is_some_and(|one| one.is_wrong(time));
        let others = measured.iter().filter(|(member, _)| *member != self.id.member);
        let is_split = judges.iter().filter(agrees).count() < needed;
        let split_ms = Middle::of(others.map(|(_, offset)| *offset))
            .filter(|_| is_split)
            .map(|others| others.ahead_ms(own));
        let wrong = measured
            .iter()
            .filter(|(_, offset)| middle.is_wrong(*offset))
            .map(|(member, offset)| (*member, middle.ahead_ms(*offset)))
            .collect();
        Some((middle, Clocks { is_settled: true, wrong, split_ms }))
    }
}
