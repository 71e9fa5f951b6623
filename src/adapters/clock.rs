//! The clocks of this machine, and alarms on the tokio runtime.
//!
//! `now` is CLOCK_BOOTTIME, so time that the machine slept counts: a lease that ran out during
//! the sleep is seen to have run out. Alarms run on tokio's clock, which stands still while the
//! machine sleeps, so after a sleep an alarm may come late, never early. No safety argument rests
//! on an alarm; whoever is woken looks at `now`.
//!
//! The time of day can be shown wrong, to watch what a wrong clock does to a cluster. That touches
//! neither `now` nor alarms, and the clock of the machine stays as it is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;

use crate::ports::Clock;
use crate::types::{Mono, Wall};

#[cfg(target_os = "linux")]
const MONOTONIC: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const MONOTONIC: ClockId = ClockId::Monotonic;

/// Microseconds on the monotonic clock, since an origin that the machine chose.
fn monotonic_us() -> u64 {
    let time = clock_gettime(MONOTONIC);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
}

/// The clocks of this machine. A process has one, made when it starts.
pub struct SystemClock {
    /// Where alarms wait. An alarm that is still waiting when it shuts down is dropped.
    runtime: Handle,
    /// The monotonic clock when this was made; `now` counts from here.
    origin_us: u64,
    /// How far ahead of the machine's the time of day is shown, in milliseconds.
    ahead_ms: AtomicI64,
}

impl SystemClock {
    /// A clock that starts at zero now, whose alarms go off on `runtime` (with its timer enabled).
    pub fn start(runtime: Handle) -> Self {
        Self { runtime, origin_us: monotonic_us(), ahead_ms: AtomicI64::new(0) }
    }

    /// Shows the time of day so many seconds ahead of the machine's from now on, or behind it.
    pub fn set_ahead(&self, seconds: i64) {
        self.ahead_ms.store(seconds.saturating_mul(1_000), Ordering::Relaxed);
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Mono {
        Mono(monotonic_us().saturating_sub(self.origin_us))
    }

    fn wall(&self) -> Wall {
        // A clock set before 1970 reads as 1970.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Wall(ms.saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed)))
    }

    fn alarm(&self, after: Duration, then: Box<dyn FnOnce() + Send>) {
        // The deadline is fixed here, so that waiting for the task's turn does not add to it.
        let inside = self.runtime.enter();
        let sleep = tokio::time::sleep(after);
        drop(inside);
        self.runtime.spawn(async move {
            sleep.await;
            then();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .expect("a runtime")
    }

    #[test]
    fn monotonic_time_starts_near_zero_and_never_runs_backwards() {
        let runtime = runtime();
        let clock = SystemClock::start(runtime.handle().clone());
        let mut last = clock.now();
        assert!(last < Mono(60_000_000), "{last:?} after the start");
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn wall_time_is_milliseconds_since_1970() {
        let runtime = runtime();
        let wall = SystemClock::start(runtime.handle().clone()).wall();
        assert!(wall > Wall(1_700_000_000_000) && wall < Wall(10_000_000_000_000), "{wall}");
    }

    #[test]
    fn the_time_of_day_can_be_shown_wrong_and_right_again() {
        let runtime = runtime();
        let clock = SystemClock::start(runtime.handle().clone());
        let (before, since) = (clock.wall(), clock.now());
        clock.set_ahead(3_600);
        assert!(clock.wall() >= Wall(before.0 + 3_600_000));
        clock.set_ahead(-3_600);
        // However long this test was held up, it was less than the hour between the two.
        assert!(clock.wall() < before, "an hour behind");
        assert!(clock.now().since(since) < Duration::from_secs(3_600), "only the time of day");
        clock.set_ahead(i64::MIN);
        assert_eq!(clock.wall(), Wall(0));
        clock.set_ahead(i64::MAX);
        assert!(clock.wall() > before, "as far as it goes, not around");
        clock.set_ahead(0);
        assert!(clock.wall() >= before && clock.wall() < Wall(before.0 + 3_600_000));
    }

    #[test]
    fn alarms_go_off_in_order_and_never_early() {
        let runtime = runtime();
        let clock = SystemClock::start(runtime.handle().clone());
        let (went_off, alarms) = mpsc::channel();
        for ms in [30_u64, 0, 10] {
            let went_off = went_off.clone();
            let set = clock.now();
            clock.alarm(
                Duration::from_millis(ms),
                Box::new(move || went_off.send((ms, set)).expect("the test waits")),
            );
        }
        // One that is out of reach is taken, too.
        clock.alarm(Duration::MAX, Box::new(|| unreachable!("this is long after the test")));
        for expected in [0, 10, 30] {
            let (ms, set) = alarms.recv_timeout(Duration::from_secs(10)).expect("an alarm");
            assert_eq!(ms, expected);
            assert!(clock.now().since(set) >= Duration::from_millis(ms));
        }
    }
}
