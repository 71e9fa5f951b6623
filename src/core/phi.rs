//! Suspicion: how unlikely is it that a peer which has been silent this long is alive?
//!
//! The phi-accrual failure detector of Hayashibara et al. (SRDS 2004): arrivals of heartbeats are
//! taken as normally distributed, and phi = -log10(P(a heartbeat comes this late or later)).
//! Instead of computing phi at every tick, `deadline` gives the time at which it will pass the
//! threshold, so a machine can sleep until then.
//!
//! Suspicion informs people and placement. It never decides an election.

use std::time::Duration;

use crate::types::Mono;

/// Arrivals that the estimate remembers.
const WINDOW: usize = 32;
/// Standard deviations above the mean at which phi passes 8: one wrong suspicion in 10^8.
const SIGMAS: f64 = 5.612;
/// Least standard deviation assumed, so that a very regular peer is not suspected for a hiccup.
const SIGMA_MIN_US: f64 = 50_000.0;

/// The estimate for one peer.
#[derive(Clone, Debug)]
pub struct Detector {
    last: Mono,
    intervals_us: [f64; WINDOW],
    count: usize,
}

impl Detector {
    /// A detector that has just heard the peer and expects it every `interval`.
    pub fn new(now: Mono, interval: Duration) -> Self {
        let mut intervals_us = [0.0; WINDOW];
        intervals_us[0] = interval.as_micros() as f64;
        Self { last: now, intervals_us, count: 1 }
    }

    /// The peer was heard.
    pub fn heard(&mut self, now: Mono) {
        self.intervals_us[self.count % WINDOW] = now.since(self.last).as_micros() as f64;
        self.count += 1;
        self.last = now;
    }

    /// When the peer was last heard.
    pub fn last(&self) -> Mono {
        self.last
    }

    /// Mean and standard deviation of the arrivals, in microseconds.
    fn estimate(&self) -> (f64, f64) {
        let known = &self.intervals_us[..self.count.min(WINDOW)];
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let variance =
            known.iter().map(|i| (i - mean) * (i - mean)).sum::<f64>() / known.len() as f64;
        (mean, variance.sqrt().max(SIGMA_MIN_US))
    }

    /// From when on the peer is suspected, unless it is heard before.
    pub fn deadline(&self) -> Mono {
        let (mean, sigma) = self.estimate();
        // A pause of the peer must not make the detector blind for minutes.
        let wait = (mean + SIGMAS * sigma).min(2_000_000.0);
        self.last + Duration::from_micros(wait as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(200);

    #[test]
    fn a_regular_peer_is_suspected_within_half_a_second() {
        let mut now = Mono(0);
        let mut detector = Detector::new(now, INTERVAL);
        for _ in 0..50 {
            now = now + INTERVAL;
            detector.heard(now);
        }
        let wait = detector.deadline().since(now);
        assert!(wait > Duration::from_millis(400) && wait < Duration::from_millis(500), "{wait:?}");
    }

    #[test]
    fn an_irregular_peer_gets_more_time_but_not_forever() {
        let mut now = Mono(0);
        let mut detector = Detector::new(now, INTERVAL);
        for round in 0..50 {
            now = now + if round % 2 == 0 { INTERVAL } else { INTERVAL * 4 };
            detector.heard(now);
        }
        assert!(detector.deadline().since(now) > Duration::from_secs(1));
        detector.heard(now + Duration::from_secs(600));
        let wait = detector.deadline().since(detector.last());
        assert!(wait <= Duration::from_secs(2), "{wait:?}");
    }
}
