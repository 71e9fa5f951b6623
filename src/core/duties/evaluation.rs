//! The duty to note that the leader was evaluated: once a day it is compared with the other voters at a
//! smaller margin (`core::election`), and everybody has to know when that was.

use std::time::Duration;

use super::{Duty, Look, Sight, Step};
use crate::core::election::evaluation_due;
use crate::messages::command::EvaluationCommand;

/// What people call it.
pub const NAME: &str = "evaluation";

/// How long an evaluation is due before it is noted: the election, which looks every second, compares
/// for as long. It counts from when it became due, so that a new leader does not begin anew.
const COMPARED_FOR: Duration = Duration::from_secs(3);

/// Notes evaluations.
pub struct Evaluation {
    interval: Duration,
}

impl Evaluation {
    /// With this time between two evaluations.
    pub fn new(interval: Duration) -> Self {
        Self { interval }
    }
}

impl Duty for Evaluation {
    fn name(&self) -> &'static str {
        NAME
    }

    fn begin(&mut self, _sight: &Sight<'_>) {}

    fn look(&mut self, sight: &Sight<'_>) -> Look {
        let view = &sight.standing.view;
        if view.cluster.made.is_none() {
            return Look::rest("there is no cluster yet");
        }
        let (last, wall) = (view.evaluation.at, sight.wall);
        if evaluation_due(wall, last, self.interval + COMPARED_FOR) {
            let why = format!("it was compared with the others; the last time was {last}");
            return Look::act(
                Step::Propose(EvaluationCommand::Done.into()),
                "note the evaluation",
                why,
            );
        }
        let due = last.plus(self.interval);
        let (next, why) = match evaluation_due(wall, last, self.interval) {
            true => (due.plus(COMPARED_FOR), "that is due".to_owned()),
            false => (due, format!("that is due at {due}")),
        };
        let left = Duration::from_millis(next.0.saturating_sub(wall.0) + 1);
        let again = sight.now + left.min(Duration::from_secs(3_600));
        Look::wait("compare the leader with the other voters", why, again)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::control::{Cluster, View};
    use crate::core::fixture::{self, sight};
    use crate::core::standing::Standing;
    use crate::types::{ClusterId, MemberId, Mono, Wall};

    #[test]
    fn an_evaluation_is_noted_once_the_election_has_had_its_look() {
        let mut standing = Standing::new(MemberId(1));
        let linked = [].into();
        let mut duty = Evaluation::new(Duration::from_secs(100));
        let at = |standing: &Standing, now: u64, duty: &mut Evaluation| {
            let now = Mono(now * 1_000_000);
            let wall = Wall(now.0 / 1_000);
            duty.look(&Sight { now, wall, ..sight(standing, &linked) })
        };
        assert_eq!(at(&standing, 500, &mut duty).step, None, "there is no cluster");
        let cluster = Cluster { id: ClusterId([1; 16]), name: "c".into(), founded_at: Wall(0) };
        let cluster = fixture::made(Some(cluster));
        standing.view = Arc::new(View { cluster, ..View::default() });
        let early = at(&standing, 99, &mut duty);
        assert_eq!((early.step, early.again), (None, Some(Mono(100_001_000))));
        assert_eq!(at(&standing, 101, &mut duty).again, Some(Mono(103_001_000)));
        // Another leader does not put it off.
        let mut duty = Evaluation::new(Duration::from_secs(100));
        assert_eq!(at(&standing, 102, &mut duty).step, None);
        assert!(at(&standing, 104, &mut duty).step.is_some());
    }
}
