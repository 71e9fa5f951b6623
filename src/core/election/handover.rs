//! The leader's side: should somebody else lead, and how leadership is handed over.
//!
//! States of a handover: none; *revoking* (no new leases, holders were told, waiting until each
//! has given its lease back or it has run out); *transferring* (the target was asked to run).
//! A transfer has no way back within its term, so the target is checked before it starts: while it
//! is silent or behind, as every voter is in the first moments of a term, nobody asks it, and after
//! `REFUSALS_MAX` such checks the leader goes on leading. Once the target may have been asked, it never
//! does; when the target does not take over then, the ranked candidacy of the others ends the term.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::election::lease::HELD_FOR;
use crate::messages::wire::Scores;
use crate::types::limits::{CLUSTER_TIME_SPREAD_MS, LEASE_WAIT_MS};
use crate::types::{MemberId, Mono, Wall};

/// By how much, in hundredths, another voter must be fitter for a whole window to take over.
const MARGIN: u16 = 1_000;
/// By how much at the daily evaluation.
const MARGIN_DAILY: u16 = 200;
/// How long it must have been so.
const WINDOW: Duration = Duration::from_secs(30);
/// How often, and how many times, the target is asked to run.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
const ASKS_MAX: u32 = 3;
/// How often, and how many times, it is looked whether the target is ready.
const READY_INTERVAL: Duration = Duration::from_millis(20);
const REFUSALS_MAX: u32 = 10;
/// What waits for a lease meanwhile is not refused for it.
const _: () = assert!(
    HELD_FOR.as_millis() + READY_INTERVAL.as_millis() * (REFUSALS_MAX as u128)
        < LEASE_WAIT_MS as u128
);

/// Watches for a voter that should lead instead.
#[derive(Debug, Default)]
pub struct Challenge {
    challenger: Option<(MemberId, Mono)>,
}

impl Challenge {
    /// Looks at a fresh table. Returns who should take over now, and why.
    pub fn look(
        &mut self,
        now: Mono,
        own: MemberId,
        scores: &BTreeMap<MemberId, Scores>,
        evaluation_due: bool,
    ) -> Option<(MemberId, String)> {
        let mine = scores.get(&own).map_or(0, |scores| scores.overall);
        let best = scores
            .iter()
            .filter(|(member, _)| **member != own)
            .max_by_key(|(member, scores)| (scores.overall, std::cmp::Reverse(**member)));
        let Some((best, lead)) = best.map(|(member, s)| (*member, s.overall.saturating_sub(mine)))
        else {
            self.challenger = None;
            return None;
        };
        if evaluation_due && lead >= MARGIN_DAILY {
            return Some((best, format!("{} points fitter at the daily evaluation", points(lead))));
        }
        if lead < MARGIN {
            self.challenger = None;
            return None;
        }
        match self.challenger {
            Some((challenger, since)) if challenger == best => {
                let reason = format!("{} points fitter for {} s", points(lead), WINDOW.as_secs());
                (now.since(since) >= WINDOW).then_some((best, reason))
            }
            _ => {
                self.challenger = Some((best, now));
                None
            }
        }
    }
}

fn points(hundredths: u16) -> String {
    format!("{}.{}", hundredths / 100, hundredths % 100 / 10)
}

/// True when the daily evaluation is due. One that lies in the future was stamped by a clock that was
/// wrong, and says nothing of when the last one was.
pub fn evaluation_due(wall: Wall, evaluated_at: Wall, interval: Duration) -> bool {
    let spread = Duration::from_millis(CLUSTER_TIME_SPREAD_MS);
    wall >= evaluated_at.plus(interval) || evaluated_at > wall.plus(spread)
}

/// A handover under way.
#[derive(Debug)]
pub struct Handover {
    /// Who takes over.
    pub to: MemberId,
    asks: u32,
    refusals: u32,
    next_ask: Mono,
}

/// What a handover needs now.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before this time.
    Wait(Mono),
    /// Ask the target to run.
    Ask,
    /// The target was asked often enough; the others will end the term.
    Spent,
}

impl Handover {
    /// A handover that begins now.
    pub fn new(to: MemberId, now: Mono) -> Self {
        Self { to, asks: 0, refusals: 0, next_ask: now }
    }

    /// When the target is to be asked again.
    pub fn next_ask(&self) -> Mono {
        self.next_ask
    }

    /// What to do at `now`, when leases are out until `held_until`.
    pub fn step(&mut self, now: Mono, held_until: Option<Mono>) -> Step {
        if let Some(until) = held_until {
            return Step::Wait(until);
        }
        if self.asks == ASKS_MAX {
            return Step::Spent;
        }
        if now < self.next_ask {
            return Step::Wait(self.next_ask);
        }
        self.asks += 1;
        self.next_ask = now + ASK_INTERVAL;
        Step::Ask
    }

    /// The target is not ready, and was not asked. False if that was so too often. Another ask may
    /// have reached it, or be on its way.
    pub fn refuse(&mut self, now: Mono) -> bool {
        self.asks = self.asks.saturating_sub(1);
        self.refusals += 1;
        self.next_ask = now + READY_INTERVAL;
        self.refusals < REFUSALS_MAX || self.asks > 0
    }
}

#[cfg(test)]
mod guards;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(points: &[(u64, u16)]) -> BTreeMap<MemberId, Scores> {
        points
            .iter()
            .map(|(member, overall)| {
                (MemberId(*member), Scores { overall: *overall, ..Default::default() })
            })
            .collect()
    }

    fn second(second: u64) -> Mono {
        Mono(second * 1_000_000)
    }

    #[test]
    fn a_fitter_voter_takes_over_after_a_whole_window() {
        let mut challenge = Challenge::default();
        let scores = table(&[(1, 5_000), (2, 6_100)]);
        assert_eq!(challenge.look(second(0), MemberId(1), &scores, false), None);
        assert_eq!(challenge.look(second(29), MemberId(1), &scores, false), None);
        let (to, reason) = challenge.look(second(30), MemberId(1), &scores, false).unwrap();
        assert_eq!((to, reason.as_str()), (MemberId(2), "11.0 points fitter for 30 s"));
    }

    #[test]
    fn a_dip_starts_the_window_again() {
        let mut challenge = Challenge::default();
        let ahead = table(&[(1, 5_000), (2, 6_100)]);
        let level = table(&[(1, 5_500), (2, 6_100)]);
        challenge.look(second(0), MemberId(1), &ahead, false);
        challenge.look(second(20), MemberId(1), &level, false);
        challenge.look(second(21), MemberId(1), &ahead, false);
        assert_eq!(challenge.look(second(40), MemberId(1), &ahead, false), None);
    }

    #[test]
    fn two_points_suffice_at_the_daily_evaluation() {
        let scores = table(&[(1, 5_000), (2, 5_200)]);
        assert_eq!(Challenge::default().look(second(0), MemberId(1), &scores, false), None);
        assert!(Challenge::default().look(second(0), MemberId(1), &scores, true).is_some());
        let day = Duration::from_secs(86_400);
        assert!(!evaluation_due(Wall(86_399_999), Wall(0), day));
        assert!(evaluation_due(Wall(86_400_000), Wall(0), day));
        // By a clock that was right, and by one that was not.
        assert!(!evaluation_due(Wall(0), Wall(CLUSTER_TIME_SPREAD_MS), day));
        assert!(evaluation_due(Wall(0), Wall(CLUSTER_TIME_SPREAD_MS + 1), day));
    }

    #[test]
    fn a_handover_asks_three_times_after_the_leases_are_gone() {
        let mut handover = Handover::new(MemberId(2), Mono(0));
        assert_eq!(handover.step(Mono(0), Some(Mono(9))), Step::Wait(Mono(9)));
        for _ in 0..3 {
            let at = handover.next_ask;
            assert_eq!(handover.step(at, None), Step::Ask);
            assert_eq!(
                handover.step(at, None),
                if handover.asks == 3 { Step::Spent } else { Step::Wait(handover.next_ask) }
            );
        }
    }
}
