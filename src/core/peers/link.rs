//! One connected peer: what was measured of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::cluster_time;
use crate::core::phi::Detector;
use crate::messages::wire::{Announcement, LinkReport};
use crate::types::{BootId, MemberId, Mono, PeerId, Wall};

/// How often a known peer is pinged.
pub const PING_INTERVAL: Duration = Duration::from_millis(200);
/// Pings without an answer that are remembered; older ones count as lost.
const PINGS_OPEN_MAX: usize = 16;
/// Pings over which availability is counted, as an exponential window.
const AVAILABILITY_WEIGHT: f64 = 1.0 / 300.0;

/// A round trip that takes longer says nothing of a clock.
const CLOCK_ROUND_TRIP_MAX_US: u64 = 2_000_000;
/// How long a known run has to answer a ping before another run takes its place.
const CONTEST: Duration = Duration::from_millis(700);

/// What becomes of a run that claims the identity of a known one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contest {
    /// The known one is gone.
    Accept,
    /// Not decided yet.
    Wait,
    /// The known one lives.
    Refuse,
}

/// A connection and what is known of the peer behind it.
pub struct Link {
    /// True once the peer accepted this node's hello. Until then it is said again and again: it may
    /// get lost, and a peer that has not seen this node admitted yet drops it.
    pub welcomed: bool,
    /// Once the peer's hello was accepted: its run.
    pub boot: Option<BootId>,
    /// Another run that claims the same identity, and since when it does.
    pub contender: Option<(BootId, Mono)>,
    /// Suspicion, once the hello was accepted.
    pub detector: Option<Detector>,
    /// True while the peer is silent for too long.
    pub suspected: bool,
    /// When something else than what the peers say to each other was sent last.
    pub used: Mono,
    /// When the newest ping that the known run answered was sent.
    proven_at: Option<Mono>,
    answering_since: Mono,
    pings: BTreeMap<u64, Mono>,
    rtt_us: Option<f64>,
    /// By how many milliseconds the peer's time of day is ahead of this node's monotonic clock.
    clock_ms: Option<i64>,
    availability: f64,
}

impl Link {
    /// A connection that has just come up.
    pub fn new(now: Mono) -> Self {
        Self {
            welcomed: false,
            boot: None,
            contender: None,
            detector: None,
            suspected: false,
            used: now,
            proven_at: None,
            answering_since: now,
            pings: BTreeMap::new(),
            rtt_us: None,
            clock_ms: None,
            availability: 1.0,
        }
    }

    /// True while the peer is known and not suspected.
    pub fn answers(&self) -> bool {
        self.detector.is_some() && !self.suspected
    }

    /// The peer's hello was accepted.
    pub fn accept(&mut self, now: Mono, boot: BootId) {
        self.boot = Some(boot);
        self.contender = None;
        self.pings.clear();
        self.detector = Some(Detector::new(now, PING_INTERVAL));
        self.suspected = false;
        self.answering_since = now;
    }

    /// A ping goes out.
    pub fn pinged(&mut self, nonce: u64, now: Mono) {
        self.pings.insert(nonce, now);
        while self.pings.len() > PINGS_OPEN_MAX {
            self.pings.pop_first();
            self.availability -= self.availability * AVAILABILITY_WEIGHT;
        }
    }

    /// What to do about a hello of another run than the known one: the known one gets a while to
    /// show that it lives. A process that was killed and started again at once does not.
    pub fn contend(&mut self, now: Mono, boot: BootId) -> Contest {
        if self.boot.is_none() || !self.answers() {
            return Contest::Accept;
        }
        match self.contender {
            Some((contender, since)) if contender == boot => {
                if self.proven_at.is_some_and(|at| at >= since) {
                    Contest::Refuse
                } else if now.since(since) >= CONTEST {
                    Contest::Accept
                } else {
                    Contest::Wait
                }
            }
            _ => {
                self.contender = Some((boot, now));
                Contest::Wait
            }
        }
    }

    /// How long the answer to this ping took, if it is one of the run that was asked.
    pub fn round_trip(&self, nonce: u64, boot: BootId, now: Mono) -> Option<Duration> {
        let sent = self.pings.get(&nonce).filter(|_| self.boot == Some(boot));
        sent.map(|sent| now.since(*sent))
    }

    /// An answer came, from a run that had this time of day. Returns true if the peer had been suspected until now.
    pub fn ponged(&mut self, nonce: u64, (boot, theirs): (BootId, Wall), now: Mono) -> bool {
        let Some(round_trip) = self.round_trip(nonce, boot, now) else { return false };
        let Some(sent) = self.pings.remove(&nonce) else { return false };
        self.proven_at = Some(sent);
        self.availability += (1.0 - self.availability) * AVAILABILITY_WEIGHT;
        let round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        // It was read in the middle of the round trip, unless this process stood still for a part of that.
        if round_trip_us <= CLOCK_ROUND_TRIP_MAX_US {
            let read_at = Mono(now.0.saturating_sub(round_trip_us / 2));
            self.clock_ms = Some(cluster_time::offset_ms(theirs, read_at));
        }
        let sample = round_trip_us as f64;
        // The smoothing of TCP (RFC 6298).
        self.rtt_us = Some(self.rtt_us.map_or(sample, |rtt| rtt + (sample - rtt) / 8.0));
        if let Some(detector) = &mut self.detector {
            detector.heard(now);
        }
        let again = std::mem::take(&mut self.suspected);
        if again {
            self.answering_since = now;
        }
        again
    }

    /// True once a round trip was measured.
    pub fn is_measured(&self) -> bool {
        self.rtt_us.is_some()
    }

    /// By how many milliseconds the time of day of a peer that answers is ahead of this node's monotonic clock.
    pub fn clock_ms(&self) -> Option<i64> {
        self.clock_ms.filter(|_| self.answers())
    }

    /// What is reported to the leader.
    pub fn report(&self, now: Mono) -> LinkReport {
        LinkReport {
            rtt_us: self.rtt_us.unwrap_or(0.0) as u32,
            up_s: u32::try_from(now.since(self.answering_since).as_secs()).unwrap_or(u32::MAX),
            availability_permille: (self.availability * 1_000.0).round() as u16,
        }
    }
}

/// A member as this node sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its member id.
    pub member: MemberId,
    /// Its key.
    pub peer: PeerId,
    /// True while it is connected and answers.
    pub answers: bool,
    /// True if it is not connected and nothing speaks against it: in a large cluster most members are reached on demand.
    pub presumed: bool,
    /// What was measured, if it is connected.
    pub link: Option<LinkReport>,
    /// What it said of itself last, and for how many more seconds that is worth anything.
    pub announcement: Option<(Announcement, u32)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Mono {
        Mono(ms * 1_000)
    }

    fn known() -> Link {
        let mut link = Link::new(ms(0));
        link.accept(ms(0), BootId(1));
        link
    }

    #[test]
    fn a_run_that_answers_keeps_its_identity() {
        let mut link = known();
        assert_eq!(link.contend(ms(100), BootId(2)), Contest::Wait);
        link.pinged(7, ms(200));
        link.ponged(7, (BootId(1), Wall(0)), ms(201));
        assert_eq!(link.contend(ms(300), BootId(2)), Contest::Refuse);
    }

    #[test]
    fn a_run_that_is_silent_is_replaced() {
        let mut link = known();
        link.pinged(6, ms(50));
        assert_eq!(link.contend(ms(100), BootId(2)), Contest::Wait);
        // An answer that was under way when the contender came proves nothing, nor does one of
        // the contender itself.
        link.ponged(6, (BootId(1), Wall(0)), ms(110));
        link.pinged(7, ms(200));
        link.ponged(7, (BootId(2), Wall(0)), ms(201));
        assert_eq!(link.contend(ms(300), BootId(2)), Contest::Wait);
        assert_eq!(link.contend(ms(800), BootId(2)), Contest::Accept);
    }
}
