//! What every implementation of the port for bulk bytes keeps to: a file that tests of each include, which
//! brings `Pair` to life and calls these functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use super::port::bulk::{
    Bulk, BulkError, BulkId, BulkReader, BulkStream, BulkWriter, Incoming, Read, Refusal,
};
use super::port::{Address, BULK_CHUNK_MAX, BULK_HEADER_MAX, BULK_STREAMS_PER_PEER_MAX, PeerId};

/// Two members of a cluster, and how to wait for what they do.
pub trait Pair {
    /// The port of one of them.
    fn bulk(&self, side: usize) -> Arc<dyn Bulk>;

    /// Who one of them is.
    fn peer(&self, side: usize) -> PeerId;

    /// Where one of them is.
    fn at(&self, side: usize) -> Vec<Address>;

    /// Takes the other one out of the roster of one of them.
    fn remove(&self, side: usize);

    /// Waits for something.
    fn wait<T>(&self, from: &Receiver<T>) -> T;
}

pub type Opened = Receiver<Result<BulkStream, BulkError>>;

pub fn serve(pair: &impl Pair, side: usize) -> Receiver<Incoming> {
    let (sender, incoming) = channel();
    pair.bulk(side).serve(Arc::new(move |stream| drop(sender.send(stream))));
    incoming
}

pub fn begin(pair: &impl Pair, side: usize, header: &[u8]) -> (BulkId, Opened) {
    let (sender, opened) = channel();
    let other = 1 - side;
    let then = Box::new(move |result| drop(sender.send(result)));
    let (peer, at) = (pair.peer(other), pair.at(other));
    (pair.bulk(side).open(peer, at, header.to_vec(), then), opened)
}

/// A stream from one of them that the other one takes.
pub fn open(pair: &impl Pair, side: usize, incoming: &Receiver<Incoming>) -> [BulkStream; 2] {
    let (id, opened) = begin(pair, side, b"something");
    let incoming = pair.wait(incoming);
    assert_eq!((incoming.from, &incoming.header[..]), (pair.peer(side), &b"something"[..]));
    let taken = incoming.accept();
    let own = pair.wait(&opened).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!((own.id, own.peer, taken.peer), (id, pair.peer(1 - side), pair.peer(side)));
    [own, taken]
}

pub fn begin_read(reader: Box<dyn BulkReader>) -> Receiver<Result<Read, BulkError>> {
    let (sender, read) = channel();
    reader.read(Box::new(move |result| drop(sender.send(result))));
    read
}

type Writer = Box<dyn BulkWriter>;

pub fn begin_write(writer: Writer, chunk: Vec<u8>) -> Receiver<Result<Writer, BulkError>> {
    let (sender, written) = channel();
    writer.write(chunk, Box::new(move |result| drop(sender.send(result))));
    written
}

pub fn begin_finish(writer: Writer) -> Receiver<Result<(), BulkError>> {
    let (sender, finished) = channel();
    writer.finish(Box::new(move |result| drop(sender.send(result))));
    finished
}

/// Fails if a callback was forgotten or called twice.
fn only<T>(pair: &impl Pair, from: &Receiver<Result<T, BulkError>>) -> Result<T, BulkError> {
    let result = pair.wait(from);
    assert!(from.try_recv().is_err(), "it was called twice");
    result
}

fn why<T>(result: Result<T, BulkError>) -> BulkError {
    result.err().expect("it is an error")
}

fn is_broken(why: &BulkError) -> bool {
    matches!(why, BulkError::Broken { .. })
}

fn chunk(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 31 + at * 7) as u8).collect()
}

pub fn chunks_arrive_as_they_were_written_until_the_end_is_said(pair: &impl Pair) {
    let incoming = [serve(pair, 0), serve(pair, 1)];
    for side in [0, 1] {
        let [own, taken] = open(pair, side, &incoming[1 - side]);
        for (mut writer, mut reader) in [(own.writer, taken.reader), (taken.writer, own.reader)] {
            for (number, len) in
                [1, BULK_CHUNK_MAX, 77_777, 2, BULK_CHUNK_MAX].into_iter().enumerate()
            {
                let written = begin_write(writer, chunk(number, len));
                match only(pair, &begin_read(reader)) {
                    Ok(Read::Chunk(bytes, next)) => {
                        assert!(bytes == chunk(number, len), "chunk {number}");
                        reader = next;
                    }
                    other => panic!("{other:?}"),
                }
                writer = only(pair, &written).unwrap_or_else(|why| panic!("{why}"));
            }
            let finished = begin_finish(writer);
            assert!(matches!(only(pair, &begin_read(reader)), Ok(Read::End)));
            only(pair, &finished).unwrap();
        }
    }
}

pub fn an_end_that_nobody_has_said_is_none(pair: &impl Pair) {
    let incoming = serve(pair, 1);
    let [own, taken] = open(pair, 0, &incoming);
    // The reader has said its own end, so that the multiplexer could close the stream as if it were whole.
    let finished = begin_finish(own.writer);
    assert!(matches!(only(pair, &begin_read(taken.reader)), Ok(Read::End)));
    only(pair, &finished).unwrap();
    let written = begin_write(taken.writer, chunk(1, 1_000));
    let Ok(Read::Chunk(_, reader)) = only(pair, &begin_read(own.reader)) else {
        panic!("no chunk")
    };
    drop(only(pair, &written).unwrap_or_else(|why| panic!("{why}")));
    let why = why(only(pair, &begin_read(reader)));
    assert!(is_broken(&why), "{why:?}");
}

pub fn who_has_enough_says_so_also_after_its_own_end(pair: &impl Pair) {
    let incoming = serve(pair, 1);
    // More often than there are places, so that each has to come back.
    for _ in 0..3 * BULK_STREAMS_PER_PEER_MAX {
        let [own, taken] = open(pair, 0, &incoming);
        let finished = begin_finish(own.writer);
        assert!(matches!(only(pair, &begin_read(taken.reader)), Ok(Read::End)));
        only(pair, &finished).unwrap();
        let mut written = begin_write(taken.writer, vec![1; BULK_CHUNK_MAX]);
        let read = only(pair, &begin_read(own.reader));
        let Ok(Read::Chunk(_, reader)) = read else { panic!("no chunk") };
        drop(reader);
        let ended = loop {
            match only(pair, &written) {
                Ok(writer) => written = begin_write(writer, vec![1; BULK_CHUNK_MAX]),
                Err(why) => break why,
            }
        };
        assert!(is_broken(&ended), "{ended:?}");
    }
}

pub fn whoever_hears_that_a_stream_is_over_finds_its_place_free(pair: &impl Pair) {
    let incoming = serve(pair, 1);
    let mut others = Vec::new();
    for _ in 1..BULK_STREAMS_PER_PEER_MAX {
        others.push(open(pair, 0, &incoming));
    }
    let [own, taken] = open(pair, 0, &incoming);
    let finished = begin_finish(own.writer);
    only(pair, &finished).unwrap();
    let (bulk, peer, at) = (pair.bulk(0), pair.peer(1), pair.at(1));
    let (sender, opened) = channel();
    own.reader.read(Box::new(move |read| {
        assert!(matches!(read, Ok(Read::End)));
        bulk.open(peer, at, Vec::new(), Box::new(move |result| drop(sender.send(result))));
    }));
    let finished = begin_finish(taken.writer);
    let _next = pair.wait(&incoming).accept();
    assert!(pair.wait(&opened).is_ok());
    only(pair, &finished).unwrap();
}

/// A writer that goes on as long as it is let.
fn pump(
    writer: Writer,
    left: usize,
    taken: Arc<AtomicUsize>,
    done: impl FnOnce(Writer) + Send + 'static,
) {
    if left == 0 {
        return done(writer);
    }
    let chunk = vec![left as u8; BULK_CHUNK_MAX];
    writer.write(
        chunk,
        Box::new(move |result| {
            if let Ok(writer) = result {
                taken.fetch_add(1, Ordering::SeqCst);
                pump(writer, left - 1, taken, done);
            }
        }),
    );
}

pub fn a_reader_that_does_not_read_stops_the_writer(pair: &impl Pair, ahead_max: usize) {
    const CHUNKS: usize = 400;
    let incoming = serve(pair, 1);
    let [own, other] = open(pair, 0, &incoming);
    let (taken, (sender, done)) = (Arc::new(AtomicUsize::new(0)), channel());
    pump(own.writer, CHUNKS, taken.clone(), move |writer| drop(sender.send(writer)));
    let mut reader = other.reader;
    for read in 0..CHUNKS {
        let ahead = taken.load(Ordering::SeqCst).saturating_sub(read);
        assert!(ahead <= ahead_max, "{ahead} chunks are under way");
        match only(pair, &begin_read(reader)) {
            Ok(Read::Chunk(bytes, next)) => {
                assert_eq!((bytes.len(), bytes[0]), (BULK_CHUNK_MAX, (CHUNKS - read) as u8));
                reader = next;
            }
            other => panic!("{other:?}"),
        }
    }
    let finished = begin_finish(pair.wait(&done));
    assert!(matches!(only(pair, &begin_read(reader)), Ok(Read::End)));
    only(pair, &finished).unwrap();
}

pub fn there_are_so_many_streams_and_places_come_back(pair: &impl Pair) {
    let incoming = serve(pair, 1);
    let mut open_now: Vec<_> =
        (0..BULK_STREAMS_PER_PEER_MAX).map(|_| open(pair, 0, &incoming)).collect();
    assert_eq!(why(only(pair, &begin(pair, 0, b"one more").1)), BulkError::Busy);
    // One is over when both have said their end, and nobody has it any more.
    let Some([own, taken]) = open_now.pop() else { panic!("it was opened") };
    for (writer, reader) in [(own.writer, taken.reader), (taken.writer, own.reader)] {
        let finished = begin_finish(writer);
        assert!(matches!(only(pair, &begin_read(reader)), Ok(Read::End)));
        only(pair, &finished).unwrap();
    }
    open_now.push(open(pair, 0, &incoming));
    // One of which the opener has had enough.
    let Some([own, taken]) = open_now.pop() else { panic!("it was opened") };
    drop(own);
    let ended = why(only(pair, &begin_read(taken.reader)));
    assert!(is_broken(&ended), "{ended:?}");
    drop(taken.writer);
    open_now.push(open(pair, 0, &incoming));
}

pub fn what_is_cancelled_says_so_once(pair: &impl Pair) {
    let incoming = serve(pair, 1);
    // While nobody has answered.
    let (id, opened) = begin(pair, 0, b"something");
    let waiting = pair.wait(&incoming);
    pair.bulk(0).cancel(id);
    assert_eq!(why(only(pair, &opened)), BulkError::Cancelled);
    let ended = why(only(pair, &begin_read(waiting.accept().reader)));
    assert!(is_broken(&ended), "{ended:?}");
    // While something is waited for: both halves hear of it, and so does the other end.
    let [own, taken] = open(pair, 0, &incoming);
    let (read, theirs) = (begin_read(own.reader), begin_read(taken.reader));
    pair.bulk(0).cancel(own.id);
    pair.bulk(0).cancel(own.id);
    assert_eq!(why(only(pair, &read)), BulkError::Cancelled);
    let ended = why(only(pair, &begin_write(own.writer, vec![1])));
    assert_eq!(ended, BulkError::Cancelled);
    let ended = why(only(pair, &theirs));
    assert!(is_broken(&ended), "{ended:?}");
    // A half that is dropped ends the other one.
    let [own, _taken] = open(pair, 0, &incoming);
    let read = begin_read(own.reader);
    drop(own.writer);
    assert_eq!(why(only(pair, &read)), BulkError::Cancelled);
}

pub fn what_is_too_long_is_not_sent(pair: &impl Pair) {
    let incoming = serve(pair, 1);
    let (_, opened) = begin(pair, 0, &vec![7; BULK_HEADER_MAX]);
    assert_eq!(pair.wait(&incoming).header.len(), BULK_HEADER_MAX);
    assert_eq!(why(only(pair, &opened)), BulkError::Refused(Refusal::Unserved));
    let (len, max) = (BULK_HEADER_MAX + 1, BULK_HEADER_MAX);
    let ended = why(only(pair, &begin(pair, 0, &vec![7; len]).1));
    assert_eq!(ended, BulkError::Length { len, max });
    for len in [0, BULK_CHUNK_MAX + 1] {
        let [own, taken] = open(pair, 0, &incoming);
        let max = BULK_CHUNK_MAX;
        let ended = why(only(pair, &begin_write(own.writer, vec![0; len])));
        assert_eq!(ended, BulkError::Length { len, max });
        let ended = why(only(pair, &begin_read(taken.reader)));
        assert!(is_broken(&ended), "{ended:?}");
    }
}

pub fn who_does_not_want_a_stream_says_why(pair: &impl Pair) {
    let ended = why(only(pair, &begin(pair, 0, b"").1));
    assert_eq!(ended, BulkError::Refused(Refusal::Unserved), "nobody serves");
    let forgotten = serve(pair, 1);
    let incoming = serve(pair, 1);
    for refusal in [Refusal::NotThere, Refusal::Header, Refusal::Busy] {
        let (_, opened) = begin(pair, 0, b"");
        pair.wait(&incoming).refuse(refusal);
        assert_eq!(why(only(pair, &opened)), BulkError::Refused(refusal));
    }
    let (_, opened) = begin(pair, 0, b"");
    drop(pair.wait(&incoming));
    assert_eq!(why(only(pair, &opened)), BulkError::Refused(Refusal::Unserved), "it was dropped");
    assert!(forgotten.try_recv().is_err(), "the later one has taken its place");
}

pub fn who_is_no_member_any_more_gets_nothing(pair: &impl Pair) {
    let incoming = serve(pair, 1);
    let [own, taken] = open(pair, 0, &incoming);
    let reads = [begin_read(own.reader), begin_read(taken.reader)];
    pair.remove(1);
    assert_eq!(why(only(pair, &reads[1])), BulkError::NotAMember);
    let ended = why(only(pair, &reads[0]));
    assert!(is_broken(&ended), "{ended:?}");
    assert_eq!(why(only(pair, &begin(pair, 1, b"").1)), BulkError::NotAMember);
    // The one that still takes it for a member finds no door.
    let ended = why(only(pair, &begin(pair, 0, b"").1));
    let is_refused = ended == BulkError::Refused(Refusal::NotAMember);
    assert!(is_refused || matches!(ended, BulkError::NoWay { .. }), "{ended:?}");
}
