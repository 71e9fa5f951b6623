//! A node's clocks: monotonic with a drift of its own, wall with an error of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::Context;
use std::time::Duration;

use bzzz::consensus::NodeScope;
use bzzz::ports::Clock;
use bzzz::types::{Mono, Wall};

use crate::heap::Heap;
use crate::rng::Stream;

/// When every simulation begins, in milliseconds since the epoch.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// The time of day by a clock that is right.
pub fn true_wall(heap: &Heap) -> Wall {
    Wall(EPOCH_MS + heap.now_us() / 1_000)
}

/// One incarnation of a node, as long as it lives: its clocks, and whether its tasks may run.
pub struct SimClock {
    heap: Heap,
    rate: f64,
    /// Shared with the machine, whose clock may be set at any time.
    wall_error_ms: Arc<AtomicI64>,
    alive: Arc<AtomicBool>,
    seeds: Stream,
}

impl SimClock {
    /// Clocks that run `drift_permille` fast (or slow), with a wall clock that is off.
    pub fn new(
        heap: Heap,
        drift_permille: i64,
        wall_error_ms: Arc<AtomicI64>,
        alive: Arc<AtomicBool>,
        seeds: Stream,
    ) -> Self {
        Self { heap, rate: 1.0 + drift_permille as f64 / 1_000.0, wall_error_ms, alive, seeds }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Mono {
        // Ten seconds are added so that nothing starts at the origin of a clock.
        Mono((self.heap.now_us() as f64 * self.rate) as u64 + 10_000_000)
    }

    fn wall(&self) -> Wall {
        let error_ms = self.wall_error_ms.load(Ordering::Relaxed);
        Wall(true_wall(&self.heap).0.saturating_add_signed(error_ms))
    }

    fn alarm(&self, after: Duration, then: Box<dyn FnOnce() + Send>) {
        let alive = self.alive.clone();
        self.heap.schedule(self.real(after), move || {
            if alive.load(Ordering::Relaxed) {
                then();
            }
        });
    }
}

impl NodeScope for SimClock {
    fn now(&self) -> Mono {
        Clock::now(self)
    }

    fn real(&self, duration: Duration) -> Duration {
        // Rounded up, so that an alarm never rings before its time on the node's own clock.
        Duration::from_micros((duration.as_micros() as f64 / self.rate).ceil() as u64)
    }

    fn seed(&self) -> u64 {
        self.seeds.next_u64()
    }

    fn may_run(&self, _context: &mut Context<'_>) -> bool {
        self.alive.load(Ordering::Relaxed)
    }
}
