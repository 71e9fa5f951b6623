//! Restart what, or give up: the decisions of a supervisor, without the supervisor.
//!
//! Words and meaning are those of Erlang/OTP's `supervisor`: strategies, restart types, and an
//! intensity (restarts tolerated) within a period.
//!
//! Flow: a child exits, the supervisor asks `on_exit`, and carries out the `Decision`.
//!
//! Invariants:
//! 1. No more than `intensity` restarts happen within any `period`; the next one is `GiveUp`.
//! 2. Children are stopped in reverse order of their start, and started in order.
//! 3. A child that ended by itself is restarted only if it is permanent, or transient and failed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::Mono;

/// Which children a failure takes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Only the one that failed.
    OneForOne,
    /// The one that failed and those started after it.
    RestForOne,
    /// All.
    OneForAll,
}

/// When a child that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartType {
    /// Always.
    Permanent,
    /// Only if it failed.
    Transient,
    /// Never.
    Temporary,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to, or was done.
    Normal,
    /// It panicked or returned an error.
    Failed,
}

/// What the supervisor has to do now. Numbers are positions in its list of children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing; the child stays away.
    LeaveStopped,
    /// Stop the first list in its order, then start the second list in its order.
    Restart {
        /// Still running children that must stop first, last started first.
        stop: Vec<usize>,
        /// Children to start, first to be started first.
        start: Vec<usize>,
    },
    /// Too many restarts: stop everything and fail upwards.
    GiveUp,
}

/// The restarts of one supervisor.
#[derive(Debug)]
pub struct Restarts {
    strategy: Strategy,
    intensity: u32,
    period: Duration,
    children: Vec<RestartType>,
    recent: VecDeque<Mono>,
}

impl Restarts {
    /// A supervisor with these children, in the order of their start.
    pub fn new(
        strategy: Strategy,
        intensity: u32,
        period: Duration,
        children: Vec<RestartType>,
    ) -> Self {
        Self { strategy, intensity, period, children, recent: VecDeque::new() }
    }

    /// Restarts within the period that ends now.
    pub fn recent(&self, now: Mono) -> usize {
        self.recent.iter().filter(|at| now.since(**at) < self.period).count()
    }

    /// A child ended; `running` tells which of the others run.
    pub fn on_exit(&mut self, now: Mono, child: usize, exit: Exit, running: &[bool]) -> Decision {
        assert_eq!(running.len(), self.children.len(), "one flag per child");
        let again = match self.children[child] {
            RestartType::Permanent => true,
            RestartType::Transient => exit == Exit::Failed,
            RestartType::Temporary => false,
        };
        if !again {
            return Decision::LeaveStopped;
        }
        while self.recent.front().is_some_and(|at| now.since(*at) >= self.period) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if self.recent.len() > self.intensity as usize {
            return Decision::GiveUp;
        }
        self.restart(child, running)
    }

    fn restart(&self, child: usize, running: &[bool]) -> Decision {
        let taken_along = |other: usize| match self.strategy {
            Strategy::OneForOne => false,
            Strategy::RestForOne => other > child,
            Strategy::OneForAll => other != child,
        };
        let stop =
            (0..self.children.len()).rev().filter(|c| taken_along(*c) && running[*c]).collect();
        // A temporary child that a neighbour takes along is not started again.
        let start = (0..self.children.len())
            .filter(|c| {
                *c == child || (taken_along(*c) && self.children[*c] != RestartType::Temporary)
            })
            .collect();
        Decision::Restart { stop, start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    fn at(second: u64) -> Mono {
        Mono(0) + Duration::from_secs(second)
    }

    fn restarts(strategy: Strategy) -> Restarts {
        Restarts::new(strategy, 2, PERIOD, vec![RestartType::Permanent; 3])
    }

    #[test]
    fn strategies_take_along_whom_otp_says() {
        let all = [true, false, true];
        let decide = |strategy| restarts(strategy).on_exit(at(0), 1, Exit::Failed, &all);
        assert_eq!(decide(Strategy::OneForOne), Decision::Restart { stop: vec![], start: vec![1] });
        assert_eq!(
            decide(Strategy::RestForOne),
            Decision::Restart { stop: vec![2], start: vec![1, 2] }
        );
        assert_eq!(
            decide(Strategy::OneForAll),
            Decision::Restart { stop: vec![2, 0], start: vec![0, 1, 2] }
        );
    }

    #[test]
    fn intensity_counts_within_the_period_only() {
        let mut slow = restarts(Strategy::OneForOne);
        for second in [0, 5, 10, 15, 20, 25] {
            assert_ne!(
                slow.on_exit(at(second), 0, Exit::Failed, &[false, true, true]),
                Decision::GiveUp
            );
        }
        let mut fast = restarts(Strategy::OneForOne);
        for second in [0, 1] {
            assert_ne!(
                fast.on_exit(at(second), 0, Exit::Failed, &[false, true, true]),
                Decision::GiveUp
            );
        }
        assert_eq!(fast.on_exit(at(2), 0, Exit::Failed, &[false, true, true]), Decision::GiveUp);
    }

    #[test]
    fn restart_types() {
        let decide = |kind, exit| {
            Restarts::new(Strategy::OneForOne, 2, PERIOD, vec![kind]).on_exit(
                at(0),
                0,
                exit,
                &[false],
            ) != Decision::LeaveStopped
        };
        assert!(decide(RestartType::Permanent, Exit::Normal));
        assert!(!decide(RestartType::Transient, Exit::Normal));
        assert!(decide(RestartType::Transient, Exit::Failed));
        assert!(!decide(RestartType::Temporary, Exit::Failed));
    }

    #[test]
    fn a_temporary_child_taken_along_stays_away() {
        let kinds = vec![RestartType::Permanent, RestartType::Temporary, RestartType::Permanent];
        let mut restarts = Restarts::new(Strategy::RestForOne, 2, PERIOD, kinds);
        assert_eq!(
            restarts.on_exit(at(0), 0, Exit::Failed, &[false, true, true]),
            Decision::Restart { stop: vec![2, 1], start: vec![0, 2] }
        );
    }
}
