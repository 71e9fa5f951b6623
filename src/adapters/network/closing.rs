//! A bound on how long a connection may take to close.
//!
//! libp2p ends a closed connection only when the goodbye is written, which a peer that reads nothing
//! can delay until TCP gives up, a quarter of an hour later. Until then the connection would count
//! against the limits. Here the goodbye is given up after `CLOSE_TIMEOUT`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::time::{Sleep, sleep};

use super::bounds::CLOSE_TIMEOUT;

/// A multiplexer whose closing ends in time.
pub(super) struct Closing<M> {
    inner: M,
    limit: Option<Pin<Box<Sleep>>>,
}

impl<M> Closing<M> {
    pub(super) fn new(inner: M) -> Self {
        Self { inner, limit: None }
    }
}

impl<M> StreamMuxer for Closing<M>
where
    M: StreamMuxer + Unpin,
    M::Error: Send + Sync + 'static,
{
    type Substream = M::Substream;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<M::Substream>> {
        Pin::new(&mut self.inner).poll_inbound(cx).map_err(io::Error::other)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<M::Substream>> {
        Pin::new(&mut self.inner).poll_outbound(cx).map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.inner).poll_close(cx) {
            return Poll::Ready(closed.map_err(io::Error::other));
        }
        let limit = self.limit.get_or_insert_with(|| Box::pin(sleep(CLOSE_TIMEOUT)));
        limit.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stuck;

    impl StreamMuxer for Stuck {
        type Substream = futures_util::io::Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_goodbye_that_nobody_takes_is_given_up() {
        let mut muxer = Closing::new(Stuck);
        let start = tokio::time::Instant::now();
        let closed = std::future::poll_fn(|cx| Pin::new(&mut muxer).poll_close(cx)).await;
        assert_eq!(closed.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= CLOSE_TIMEOUT && start.elapsed() < CLOSE_TIMEOUT * 2);
    }
}
