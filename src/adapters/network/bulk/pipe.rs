//! One stream of the multiplexer, which both halves and whoever ends it share.
//!
//! Problem: the library's stream is reset when it is dropped, which must happen at once when it is ended,
//! whoever has its halves then. And it remembers only who polled it last: of two tasks that read and
//! write, one could wait for ever.
//!
//! Invariants:
//! 1. A pipe that was closed, or dropped, has reset its stream; what the other end has got by then stays.
//! 2. Whatever wakes one half wakes the other one.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use futures_util::{AsyncRead, AsyncWrite};

use crate::types::Lock;

#[derive(Default)]
struct Both {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

/// See the module.
pub struct Pipe {
    stream: Mutex<Option<yamux::Stream>>,
    both: Arc<Both>,
    waker: Waker,
}

impl Pipe {
    /// Takes a stream in.
    pub fn new(stream: yamux::Stream) -> Arc<Self> {
        let both = Arc::<Both>::default();
        let waker = Waker::from(both.clone());
        Arc::new(Self { stream: Mutex::new(Some(stream)), both, waker })
    }

    /// Drops the stream.
    pub fn close(&self) {
        let stream = self.stream.locked().take();
        drop(stream);
        self.waker.wake_by_ref();
    }

    fn with<T>(
        &self,
        poll: impl FnOnce(Pin<&mut yamux::Stream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.stream.locked().as_mut() {
            Some(stream) => poll(Pin::new(stream), &mut Context::from_waker(&self.waker)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

/// What is read from.
pub struct ReadEnd(pub Arc<Pipe>);

/// What is written to.
pub struct WriteEnd(pub Arc<Pipe>);

impl AsyncRead for ReadEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.0.both.reader.register(cx.waker());
        self.0.with(|stream, cx| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for WriteEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.both.writer.register(cx.waker());
        self.0.with(|stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.both.writer.register(cx.waker());
        self.0.with(|stream, cx| stream.poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.both.writer.register(cx.waker());
        self.0.with(|stream, cx| stream.poll_close(cx))
    }
}
