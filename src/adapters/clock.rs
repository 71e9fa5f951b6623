//! The clocks of this machine, and alarms on the tokio runtime.
//!
//! `now` is CLOCK_BOOTTIME, so time that the machine slept counts: a lease that ran out during
//! the sleep is seen to have run out. Alarms run on tokio's clock, which stands still while the
//! machine sleeps, so after a sleep an alarm may come late, never early. No safety argument rests
//! on an alarm; whoever is woken looks at `now`.

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
}

impl SystemClock {
    /// A clock that starts at zero now, whose alarms go off on `runtime` (with its timer enabled).
    pub fn start(runtime: Handle) -> Self {
        Self { runtime, origin_us: monotonic_us() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Mono {
        Mono(monotonic_us().saturating_sub(self.origin_us))
    }

    fn wall(&self) -> Wall {
        // A clock set before 1970 reads as 1970.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
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
