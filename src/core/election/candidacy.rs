//! When this voter runs for leadership.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::ctx::Rng;
use crate::core::fitness;
use crate::messages::wire::Scores;
use crate::types::limits::{
    CANDIDACY_SLACK_MS, ELECT_RETRY_MS, ELECTION_TIMEOUT_MAX_MS, ELECTION_TIMEOUT_MIN_MS,
    RANK_STEP_MS,
};
use crate::types::{MemberId, Mono};

/// Tries before the pauses between them become random.
const QUICK_TRIES: u32 = 5;

/// Decides when to campaign.
#[derive(Debug)]
pub struct Candidacy {
    own: MemberId,
    last_heard: Mono,
    last_leader: Option<MemberId>,
    next_try: Mono,
    /// Tries since a leader was heard.
    tries: u32,
}

impl Candidacy {
    /// A voter that starts now, and gives a leader time to be heard.
    pub fn new(own: MemberId, now: Mono) -> Self {
        Self { own, last_heard: now, last_leader: None, next_try: now, tries: 0 }
    }

    /// The leader was heard.
    pub fn heard(&mut self, leader: MemberId, at: Mono) {
        self.last_heard = self.last_heard.max(at);
        self.tries = 0;
        self.last_leader = Some(leader);
    }

    /// This voter's place among those who may run, the silent leader left out.
    fn rank(&self, voters: &BTreeSet<MemberId>, scores: &BTreeMap<MemberId, Scores>) -> u32 {
        let running = voters.iter().copied().filter(|voter| Some(*voter) != self.last_leader);
        let ranked = fitness::ranking(scores, running);
        let rank = ranked.iter().position(|voter| *voter == self.own).unwrap_or(ranked.len());
        u32::try_from(rank).unwrap_or(u32::MAX)
    }

    /// When this voter's turn comes if the leader stays silent.
    fn turn(
        &self,
        voters: &BTreeSet<MemberId>,
        scores: &BTreeMap<MemberId, Scores>,
        rtt_max: Duration,
    ) -> Mono {
        let step = rtt_max.max(Duration::from_millis(RANK_STEP_MS));
        let patience = Duration::from_millis(ELECTION_TIMEOUT_MAX_MS + CANDIDACY_SLACK_MS);
        self.last_heard + patience + step * self.rank(voters, scores)
    }

    /// The first tries follow each other closely, because the promises to the last leader run out at
    /// about that time. When they lead to nothing, voters are running against each other faster than
    /// their disks take votes in, and random pauses (Raft, section 5.2) part them.
    fn pause_ms(tries: u32, rng: &mut Rng) -> u64 {
        if tries <= QUICK_TRIES {
            return ELECT_RETRY_MS;
        }
        ELECTION_TIMEOUT_MIN_MS + rng.below(2 * ELECTION_TIMEOUT_MAX_MS - ELECTION_TIMEOUT_MIN_MS)
    }

    /// Asked at any time: run now, or when to ask again.
    pub fn decide(
        &mut self,
        now: Mono,
        voters: &BTreeSet<MemberId>,
        scores: &BTreeMap<MemberId, Scores>,
        rtt_max: Duration,
        rng: &mut Rng,
    ) -> Result<(), Mono> {
        let turn = self.turn(voters, scores, rtt_max).max(self.next_try);
        if now < turn {
            return Err(turn);
        }
        self.tries += 1;
        self.next_try = now + Duration::from_millis(Self::pause_ms(self.tries, rng));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    fn table() -> (BTreeSet<MemberId>, BTreeMap<MemberId, Scores>) {
        let voters: BTreeSet<MemberId> = (1..=5).map(MemberId).collect();
        let scores = voters
            .iter()
            .map(|voter| (*voter, Scores { overall: 100 * voter.0 as u16, ..Default::default() }))
            .collect();
        (voters, scores)
    }

    fn first_turn(own: u64, leader: u64) -> u64 {
        let (voters, scores) = table();
        let mut candidacy = Candidacy::new(MemberId(own), Mono(0));
        candidacy.heard(MemberId(leader), Mono(1_000 * MS));
        let rng = &mut Rng::from_seed([0; 32]);
        let turn = candidacy.decide(Mono(1_000 * MS), &voters, &scores, Duration::ZERO, rng);
        turn.unwrap_err().0 / MS
    }

    #[test]
    fn whoever_ran_in_vain_pauses_for_a_random_time_between_one_and_two_timeouts() {
        let rng = &mut Rng::from_seed([3; 32]);
        assert_eq!(Candidacy::pause_ms(QUICK_TRIES, rng), ELECT_RETRY_MS);
        let pauses: Vec<u64> =
            (0..1_000).map(|_| Candidacy::pause_ms(QUICK_TRIES + 1, rng)).collect();
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        let bounds = ELECTION_TIMEOUT_MIN_MS..2 * ELECTION_TIMEOUT_MAX_MS;
        assert!(bounds.contains(least) && bounds.contains(most), "{least} to {most}");
        assert!(most - least > 400, "{least} to {most}");
    }

    #[test]
    fn the_fittest_survivor_runs_first() {
        assert_eq!(first_turn(4, 5), 1_310, "the fittest that is left");
        assert_eq!(first_turn(3, 5), 1_325);
        assert_eq!(first_turn(1, 5), 1_355);
        assert_eq!(first_turn(5, 1), 1_310);
    }

    #[test]
    fn a_candidate_goes_on_asking_until_a_leader_is_heard() {
        let (voters, scores) = table();
        let mut candidacy = Candidacy::new(MemberId(4), Mono(0));
        candidacy.heard(MemberId(5), Mono(0));
        let rng = &mut Rng::from_seed([0; 32]);
        let mut decide =
            |now: u64| candidacy.decide(Mono(now * MS), &voters, &scores, Duration::ZERO, rng);
        assert_eq!(decide(310), Ok(()));
        assert_eq!(decide(311), Err(Mono(330 * MS)));
        for quick in [330, 350, 370, 390, 410] {
            assert_eq!(decide(quick), Ok(()), "{quick}");
        }
        let Err(Mono(next)) = decide(411) else { panic!("it did not pause") };
        assert!((410 + 150..410 + 600).contains(&(next / MS)), "{next}");
        assert_eq!(decide(410 + 600), Ok(()));

        candidacy.heard(MemberId(5), Mono(2_000 * MS));
        assert_eq!(candidacy.tries, 0, "the next time it is quick again");
    }

    #[test]
    fn slow_links_space_candidates_further_apart() {
        let (voters, scores) = table();
        let mut candidacy = Candidacy::new(MemberId(3), Mono(0));
        candidacy.heard(MemberId(5), Mono(0));
        let (rtt, rng) = (Duration::from_millis(80), &mut Rng::from_seed([0; 32]));
        let turn = candidacy.decide(Mono(0), &voters, &scores, rtt, rng);
        assert_eq!(turn, Err(Mono(390 * MS)));
    }
}
