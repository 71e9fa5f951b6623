//! Why connections were closed by this side: counted for the metrics, and told in the log.
//!
//! A client in a loop can have a connection closed thousands of times a second, so the log gets one
//! line for each reason and ten seconds, which says how many there were.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::types::Lock;

/// How long the log is silent about a reason after it was told.
const SILENCE: Duration = Duration::from_secs(10);

/// Why a connection was closed, or not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The head of a request was not there in time.
    HeadSlow,
    /// The body of a request was not there in time.
    BodySlow,
    /// An answer was not read, or not fast enough.
    AnswerUnread,
    /// Nothing was asked any more.
    Idle,
    /// All places were taken, and this one went to a new connection.
    GaveWay,
    /// All places were taken, and nobody could give way to this one.
    TurnedAway,
    /// The system did not hand it over.
    NotAccepted,
}

/// Every reason with its label in the metrics and its words in the log, in the order of the enum.
pub const REASONS: [(Reason, &str, &str); 7] = [
    (Reason::HeadSlow, "head_slow", "sent no whole request head in time and were closed"),
    (Reason::BodySlow, "body_slow", "sent no whole request body in time and were closed"),
    (Reason::AnswerUnread, "answer_unread", "did not read what they were answered and were closed"),
    (Reason::Idle, "idle", "asked nothing more and were closed"),
    (
        Reason::GaveWay,
        "gave_way",
        "were the longest unproven, idle or unread and gave way to others",
    ),
    (Reason::TurnedAway, "turned_away", "found all places taken and were turned away"),
    (
        Reason::NotAccepted,
        "not_accepted",
        "could not be accepted, most often for lack of open files",
    ),
];

/// What the log has said about a reason.
#[derive(Clone, Copy, Default)]
struct Told {
    count: u64,
    at: Option<Instant>,
}

/// The counts of all reasons.
#[derive(Default)]
pub struct Closings {
    counts: [AtomicU64; REASONS.len()],
    told: Mutex<[Told; REASONS.len()]>,
}

impl Closings {
    /// Counts one.
    pub fn add(&self, reason: Reason) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn count(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    /// Says in the log what it has not said yet. Called often; it is silent most of the time.
    pub fn tell(&self, now: Instant) {
        for (reason, count) in self.news(now) {
            let (_, label, words) = REASONS[reason as usize];
            if reason == Reason::Idle {
                tracing::debug!(reason = label, count, "connections to the API {words}");
            } else {
                tracing::warn!(reason = label, count, "connections to the API {words}");
            }
        }
    }

    /// Reasons that it is time to tell, and how often they came since they were told last.
    fn news(&self, now: Instant) -> Vec<(Reason, u64)> {
        let mut told = self.told.locked();
        let pairs = REASONS.iter().zip(told.iter_mut());
        let news = pairs.filter_map(|((reason, ..), told)| {
            let count = self.count(*reason);
            let silent = told.at.is_some_and(|at| now.duration_since(at) < SILENCE);
            if silent || count == told.count {
                return None;
            }
            let fresh = count - told.count;
            *told = Told { count, at: Some(now) };
            Some((*reason, fresh))
        });
        news.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, (reason, ..)) in REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }

    #[test]
    fn the_log_says_each_reason_once_in_ten_seconds_and_forgets_none() {
        let (closings, start) = (Closings::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(closings.news(at(0)), []);
        closings.add(Reason::GaveWay);
        assert_eq!(closings.news(at(0)), [(Reason::GaveWay, 1)]);
        closings.add(Reason::GaveWay);
        closings.add(Reason::GaveWay);
        closings.add(Reason::HeadSlow);
        assert_eq!(closings.news(at(9)), [(Reason::HeadSlow, 1)], "one of another kind is told");
        assert_eq!(closings.news(at(10)), [(Reason::GaveWay, 2)]);
        assert_eq!(closings.news(at(30)), []);
        assert_eq!(closings.count(Reason::GaveWay), 3);
    }
}
