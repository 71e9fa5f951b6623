//! Pairs that were made beforehand.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::exchange::Pair;
use crate::crypto::Recipient;
use crate::types::Lock;

/// Recipients that a pool keeps pairs for.
const RECIPIENTS_MAX: usize = 64;
/// Pairs kept for one recipient. They take 32 microseconds each to make, so a full pool carries a
/// burst of that many files, and takes 16 ms of one processor to fill.
const PAIRS_MAX: usize = 512;
/// Below this many pairs the thread is woken.
const PAIRS_LOW: usize = PAIRS_MAX / 2;

#[derive(Default)]
struct Pairs {
    ready: BTreeMap<Recipient, VecDeque<Pair>>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    pairs: Mutex<Pairs>,
    wanted: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pairs> {
        self.pairs.locked()
    }
}

/// Keeps pairs for the recipients that it was told of.
pub struct Pool {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool(..)")
    }
}

impl Pool {
    /// An empty pool with its thread.
    pub fn start() -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let filling = shared.clone();
        let thread = std::thread::Builder::new().name("age-pairs".into());
        let thread = thread.spawn(move || fill(&filling))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps pairs for just these recipients from now on. Those beyond the bound have theirs made
    /// on the spot.
    pub fn keep(&self, recipients: impl IntoIterator<Item = Recipient>) {
        let mut pairs = self.shared.lock();
        let mut before = std::mem::take(&mut pairs.ready);
        for recipient in recipients.into_iter().take(RECIPIENTS_MAX) {
            let kept = before.remove(&recipient).unwrap_or_default();
            pairs.ready.insert(recipient, kept);
        }
        self.shared.wanted.notify_one();
    }

    /// A pair, if there is one.
    pub(super) fn take(&self, recipient: Recipient) -> Option<Pair> {
        let mut pairs = self.shared.lock();
        let ready = pairs.ready.get_mut(&recipient)?;
        let pair = ready.pop_front();
        if ready.len() < PAIRS_LOW {
            self.shared.wanted.notify_one();
        }
        pair
    }

    /// Pairs kept for a recipient now.
    pub fn ready(&self, recipient: Recipient) -> usize {
        self.shared.lock().ready.get(&recipient).map_or(0, VecDeque::len)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wanted.notify_one();
        if let Some(thread) = self.thread.take() {
            // It ends after the pair in hand; a panic in it is of no consequence any more.
            drop(thread.join());
        }
    }
}

/// Fills whatever recipient lacks most, one pair at a time, and sleeps when none is low.
fn fill(shared: &Shared) {
    let mut filling = true;
    loop {
        let recipient = {
            let mut pairs = shared.lock();
            loop {
                if pairs.closed {
                    return;
                }
                let poorest = pairs.ready.iter().min_by_key(|(_, ready)| ready.len());
                let poorest = poorest.map(|(recipient, ready)| (*recipient, ready.len()));
                // Once awake it fills up to the brim, so that it is not woken for each pair.
                let brim = if filling { PAIRS_MAX } else { PAIRS_LOW };
                match poorest.filter(|(_, count)| *count < brim) {
                    Some((recipient, _)) => break recipient,
                    None => {
                        filling = false;
                        pairs = shared.wanted.wait(pairs).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            }
        };
        filling = true;
        let pair = Pair::make(recipient);
        let mut pairs = shared.lock();
        match pair {
            Some(pair) => {
                if let Some(ready) = pairs.ready.get_mut(&recipient) {
                    ready.push_back(pair);
                }
            }
            // Nothing can be encrypted to it: whoever tries will be told.
            None => drop(pairs.ready.remove(&recipient)),
        }
    }
}
