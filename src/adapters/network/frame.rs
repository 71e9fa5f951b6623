//! Reading frames from a stream: a length of four bytes, little endian, then so many bytes.
//!
//! Invariants:
//! 1. The length is checked before anything is allocated for it, and even an allowed one makes the
//!    reader allocate at most `GROW_STEP` bytes ahead of what has arrived.
//! 2. A frame is handed on whole or not at all.
//! 3. The time limit runs from the first byte of a frame; between frames a peer may be silent.

use std::io;

use futures_util::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use super::bounds::{GROW_STEP, PROGRESS_TIMEOUT, READ_BUFFER};

/// Bytes of the length.
pub(super) const PREFIX: usize = 4;

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The peer is done with the stream.
    #[error("the stream ended")]
    Ended,
    /// The stream broke.
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    /// The peer announced a frame that the lane does not allow.
    #[error("a frame of {0} bytes was announced, which the lane does not allow")]
    Length(usize),
    /// The rest of a frame did not come in time.
    #[error("a frame took too long to arrive")]
    Slow,
}

/// Splits a stream into frames.
pub(super) struct FrameReader<R> {
    stream: R,
    len_max: usize,
    /// Allocated on the first read and never grown.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames of one to `len_max` bytes.
    pub(super) fn new(stream: R, len_max: usize) -> Self {
        Self { stream, len_max, buffer: Vec::new(), start: 0, end: 0 }
    }

    /// The next frame. Not cancel safe: a dropped call may lose part of a frame.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, FrameError> {
        let mut deadline = None;
        let len = loop {
            let have = self.end - self.start;
            if have > 0 && deadline.is_none() {
                deadline = Some(Instant::now() + PROGRESS_TIMEOUT);
            }
            if let Some(prefix) = self.buffer[self.start..self.end].first_chunk::<PREFIX>() {
                break u32::from_le_bytes(*prefix) as usize;
            }
            self.fill(deadline).await?;
        };
        if len == 0 || len > self.len_max {
            return Err(FrameError::Length(len));
        }
        self.start += PREFIX;
        self.body(len, deadline.unwrap_or_else(Instant::now)).await
    }

    async fn body(&mut self, len: usize, deadline: Instant) -> Result<Vec<u8>, FrameError> {
        let take = len.min(self.end - self.start);
        let mut frame = Vec::with_capacity(len.min(take + GROW_STEP));
        frame.extend_from_slice(&self.buffer[self.start..self.start + take]);
        self.start += take;
        while frame.len() < len {
            if len - frame.len() < READ_BUFFER {
                // The end of a frame is read through the buffer, so that the frames behind it come
                // with it in one read.
                self.fill(Some(deadline)).await?;
                let take = (len - frame.len()).min(self.end - self.start);
                frame.extend_from_slice(&self.buffer[self.start..self.start + take]);
                self.start += take;
            } else {
                let have = frame.len();
                frame.reserve_exact((len - have).min(GROW_STEP));
                frame.resize(len.min(have + GROW_STEP), 0);
                let read = self.stream.read(&mut frame[have..]);
                let got = timeout_at(deadline, read).await.map_err(|_| FrameError::Slow)??;
                frame.truncate(have + got);
                if got == 0 {
                    return Err(FrameError::Ended);
                }
            }
        }
        Ok(frame)
    }

    /// Reads what is there into the buffer, waiting until `deadline` if there is nothing.
    async fn fill(&mut self, deadline: Option<Instant>) -> Result<(), FrameError> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; READ_BUFFER];
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let read = self.stream.read(&mut self.buffer[self.end..]);
        let got = match deadline {
            Some(deadline) => timeout_at(deadline, read).await.map_err(|_| FrameError::Slow)??,
            None => read.await?,
        };
        self.end += got;
        if got == 0 { Err(FrameError::Ended) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::limits::FRAME_LEN_MAX;

    /// A stream that gives its bytes in small pieces and then either ends or hangs.
    struct Trickle {
        bytes: Vec<u8>,
        at: usize,
        step: usize,
        hangs: bool,
    }

    impl AsyncRead for Trickle {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            out: &mut [u8],
        ) -> std::task::Poll<io::Result<usize>> {
            let n = self.step.min(out.len()).min(self.bytes.len() - self.at);
            if n == 0 && self.hangs {
                return std::task::Poll::Pending;
            }
            out[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
            self.at += n;
            std::task::Poll::Ready(Ok(n))
        }
    }

    fn trickle(bytes: Vec<u8>, step: usize, hangs: bool) -> FrameReader<Trickle> {
        FrameReader::new(Trickle { bytes, at: 0, step, hangs }, FRAME_LEN_MAX)
    }

    fn encode(frames: &[Vec<u8>]) -> Vec<u8> {
        frames
            .iter()
            .flat_map(|f| [&(f.len() as u32).to_le_bytes(), f.as_slice()].concat())
            .collect()
    }

    #[tokio::test]
    async fn frames_of_all_sizes_come_out_in_any_pieces() {
        let sizes = [1, 200, READ_BUFFER, READ_BUFFER + 1, 3 * GROW_STEP + 5, FRAME_LEN_MAX, 3];
        let frames: Vec<Vec<u8>> =
            sizes.iter().map(|n| (0..*n).map(|i| (i * 7 + n) as u8).collect()).collect();
        for step in [1, 3, 4096, 100_000] {
            let mut reader = trickle(encode(&frames), step, false);
            for frame in &frames {
                assert_eq!(&reader.next().await.unwrap(), frame);
            }
            assert!(matches!(reader.next().await, Err(FrameError::Ended)));
        }
    }

    #[tokio::test]
    async fn a_forbidden_length_is_refused_before_the_frame_is_read() {
        for len in [0, FRAME_LEN_MAX + 1, u32::MAX as usize] {
            let mut reader = trickle((len as u32).to_le_bytes().to_vec(), 9, true);
            assert!(matches!(reader.next().await, Err(FrameError::Length(l)) if l == len));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_stays_incomplete_is_slow_but_silence_is_not() {
        let mut reader = trickle(vec![9, 0, 0, 0, 1], 1, true);
        assert!(matches!(reader.next().await, Err(FrameError::Slow)));
        let mut silent = trickle(Vec::new(), 1, true);
        let wait = tokio::time::timeout(PROGRESS_TIMEOUT * 9, silent.next()).await;
        assert!(wait.is_err(), "silence between frames was taken for slowness");
    }
}
