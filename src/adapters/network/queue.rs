//! What waits between a sender and the stream of a lane: a bounded queue that never blocks, and the
//! bucket that slows down who sends too fast.
//!
//! Invariants:
//! 1. A queue holds at most `SEND_QUEUE_FRAMES_MAX` frames and `SEND_QUEUE_BYTES_MAX` bytes.
//! 2. At most one writer drains a queue: the one that was attached last. A frame is taken out once,
//!    so it is never written twice.
//! 3. A writer that finds the queue empty is woken by the next frame; no wake-up can get lost to a
//!    writer that was replaced, because each has its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::types::Lock;
use crate::types::limits::{SEND_QUEUE_BYTES_MAX, SEND_QUEUE_FRAMES_MAX, WRITE_CHUNK};

/// Locks a mutex; a panic of another holder does not take the network down.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.locked()
}

/// What became of a frame that was pushed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits, and a writer knows.
    Queued,
    /// It waits for a writer, and is the first to do so.
    Unattended,
    /// There was no room.
    Full,
}

/// What a writer got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Popped {
    /// So many frames, now in the buffer.
    Frames(usize),
    /// Nothing waits.
    Empty,
    /// Another writer has taken over.
    Replaced,
}

/// The right to drain a queue.
pub(super) type Writer = Arc<Notify>;

/// Frames that wait for one peer on one lane.
#[derive(Default)]
pub(super) struct LaneQueue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    writer: Option<Writer>,
}

impl LaneQueue {
    /// Queues a frame if there is room.
    pub(super) fn push(&self, frame: Vec<u8>) -> Pushed {
        let mut waiting = lock(&self.0);
        if waiting.frames.len() >= SEND_QUEUE_FRAMES_MAX
            || waiting.bytes + frame.len() > SEND_QUEUE_BYTES_MAX
        {
            return Pushed::Full;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        match &waiting.writer {
            Some(writer) => writer.notify_one(),
            None if waiting.frames.len() == 1 => return Pushed::Unattended,
            None => {}
        }
        Pushed::Queued
    }

    /// Makes a new writer the only one.
    pub(super) fn attach(&self) -> Writer {
        let writer = Writer::default();
        lock(&self.0).writer = Some(writer.clone());
        writer
    }

    /// Takes the queue from whoever drains it; frames go on waiting.
    pub(super) fn detach(&self) {
        lock(&self.0).writer = None;
    }

    /// True if no frame waits.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).frames.is_empty()
    }

    /// Appends waiting frames to `buffer`, each after its length, until about `WRITE_CHUNK` bytes.
    pub(super) fn pop_into(&self, writer: &Writer, buffer: &mut Vec<u8>) -> Popped {
        let mut waiting = lock(&self.0);
        if !waiting.writer.as_ref().is_some_and(|current| Arc::ptr_eq(current, writer)) {
            return Popped::Replaced;
        }
        let mut count = 0;
        while let Some(frame) = waiting.frames.front() {
            if count > 0 && buffer.len() + 4 + frame.len() > WRITE_CHUNK {
                break;
            }
            // The length was checked when the frame was sent, so it fits in 32 bits.
            buffer.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            buffer.extend_from_slice(frame);
            waiting.bytes -= frame.len();
            waiting.frames.pop_front();
            count += 1;
        }
        if count == 0 { Popped::Empty } else { Popped::Frames(count) }
    }
}

/// A token bucket that holds what may come in one second. It may go into debt by one token, and says
/// for how long whoever took it must then pause.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, tokens: per_second, filled: Instant::now() }
    }

    fn fill(&mut self) {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + passed * self.per_second).min(self.per_second);
    }

    /// Takes a token, and returns the pause that this costs.
    pub(super) fn take(&mut self) -> Option<Duration> {
        // A clock reading per frame is only paid once half of the second's share is used up.
        if self.tokens < self.per_second / 2.0 {
            self.fill();
        }
        self.tokens -= 1.0;
        (self.tokens < 0.0).then(|| Duration::from_secs_f64(-self.tokens / self.per_second))
    }

    /// How many tokens there are.
    pub(super) fn level(&mut self) -> f64 {
        self.fill();
        self.tokens
    }

    /// Takes a token if there is one.
    pub(super) fn try_take(&mut self) -> bool {
        self.fill();
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_bounded_by_count_and_by_bytes() {
        let queue = LaneQueue::default();
        assert_eq!(queue.push(vec![0]), Pushed::Unattended);
        for _ in 1..SEND_QUEUE_FRAMES_MAX {
            assert_eq!(queue.push(vec![0]), Pushed::Queued);
        }
        assert_eq!(queue.push(vec![0]), Pushed::Full);
        let queue = LaneQueue::default();
        assert_eq!(queue.push(vec![0; SEND_QUEUE_BYTES_MAX - 1]), Pushed::Unattended);
        assert_eq!(queue.push(vec![0; 2]), Pushed::Full);
        assert_eq!(queue.push(vec![0; 1]), Pushed::Queued);
    }

    #[test]
    fn a_replaced_writer_gets_nothing_more() {
        let queue = LaneQueue::default();
        let old = queue.attach();
        queue.push(vec![7]);
        let new = queue.attach();
        let mut buffer = Vec::new();
        assert_eq!(queue.pop_into(&old, &mut buffer), Popped::Replaced);
        assert_eq!(queue.pop_into(&new, &mut buffer), Popped::Frames(1));
        assert_eq!(buffer, [1, 0, 0, 0, 7]);
        assert_eq!(queue.pop_into(&new, &mut buffer), Popped::Empty);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_goes_into_debt_by_a_token_and_refills() {
        let mut bucket = Bucket::new(10);
        assert!((0..10).all(|_| bucket.take().is_none()));
        assert_eq!(bucket.take(), Some(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((0..20).filter(|_| bucket.try_take()).count(), 10);
    }
}
