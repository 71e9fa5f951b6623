//! The byte stream of a connection: watched while it is used, and closed so that the client can
//! read the last answer.
//!
//! A socket that is closed while bytes wait in it, or still come, resets the connection, and a
//! client that is sending then does not look for an answer. So whatever the client has still to say
//! is taken in first, within bounds.
//!
//! What is no request of HTTP/1.1 never reaches a service: hyper answers it by itself, with a status and nothing else.
//! That is kept back here, for something better to be said in its place: it is all that is written while nothing was
//! asked.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::places::Place;
use crate::types::limits::{HTTP_LINGER_MAX, HTTP_LINGER_MS};

/// Bytes that are taken in at once.
const SCRAP_LEN: usize = 16 * 1024;

/// A stream that tells its place what passes through it.
pub struct Watched<S> {
    stream: S,
    place: Arc<Place>,
    /// Status of what was kept back.
    rejected: Option<u16>,
}

impl<S> Watched<S> {
    /// A stream that was not used yet.
    pub fn new(stream: S, place: Arc<Place>) -> Self {
        Self { stream, place, rejected: None }
    }

    /// The status with which hyper has refused what is no request.
    pub fn rejected(&self) -> Option<u16> {
        self.rejected
    }

    /// True for what hyper says by itself.
    fn keeps_back(&mut self, bytes: &[u8]) -> bool {
        if self.rejected.is_none() && self.place.is_quiet() {
            // It answers in the version of the request before.
            let rest = bytes.strip_prefix(b"HTTP/1.1 ").or(bytes.strip_prefix(b"HTTP/1.0 "));
            let status = rest.and_then(|rest| rest.get(..3));
            let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            self.rejected = status;
        }
        self.rejected.is_some()
    }

    /// The stream alone.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.place.heard(Instant::now());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.keeps_back(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.place.wrote(polled.is_ready(), Instant::now());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.iter().find(|part| !part.is_empty());
        if first.is_some_and(|bytes| self.keeps_back(bytes)) {
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.place.wrote(polled.is_ready(), Instant::now());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        if polled.is_ready() {
            self.place.flushed();
        }
        polled
    }

    /// The end is said by whoever lingers, as something may have to be said before it.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

/// Says that nothing more will be written, and takes in what the client still sends until it has
/// seen that.
pub async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    // It may be shut down already.
    let _ = stream.shutdown().await;
    let mut scrap = vec![0; SCRAP_LEN];
    let take_in = async {
        let mut left = HTTP_LINGER_MAX;
        while let Ok(length @ 1..) = stream.read(&mut scrap).await {
            left = left.saturating_sub(length as u64);
            if left == 0 {
                return;
            }
        }
    };
    // After that a client that is still sending sees a reset.
    let _ = tokio::time::timeout(Duration::from_millis(HTTP_LINGER_MS), take_in).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_client_still_sends_is_taken_in_before_the_end() {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let client = async move {
            let body = vec![b'x'; 3 * 1024 * 1024];
            theirs.write_all(&body).await.unwrap();
            let mut answer = Vec::new();
            theirs.shutdown().await.unwrap();
            theirs.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let server = async move {
            let mut ours = ours;
            ours.write_all(b"no").await.unwrap();
            linger(ours).await;
        };
        let (answer, ()) = futures_util::future::join(client, server).await;
        assert_eq!(answer, b"no");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_without_end_is_left_to_itself() {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let client = async move {
            let body = vec![b'x'; 64 * 1024];
            let mut sent = 0;
            while theirs.write_all(&body).await.is_ok() {
                sent += body.len() as u64;
            }
            sent
        };
        let (sent, ()) = futures_util::future::join(client, linger(ours)).await;
        assert!(sent >= HTTP_LINGER_MAX, "{sent}");
        assert!(sent <= HTTP_LINGER_MAX + 128 * 1024, "{sent}");

        let (ours, _silent) = tokio::io::duplex(1);
        linger(ours).await;
    }
}
