//! One lane on one stream: the task that reads and writes its frames.
//!
//! The side that opened the stream first waits for one byte, `TAKEN`; a side that does not want the
//! lane drops the stream instead. After that byte both sides send frames.
//!
//! Invariants:
//! 1. The task reports how it ended exactly once, even if it panics or is aborted.
//! 2. Nothing is read before the sink was told of the peer, so no frame comes before its `Up`.
//! 3. A lane that floods its reader does not keep its own writer from running.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use tokio::sync::mpsc;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use super::bounds::{ACK_TIMEOUT, PROGRESS_TIMEOUT, WRITE_BUFFER_KEPT};
use super::frame::{FrameError, FrameReader, PREFIX};
use super::peers::Heard;
use super::queue::{Popped, Writer};
use super::stats::{add, count};
use super::table::{Delivered, Link, Shared, len_max};
use crate::ports::Lane;
use crate::types::PeerId;
use crate::types::limits::WRITE_CHUNK;

/// The byte by which the accepting side takes the lane.
const TAKEN: u8 = 1;

/// How a lane ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneEnd {
    /// The stream is over; the lane may be opened again.
    Broken,
    /// The peer did not take the lane.
    NotTaken,
    /// The peer may not use the lane.
    Refused,
    /// The peer broke the rules of the stream; its connection has to go.
    Hostile,
    /// The peer takes nothing any more; its connection has to go.
    Stalled,
}

/// What a lane tells the event loop.
#[derive(Debug)]
pub(super) enum LaneReport {
    /// The peer took the lane that this side opened.
    Taken(LaneId),
    /// The lane is over.
    Ended(LaneId, LaneEnd),
}

/// Which stream of which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneId {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) lane: Lane,
    /// Tells the streams apart that one lane had over time.
    pub(super) serial: u64,
}

/// Reports the end of a lane when it is dropped, so that no end goes unreported.
struct Reporter<F: Fn(LaneReport)> {
    id: LaneId,
    end: LaneEnd,
    report: F,
}

impl<F: Fn(LaneReport)> Drop for Reporter<F> {
    fn drop(&mut self) {
        (self.report)(LaneReport::Ended(self.id, self.end));
    }
}

/// Everything that the task of a lane needs.
pub(super) struct LaneTask<T> {
    pub(super) id: LaneId,
    /// Counts what comes on this connection, and shows that whoever is there is not gone.
    pub(super) heard: Arc<Heard>,
    pub(super) shared: Arc<Shared>,
    pub(super) link: Arc<Link>,
    pub(super) writer: Writer,
    pub(super) reports: mpsc::UnboundedSender<T>,
}

/// A stream of which it is noted when bytes come: a long frame on a slow link is a sign of life, too.
struct Noted<'a, R> {
    inner: R,
    heard: &'a Heard,
}

impl<R: AsyncRead + Unpin> AsyncRead for Noted<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if matches!(read, Poll::Ready(Ok(1..))) {
            self.heard.note_bytes();
        }
        read
    }
}

impl<T: From<LaneReport> + Send + 'static> LaneTask<T> {
    /// Runs a lane until its stream breaks; `opener` says that this side opened it.
    pub(super) async fn run(self, mut stream: Stream, opener: bool) {
        let reports = self.reports.clone();
        // An event loop that is gone needs no reports.
        let report = move |report: LaneReport| drop(reports.send(report.into()));
        let mut reporter = Reporter { id: self.id, end: LaneEnd::Broken, report };
        if opener {
            let mut byte = [0];
            match timeout(ACK_TIMEOUT, stream.read_exact(&mut byte)).await {
                Ok(Ok(())) if byte == [TAKEN] => {}
                _ => {
                    reporter.end = LaneEnd::NotTaken;
                    return;
                }
            }
            (reporter.report)(LaneReport::Taken(self.id));
        }
        let (read, write) = stream.split();
        reporter.end = tokio::select! {
            end = self.read(read) => end,
            end = self.write(write, !opener) => end,
        };
    }

    async fn read(&self, stream: impl AsyncRead + Unpin) -> LaneEnd {
        let (lane, stats) = (self.id.lane, &self.shared.stats);
        self.link.wait_up().await;
        let noted = Noted { inner: stream, heard: &self.heard };
        let mut reader = FrameReader::new(noted, len_max(lane));
        loop {
            let bytes = match reader.next().await {
                Ok(bytes) => bytes,
                Err(FrameError::Length(len)) => {
                    tracing::warn!(peer = %self.id.peer, lane = lane.name(), len,
                        "the peer announced a frame that the lane does not allow; disconnecting");
                    count(&stats.oversize);
                    return LaneEnd::Hostile;
                }
                Err(FrameError::Slow) => {
                    count(&stats.slow);
                    return LaneEnd::Broken;
                }
                Err(FrameError::Ended | FrameError::Io(_)) => return LaneEnd::Broken,
            };
            if lane != Lane::Join || !self.link.is_admitted() {
                self.heard.frames.fetch_add(1, Ordering::Relaxed);
            }
            count(&stats.lane(lane).frames_in);
            add(&stats.lane(lane).bytes_in, PREFIX + bytes.len());
            if let Some(pause) = self.link.pace() {
                count(&stats.rate_limited);
                tokio::time::sleep(pause).await;
            }
            match self.shared.deliver(&self.link, lane, bytes) {
                Delivered::Done => {}
                Delivered::Refused => return LaneEnd::Refused,
                Delivered::Closed => return LaneEnd::Broken,
            }
            consume_budget().await;
        }
    }

    async fn write(&self, mut stream: impl AsyncWrite + Unpin, take: bool) -> LaneEnd {
        let stats = self.shared.stats.lane(self.id.lane);
        let mut buffer = Vec::new();
        if take {
            buffer.push(TAKEN);
        }
        loop {
            if !buffer.is_empty() {
                match write_out(&mut stream, &buffer).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        count(&self.shared.stats.stalled);
                        return LaneEnd::Stalled;
                    }
                    Err(_) => return LaneEnd::Broken,
                }
                buffer.clear();
                // One long frame must not make this peer cost a megabyte from then on.
                buffer.shrink_to(WRITE_BUFFER_KEPT);
            }
            match self.link.queue(self.id.lane).pop_into(&self.writer, &mut buffer) {
                Popped::Frames(frames) => {
                    add(&stats.frames_out, frames);
                    add(&stats.bytes_out, buffer.len());
                }
                Popped::Empty => self.writer.notified().await,
                Popped::Replaced => return LaneEnd::Broken,
            }
        }
    }
}

/// Writes and flushes; an error of kind `TimedOut` says that nothing went on for too long.
async fn write_out(stream: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let chunk = &bytes[..bytes.len().min(WRITE_CHUNK)];
        let n = timeout(PROGRESS_TIMEOUT, stream.write(chunk)).await??;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[n..];
    }
    timeout(PROGRESS_TIMEOUT, stream.flush()).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_of_a_frame_is_a_sign_of_life_and_an_end_is_none() {
        for (part, is_sign) in [(&[200, 0, 0, 0, 1, 2, 3][..], true), (&[], false)] {
            let heard = Heard::new();
            tokio::time::advance(ACK_TIMEOUT).await;
            let mut reader =
                FrameReader::new(Noted { inner: part, heard: &heard }, len_max(Lane::Bulk));
            assert!(matches!(reader.next().await, Err(FrameError::Ended)));
            assert_eq!(heard.last() == tokio::time::Instant::now(), is_sign);
        }
    }
}
