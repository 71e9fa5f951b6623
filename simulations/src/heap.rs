//! The one heap of events that everything outside the nodes waits in: deliveries, disk
//! completions, alarms, faults. Events of the same time run in the order in which they were made.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use bzzz::types::Lock;

use tokio::sync::Notify;
use tokio::time::Instant;

type Action = Box<dyn FnOnce() + Send>;

struct Scheduled {
    at_us: u64,
    seq: u64,
    action: Action,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Scheduled {
    fn key(&self) -> (u64, u64) {
        (self.at_us, self.seq)
    }
}

#[derive(Default)]
struct Inner {
    queue: BinaryHeap<Reverse<Scheduled>>,
    seq: u64,
}

/// The heap; cheap to clone.
#[derive(Clone)]
pub struct Heap {
    inner: Arc<Mutex<Inner>>,
    earlier: Arc<Notify>,
    start: Instant,
}

thread_local! {
    static RUNNING: RefCell<bool> = const { RefCell::new(false) };
    /// The virtual time, once somebody has asked for it since it last moved.
    static NOW_US: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Virtual time may have moved. It moves only while the runtime is parked, so the runtime calls
/// this whenever it wakes up; in between, the time is read once.
pub fn time_moved() {
    NOW_US.set(None);
}

impl Default for Heap {
    /// An empty heap; virtual time begins now.
    fn default() -> Self {
        time_moved();
        Self { inner: Arc::default(), earlier: Arc::new(Notify::new()), start: Instant::now() }
    }
}

impl Heap {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// Virtual time in microseconds.
    pub fn now_us(&self) -> u64 {
        NOW_US.get().unwrap_or_else(|| {
            let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
            NOW_US.set(Some(now));
            now
        })
    }

    /// Runs `action` after `after`.
    pub fn schedule(&self, after: Duration, action: impl FnOnce() + Send + 'static) {
        let at_us = self.now_us() + u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let mut inner = self.lock();
        inner.seq += 1;
        let seq = inner.seq;
        let is_first = inner.queue.peek().is_none_or(|Reverse(first)| at_us < first.at_us);
        inner.queue.push(Reverse(Scheduled { at_us, seq, action: Box::new(action) }));
        drop(inner);
        if is_first && !RUNNING.with_borrow(|running| *running) {
            self.earlier.notify_one();
        }
    }

    /// Forgets what waits: it holds whatever it is to happen to, and that holds the heap.
    pub fn clear(&self) {
        let queue = std::mem::take(&mut self.lock().queue);
        drop(queue);
    }

    fn pop_due(&self) -> Option<Action> {
        let now = self.now_us();
        let mut inner = self.lock();
        let due = inner.queue.peek().is_some_and(|Reverse(first)| first.at_us <= now);
        if due { inner.queue.pop().map(|Reverse(first)| first.action) } else { None }
    }

    /// Runs events as they become due, for ever.
    pub async fn run(self) {
        loop {
            RUNNING.set(true);
            while let Some(action) = self.pop_due() {
                action();
            }
            RUNNING.set(false);
            let next = self.lock().queue.peek().map(|Reverse(first)| first.at_us);
            let mut earlier = pin!(self.earlier.notified());
            let Some(next) = next else {
                earlier.await;
                continue;
            };
            let mut sleep =
                pin!(tokio::time::sleep_until(self.start + Duration::from_micros(next)));
            // Whichever comes first; both are polled in the same order every time.
            std::future::poll_fn(|context| {
                if sleep.as_mut().poll(context).is_ready()
                    || earlier.as_mut().poll(context).is_ready()
                {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_run_at_their_time_in_the_order_in_which_they_were_made() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let runtime = crate::run::runtime();
        let log = seen.clone();
        runtime.block_on(async move {
            let heap = Heap::default();
            tokio::spawn(heap.clone().run());
            for (name, after_us) in [("late", 5_000), ("first", 2_000), ("second", 2_000)] {
                let (log, clock) = (log.clone(), heap.clone());
                heap.schedule(Duration::from_micros(after_us), move || {
                    log.lock().unwrap().push((name, clock.now_us()));
                });
            }
            assert_eq!(heap.now_us(), 0);
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(heap.now_us(), 1_000, "time moves for who waits outside the heap as well");
            tokio::time::sleep(Duration::from_millis(9)).await;
        });
        let expected = [("first", 2_000), ("second", 2_000), ("late", 5_000)];
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}
