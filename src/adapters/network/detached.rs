//! A multiplexer that works in a task of its own.
//!
//! Problem: libp2p runs a multiplexer in the task of its connection. Every frame that comes or goes wakes that task, which
//! asks all behaviours of the connection whether they have something to do, and compares the names of all their protocols
//! with those of before: a tenth of what a node does under load, for nothing.
//!
//! Flow: `Detached::new` starts a task that polls the multiplexer; streams of the peer, and those that the connection has
//! asked for, are handed over, and only they, and the end, wake the connection.
//!
//! Invariants:
//! 1. Only the task polls the multiplexer: it wakes whoever polled it last.
//! 2. At most `HANDED_OVER_MAX` streams of the peer wait for the connection; from then on the multiplexer has its own limit.
//! 3. The task ends with the multiplexer, or when the connection lets go of it, and the socket with the task. However it
//!    ends, also by a panic, the connection is told.
//!
//! A stream that is dropped elsewhere does not wake the connection any more to look whether it is idle: it looks when it
//! is woken for another reason, and connections with lanes are kept alive anyway.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::task::AbortHandle;

use super::bounds::HANDED_OVER_MAX;
use crate::types::Lock;

/// What the task and the connection tell each other.
struct Shared<S> {
    state: Mutex<State<S>>,
    connection: AtomicWaker,
    task: AtomicWaker,
}

struct State<S> {
    inbound: VecDeque<S>,
    /// One that was asked for.
    outbound: Option<S>,
    wants_outbound: bool,
    is_closing: bool,
    /// How it ended.
    end: Option<io::Result<()>>,
}

impl<S> State<S> {
    /// The error to give where it has ended.
    fn ended(&self) -> Option<io::Error> {
        match self.end.as_ref()? {
            Ok(()) => Some(io::ErrorKind::NotConnected.into()),
            Err(error) => Some(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

/// A multiplexer that another task polls.
pub(super) struct Detached<S> {
    shared: Arc<Shared<S>>,
    task: AbortHandle,
}

impl<S: Send + 'static> Detached<S> {
    /// Starts the task, in the runtime of whoever calls.
    pub(super) fn new<M>(muxer: M) -> Self
    where
        M: StreamMuxer<Substream = S> + Send + Unpin + 'static,
        M::Error: Send + Sync + 'static,
    {
        let state = State {
            inbound: VecDeque::new(),
            outbound: None,
            wants_outbound: false,
            is_closing: false,
            end: None,
        };
        let state = Mutex::new(state);
        let (connection, task) = (AtomicWaker::new(), AtomicWaker::new());
        let shared = Arc::new(Shared { state, connection, task });
        let mut driver = Driver { muxer, shared: shared.clone() };
        let task = tokio::spawn(std::future::poll_fn(move |cx| driver.poll(cx)));
        Self { shared, task: task.abort_handle() }
    }
}

/// What the task works on.
struct Driver<M: StreamMuxer> {
    muxer: M,
    shared: Arc<Shared<M::Substream>>,
}

impl<M> Driver<M>
where
    M: StreamMuxer + Unpin,
    M::Error: Send + Sync + 'static,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.task.register(cx.waker());
        let end = ready!(self.advance(cx)).map_err(io::Error::other);
        self.shared.state.locked().end = Some(end);
        Poll::Ready(())
    }

    /// Ends when the multiplexer does. What is shared is never locked while the multiplexer works.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        let mut muxer = Pin::new(&mut self.muxer);
        loop {
            let (is_closing, wants_outbound, has_room) = {
                let state = self.shared.state.locked();
                (state.is_closing, state.wants_outbound, state.inbound.len() < HANDED_OVER_MAX)
            };
            if is_closing {
                return muxer.poll_close(cx);
            }
            if wants_outbound && let Poll::Ready(stream) = muxer.as_mut().poll_outbound(cx)? {
                let mut state = self.shared.state.locked();
                (state.outbound, state.wants_outbound) = (Some(stream), false);
                drop(state);
                self.shared.connection.wake();
            }
            if !has_room {
                // Nothing but addresses is told, and those of TCP do not change.
                let _: StreamMuxerEvent = ready!(muxer.as_mut().poll(cx)?);
                continue;
            }
            let stream = ready!(muxer.as_mut().poll_inbound(cx)?);
            self.shared.state.locked().inbound.push_back(stream);
            self.shared.connection.wake();
        }
    }
}

impl<M: StreamMuxer> Drop for Driver<M> {
    fn drop(&mut self) {
        let died = || Err(io::Error::other("the multiplexer of the connection has failed"));
        self.shared.state.locked().end.get_or_insert_with(died);
        self.shared.connection.wake();
    }
}

impl<S: Send + 'static> StreamMuxer for Detached<S>
where
    S: futures_util::AsyncRead + futures_util::AsyncWrite,
{
    type Substream = S;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<S>> {
        self.shared.connection.register(cx.waker());
        let mut state = self.shared.state.locked();
        let was_full = state.inbound.len() >= HANDED_OVER_MAX;
        if let Some(stream) = state.inbound.pop_front() {
            drop(state);
            if was_full {
                self.shared.task.wake();
            }
            return Poll::Ready(Ok(stream));
        }
        state.ended().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<S>> {
        self.shared.connection.register(cx.waker());
        let mut state = self.shared.state.locked();
        if let Some(stream) = state.outbound.take() {
            return Poll::Ready(Ok(stream));
        }
        if let Some(error) = state.ended() {
            return Poll::Ready(Err(error));
        }
        if !std::mem::replace(&mut state.wants_outbound, true) {
            drop(state);
            self.shared.task.wake();
        }
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.connection.register(cx.waker());
        let mut state = self.shared.state.locked();
        if let Some(end) = state.end.take() {
            state.end = Some(Ok(()));
            return Poll::Ready(end);
        }
        if !std::mem::replace(&mut state.is_closing, true) {
            drop(state);
            self.shared.task.wake();
        }
        Poll::Pending
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        self.shared.connection.register(cx.waker());
        let state = self.shared.state.locked();
        // What came before the end is handed over first.
        let error = state.ended().filter(|_| state.inbound.is_empty());
        error.map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
    }
}

impl<S> Drop for Detached<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    type Stream = futures_util::io::Cursor<Vec<u8>>;

    /// What a multiplexer is told to do next.
    #[derive(Default)]
    struct Script {
        inbound: VecDeque<Stream>,
        polls: usize,
        fails: bool,
        panics: bool,
        waker: Option<std::task::Waker>,
    }

    /// One that does as it is told; how many there are is counted.
    struct Scripted(Arc<Mutex<Script>>, Arc<AtomicUsize>);

    impl Drop for Scripted {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Relaxed);
        }
    }

    impl Scripted {
        fn look(&self, cx: &Context<'_>) -> std::sync::MutexGuard<'_, Script> {
            let mut script = self.0.locked();
            script.polls += 1;
            script.waker = Some(cx.waker().clone());
            script
        }
    }

    impl StreamMuxer for Scripted {
        type Substream = Stream;
        type Error = io::Error;

        fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
            let mut script = self.look(cx);
            assert!(!script.panics, "this panic is part of a test");
            if script.fails {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            script.inbound.pop_front().map_or(Poll::Pending, |stream| Poll::Ready(Ok(stream)))
        }

        fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Stream>> {
            Poll::Ready(Ok(Stream::new(vec![7])))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            drop(self.look(cx));
            Poll::Pending
        }
    }

    fn detached() -> (Detached<Stream>, Arc<Mutex<Script>>, Arc<AtomicUsize>) {
        let (script, alive) = (Arc::<Mutex<Script>>::default(), Arc::new(AtomicUsize::new(1)));
        (Detached::new(Scripted(script.clone(), alive.clone())), script, alive)
    }

    fn tell(script: &Mutex<Script>, change: impl FnOnce(&mut Script)) {
        let waker = {
            let mut script = script.locked();
            change(&mut script);
            script.waker.take()
        };
        waker.into_iter().for_each(std::task::Waker::wake);
    }

    /// Has the task run until it has nothing to do.
    async fn settle() {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn frames_wake_the_task_and_streams_the_connection() {
        let (mut detached, script, _) = detached();
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = std::task::Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut detached).poll(&mut cx).is_pending());
        settle().await;
        let polls = script.locked().polls;
        tell(&script, |_| {});
        settle().await;
        assert!(script.locked().polls > polls, "it had something to read");
        assert_eq!(woken.0.load(Relaxed), 0);
        tell(&script, |script| script.inbound.push_back(Stream::new(vec![3])));
        settle().await;
        assert_eq!(woken.0.load(Relaxed), 1);
        let stream = poll_fn(|cx| Pin::new(&mut detached).poll_inbound(cx)).await.unwrap();
        assert_eq!(stream.into_inner(), [3]);
    }

    struct Woken(AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[tokio::test]
    async fn more_streams_than_wait_are_all_handed_over_in_order() {
        let (mut detached, script, _) = detached();
        let all = 3 * HANDED_OVER_MAX as u8;
        settle().await;
        tell(&script, |script| script.inbound.extend((0..all).map(|n| Stream::new(vec![n]))));
        settle().await;
        assert_eq!(detached.shared.state.locked().inbound.len(), HANDED_OVER_MAX);
        for n in 0..all {
            let stream = poll_fn(|cx| Pin::new(&mut detached).poll_inbound(cx)).await.unwrap();
            assert_eq!(stream.into_inner(), [n]);
        }
        settle().await;
        for _ in 0..2 {
            let stream = poll_fn(|cx| Pin::new(&mut detached).poll_outbound(cx)).await.unwrap();
            assert_eq!(stream.into_inner(), [7]);
            settle().await;
        }
        assert!(
            detached.shared.state.locked().outbound.is_none(),
            "one for each that is asked for"
        );
    }

    #[tokio::test]
    async fn its_failure_ends_the_connection() {
        let (mut detached, script, alive) = detached();
        settle().await;
        tell(&script, |script| script.fails = true);
        let failed = poll_fn(|cx| Pin::new(&mut detached).poll(cx)).await;
        assert!(failed.is_err());
        assert!(poll_fn(|cx| Pin::new(&mut detached).poll_outbound(cx)).await.is_err());
        assert!(poll_fn(|cx| Pin::new(&mut detached).poll_close(cx)).await.is_err());
        settle().await;
        assert_eq!(alive.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn what_came_before_the_end_is_handed_over() {
        let (mut detached, script, _) = detached();
        settle().await;
        tell(&script, |script| script.inbound.push_back(Stream::new(vec![3])));
        settle().await;
        tell(&script, |script| script.fails = true);
        settle().await;
        let looked = poll_fn(|cx| Poll::Ready(Pin::new(&mut detached).poll(cx).is_pending()));
        assert!(looked.await, "one waits");
        poll_fn(|cx| Pin::new(&mut detached).poll_inbound(cx)).await.unwrap();
        assert!(poll_fn(|cx| Pin::new(&mut detached).poll_inbound(cx)).await.is_err());
        assert!(poll_fn(|cx| Pin::new(&mut detached).poll(cx)).await.is_err());
    }

    #[tokio::test]
    async fn a_panic_in_it_ends_the_connection() {
        let (mut detached, script, alive) = detached();
        settle().await;
        tell(&script, |script| script.panics = true);
        assert!(poll_fn(|cx| Pin::new(&mut detached).poll(cx)).await.is_err());
        settle().await;
        assert_eq!(alive.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn it_ends_when_it_is_closed_or_dropped() {
        let (mut closed, _, alive) = detached();
        settle().await;
        poll_fn(|cx| Pin::new(&mut closed).poll_close(cx)).await.unwrap();
        settle().await;
        assert_eq!(alive.load(Relaxed), 0);
        let (dropped, _, alive) = detached();
        settle().await;
        drop(dropped);
        settle().await;
        assert_eq!(alive.load(Relaxed), 0, "and the socket with it");
    }
}
