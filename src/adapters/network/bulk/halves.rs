//! The halves of a stream that both ends have.
//!
//! Flow: a half is asked for a step -> a task of the thread for bulk bytes takes it, and gives the half
//! back, or says why the stream has ended, which the other half then says as well.
//!
//! Invariants:
//! 1. A step ends when it is done, when the stream is ended from elsewhere, or when no step of either half has
//!    been done for `BULK_STALLED`.
//! 2. Whoever hears that a stream is over finds its place free, unless it has the other half itself.

use std::io;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{Live, Opened};
use super::pipe::{Pipe, ReadEnd, WriteEnd};
use super::streams::Held;
use super::wire::{read_chunk, read_len, write_answer, write_chunk, write_end};
use crate::adapters::network::stats::{BulkStats, NetworkStats, add, count};
use crate::ports::bulk::{BulkError, BulkReader, BulkStream, BulkWriter, Once, Read, Then};
use crate::types::Lock;
use crate::types::limits::{BULK_ANSWER, BULK_STALLED};

/// Says in the words of the port why something was not to be done.
pub fn explain(error: &io::Error) -> BulkError {
    match error.kind() {
        io::ErrorKind::InvalidData => BulkError::Malformed,
        io::ErrorKind::UnexpectedEof => broken("the other end has given it up"),
        _ => broken(&error.to_string()),
    }
}

/// That a stream broke.
pub fn broken(reason: &str) -> BulkError {
    BulkError::Broken { reason: reason.to_owned() }
}

/// What the two halves share.
struct Common {
    held: Held,
    /// Of what the connection counts its streams by.
    _live: Live,
    stats: Arc<NetworkStats>,
    runtime: Handle,
    /// When a step of either half was done last.
    progress: Mutex<Instant>,
}

impl Common {
    /// Takes one step.
    async fn step<T>(&self, step: impl Future<Output = io::Result<T>>) -> Result<T, BulkError> {
        let begun = Instant::now();
        let mut step = pin!(step);
        loop {
            let until = begun.max(*self.progress.locked()) + BULK_STALLED;
            if Instant::now() >= until {
                count(&self.stats.bulk.stalled);
                return Err(BulkError::Stalled);
            }
            tokio::select! {
                biased;
                why = self.held.ended() => return Err(why),
                done = &mut step => {
                    *self.progress.locked() = Instant::now();
                    return done.map_err(|error| explain(&error));
                }
                // The other half may have come further meanwhile.
                () = sleep_until(until) => {}
            }
        }
    }

    /// Ends the stream if a step has failed, so that the other half hears why.
    fn note<T>(&self, result: Result<T, BulkError>) -> Result<T, BulkError> {
        result.inspect_err(|why| self.held.end(why))
    }
}

/// Bytes that are with the port.
struct Load {
    len: u64,
    stats: Arc<NetworkStats>,
}

impl Load {
    fn new(len: usize, stats: &Arc<NetworkStats>) -> Self {
        let (len, bulk) = (len as u64, &stats.bulk);
        let held = bulk.held.fetch_add(len, Ordering::Relaxed) + len;
        bulk.held_most.fetch_max(held, Ordering::Relaxed);
        Self { len, stats: stats.clone() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let BulkStats { held, .. } = &self.stats.bulk;
        held.fetch_sub(self.len, Ordering::Relaxed);
    }
}

/// A half as long as it may be used. Dropped before its end, it cancels the stream.
struct Armed {
    common: Arc<Common>,
    is_armed: bool,
}

impl Armed {
    fn new(common: Arc<Common>) -> Self {
        Self { common, is_armed: true }
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if self.is_armed {
            self.common.held.end(&BulkError::Cancelled);
        }
    }
}

struct Reader {
    from: ReadEnd,
    own: Armed,
}

struct Writer {
    to: Writing,
    own: Armed,
}

enum Writing {
    Ready(WriteEnd),
    /// The other end is being told that its stream was taken.
    Answering(JoinHandle<io::Result<WriteEnd>>),
}

impl Writing {
    async fn ready(&mut self) -> io::Result<&mut WriteEnd> {
        if let Self::Answering(task) = self {
            let to = task.await.map_err(io::Error::other)??;
            *self = Self::Ready(to);
        }
        match self {
            Self::Ready(to) => Ok(to),
            Self::Answering(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// The halves of a stream; with `answers`, the other end is told that this one, of this run, has taken it.
pub fn halves(
    opened: Opened,
    held: Held,
    (stats, runtime): (Arc<NetworkStats>, Handle),
    answers: Option<u64>,
) -> BulkStream {
    let (id, peer) = (held.id, held.peer);
    let pipe = Pipe::new(opened.io);
    held.attach(&pipe);
    let (from, mut to) = (ReadEnd(pipe.clone()), WriteEnd(pipe));
    let common = Arc::new(Common {
        held,
        _live: opened.live,
        stats,
        runtime,
        progress: Mutex::new(Instant::now()),
    });
    let to = match answers {
        None => Writing::Ready(to),
        Some(run) => Writing::Answering(common.runtime.spawn(async move {
            match timeout(BULK_ANSWER, write_answer(&mut to, None, run)).await {
                Ok(written) => written.map(|()| to),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        })),
    };
    let reader = Box::new(Reader { from, own: Armed::new(common.clone()) });
    let writer = Box::new(Writer { to, own: Armed::new(common) });
    BulkStream { id, peer, reader, writer }
}

impl BulkReader for Reader {
    fn read(mut self: Box<Self>, then: Then<Read>) {
        let (then, common) = (Once::new(then), self.own.common.clone());
        common.runtime.clone().spawn(async move {
            let step = async {
                let Some(len) = read_len(&mut self.from).await? else { return Ok(None) };
                let load = Load::new(len, &common.stats);
                let mut chunk = vec![0; len];
                read_chunk(&mut self.from, &mut chunk).await?;
                Ok(Some((chunk, load)))
            };
            let read = common.step(step).await;
            let read = match common.note(read) {
                Ok(Some((chunk, load))) => {
                    drop(load);
                    add(&common.stats.bulk.bytes_in, chunk.len());
                    Ok(Read::Chunk(chunk, self))
                }
                Ok(None) => {
                    self.own.is_armed = false;
                    drop(self);
                    Ok(Read::End)
                }
                Err(why) => {
                    drop(self);
                    Err(why)
                }
            };
            drop(common);
            then.give(read);
        });
    }
}

impl BulkWriter for Writer {
    fn write(mut self: Box<Self>, chunk: Vec<u8>, then: Then<Box<dyn BulkWriter>>) {
        let (then, common) = (Once::new(then), self.own.common.clone());
        if let Err(why) = common.note(BulkError::check_chunk(&chunk)) {
            drop(self);
            drop(common);
            return then.give(Err(why));
        }
        common.runtime.clone().spawn(async move {
            let load = Load::new(chunk.len(), &common.stats);
            let step = async { write_chunk(self.to.ready().await?, &chunk).await };
            let written = common.step(step).await;
            drop(load);
            let written = match common.note(written) {
                Ok(()) => {
                    add(&common.stats.bulk.bytes_out, chunk.len());
                    Ok(self as Box<dyn BulkWriter>)
                }
                Err(why) => {
                    drop(self);
                    Err(why)
                }
            };
            drop(common);
            then.give(written);
        });
    }

    fn finish(mut self: Box<Self>, then: Then<()>) {
        let (then, common) = (Once::new(then), self.own.common.clone());
        common.runtime.clone().spawn(async move {
            let step = async { write_end(self.to.ready().await?).await };
            let finished = common.note(common.step(step).await);
            self.own.is_armed = finished.is_err();
            drop(self);
            drop(common);
            then.give(finished);
        });
    }
}
