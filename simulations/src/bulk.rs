//! Bytes in bulk between the simulated nodes: the port's other implementation.
//!
//! A stream is as over TCP: nothing on it is lost, doubled or overtaken. What a link loses comes later; a
//! cut link is silence, until it is mended or somebody has waited for too long; of a crash the other end
//! hears, or not. All streams from one node to another share what the link carries.

mod halves;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bzzz::ports::Sink;
use bzzz::ports::bulk::{
    Answer, Bulk, BulkError, BulkId, BulkStream, BulkWriter, Incoming, Read, Refusal, Then,
};
use bzzz::types::limits::{
    BULK_ANSWER, BULK_CHUNK_MAX, BULK_STALLED, BULK_STREAMS_MAX, BULK_STREAMS_PER_PEER_MAX,
    BULK_STREAMS_TAKEN_MAX,
};
use bzzz::types::{Address, Lock, PeerId};

use halves::{Half, SimAnswer};

use crate::heap::Heap;
use crate::network::Wires;
use crate::rng::Stream;
use crate::trace::Trace;

/// Bytes that one end of a stream may have sent without their having been read. A small window shows more.
const WINDOW: usize = 2 * BULK_CHUNK_MAX;
/// How long what was lost takes to be sent again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a connection takes beside the ways of its packets.
const HANDSHAKE: Duration = Duration::from_millis(1);
/// After what time somebody who does not answer is given up.
const UNANSWERED: Duration = Duration::from_secs(5);

/// A node, as it was when it opened or took a stream.
type Whose = (PeerId, usize, u64);

enum Packet {
    Chunk(Vec<u8>),
    End,
}

impl Packet {
    fn len(&self) -> usize {
        match self {
            Self::Chunk(bytes) => bytes.len(),
            Self::End => 0,
        }
    }
}

enum Writing {
    Chunk(Vec<u8>, Then<Box<dyn BulkWriter>>),
    End(Then<()>),
}

impl Writing {
    fn fail(self, why: BulkError) {
        match self {
            Self::Chunk(_, then) => then(Err(why)),
            Self::End(then) => then(Err(why)),
        }
    }
}

/// One end of a stream.
struct End {
    whose: Whose,
    /// What has come and was not read.
    inbox: VecDeque<Packet>,
    /// What has been sent and has not come; only the first is on its way.
    outbox: VecDeque<Packet>,
    is_moving: bool,
    /// Bytes of this end's that the other one has not read.
    unread: usize,
    opening: Option<Then<BulkStream>>,
    reading: Option<Then<Read>>,
    writing: Option<Writing>,
    /// Counts the reads and the writes that were begun, so that it can be told whether one still stands.
    begun: [u64; 2],
    /// When one of them was done last.
    progress_us: u64,
    has_read: bool,
    has_finished: bool,
    failed: Option<BulkError>,
}

impl End {
    fn new(whose: Whose) -> Self {
        Self {
            whose,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            is_moving: false,
            unread: 0,
            opening: None,
            reading: None,
            writing: None,
            begun: [0; 2],
            progress_us: 0,
            has_read: false,
            has_finished: false,
            failed: None,
        }
    }

    fn is_over(&self) -> bool {
        self.failed.is_some() || (self.has_read && self.has_finished)
    }
}

/// A stream: the opener's end, then the other one's.
struct Line {
    id: u64,
    ends: Mutex<[End; 2]>,
}

impl Line {
    fn ends(&self) -> MutexGuard<'_, [End; 2]> {
        self.ends.locked()
    }

    /// Who sends from that end, and who receives.
    fn way(&self, side: usize) -> (Whose, Whose) {
        let ends = self.ends();
        (ends[side].whose, ends[1 - side].whose)
    }
}

struct Inner {
    last: u64,
    /// Those that are not over at both ends.
    lines: BTreeMap<u64, Arc<Line>>,
    servers: BTreeMap<PeerId, Sink<Incoming>>,
    /// When the link from one node to another has sent all that it was given.
    free_us: BTreeMap<(usize, usize), u64>,
    bytes_per_ms: u64,
}

/// What all that goes on shares.
pub struct Shared {
    heap: Heap,
    rng: Stream,
    trace: Trace,
    wires: Wires,
    inner: Mutex<Inner>,
}

/// All links for bulk bytes; cheap to clone.
#[derive(Clone)]
pub struct BulkLinks(Arc<Shared>);

impl Deref for BulkLinks {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The bulk bytes of one incarnation of a node.
pub struct SimBulk {
    links: BulkLinks,
    own: Whose,
}

impl BulkLinks {
    /// Links that carry as much as the seed says: 5 to 200 MB in a second.
    pub fn new(heap: Heap, rng: Stream, trace: Trace, wires: Wires) -> Self {
        let inner = Inner {
            last: 0,
            lines: BTreeMap::new(),
            servers: BTreeMap::new(),
            free_us: BTreeMap::new(),
            bytes_per_ms: 5_000 + rng.below(195_001),
        };
        let links = Arc::new(Shared { heap, rng, trace, wires, inner: Mutex::new(inner) });
        // Weak, because the links hold the wires.
        let known = Arc::downgrade(&links);
        links.wires.on_admitted(Box::new(move |peer| {
            if let Some(links) = known.upgrade() {
                Self(links).end_strangers(peer);
            }
        }));
        Self(links)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.locked()
    }

    /// The port of a node that is plugged in.
    pub fn plug(&self, own: PeerId) -> Arc<SimBulk> {
        let (node, incarnation) = self.wires.end_of(own).unwrap_or_default();
        Arc::new(SimBulk { links: self.clone(), own: (own, node, incarnation) })
    }

    /// A node has lost its power. What it waited for is of no use to anybody; the others hear of it, or not.
    pub fn unplug(&self, own: PeerId) {
        let mut inner = self.lock();
        let server = inner.servers.remove(&own);
        let lines: Vec<Arc<Line>> = inner.lines.values().cloned().collect();
        drop(inner);
        drop(server);
        for line in lines {
            for side in [0, 1] {
                let mut ends = line.ends();
                let end = &mut ends[side];
                if end.whose.0 != own || end.is_over() {
                    continue;
                }
                end.failed = Some(BulkError::Stopped);
                let dropped = (end.opening.take(), end.reading.take(), end.writing.take());
                drop(ends);
                // What they hold may be halves, which look at the stream when they go.
                drop(dropped);
                if self.rng.chance(500) {
                    self.fail_later(&line, 1 - side, "the connection was reset");
                }
                self.forget_if_over(&line);
            }
        }
    }

    /// The run is over: forgets what holds whatever holds this.
    pub fn clear(&self) {
        let mut inner = self.lock();
        let held = (std::mem::take(&mut inner.lines), std::mem::take(&mut inner.servers));
        drop(inner);
        drop(held);
    }

    /// The roster of a node has changed.
    fn end_strangers(&self, own: PeerId) {
        let lines: Vec<Arc<Line>> = self.lock().lines.values().cloned().collect();
        for line in lines {
            for side in [0, 1] {
                let (this, other) = line.way(side);
                if this.0 == own && !self.wires.admits(own, other.0) {
                    self.fail(&line, side, BulkError::NotAMember);
                }
            }
        }
    }

    fn is_alive(&self, (peer, node, incarnation): Whose) -> bool {
        self.wires.end_of(peer) == Some((node, incarnation))
    }

    /// Calls back, but not from within the call that has caused it: whoever goes on in a callback would be on
    /// one stack with all that follows. A node without power hears nothing.
    fn tell(&self, whose: Whose, call: impl FnOnce() + Send + 'static) {
        let links = self.clone();
        self.heap.schedule(Duration::ZERO, move || {
            if links.is_alive(whose) {
                call();
            }
        });
    }

    /// How long something of this length takes from one node to another.
    fn delay(&self, from: usize, to: usize, len: usize) -> Duration {
        let (now, mut inner) = (self.heap.now_us(), self.lock());
        let rate = inner.bytes_per_ms;
        let free = inner.free_us.entry((from, to)).or_default();
        *free = (*free).max(now) + len as u64 * 1_000 / rate;
        let sent = Duration::from_micros(*free - now);
        drop(inner);
        let (weather, slowness) = self.wires.delay(from, to);
        let way =
            Duration::from_micros(weather.latency_us) + self.rng.exponential(weather.jitter_us);
        let again = if self.rng.chance(weather.loss_permille) { AGAIN } else { Duration::ZERO };
        sent + way + slowness + again
    }

    /// The other end knows a stream, or does not answer.
    fn knock(&self, line: &Arc<Line>, header: Vec<u8>) {
        let (own, other) = line.way(0);
        let passes = self.wires.carries(own.1, other.1) && self.wires.carries(other.1, own.1);
        if !passes || !self.is_alive(other) {
            let (links, line) = (self.clone(), line.clone());
            let why = BulkError::NoWay { reason: "nobody answered".to_owned() };
            return self.heap.schedule(UNANSWERED, move || links.fail(&line, 0, why));
        }
        let (links, waiting) = (self.clone(), line.clone());
        self.heap.schedule(BULK_ANSWER, move || {
            let waits = waiting.ends()[0].opening.is_some();
            if waits {
                links.fail(&waiting, 0, BulkError::Stalled);
            }
        });
        let server = self.lock().servers.get(&other.0).cloned();
        let of_peer = |known: &&Arc<Line>| {
            let ends = known.ends();
            ends[0].whose == own && ends[1].whose == other && !ends[1].is_over()
        };
        let taken = self.lock().lines.values().filter(of_peer).count();
        let server = match server {
            // This one is among them.
            _ if taken > BULK_STREAMS_TAKEN_MAX => Err(Refusal::Busy),
            _ if !self.wires.admits(other.0, own.0) => Err(Refusal::NotAMember),
            server => server.ok_or(Refusal::Unserved),
        };
        let answer = SimAnswer { links: self.clone(), line: line.clone() };
        match server {
            Ok(server) => server(Incoming::new(own.0, header, Box::new(answer))),
            Err(why) => Box::new(answer).refuse(why),
        }
    }

    /// Sends the next packet of one end, unless one is on its way.
    fn pump(&self, line: &Arc<Line>, side: usize) {
        let mut ends = line.ends();
        let (a, b) = (ends[side].whose.1, ends[1 - side].whose.1);
        let end = &mut ends[side];
        let Some(len) = end.outbox.front().map(Packet::len).filter(|_| !end.is_moving) else {
            return;
        };
        end.is_moving = true;
        drop(ends);
        let (links, line) = (self.clone(), line.clone());
        self.heap.schedule(self.delay(a, b, len), move || links.arrive(&line, side));
    }

    /// The first packet of one end arrives at the other one, if the link carries.
    fn arrive(&self, line: &Arc<Line>, side: usize) {
        let (from, to) = line.way(side);
        let mut ends = line.ends();
        if ends.iter().any(|end| end.failed.is_some()) {
            return;
        }
        if !self.wires.carries(from.1, to.1) || !self.is_alive(to) {
            // Silence, until it carries again or somebody has waited for too long.
            drop(ends);
            let (links, line) = (self.clone(), line.clone());
            return self.heap.schedule(AGAIN, move || links.arrive(&line, side));
        }
        ends[side].is_moving = false;
        let Some(packet) = ends[side].outbox.pop_front() else { return };
        self.trace.step("bulk", from.1, to.1, packet.len() as u64);
        ends[1 - side].inbox.push_back(packet);
        drop(ends);
        self.pump(line, side);
        self.serve_reader(line, 1 - side);
    }

    /// Gives what has come to whoever waits for it, and the other end its room back.
    fn serve_reader(&self, line: &Arc<Line>, side: usize) {
        let mut ends = line.ends();
        let end = &mut ends[side];
        if end.reading.is_none() || end.inbox.is_empty() || end.failed.is_some() {
            return;
        }
        let (Some(then), Some(packet)) = (end.reading.take(), end.inbox.pop_front()) else {
            return;
        };
        end.has_read |= matches!(packet, Packet::End);
        end.progress_us = self.heap.now_us();
        let (whose, len) = (end.whose, packet.len());
        drop(ends);
        let half = Half::new(self, line, side);
        self.tell(whose, move || match packet {
            Packet::Chunk(bytes) => then(Ok(Read::Chunk(bytes, Box::new(half)))),
            Packet::End => {
                half.disarm();
                then(Ok(Read::End));
            }
        });
        self.credit(line, 1 - side, len);
        self.forget_if_over(line);
    }

    /// Room for so many bytes comes back to a writer, once the way back carries.
    fn credit(&self, line: &Arc<Line>, side: usize, len: usize) {
        let (own, other) = line.way(side);
        if !self.wires.carries(other.1, own.1) {
            let (links, line) = (self.clone(), line.clone());
            return self.heap.schedule(AGAIN, move || links.credit(&line, side, len));
        }
        let mut ends = line.ends();
        ends[side].unread = ends[side].unread.saturating_sub(len);
        drop(ends);
        self.serve_writer(line, side);
    }

    /// Takes what waits to be sent, if there is room.
    fn serve_writer(&self, line: &Arc<Line>, side: usize) {
        let mut ends = line.ends();
        let end = &mut ends[side];
        let fits = match &end.writing {
            Some(Writing::Chunk(bytes, _)) => end.unread + bytes.len() <= WINDOW,
            Some(Writing::End(_)) => true,
            None => false,
        };
        if !fits || end.failed.is_some() {
            return;
        }
        let whose = end.whose;
        end.progress_us = self.heap.now_us();
        let half = Half::new(self, line, side);
        let done: Box<dyn FnOnce() + Send> = match end.writing.take() {
            Some(Writing::Chunk(bytes, then)) => {
                end.unread += bytes.len();
                end.outbox.push_back(Packet::Chunk(bytes));
                Box::new(move || then(Ok(Box::new(half))))
            }
            Some(Writing::End(then)) => {
                end.outbox.push_back(Packet::End);
                end.has_finished = true;
                Box::new(move || {
                    half.disarm();
                    then(Ok(()));
                })
            }
            None => return half.disarm(),
        };
        drop(ends);
        self.tell(whose, done);
        self.pump(line, side);
        self.forget_if_over(line);
    }

    /// Begins a read, or a write, at one end, unless that has failed.
    fn begin(
        &self,
        line: &Arc<Line>,
        side: usize,
        is_write: bool,
        begin: impl FnOnce(&mut End),
    ) -> Result<(), BulkError> {
        let mut ends = line.ends();
        let end = &mut ends[side];
        if let Some(why) = &end.failed {
            return Err(why.clone());
        }
        let count = usize::from(is_write);
        end.begun[count] += 1;
        let begun = end.begun[count];
        begin(end);
        drop(ends);
        let (links, line) = (self.clone(), line.clone());
        let look = move || links.look(&line, side, is_write, begun);
        self.heap.schedule(BULK_STALLED, look);
        Ok(())
    }

    /// Looks whether a read, or a write, still stands, and nothing else at that end has been done either.
    fn look(&self, line: &Arc<Line>, side: usize, is_write: bool, begun: u64) {
        let ends = line.ends();
        let end = &ends[side];
        let waits = if is_write { end.writing.is_some() } else { end.reading.is_some() };
        let stands = waits && end.begun[usize::from(is_write)] == begun;
        let since = Duration::from_micros(self.heap.now_us() - end.progress_us);
        drop(ends);
        if stands && since >= BULK_STALLED {
            self.fail(line, side, BulkError::Stalled);
        } else if stands {
            let (links, line) = (self.clone(), line.clone());
            let look = move || links.look(&line, side, is_write, begun);
            self.heap.schedule(BULK_STALLED - since, look);
        }
    }

    fn fail_later(&self, line: &Arc<Line>, side: usize, reason: &str) {
        let (links, line) = (self.clone(), line.clone());
        let why = BulkError::Broken { reason: reason.to_owned() };
        let wait = self.rng.micros(200, 20_000);
        self.heap.schedule(wait, move || links.fail(&line, side, why));
    }

    /// Has the other end hear that one has failed, once the link carries it.
    fn pass_on(&self, line: &Arc<Line>, side: usize) {
        let (from, to) = line.way(side);
        if line.ends()[1 - side].is_over() {
            return;
        }
        if self.wires.carries(from.1, to.1) {
            return self.fail_later(line, 1 - side, "the other end has given it up");
        }
        let (links, line) = (self.clone(), line.clone());
        self.heap.schedule(AGAIN, move || {
            // What has lost its power says nothing any more.
            if links.is_alive(from) {
                links.pass_on(&line, side);
            }
        });
    }

    /// One end has failed; the other one hears of it if the link carries, or finds out by itself.
    fn fail(&self, line: &Arc<Line>, side: usize, why: BulkError) {
        let mut ends = line.ends();
        // Without power nobody has anything to say, nor once the run is over.
        if ends[side].is_over() || self.wires.end_of(ends[side].whose.0).is_none() {
            return;
        }
        let end = &mut ends[side];
        end.failed = Some(why.clone());
        let (opening, reading, writing) =
            (end.opening.take(), end.reading.take(), end.writing.take());
        drop(ends);
        let own = line.way(side).0;
        if let Some(then) = opening {
            let why = why.clone();
            self.tell(own, move || then(Err(why)));
        }
        if let Some(then) = reading {
            let why = why.clone();
            self.tell(own, move || then(Err(why)));
        }
        if let Some(writing) = writing {
            self.tell(own, move || writing.fail(why));
        }
        self.pass_on(line, side);
        self.forget_if_over(line);
    }

    fn forget_if_over(&self, line: &Line) {
        if line.ends().iter().all(End::is_over) {
            let forgotten = self.lock().lines.remove(&line.id);
            drop(forgotten);
        }
    }
}

impl SimBulk {
    fn check(&self, to: PeerId, header: &[u8]) -> Result<(usize, u64), BulkError> {
        BulkError::check_header(header)?;
        if !self.links.is_alive(self.own) {
            return Err(BulkError::Stopped);
        }
        if !self.links.wires.admits(self.own.0, to) {
            return Err(BulkError::NotAMember);
        }
        let inner = self.links.lock();
        let is_own = |line: &&Arc<Line>| {
            let ends = line.ends();
            ends[0].whose == self.own && !ends[0].is_over()
        };
        let with = inner.lines.values().filter(is_own).map(|line| line.ends()[1].whose.0);
        let with: Vec<PeerId> = with.collect();
        if with.len() >= BULK_STREAMS_MAX
            || with.iter().filter(|peer| **peer == to).count() >= BULK_STREAMS_PER_PEER_MAX
        {
            return Err(BulkError::Busy);
        }
        drop(inner);
        let nobody = || BulkError::NoWay { reason: "nobody is there".to_owned() };
        self.links.wires.end_of(to).ok_or_else(nobody)
    }
}

impl Bulk for SimBulk {
    fn serve(&self, sink: Sink<Incoming>) {
        if !self.links.is_alive(self.own) {
            return;
        }
        let earlier = self.links.lock().servers.insert(self.own.0, sink);
        drop(earlier);
    }

    fn open(&self, to: PeerId, _: Vec<Address>, header: Vec<u8>, then: Then<BulkStream>) -> BulkId {
        let links = &self.links;
        let mut inner = links.lock();
        inner.last += 1;
        let id = inner.last;
        drop(inner);
        match self.check(to, &header) {
            Err(why) => then(Err(why)),
            Ok((node, incarnation)) => {
                let mut ends = [End::new(self.own), End::new((to, node, incarnation))];
                ends[0].opening = Some(then);
                let line = Arc::new(Line { id, ends: Mutex::new(ends) });
                links.lock().lines.insert(id, line.clone());
                let way = links.delay(self.own.1, node, 0) + links.delay(node, self.own.1, 0);
                let (knocking, line) = (links.clone(), line.clone());
                links.heap.schedule(way + HANDSHAKE, move || knocking.knock(&line, header));
            }
        }
        BulkId(id)
    }

    fn cancel(&self, stream: BulkId) {
        let line = self.links.lock().lines.get(&stream.0).cloned();
        let Some(line) = line else { return };
        for side in [0, 1] {
            if line.way(side).0 == self.own {
                self.links.fail(&line, side, BulkError::Cancelled);
            }
        }
    }
}

#[cfg(test)]
mod tests;
