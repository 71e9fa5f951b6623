//! Threads for work that takes a processor for a while. They are started when there is something to do
//! for the first time, and end with their owner.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};

use crate::ports::work::{Job, Workers};
use crate::types::Lock;

/// Jobs that wait; more are turned away.
const WAITING_MAX: usize = 256;

/// A few threads with one queue.
pub struct Threads {
    count: usize,
    queue: OnceLock<Option<SyncSender<Job>>>,
}

impl Threads {
    /// As many threads as said, at least one.
    pub fn new(count: usize) -> Self {
        Self { count: count.max(1), queue: OnceLock::new() }
    }

    fn start(&self) -> Option<SyncSender<Job>> {
        let (queue, jobs) = sync_channel::<Job>(WAITING_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let started = (0..self.count).filter(|number| {
            let jobs = jobs.clone();
            let thread = std::thread::Builder::new().name(format!("work {number}"));
            thread.spawn(move || work(&jobs)).is_ok()
        });
        // With fewer threads it takes longer; with none nothing would ever be done.
        (started.count() > 0).then_some(queue)
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = jobs.locked().recv();
        let Ok(job) = next else { return };
        // Whoever waits for it is told by what is dropped with it.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
            tracing::error!("a piece of work failed");
        }
    }
}

impl Workers for Threads {
    fn run(&self, job: Job) -> bool {
        let Some(queue) = self.queue.get_or_init(|| self.start()) else { return false };
        match queue.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn jobs_are_done_in_order_and_one_that_panics_keeps_nobody_from_going_on() {
        let threads = Threads::new(1);
        let (done, order) = channel();
        for number in 0..5 {
            let done = done.clone();
            assert!(threads.run(Box::new(move || {
                assert!(number != 2, "this one fails");
                done.send(number).unwrap();
            })));
        }
        drop(done);
        assert_eq!(order.iter().collect::<Vec<_>>(), [0, 1, 3, 4]);
    }

    #[test]
    fn what_is_too_much_is_turned_away() {
        let threads = Threads::new(1);
        let (release, held) = channel::<()>();
        assert!(
            threads.run(Box::new(move || assert!(held.recv().is_err(), "until it is released")))
        );
        let taken = (0..2 * WAITING_MAX).filter(|_| threads.run(Box::new(|| {}))).count();
        assert!((WAITING_MAX - 1..=WAITING_MAX).contains(&taken), "{taken}");
        drop(release);
    }
}
