//! Writes in a steady rhythm through one node, and what came of each of them.
//!
//! A clock thread hands out one write every [`RHYTHM`], and a pool of threads carries them out, so
//! that a write that hangs does not hold up the next one. Each write is a new value or a new decision, in turn, and is tried
//! once: an acknowledged one must be there for ever, a refused one must say why, and one without
//! an answer is neither.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::item::Item;
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::types::Lock;

/// Time from one write to the next.
pub const RHYTHM: Duration = Duration::from_millis(20);
/// How long a write may take before it counts as one without an answer.
pub const WRITE_TIMEOUT: Duration = Duration::from_millis(1_200);
/// Threads that carry out writes: as many as can be under way at once.
const WORKERS: usize = 64;

const _: () = assert!(WRITE_TIMEOUT.as_millis() < RHYTHM.as_millis() * WORKERS as u128);

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened.
    Acknowledged {
        /// Term in which it did.
        term: u64,
    },
    /// It did not happen.
    Refused {
        /// Code of the reason.
        code: String,
    },
    /// It may have happened.
    Unknown,
}

/// A write that was tried.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What was written.
    pub what: Item,
    /// When the answer came, or was given up.
    pub answered: Instant,
    /// What came of it.
    pub outcome: Outcome,
}

impl Attempt {
    /// The term of an acknowledged write.
    pub fn term(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Acknowledged { term } => Some(term),
            _ => None,
        }
    }

    /// True for a write that was refused for that reason.
    pub fn is_refused(&self, reason: &str) -> bool {
        matches!(&self.outcome, Outcome::Refused { code } if code == reason)
    }
}

/// Writes through one node until it is stopped.
#[derive(Debug)]
pub struct Writer {
    /// Index of the node.
    pub through: usize,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    label: String,
    attempts: Mutex<Vec<Attempt>>,
    stopping: AtomicBool,
}

impl Shared {
    fn attempts(&self) -> MutexGuard<'_, Vec<Attempt>> {
        // The list is whole between any two statements.
        self.attempts.locked()
    }

    fn write(&self, number: u64) {
        let text = format!("write {number} through {}", self.label);
        // Both kinds of writes have to live through whatever happens.
        let what = if number.is_multiple_of(2) {
            Item::Value { key: format!("monitoring/tour/{number}"), value: text.into_bytes() }
        } else {
            Item::Decision { address: format!("tour/observer/bzzz/write-{number}/dev"), text }
        };
        let outcome = outcome(what.write(&self.client));
        let answered = Instant::now();
        self.attempts().push(Attempt { what, answered, outcome });
    }
}

/// Sorts an answer. What is not surely refused is unknown.
fn outcome(answer: Result<u64, CliError>) -> Outcome {
    match answer {
        Ok(term) => Outcome::Acknowledged { term },
        Err(error) => match error.problem {
            Some(problem) if problem.code != "WRITE_OUTCOME_UNKNOWN" => {
                Outcome::Refused { code: problem.code }
            }
            _ => Outcome::Unknown,
        },
    }
}

impl Writer {
    /// Starts to write through `client`. The numbers of the writes come from `numbers`, which all
    /// writers of a tour share.
    pub fn start(
        through: usize,
        label: &str,
        client: Client,
        numbers: &Arc<AtomicU64>,
    ) -> Result<Self, CliError> {
        let shared = Arc::new(Shared {
            client,
            label: label.to_owned(),
            attempts: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let mut writer = Self { through, shared: Arc::clone(&shared), threads: Vec::new() };
        let (queue, jobs) = sync_channel(WORKERS);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..WORKERS {
            let (shared, jobs) = (Arc::clone(&shared), Arc::clone(&jobs));
            writer.spawn(move || work(&shared, &jobs))?;
        }
        let numbers = Arc::clone(numbers);
        writer.spawn(move || beat(&shared, &queue, &numbers))?;
        Ok(writer)
    }

    fn spawn(&mut self, body: impl FnOnce() + Send + 'static) -> Result<(), CliError> {
        let thread = thread::Builder::new().name("tour-writer".to_owned()).spawn(body);
        let thread =
            thread.map_err(|error| CliError::failure(format!("cannot start a thread: {error}")))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Looks at the writes so far, in the order of their answers.
    pub fn look<T>(&self, at: impl FnOnce(&[Attempt]) -> T) -> T {
        at(&self.shared.attempts())
    }

    /// How many writes have been acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.look(|attempts| attempts.iter().filter(|attempt| attempt.term().is_some()).count())
    }

    /// The highest term of an acknowledgement.
    pub fn highest_term(&self) -> u64 {
        self.look(|attempts| attempts.iter().filter_map(Attempt::term).max().unwrap_or(0))
    }

    /// Stops to write, waits for the answers that are due, and returns all writes.
    pub fn stop(mut self) -> Vec<Attempt> {
        self.shared.stopping.store(true, Ordering::Release);
        for thread in std::mem::take(&mut self.threads) {
            // A worker that panicked has lost its own write only.
            let _ = thread.join();
        }
        std::mem::take(&mut *self.shared.attempts())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
    }
}

/// Hands out a write at every beat, until the writer stops.
fn beat(shared: &Shared, queue: &SyncSender<u64>, numbers: &AtomicU64) {
    let mut next = Instant::now();
    while !shared.stopping.load(Ordering::Acquire) {
        // A full queue means that every worker hangs; the beat is left out then.
        let _ = queue.try_send(numbers.fetch_add(1, Ordering::Relaxed));
        next += RHYTHM;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn work(shared: &Shared, jobs: &Mutex<Receiver<u64>>) {
    loop {
        // The lock is held while waiting, so the workers take turns.
        let job = jobs.locked().recv();
        let Ok(number) = job else { return };
        shared.write(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::Problem;

    #[test]
    fn only_a_sure_refusal_counts_as_one() {
        let refused = |code: &str| {
            let problem = Problem { code: code.into(), status: 503, ..Problem::default() };
            outcome(Err(problem.into()))
        };
        assert_eq!(outcome(Ok(3)), Outcome::Acknowledged { term: 3 });
        assert_eq!(refused("NO_LEADER"), Outcome::Refused { code: "NO_LEADER".into() });
        assert_eq!(refused("WRITE_OUTCOME_UNKNOWN"), Outcome::Unknown);
        assert_eq!(outcome(Err(CliError::failure("connection reset"))), Outcome::Unknown);
    }

    #[test]
    fn a_node_that_hangs_does_not_hold_up_the_rhythm() {
        // Takes connections, as the kernel does for it, and never answers.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let client = Client::with_timeout(&address, None, Duration::from_millis(100)).unwrap();
        let numbers = Arc::new(AtomicU64::new(1));
        let writer = Writer::start(0, "x", client, &numbers).unwrap();
        while writer.look(<[Attempt]>::len) < 10 {
            thread::yield_now();
        }
        let attempts = writer.stop();
        assert!(attempts.iter().all(|attempt| attempt.outcome == Outcome::Unknown));
        let mut keys: Vec<&str> = attempts.iter().map(|attempt| attempt.what.name()).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), attempts.len());
    }
}
