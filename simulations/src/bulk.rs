//! Bytes in bulk between the simulated nodes: the port's other implementation.
//!
//! A stream is as over TCP: nothing on it is lost, doubled or overtaken. What a link loses comes later; a
//! cut link is silence, until it is mended or somebody has waited for too long; of a crash the other end
//! hears, or not. All streams from one node to another share what the link carries.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bzzz::ports::Sink;
use bzzz::ports::bulk::{
    Answer, Bulk, BulkError, BulkId, BulkReader, BulkStream, BulkWriter, Incoming, Read, Refusal,
    Then,
};
use bzzz::types::limits::{
    BULK_ANSWER, BULK_CHUNK_MAX, BULK_STALLED, BULK_STREAMS_MAX, BULK_STREAMS_PER_PEER_MAX,
};
use bzzz::types::{Address, Lock, PeerId};

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
        let server = match server {
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
        self.heap.schedule(BULK_STALLED, move || {
            let ends = line.ends();
            let end = &ends[side];
            let waits = if is_write { end.writing.is_some() } else { end.reading.is_some() };
            let stands = waits && end.begun[count] == begun;
            drop(ends);
            if stands {
                links.fail(&line, side, BulkError::Stalled);
            }
        });
        Ok(())
    }

    fn fail_later(&self, line: &Arc<Line>, side: usize, reason: &str) {
        let (links, line) = (self.clone(), line.clone());
        let why = BulkError::Broken { reason: reason.to_owned() };
        let wait = self.rng.micros(200, 20_000);
        self.heap.schedule(wait, move || links.fail(&line, side, why));
    }

    /// One end has failed; the other one hears of it if the link carries, or finds out by itself.
    fn fail(&self, line: &Arc<Line>, side: usize, why: BulkError) {
        let mut ends = line.ends();
        if ends[side].is_over() {
            return;
        }
        let is_told = !ends[1 - side].is_over();
        let end = &mut ends[side];
        end.failed = Some(why.clone());
        let (opening, reading, writing) =
            (end.opening.take(), end.reading.take(), end.writing.take());
        drop(ends);
        let (own, other) = line.way(side);
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
        if is_told && self.wires.carries(own.1, other.1) {
            self.fail_later(line, 1 - side, "the other end has given it up");
        }
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

struct SimAnswer {
    links: BulkLinks,
    line: Arc<Line>,
}

impl SimAnswer {
    /// Has the opener hear the answer, once the link carries it.
    fn give(self, answer: Result<(), Refusal>) {
        let (to, from) = self.line.way(0);
        if !self.links.wires.carries(from.1, to.1) {
            let heap = self.links.heap.clone();
            // It ends: the opener does not wait for ever.
            if self.line.ends()[0].opening.is_some() {
                heap.schedule(AGAIN, move || self.give(answer));
            }
            return;
        }
        if let Err(why) = answer {
            return self.links.fail(&self.line, 0, BulkError::Refused(why));
        }
        let opening = self.line.ends()[0].opening.take();
        if let Some(then) = opening {
            let Self { links, line } = self;
            let stream = stream(&links, &line, 0);
            links.tell(to, move || then(Ok(stream)));
        }
    }

    fn give_later(self, answer: Result<(), Refusal>) {
        let (to, from) = self.line.way(0);
        // What a node without power has dropped is no answer.
        if self.links.is_alive(from) {
            let way = self.links.delay(from.1, to.1, 0);
            self.links.heap.clone().schedule(way, move || self.give(answer));
        }
    }
}

impl Answer for SimAnswer {
    fn accept(self: Box<Self>) -> BulkStream {
        let stream = stream(&self.links, &self.line, 1);
        self.give_later(Ok(()));
        stream
    }

    fn refuse(self: Box<Self>, why: Refusal) {
        self.give_later(Err(why));
    }
}

fn stream(links: &BulkLinks, line: &Arc<Line>, side: usize) -> BulkStream {
    let half = || Box::new(Half::new(links, line, side));
    let peer = line.way(side).1.0;
    BulkStream { id: BulkId(line.id), peer, reader: half(), writer: half() }
}

/// Either half of one end. Dropped before it was disarmed, it cancels the stream.
struct Half {
    links: BulkLinks,
    line: Arc<Line>,
    side: usize,
    is_armed: bool,
}

impl Half {
    fn new(links: &BulkLinks, line: &Arc<Line>, side: usize) -> Self {
        Self { links: links.clone(), line: line.clone(), side, is_armed: true }
    }

    fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if self.is_armed {
            self.links.fail(&self.line, self.side, BulkError::Cancelled);
        }
    }
}

impl BulkReader for Half {
    fn read(self: Box<Self>, then: Then<Read>) {
        let (links, line, side) = (self.links.clone(), self.line.clone(), self.side);
        let mut then = Some(then);
        let begun = links.begin(&line, side, false, |end| end.reading = then.take());
        self.disarm();
        match (begun, then) {
            (Err(why), Some(then)) => then(Err(why)),
            _ => links.serve_reader(&line, side),
        }
    }
}

impl BulkWriter for Half {
    fn write(self: Box<Self>, chunk: Vec<u8>, then: Then<Box<dyn BulkWriter>>) {
        let (links, line, side) = (self.links.clone(), self.line.clone(), self.side);
        if let Err(why) = BulkError::check_chunk(&chunk) {
            links.fail(&line, side, why.clone());
            return then(Err(why));
        }
        let mut writing = Some(Writing::Chunk(chunk, then));
        let begun = links.begin(&line, side, true, |end| end.writing = writing.take());
        self.disarm();
        match (begun, writing) {
            (Err(why), Some(writing)) => writing.fail(why),
            _ => links.serve_writer(&line, side),
        }
    }

    fn finish(self: Box<Self>, then: Then<()>) {
        let (links, line, side) = (self.links.clone(), self.line.clone(), self.side);
        let mut writing = Some(Writing::End(then));
        let begun = links.begin(&line, side, true, |end| end.writing = writing.take());
        self.disarm();
        match (begun, writing) {
            (Err(why), Some(writing)) => writing.fail(why),
            _ => links.serve_writer(&line, side),
        }
    }
}

#[cfg(test)]
mod tests;
