//! Which notes were heard, and those that are kept.
//!
//! Invariants:
//! 1. A number is taken once. What was dropped to make room raises the floor of its stream, and
//!    nothing at or below the floor is taken.
//! 2. A stream holds at most `STREAM_NOTES_MAX` numbers, a publisher at most `STREAMS_MAX` streams,
//!    and all notes together at most `GOSSIP_BYTES_MAX` bytes. Room is made at the cost of whoever
//!    takes up the most.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checks::is_stale;
use crate::messages::wire::{Part, SignedNote, StreamDigest, StreamId};
use crate::types::limits::{
    DIGEST_RANGES_MAX, GOSSIP_BYTES_MAX, GOSSIP_REMEMBERED, STREAM_NOTES_MAX, STREAMS_MAX,
};
use crate::types::{Mono, PeerId, Wall};

/// How often what is too old is looked for.
const FORGET_INTERVAL: Duration = Duration::from_secs(10);

/// A note that was heard.
struct Heard {
    /// When it was heard.
    at: Mono,
    /// When it was told, by its publisher's clock.
    told: Wall,
    /// The note itself if its topic is kept.
    kept: Option<SignedNote>,
    /// True if it came beside the mesh, and not through it since.
    beside: bool,
}

impl Heard {
    fn bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, size)
    }
}

#[derive(Default)]
struct Stream {
    floor: u64,
    /// By number.
    heard: BTreeMap<u64, Heard>,
    bytes: usize,
}

impl Stream {
    fn drop_lowest(&mut self) -> usize {
        let Some((seq, heard)) = self.heard.pop_first() else { return 0 };
        self.floor = self.floor.max(seq);
        self.bytes -= heard.bytes();
        heard.bytes()
    }

    fn has(&self, seq: u64) -> bool {
        seq <= self.floor || self.heard.contains_key(&seq)
    }

    /// The runs of consecutive numbers: the newest, if there are more than fit in a digest; then what lies
    /// below them is not asked for, and the floor says so.
    fn digest(&self, stream: StreamId) -> StreamDigest {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let mut floor = self.floor;
        for seq in self.heard.keys().rev() {
            let full = ranges.len() == DIGEST_RANGES_MAX;
            match ranges.last_mut() {
                Some((first, _)) if *first == *seq + 1 => *first = *seq,
                Some((first, _)) if full => {
                    floor = floor.max(*first - 1);
                    break;
                }
                _ => ranges.push((*seq, *seq)),
            }
        }
        ranges.reverse();
        StreamDigest { stream, floor, ranges }
    }
}

fn size(note: &SignedNote) -> usize {
    note.note.0.len() + note.signature.0.len()
}

/// See the module.
#[derive(Default)]
pub(super) struct Streams {
    streams: BTreeMap<StreamId, Stream>,
    bytes: usize,
    forget_at: Mono,
}

impl Streams {
    /// True if this note was heard, or is too old to say.
    pub fn has(&self, stream: StreamId, seq: u64) -> bool {
        self.streams.get(&stream).is_some_and(|known| known.has(seq))
    }

    /// True for a note that came beside the mesh, and not through it yet.
    pub fn is_beside(&self, stream: StreamId, seq: u64) -> bool {
        let known = self.streams.get(&stream).and_then(|known| known.heard.get(&seq));
        known.is_some_and(|heard| heard.beside)
    }

    /// Takes note that a note came beside the mesh, or has come through it now.
    pub fn set_beside(&mut self, stream: StreamId, seq: u64, beside: bool) {
        let known = self.streams.get_mut(&stream);
        if let Some(heard) = known.and_then(|known| known.heard.get_mut(&seq)) {
            heard.beside = beside;
        }
    }

    /// Remembers a note; false if it was heard before.
    pub fn take(
        &mut self,
        now: Mono,
        stream: StreamId,
        (seq, told): (u64, Wall),
        note: &SignedNote,
    ) -> bool {
        self.forget(now);
        if self.has(stream, seq) || !self.streams.contains_key(&stream) && !self.admit(stream) {
            return false;
        }
        let known = self.streams.entry(stream).or_default();
        let kept = stream.topic.is_kept().then(|| note.clone());
        let heard = Heard { at: now, told, kept, beside: false };
        known.bytes += heard.bytes();
        self.bytes += heard.bytes();
        known.heard.insert(seq, heard);
        if known.heard.len() > STREAM_NOTES_MAX {
            self.bytes -= known.drop_lowest();
        }
        while self.bytes > GOSSIP_BYTES_MAX {
            let Some(largest) = self.largest().and_then(|id| self.streams.get_mut(&id)) else {
                break;
            };
            self.bytes -= largest.drop_lowest();
        }
        true
    }

    /// The largest stream of the publisher that takes up the most.
    fn largest(&self) -> Option<StreamId> {
        let mut totals = BTreeMap::<PeerId, usize>::new();
        for (id, known) in &self.streams {
            *totals.entry(id.publisher).or_default() += known.bytes;
        }
        let (publisher, _) = totals.into_iter().max_by_key(|(_, bytes)| *bytes)?;
        let own = self.streams.iter().filter(|(id, _)| id.publisher == publisher);
        own.max_by_key(|(_, known)| known.bytes).map(|(id, _)| *id)
    }

    /// Makes room for a new stream of a publisher: its oldest run on the topic goes.
    fn admit(&mut self, stream: StreamId) -> bool {
        let same = |id: &StreamId| id.topic == stream.topic && id.publisher == stream.publisher;
        let runs: Vec<StreamId> = self.streams.keys().copied().filter(same).collect();
        let Some(oldest) = runs.first().filter(|_| runs.len() >= STREAMS_MAX) else { return true };
        if oldest.run > stream.run {
            return false;
        }
        if let Some(gone) = self.streams.remove(oldest) {
            self.bytes -= gone.bytes;
        }
        true
    }

    /// Forgets what its time would not let in again.
    pub fn forget(&mut self, now: Mono) {
        if now < self.forget_at {
            return;
        }
        self.forget_at = now + FORGET_INTERVAL;
        for known in self.streams.values_mut() {
            known.heard.retain(|_, heard| now.since(heard.at) < GOSSIP_REMEMBERED);
            known.bytes = known.heard.values().map(Heard::bytes).sum();
        }
        self.streams.retain(|_, known| !known.heard.is_empty());
        self.bytes = self.streams.values().map(|known| known.bytes).sum();
    }

    /// Forgets everything of publishers that are not members any more.
    pub fn retain(&mut self, is_member: impl Fn(PeerId) -> bool) {
        self.streams.retain(|id, _| is_member(id.publisher));
        self.bytes = self.streams.values().map(|known| known.bytes).sum();
    }

    /// True if any note is kept.
    pub fn keeps_any(&self) -> bool {
        self.bytes > 0
    }

    /// What is kept of a part of the streams, at most `limit` of them, and the last of these if there
    /// are more.
    pub fn digest(&self, part: Part, limit: usize) -> (Vec<StreamDigest>, Option<StreamId>) {
        let mut digests: Vec<StreamDigest> = Vec::new();
        for (id, known) in self.kept(part) {
            if digests.len() == limit {
                return (digests, self.last_before(*id));
            }
            digests.push(known.digest(*id));
        }
        (digests, part.to)
    }

    fn last_before(&self, id: StreamId) -> Option<StreamId> {
        self.streams.range(..id).next_back().map(|(id, _)| *id)
    }

    fn kept(&self, part: Part) -> impl Iterator<Item = (&StreamId, &Stream)> {
        let inside = move |id: &StreamId| {
            part.from.is_none_or(|from| *id >= from) && part.to.is_none_or(|to| *id <= to)
        };
        self.streams.iter().filter(move |(id, _)| id.topic.is_kept() && inside(id))
    }

    /// Notes of a part that whoever has sent this digest lacks and would still take at `wall`, oldest
    /// numbers first, within `count` and `bytes`; and whether there are more.
    pub fn lacking(
        &self,
        part: Part,
        wall: Wall,
        theirs: &[StreamDigest],
        (count, bytes): (usize, usize),
    ) -> (Vec<SignedNote>, bool) {
        let theirs: BTreeMap<StreamId, &StreamDigest> =
            theirs.iter().map(|digest| (digest.stream, digest)).collect();
        let (mut notes, mut total) = (Vec::new(), 0);
        for (id, known) in self.kept(part) {
            let other = theirs.get(id);
            for (seq, heard) in &known.heard {
                let lacks =
                    !other.is_some_and(|other| has(other, *seq)) && !is_stale(heard.told, wall);
                let Some(note) = heard.kept.as_ref().filter(|_| lacks) else { continue };
                if notes.len() == count || total + size(note) > bytes && !notes.is_empty() {
                    return (notes, true);
                }
                total += size(note);
                notes.push(note.clone());
            }
        }
        (notes, false)
    }

    /// True if whoever has sent this digest has a note that is not here.
    pub fn is_behind(&self, theirs: &[StreamDigest]) -> bool {
        theirs.iter().filter(|digest| digest.stream.topic.is_kept()).any(|digest| {
            let known = self.streams.get(&digest.stream);
            let floor = known.map_or(0, |known| known.floor);
            digest.ranges.iter().filter(|(first, last)| last > &floor && first <= last).any(
                |(first, last)| {
                    let first = (*first).max(floor + 1);
                    let wanted = last - first + 1;
                    let have = known.map_or(0, |known| known.heard.range(first..=*last).count());
                    (have as u64) < wanted
                },
            )
        })
    }
}

/// The ranges of a digest rise, or it is of no use to its sender.
fn has(digest: &StreamDigest, seq: u64) -> bool {
    let after = digest.ranges.partition_point(|(first, _)| *first <= seq);
    seq <= digest.floor || after > 0 && digest.ranges[after - 1].1 >= seq
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::messages::Topic;
    use crate::types::Bytes;
    use crate::types::limits::GOSSIP_WINDOW;

    fn stream(publisher: u8, run: u64) -> StreamId {
        StreamId { topic: Topic::Events, publisher: PeerId([publisher; 32]), run }
    }

    fn note(len: usize) -> SignedNote {
        SignedNote { note: Bytes(vec![7; len]), signature: Bytes(Vec::new()) }
    }

    /// When everything was told.
    const W: Wall = Wall(1_000_000_000);

    fn at(ms: u64) -> Mono {
        Mono(0) + Duration::from_millis(ms)
    }

    #[test]
    fn a_number_is_taken_once_and_again_only_when_its_time_is_over() {
        let mut streams = Streams::default();
        assert!(streams.take(at(0), stream(1, 1), (5, W), &note(10)));
        assert!(!streams.take(at(1), stream(1, 1), (5, W), &note(10)));
        assert!(streams.take(at(1), stream(1, 2), (5, W), &note(10)), "another run");
        let later = at(2) + GOSSIP_REMEMBERED;
        streams.forget(later);
        assert!(!streams.keeps_any() && streams.streams.is_empty());
    }

    #[test]
    fn what_came_beside_the_mesh_is_remembered_with_the_note() {
        let mut streams = Streams::default();
        streams.set_beside(stream(1, 1), 5, true);
        assert!(!streams.is_beside(stream(1, 1), 5), "it was not heard");
        streams.take(at(0), stream(1, 1), (5, W), &note(10));
        assert!(!streams.is_beside(stream(1, 1), 5));
        streams.set_beside(stream(1, 1), 5, true);
        assert!(streams.is_beside(stream(1, 1), 5) && !streams.is_beside(stream(1, 2), 5));
        streams.set_beside(stream(1, 1), 5, false);
        assert!(!streams.is_beside(stream(1, 1), 5));
        streams.set_beside(stream(1, 1), 5, true);
        streams.forget(at(0) + GOSSIP_REMEMBERED + FORGET_INTERVAL);
        assert!(!streams.is_beside(stream(1, 1), 5), "forgotten with it");
    }

    #[test]
    fn what_makes_room_is_the_oldest_of_the_largest_and_does_not_come_back() {
        let mut streams = Streams::default();
        assert!(streams.take(at(0), stream(2, 1), (1, W), &note(100)));
        for seq in 1..=STREAM_NOTES_MAX as u64 + 3 {
            assert!(streams.take(at(0), stream(1, 1), (seq, W), &note(1)));
        }
        assert_eq!(streams.streams[&stream(1, 1)].floor, 3);
        assert!(!streams.take(at(0), stream(1, 1), (2, W), &note(1)));
        let large = GOSSIP_BYTES_MAX / 4;
        for seq in 10_000..10_008 {
            assert!(streams.take(at(0), stream(1, 1), (seq, W), &note(large)));
        }
        assert!(streams.bytes <= GOSSIP_BYTES_MAX);
        assert!(streams.has(stream(2, 1), 1), "a small publisher keeps its own");
        let tally: usize = streams.streams.values().map(|known| known.bytes).sum();
        assert_eq!(tally, streams.bytes);
    }

    #[test]
    fn runs_of_one_publisher_are_bounded_and_old_ones_go_first() {
        let mut streams = Streams::default();
        for run in 10..10 + 2 * STREAMS_MAX as u64 {
            assert!(streams.take(at(0), stream(1, run), (1, W), &note(1)));
        }
        assert_eq!(streams.streams.len(), STREAMS_MAX);
        assert!(
            !streams.take(at(0), stream(1, 3), (1, W), &note(1)),
            "older than all that are known"
        );
    }

    #[test]
    fn two_that_compare_come_to_have_the_same() {
        let (mut a, mut b) = (Streams::default(), Streams::default());
        let numbered = |seq: u64| SignedNote { note: Bytes(vec![seq as u8; 9]), ..note(0) };
        for seq in [1, 2, 3, 7, 9] {
            a.take(at(0), stream(1, 1), (seq, W), &numbered(seq));
        }
        for seq in [2, 8] {
            b.take(at(0), stream(1, 1), (seq, W), &numbered(seq));
        }
        b.take(at(0), stream(4, 1), (1, W), &numbered(44));
        let all = Part::default();
        let (of_b, end) = b.digest(all, 64);
        assert_eq!((of_b.len(), end), (2, None));
        assert_eq!(of_b[0].ranges, [(2, 2), (8, 8)]);
        assert!(a.is_behind(&of_b) && b.is_behind(&a.digest(all, 64).0));
        let (notes, more) = a.lacking(all, W, &of_b, (3, 10_000));
        assert_eq!((notes, more), (vec![numbered(1), numbered(3), numbered(7)], true));
        let (notes, more) = a.lacking(all, W, &of_b, (64, 10));
        assert_eq!((notes, more), (vec![numbered(1)], true), "one at least");
        let (back, _) = b.lacking(all, W, &a.digest(all, 64).0, (64, 10_000));
        assert_eq!(back, [numbered(8), numbered(44)]);
        let (some, end) = b.digest(all, 1);
        assert_eq!((some.len(), end), (1, Some(stream(1, 1))));
        assert_eq!(
            b.digest(Part { from: None, to: end }, 64).0,
            some,
            "the part that a cut digest is about"
        );
    }

    #[test]
    fn hostile_ranges_cost_nothing() {
        let mut streams = Streams::default();
        streams.take(at(0), stream(1, 1), (5, W), &note(1));
        let digest = |ranges| StreamDigest { stream: stream(1, 1), floor: 0, ranges };
        assert!(streams.is_behind(&[digest(vec![(1, u64::MAX)])]));
        assert!(!streams.is_behind(&[digest(vec![(9, 3), (5, 5)])]));
        assert!(streams.is_behind(&[digest(vec![(0, u64::MAX)])]));
        let mut theirs = digest(Vec::new());
        theirs.floor = u64::MAX;
        assert_eq!(streams.lacking(Part::default(), W, &[theirs], (64, 100)).0, []);
    }

    #[test]
    fn what_nobody_would_take_any_more_is_not_offered() {
        let mut streams = Streams::default();
        let late = W.plus(GOSSIP_WINDOW).plus(Duration::from_millis(1));
        for (seq, told) in [(1, W), (2, W), (3, late)] {
            streams.take(at(0), stream(1, 1), (seq, told), &note(seq as usize));
        }
        let (notes, more) = streams.lacking(Part::default(), late, &[], (1, 10_000));
        assert_eq!((notes, more), (vec![note(3)], false));
    }

    #[test]
    fn a_digest_that_is_cut_tells_of_the_newest_and_asks_for_nothing_below() {
        let (mut a, mut b) = (Streams::default(), Streams::default());
        let gaps = DIGEST_RANGES_MAX as u64 + 10;
        for n in 0..gaps {
            a.take(at(0), stream(1, 1), (2 * n + 1, W), &note(1));
            b.take(at(0), stream(1, 1), (2 * n + 1, W), &note(1));
        }
        b.take(at(0), stream(1, 1), (2 * gaps + 5, W), &note(9));
        let (digest, _) = a.digest(Part::default(), 64);
        assert_eq!(digest[0].ranges.len(), DIGEST_RANGES_MAX);
        assert_eq!(digest[0].ranges.last(), Some(&(2 * gaps - 1, 2 * gaps - 1)));
        let (notes, more) = b.lacking(Part::default(), W, &digest, (64, 10_000));
        assert_eq!((notes, more), (vec![note(9)], false));
    }

    #[test]
    fn room_is_made_at_the_cost_of_the_publisher_that_takes_up_the_most() {
        let mut streams = Streams::default();
        let large = GOSSIP_BYTES_MAX / 5;
        streams.take(at(0), stream(2, 1), (1, W), &note(large + 1));
        for run in 1..=4 {
            streams.take(at(0), stream(1, run), (1, W), &note(large));
        }
        assert!(streams.bytes <= GOSSIP_BYTES_MAX);
        assert_eq!(
            streams.streams[&stream(2, 1)].heard.len(),
            1,
            "its only note is the largest one"
        );
    }
}
