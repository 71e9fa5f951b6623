//! One connection for bulk bytes, divided into streams by yamux.
//!
//! States: in use -> idle -> closed, by the side that dialled it once that has taken `BULK_IDLE`, by the
//! other one after twice as long. One that is to leave closes with its last stream.
//!
//! Invariant: the windows of all streams together are bounded, and so are the streams; nobody can make
//! either grow.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::doors::Io;
use super::halves::broken;
use crate::adapters::network::bounds::{BULK_MUX_STREAMS, BULK_SPLIT, CLOSE_TIMEOUT};
use crate::ports::bulk::BulkError;
use crate::types::limits::BULK_WINDOW;

/// What the connection knows of its streams.
#[derive(Default)]
pub struct Tally {
    open: AtomicUsize,
    is_leaving: AtomicBool,
    is_closing: AtomicBool,
    changed: AtomicWaker,
}

impl Tally {
    /// Has the connection close with its last stream.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
        self.changed.wake();
    }

    /// Has the connection close now, whatever is on it.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.changed.wake();
    }

    /// True once it is to close with its last stream.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// True while it has no streams.
    pub fn is_idle(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }
}

/// Counts one stream of a connection, until it is dropped.
pub struct Live(Arc<Tally>);

impl Live {
    /// One more, also while it is only asked for.
    pub fn new(tally: &Arc<Tally>) -> Self {
        tally.open.fetch_add(1, Ordering::AcqRel);
        Self(tally.clone())
    }

    /// Has the connection take no further streams.
    pub fn leave(&self) {
        self.0.leave();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.wake();
    }
}

/// A stream on which nothing was said yet.
pub struct Opened {
    /// It.
    pub io: yamux::Stream,
    /// That it counts.
    pub live: Live,
}

/// Where a stream that is wanted is given.
pub type Give = oneshot::Sender<Result<Opened, BulkError>>;

/// A stream that is asked for, and that it counts.
pub type Ask = (Give, Live);

/// What a connection is driven by.
pub struct Drive<A> {
    /// True if this side has dialled it.
    pub is_own: bool,
    /// How long it is kept without streams.
    pub idle: Duration,
    /// Who wants a stream.
    pub asks: mpsc::UnboundedReceiver<Ask>,
    /// What is known of its streams.
    pub tally: Arc<Tally>,
    /// Is told of streams that the peer opens.
    pub accept: A,
}

/// Drives a connection until it ends; tells why.
pub async fn drive<A: FnMut(Opened)>(mut drive: Drive<A>, io: Io) -> String {
    let mode = if drive.is_own { yamux::Mode::Client } else { yamux::Mode::Server };
    let mut mux = yamux::Connection::new(io, config(), mode);
    let mut wanted = VecDeque::new();
    // The side that dialled says goodbye first, so that the two seldom do at the same time.
    let limit = if drive.is_own { drive.idle } else { 2 * drive.idle };
    let (mut idle, mut was_idle) = (pin!(sleep(limit)), true);
    let reason = poll_fn(|cx| {
        // First: whoever ends the last stream after the look below wakes this task.
        drive.tally.changed.register(cx.waker());
        if drive.tally.is_closing.load(Ordering::Acquire) {
            return Poll::Ready("the node stops".to_owned());
        }
        if let Poll::Ready(reason) = drive.poll(&mut mux, &mut wanted, cx) {
            return Poll::Ready(reason);
        }
        let is_idle = drive.tally.is_idle();
        if is_idle && drive.tally.is_leaving() {
            return Poll::Ready("it was not needed any more".to_owned());
        }
        // Also at the moment at which the last stream has ended.
        if !(is_idle && was_idle) {
            idle.as_mut().reset(Instant::now() + limit);
        }
        was_idle = is_idle;
        idle.as_mut().poll(cx).map(|()| "it was idle".to_owned())
    })
    .await;
    // Who asks from now on finds nobody.
    drive.asks.close();
    while let Ok(ask) = drive.asks.try_recv() {
        wanted.push_back(ask);
    }
    for (give, _) in wanted {
        // Whoever wanted it may be gone.
        let _ = give.send(Err(broken(&reason)));
    }
    // A peer that takes nothing any more must not hold up the end.
    let _ = timeout(CLOSE_TIMEOUT, poll_fn(|cx| mux.poll_close(cx))).await;
    reason
}

impl<A: FnMut(Opened)> Drive<A> {
    /// Opens and takes streams, and moves the bytes of all of them.
    fn poll(
        &mut self,
        mux: &mut yamux::Connection<Io>,
        wanted: &mut VecDeque<Ask>,
        cx: &mut Context<'_>,
    ) -> Poll<String> {
        loop {
            while let Poll::Ready(Some(ask)) = self.asks.poll_recv(cx) {
                wanted.push_back(ask);
            }
            while let Some((give, live)) = wanted.pop_front() {
                if give.is_closed() {
                    continue;
                }
                match mux.poll_new_outbound(cx) {
                    Poll::Ready(Ok(io)) => {
                        let opened = Opened { io, live };
                        // What nobody takes is dropped, and thereby closed.
                        let _ = give.send(Ok(opened));
                    }
                    Poll::Ready(Err(error)) => {
                        wanted.push_front((give, live));
                        return Poll::Ready(error.to_string());
                    }
                    Poll::Pending => {
                        wanted.push_front((give, live));
                        break;
                    }
                }
            }
            match mux.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(io))) => {
                    (self.accept)(Opened { io, live: Live::new(&self.tally) });
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(error.to_string()),
                Poll::Ready(None) => return Poll::Ready("the other end has closed it".to_owned()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

fn config() -> yamux::Config {
    let mut config = yamux::Config::default();
    // In this order: each of the two panics where the window is too small for so many streams.
    config.set_max_num_streams(BULK_MUX_STREAMS);
    config.set_max_connection_receive_window(Some(BULK_WINDOW));
    config.set_split_send_size(BULK_SPLIT);
    config
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;

    use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::io::{AsyncRead as _, AsyncWrite as _, DuplexStream, ReadBuf};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::types::limits::BULK_IDLE;

    /// One end of a connection in memory.
    struct End(DuplexStream);

    impl AsyncRead for End {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let mut buffer = ReadBuf::new(buffer);
            let read = Pin::new(&mut self.0).poll_read(cx, &mut buffer);
            read.map_ok(|()| buffer.filled().len())
        }
    }

    impl AsyncWrite for End {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    struct Side {
        asks: mpsc::UnboundedSender<Ask>,
        accepted: mpsc::UnboundedReceiver<Opened>,
        tally: Arc<Tally>,
        task: JoinHandle<String>,
    }

    impl Side {
        fn begin(io: DuplexStream, is_own: bool) -> Self {
            let ((asks, received), (taken, accepted)) =
                (mpsc::unbounded_channel(), mpsc::unbounded_channel());
            let tally = Arc::<Tally>::default();
            let accept = move |opened| drop(taken.send(opened));
            let plan =
                Drive { is_own, idle: BULK_IDLE, asks: received, tally: tally.clone(), accept };
            let task = tokio::spawn(drive(plan, Box::new(End(io))));
            Self { asks, accepted, tally, task }
        }

        async fn open(&self) -> Opened {
            let (give, taken) = oneshot::channel();
            self.asks.send((give, Live::new(&self.tally))).unwrap();
            taken.await.unwrap().unwrap_or_else(|why| panic!("{why}"))
        }
    }

    fn two() -> [Side; 2] {
        let (a, b) = tokio::io::duplex(1024);
        [Side::begin(a, true), Side::begin(b, false)]
    }

    /// A stream from the first one, on which a byte has passed.
    async fn stream([a, b]: &mut [Side; 2]) -> [Opened; 2] {
        let mut own = a.open().await;
        own.io.write_all(&[7]).await.unwrap();
        own.io.flush().await.unwrap();
        let mut taken = b.accepted.recv().await.unwrap();
        let mut byte = [0];
        taken.io.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte, [7]);
        [own, taken]
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_streams_is_closed_after_a_while_by_who_dialled_it() {
        let mut two = two();
        let streams = stream(&mut two).await;
        sleep(3 * BULK_IDLE).await;
        assert!(!two[0].task.is_finished(), "it has a stream");
        drop(streams);
        let begun = Instant::now();
        let [a, b] = two;
        assert_eq!(a.task.await.unwrap(), "it was idle");
        assert!(begun.elapsed() >= BULK_IDLE);
        assert_ne!(b.task.await.unwrap(), "it was idle");
        // Whoever asks too late hears it.
        let (give, taken) = oneshot::channel();
        assert!(a.asks.send((give, Live::new(&a.tally))).is_err() && taken.await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_to_leave_stays_for_its_last_stream() {
        let mut two = two();
        let [own, taken] = stream(&mut two).await;
        two[0].tally.leave();
        sleep(BULK_IDLE / 2).await;
        assert!(!two[0].task.is_finished());
        drop(own);
        let begun = Instant::now();
        let [a, b] = two;
        assert_eq!(a.task.await.unwrap(), "it was not needed any more");
        assert!(begun.elapsed() < BULK_IDLE);
        drop(taken);
        b.task.await.unwrap();
    }
}
