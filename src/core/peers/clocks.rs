//! The part of the peers that compares clocks: see [`cluster_time`].

use std::collections::BTreeSet;
use std::time::Duration;

use super::machine::{Peers, Reply};
use crate::core::cluster_time::{self, Clocks, Middle};
use crate::core::ctx::{Ctx, Effect};
use crate::core::event::EventBody;
use crate::core::news::News;
use crate::types::limits::CLOCK_AHEAD_MAX_MS;
use crate::types::{MemberId, Mono, PeerId};

/// For how long the clock of a member that does not answer goes on counting if it was right: a
/// minority that is wrong must not become a majority of those that are left.
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
        // One that was wrong when it went silent says nothing: it could stand by another that goes wrong.
        let was_right = |offset| self.agreed.is_some_and(|agreed| !agreed.is_wrong(offset));
        let is_kept = |peer: &PeerId, offset: i64, seen: Mono| {
            let silent = ctx.now.since(seen);
            let counts = silent.is_zero() || silent < REMEMBERED && was_right(offset);
            self.by_peer.contains_key(peer) && counts
        };
        self.seen_clocks.retain(|peer, (offset, seen)| is_kept(peer, *offset, *seen));
        let measured: Vec<(MemberId, i64)> = self
            .members
            .iter()
            .filter_map(|(member, (peer, _))| match *member == self.id.member {
                true => Some((*member, own)),
                false => Some((*member, self.seen_clocks.get(peer)?.0)),
            })
            .collect();
        let knew = self.clocks.is_known();
        let judges =
            Judges { own: self.id.member, voters: &self.voters, agreed: self.agreed, may_guess };
        if let Some((middle, clocks)) = judges.judge(&measured) {
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
            if clocks != self.clocks {
                ctx.out.tell(News::Clocks(clocks.clone()));
            }
            self.clocks = clocks;
            if self.clocks.is_known() && !knew {
                // With a wrong time nobody has taken what was announced before.
                self.announce(ctx);
            }
        }
    }
}

/// Whose clocks are compared.
struct Judges<'a> {
    own: MemberId,
    voters: &'a BTreeSet<MemberId>,
    /// What a majority agreed on last.
    agreed: Option<Middle>,
    /// True if others than voters may judge where too few of those are there.
    may_guess: bool,
}

impl Judges<'_> {
    /// Judges clocks by their offsets, that of this node among them. None if too few are there.
    fn judge(&self, measured: &[(MemberId, i64)]) -> Option<(Middle, Clocks)> {
        let (_, own) = *measured.iter().find(|(member, _)| *member == self.own)?;
        let voters = measured.iter().filter(|(member, _)| self.voters.contains(member));
        let mut judges: Vec<i64> = voters.map(|(_, offset)| *offset).collect();
        let mut needed = self.voters.len() / 2 + 1;
        let is_voter = self.voters.contains(&self.own);
        if judges.len() < needed && !is_voter && measured.len() > 1 && self.may_guess {
            // In a large cluster those that do not vote may be connected to no voter.
            judges = measured.iter().map(|(_, offset)| *offset).collect();
            needed = judges.len() / 2 + 1;
        }
        if judges.len() < needed || self.voters.is_empty() {
            return None;
        }
        let middle = Middle::of(judges.iter().copied())?;
        let time = own.saturating_sub(middle.ahead_ms(own));
        let is_near = |one: i64| Middle::of([one]).is_some_and(|one| !one.is_wrong(time));
        let is_split = judges.iter().filter(|judge| is_near(**judge)).count() < needed;
        let others = measured.iter().filter(|(member, _)| *member != self.own);
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
            // Too few of those that are left agree. What most agreed on goes on: this node's monotonic
            // clock has kept it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::peers::machine;
    use crate::types::Wall;

    const FAR: i64 = 30 * 86_400_000;

    /// What member 1 of so many voters makes of the clocks of members 1, 2, 3 and so on.
    fn judge(voters: u64, agreed: Option<Middle>, offsets: &[Option<i64>]) -> Option<Clocks> {
        let voters = (1..=voters).map(MemberId).collect();
        let judges = Judges { own: MemberId(1), voters: &voters, agreed, may_guess: false };
        let members = (1..).map(MemberId).zip(offsets);
        let measured: Vec<_> = members.filter_map(|(m, offset)| Some((m, (*offset)?))).collect();
        judges.judge(&measured).map(|(_, clocks)| clocks)
    }

    fn wrong(clocks: &Clocks) -> Vec<(u64, i64)> {
        clocks.wrong.iter().map(|(member, ahead)| (member.0, *ahead)).collect()
    }

    #[test]
    fn a_minority_that_is_wrong_is_named_and_keeps_nobody_from_knowing_the_time() {
        for far in [FAR, -FAR] {
            for whose in 1..=3_u64 {
                let offset = |member| Some(if member == whose { far } else { 0 });
                let clocks = judge(3, None, &[offset(1), offset(2), offset(3)]).unwrap();
                assert!(clocks.is_known());
                assert_eq!(wrong(&clocks), [(whose, far)]);
            }
            let two = judge(5, None, &[Some(0), Some(far), Some(far), Some(0), Some(0)]).unwrap();
            assert!(two.is_known());
            assert_eq!(wrong(&two), [(2, far), (3, far)]);
        }
    }

    #[test]
    fn too_few_clocks_say_nothing_and_clocks_that_disagree_say_so() {
        assert_eq!(judge(3, None, &[Some(0), None, None]), None);
        assert_eq!(judge(0, None, &[Some(0), Some(0)]), None, "who votes is not known");
        assert!(judge(1, None, &[Some(FAR)]).unwrap().is_known(), "alone it is right");
        assert!(judge(3, None, &[Some(0), Some(1), None]).unwrap().is_known());
        for offsets in [&[Some(0), Some(FAR)][..], &[Some(0), Some(FAR), None]] {
            let clocks = judge(offsets.len() as u64, None, offsets).unwrap();
            assert!(!clocks.is_known());
            assert_eq!((clocks.split_ms, wrong(&clocks)), (Some(-FAR), vec![(2, FAR)]));
        }
    }

    #[test]
    fn what_most_agreed_on_goes_on_when_too_few_of_those_that_are_left_do() {
        let agreed = Middle::of([0, 0, 0]);
        let clocks = judge(3, agreed, &[Some(0), Some(FAR), None]).unwrap();
        assert!(clocks.is_known());
        assert_eq!(wrong(&clocks), [(2, FAR)]);
        let own = judge(3, agreed, &[Some(FAR), Some(0), None]).unwrap();
        assert_eq!(wrong(&own), [(1, FAR)]);
        // But most of those that are there may also agree on something else.
        let other = judge(3, agreed, &[Some(FAR), Some(FAR), Some(0)]).unwrap();
        assert_eq!(wrong(&other), [(3, -FAR)]);
    }

    #[test]
    fn a_clock_at_the_edge_of_what_is_right_does_not_divide_the_others() {
        let clocks =
            judge(5, None, &[Some(59_000), Some(-2_000), Some(-2_000), Some(0), Some(120_000)]);
        let clocks = clocks.unwrap();
        assert!(clocks.is_known());
        assert_eq!(wrong(&clocks), [(5, 120_000)]);
    }

    #[test]
    fn a_member_that_was_wrong_when_it_went_silent_stands_by_no_other() {
        const NOW: Mono = Mono(60_000_000);
        let compared = |silent: i64| {
            let mut peers = machine::tests::peers();
            for id in 1..=3 {
                let peer = PeerId([id as u8; 32]);
                peers.members.insert(MemberId(id), (peer, Vec::new()));
                peers.by_peer.insert(peer, MemberId(id));
            }
            peers.voters = (1..=3).map(MemberId).collect();
            let own = cluster_time::offset_ms(Wall(0), NOW);
            peers.agreed = Middle::of([own]);
            peers.seen_clocks.insert(PeerId([2; 32]), (own + silent, Mono(1)));
            peers.seen_clocks.insert(PeerId([3; 32]), (own + FAR, NOW));
            machine::tests::at(&mut peers, NOW, |peers, ctx| peers.compare_clocks(ctx));
            wrong(&peers.clocks)
        };
        assert_eq!(compared(FAR), [(3, FAR)], "two that are wrong, of which one is silent");
        assert_eq!(compared(0), [(3, FAR)], "one that was right goes on counting");
    }
}
