//! The places of connections: who has one, what it does with it, and who gives way.
//!
//! Problem: everybody on this machine can open connections and then do nothing with them. Whoever
//! does something must get in all the same.
//!
//! States of a connection: it *waits* for a request, for the rest of its head, or for the rest of a
//! body that nobody wants; requests are *under way*; it *parts*, with nothing left but for the
//! client to read the last answer. In each of them it is *unread* while the client takes nothing of
//! what is written to it.
//!
//! Flow: where all places are taken, a new connection gets that of one that parts, else of the one
//! that is unread for longest, else of the one that waits for longest, else of one whose client
//! does not read right now. One that has just come is about to ask something: it gives way last, as
//! long as no more than half of all have. Beside that, a sweep ends every connection that is over
//! the time limit of its state.
//!
//! Invariants:
//! 1. No more connections are open than there are places.
//! 2. A connection with a request under way, whose client reads, never gives way, and one whose
//!    client does not read right now only if too few others wait. Such a request carries the token,
//!    or is answered at once.
//! 3. What a connection was told to end for is counted once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::closings::{Closings, Reason};
use crate::types::Lock;
use crate::types::limits::{HTTP_HEAD_TIMEOUT_MS, HTTP_IDLE_TIMEOUT_MS, HTTP_UNREAD_TIMEOUT_MS};

/// How long the head of a request may take.
const HEAD_LIMIT: Duration = Duration::from_millis(HTTP_HEAD_TIMEOUT_MS);
/// How long a client that was answered may ask nothing more.
const IDLE_LIMIT: Duration = Duration::from_millis(HTTP_IDLE_TIMEOUT_MS);
/// How long a client may take nothing of what is written to it.
const UNREAD_LIMIT: Duration = Duration::from_millis(HTTP_UNREAD_TIMEOUT_MS);
/// How long a new client may take until its request is there before it is taken for an idle one.
const ASK_GRACE: Duration = Duration::from_millis(250);
/// How long a client that reads may take until it reads on, on a busy machine.
const UNREAD_GRACE: Duration = Duration::from_millis(500);

/// How readily a connection gives way, the readiest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Its last answer is written.
    Parts,
    /// Its client has not read for a while.
    Unread,
    /// It waits for a request.
    Waits,
    /// Its client does not read right now.
    Slow,
    /// It has just come.
    Fresh,
}

/// What a connection does.
#[derive(Debug)]
struct State {
    /// When it came, or when its last request was answered.
    since: Instant,
    /// When the first byte of the request came that it waits for.
    head_since: Option<Instant>,
    /// Since when the client takes nothing of what is written to it.
    unread_since: Option<Instant>,
    /// Requests under way: one, or for a moment two. An answer is, until the last of it is on its way out.
    under_way: u32,
    /// True if the client was given all that was answered so far.
    flushed: bool,
    /// True while only the rest of a body is waited for that nobody wants.
    body_unwanted: bool,
    /// True once a request was answered.
    answered: bool,
    /// True once nothing but the client's reading is waited for.
    parts: bool,
    /// True once it was told to end.
    ends: bool,
}

impl State {
    fn is_fresh(&self, now: Instant) -> bool {
        !self.answered && now.duration_since(self.since) < ASK_GRACE
    }

    /// How readily it gives way, and since when; never if it is of use.
    fn rank(&self, now: Instant) -> Option<(Rank, Instant)> {
        if self.ends {
            return None;
        }
        match self.unread_since {
            _ if self.parts => Some((Rank::Parts, self.since)),
            Some(at) if now.duration_since(at) >= UNREAD_GRACE => Some((Rank::Unread, at)),
            _ if self.under_way == 0 && self.is_fresh(now) => Some((Rank::Fresh, self.since)),
            _ if self.under_way == 0 || self.body_unwanted => Some((Rank::Waits, self.since)),
            Some(at) => Some((Rank::Slow, at)),
            None => None,
        }
    }

    /// Why its time is over, if it is.
    fn overdue(&self, now: Instant) -> Option<Reason> {
        let over = |since: Instant, limit: Duration| now.duration_since(since) >= limit;
        let (since, limit, reason) = match (self.unread_since, self.head_since) {
            _ if self.ends || self.parts => return None,
            (Some(at), _) => (at, UNREAD_LIMIT, Reason::AnswerUnread),
            _ if self.under_way > 0 => return None,
            (None, Some(at)) => (at, HEAD_LIMIT, Reason::HeadSlow),
            (None, None) if self.answered => (self.since, IDLE_LIMIT, Reason::Idle),
            (None, None) => (self.since, HEAD_LIMIT, Reason::HeadSlow),
        };
        over(since, limit).then_some(reason)
    }
}

/// One connection, as whoever watches it sees it.
pub struct Place {
    state: Mutex<State>,
    told_to_end: Notify,
    closings: Arc<Closings>,
}

impl Place {
    fn new(now: Instant, closings: Arc<Closings>) -> Self {
        let state = State {
            since: now,
            head_since: None,
            unread_since: None,
            under_way: 0,
            flushed: true,
            body_unwanted: false,
            answered: false,
            parts: false,
            ends: false,
        };
        Self { state: Mutex::new(state), told_to_end: Notify::new(), closings }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.locked()
    }

    /// Bytes came.
    pub fn heard(&self, now: Instant) {
        let mut state = self.state();
        if state.under_way == 0 && state.head_since.is_none() {
            state.head_since = Some(now);
        }
    }

    /// Something was to be written, and the client took some of it, or nothing.
    pub fn wrote(&self, taken: bool, now: Instant) {
        let mut state = self.state();
        if taken {
            state.unread_since = None;
        } else if state.unread_since.is_none() {
            state.unread_since = Some(now);
        }
    }

    /// A request is under way.
    fn asked(&self) {
        let mut state = self.state();
        state.under_way += 1;
        state.flushed = false;
        state.head_since = None;
    }

    /// A request was answered.
    fn answered(&self, now: Instant) {
        let mut state = self.state();
        state.under_way = state.under_way.saturating_sub(1);
        (state.since, state.answered, state.body_unwanted) = (now, true, false);
    }

    /// All that was written was given to the system.
    pub fn flushed(&self) {
        let mut state = self.state();
        state.flushed = state.flushed || state.under_way == 0;
    }

    /// True if nothing was asked that is not answered yet: whatever is written now, no request has led to it.
    pub fn is_quiet(&self) -> bool {
        let state = self.state();
        state.under_way == 0 && state.flushed
    }

    /// Its last answer is written.
    pub fn parts(&self, now: Instant) {
        let mut state = self.state();
        (state.since, state.parts) = (now, true);
    }

    /// Tells it to end, for a reason. It does so as soon as its task runs.
    fn end(&self, reason: Reason) {
        let mut state = self.state();
        if !state.ends {
            state.ends = true;
            self.closings.add(reason);
            self.told_to_end.notify_one();
        }
    }

    /// Returns once it has to end.
    pub async fn told_to_end(&self) {
        self.told_to_end.notified().await;
    }
}

/// What a request holds of its connection. As long as one of its clones is there, the request is
/// under way.
#[derive(Clone)]
pub struct Connection(Arc<UnderWay>);

struct UnderWay(Arc<Place>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.answered(Instant::now());
    }
}

impl Connection {
    /// Begins a request.
    pub fn begin(place: Arc<Place>) -> Self {
        place.asked();
        Self(Arc::new(UnderWay(place)))
    }

    /// Ends the connection of a client that does not read what it asked for, without another word.
    pub fn hang_up(&self) {
        self.0.0.end(Reason::AnswerUnread);
    }

    /// Says that the answer is there and only the rest of the request's body is waited for.
    pub fn body_unwanted(&self) {
        self.0.0.state().body_unwanted = true;
    }

    /// Counts a body that did not come in time; the answer to that ends the connection.
    pub fn body_slow(&self) {
        self.0.0.closings.add(Reason::BodySlow);
    }
}

#[cfg(test)]
impl Default for Connection {
    fn default() -> Self {
        Self::begin(Arc::new(Place::new(Instant::now(), Arc::default())))
    }
}

/// The places of one listener.
pub struct Places {
    most: u32,
    free: Arc<Semaphore>,
    table: Mutex<BTreeMap<u64, Arc<Place>>>,
    closings: Arc<Closings>,
}

impl Places {
    /// This many places, all free.
    pub fn new(most: u32, closings: Arc<Closings>) -> Self {
        let free = Arc::new(Semaphore::new(most as usize));
        Self { most, free, table: Mutex::default(), closings }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Place>>> {
        self.table.locked()
    }

    /// A place for a new connection, where one is free or somebody can give way.
    pub async fn take(self: &Arc<Self>) -> Option<Taken> {
        if let Ok(permit) = self.free.clone().try_acquire_owned() {
            return Some(self.enter(permit, Instant::now()));
        }
        if !self.give_way(Instant::now()) {
            self.closings.add(Reason::TurnedAway);
            return None;
        }
        // Whoever was told to end does so as soon as its task runs.
        let permit = self.free.clone().acquire_owned().await.ok()?;
        Some(self.enter(permit, Instant::now()))
    }

    fn enter(self: &Arc<Self>, permit: OwnedSemaphorePermit, now: Instant) -> Taken {
        let place = Arc::new(Place::new(now, self.closings.clone()));
        let mut table = self.table();
        let number = table.last_key_value().map_or(0, |(last, _)| last + 1);
        table.insert(number, place.clone());
        drop(table);
        Taken { place, number, places: self.clone(), _permit: permit }
    }

    /// Tells the one to end that is of least use. False if all are of use.
    fn give_way(&self, now: Instant) -> bool {
        let ranked = |place: &Arc<Place>| Some((place.state().rank(now)?, place.clone()));
        let all: Vec<_> = self.table().values().filter_map(ranked).collect();
        let fresh = all.iter().filter(|((rank, _), _)| *rank == Rank::Fresh).count();
        let is_many = fresh > self.most as usize / 2;
        let found = all.iter().min_by_key(|((rank, since), _)| match rank {
            Rank::Fresh if is_many => (Rank::Waits, *since),
            rank => (*rank, *since),
        });
        match found {
            Some((_, place)) => {
                place.end(Reason::GaveWay);
                true
            }
            None => false,
        }
    }

    /// Tells those to end whose time is over.
    pub fn sweep(&self, now: Instant) {
        for place in self.table().values() {
            let overdue = place.state().overdue(now);
            if let Some(reason) = overdue {
                place.end(reason);
            }
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.table().len()
    }

    /// Returns once all are free.
    pub async fn all_free(&self) {
        // Fails only for a semaphore that was closed, which this one never is.
        let _ = self.free.acquire_many(self.most).await;
    }
}

/// A place that a connection has. It is free again when this is dropped.
pub struct Taken {
    place: Arc<Place>,
    number: u64,
    places: Arc<Places>,
    _permit: OwnedSemaphorePermit,
}

impl Taken {
    /// The place.
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.places.table().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn places(most: u32) -> (Arc<Places>, Arc<Closings>) {
        let closings = Arc::new(Closings::default());
        (Arc::new(Places::new(most, closings.clone())), closings)
    }

    /// Takes a place as if it were that time.
    fn enter(places: &Arc<Places>, now: Instant) -> Taken {
        places.enter(places.free.clone().try_acquire_owned().unwrap(), now)
    }

    fn ends(taken: &Taken) -> bool {
        taken.place.state().ends
    }

    #[test]
    fn those_that_do_nothing_give_way_the_longest_first() {
        let start = Instant::now();
        let (places, closings) = places(5);
        let now = start + 60 * SECOND;
        let silent = enter(&places, start);
        let unread = enter(&places, start + SECOND);
        let fresh = enter(&places, now);
        let parting = enter(&places, now);
        let busy = enter(&places, start);
        busy.place.asked();
        unread.place.asked();
        unread.place.wrote(false, now - SECOND);
        parting.place.parts(now);
        for (next, of) in [&parting, &unread, &silent, &fresh].into_iter().zip(1..) {
            assert!(!ends(next) && places.give_way(now));
            assert!(ends(next), "number {of}");
        }
        assert!(!places.give_way(now), "a request is under way");
        assert!(!ends(&busy));
        assert_eq!(closings.count(Reason::GaveWay), 4);
        busy.place.wrote(false, now);
        assert!(places.give_way(now) && ends(&busy), "but if its client does not read");
    }

    #[test]
    fn one_that_has_just_come_has_time_to_ask() {
        let start = Instant::now();
        let (places, _) = places(4);
        let now = start + ASK_GRACE;
        let waits = enter(&places, start);
        let slow = enter(&places, start);
        slow.place.asked();
        slow.place.wrote(false, now);
        let fresh = [1, 2].map(|ms| enter(&places, start + Duration::from_millis(ms)));
        fresh[1].place.heard(now);
        for (next, of) in [&waits, &slow, &fresh[0], &fresh[1]].into_iter().zip(1..) {
            assert!(!ends(next) && places.give_way(now));
            assert!(ends(next), "number {of}");
        }
    }

    #[test]
    fn many_that_have_just_come_take_nothing_from_those_that_read() {
        let start = Instant::now();
        let (places, _) = places(4);
        let slow = enter(&places, start);
        slow.place.asked();
        slow.place.wrote(false, start);
        let fresh = [1, 2, 3].map(|ms| enter(&places, start + Duration::from_millis(ms)));
        assert!(places.give_way(start + Duration::from_millis(4)));
        assert!(ends(&fresh[0]) && !ends(&slow));
        assert!(places.give_way(start + Duration::from_millis(4)));
        assert!(ends(&slow), "no more than half have just come");
    }

    #[test]
    fn a_body_that_nobody_wants_keeps_no_place() {
        let (places, _) = places(1);
        let taken = enter(&places, Instant::now());
        let request = Connection::begin(taken.place.clone());
        assert!(!places.give_way(Instant::now()));
        request.body_unwanted();
        assert!(places.give_way(Instant::now()) && ends(&taken));
    }

    #[test]
    fn a_request_that_was_answered_makes_a_connection_the_youngest() {
        let start = Instant::now();
        let (places, _) = places(2);
        let (first, second) = (enter(&places, start), enter(&places, start + SECOND));
        first.place.asked();
        first.place.answered(start + 2 * SECOND);
        assert!(places.give_way(start + 3 * SECOND));
        assert!(ends(&second) && !ends(&first));
    }

    #[test]
    fn every_state_has_its_time_limit() {
        let start = Instant::now();
        let (places, closings) = places(8);
        let before = |limit: Duration| start + limit - Duration::from_millis(1);
        let check = |taken: &Taken, limit: Duration, reason: Reason| {
            assert_eq!(taken.place.state().overdue(before(limit)), None, "{reason:?}");
            assert_eq!(taken.place.state().overdue(start + limit), Some(reason));
        };
        let silent = enter(&places, start);
        check(&silent, HEAD_LIMIT, Reason::HeadSlow);
        let slow = enter(&places, start - 3 * SECOND);
        slow.place.heard(start);
        slow.place.heard(start + SECOND);
        check(&slow, HEAD_LIMIT, Reason::HeadSlow);
        let idle = enter(&places, start - 3 * SECOND);
        idle.place.asked();
        idle.place.answered(start);
        check(&idle, IDLE_LIMIT, Reason::Idle);
        let unread = enter(&places, start - 3 * SECOND);
        unread.place.asked();
        unread.place.wrote(false, start - SECOND);
        unread.place.wrote(true, start);
        unread.place.wrote(false, start);
        check(&unread, UNREAD_LIMIT, Reason::AnswerUnread);
        let busy = enter(&places, start);
        busy.place.asked();
        assert_eq!(busy.place.state().overdue(start + 1_000 * SECOND), None);

        places.sweep(start + HEAD_LIMIT);
        assert!(ends(&silent) && ends(&slow) && !ends(&idle) && !ends(&busy));
        places.sweep(start + 1_000 * SECOND);
        assert_eq!(closings.count(Reason::HeadSlow), 2, "each is counted once");
    }

    #[test]
    fn a_place_that_was_given_up_goes_to_whoever_waits_for_it() {
        let (places, closings) = places(1);
        let first = places.take().now_or_never().flatten().unwrap();
        let mut second = Box::pin(places.take());
        assert!((&mut second).now_or_never().is_none(), "the first is still there");
        assert!(first.place.told_to_end().now_or_never().is_some(), "and was told to go");
        drop(first);
        let second = second.now_or_never().flatten().unwrap();
        assert_eq!(places.taken(), 1);
        let request = Connection::begin(second.place.clone());
        assert!(places.take().now_or_never().unwrap().is_none(), "all are of use");
        assert_eq!(closings.count(Reason::TurnedAway), 1);
        drop(request);
        assert!(places.all_free().now_or_never().is_none());
        drop(second);
        assert!(places.all_free().now_or_never().is_some());
    }

    #[test]
    fn a_request_is_under_way_as_long_as_anybody_works_on_it() {
        let (places, _) = places(1);
        let taken = enter(&places, Instant::now());
        let request = Connection::begin(taken.place.clone());
        let stream = request.clone();
        drop(request);
        assert_eq!(taken.place.state().under_way, 1);
        stream.hang_up();
        drop(stream);
        assert_eq!(taken.place.state().under_way, 0);
        assert!(ends(&taken));
    }
}
