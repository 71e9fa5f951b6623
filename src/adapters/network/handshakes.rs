//! A transport whose incoming connections can be cut while they are in their handshake.
//!
//! Problem: over TCP a connection that has to give way (`arrivals`) is cut at its socket
//! (`sockets`). One over QUIC has no socket of its own, and one through a relay is a stream of
//! another connection. What they have in common is the handshake, which here ends early.
//!
//! Invariants:
//! 1. A handshake waits from the moment on that the transport tells of it, until it has succeeded
//!    or is dropped.
//! 2. A handshake that is cut fails at once; the library then gives up what it stands on.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};

use super::sockets::{Cut, Sockets};

/// The transport, and where its handshakes are written down.
pub(super) struct Cuttable<T> {
    inner: T,
    sockets: Arc<Sockets>,
}

impl<T> Cuttable<T> {
    pub(super) fn new(inner: T, sockets: Arc<Sockets>) -> Self {
        Self { inner, sockets }
    }
}

impl<T> Transport for Cuttable<T>
where
    T: Transport<Error = io::Error> + Unpin,
    T::ListenerUpgrade: Unpin,
{
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = Handshake<T::ListenerUpgrade>;
    type Dial = T::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<T::Dial, TransportError<io::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Ready(match ready!(Pin::new(&mut self.inner).poll(cx)) {
            TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr } => {
                let cut = Arc::<Cut>::default();
                let number = self.sockets.begin(&local_addr, &send_back_addr, cut.clone());
                let sockets = self.sockets.clone();
                let upgrade = Handshake { inner: upgrade, number, cut, sockets };
                TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr }
            }
            other => other.map_upgrade(|_| unreachable!("only what comes in has an upgrade")),
        })
    }
}

/// A handshake that can be cut.
pub(super) struct Handshake<F> {
    inner: F,
    number: u64,
    cut: Arc<Cut>,
    sockets: Arc<Sockets>,
}

impl<F> Drop for Handshake<F> {
    fn drop(&mut self) {
        self.sockets.end(self.number);
    }
}

impl<F, O> Future for Handshake<F>
where
    F: Future<Output = io::Result<O>> + Unpin,
{
    type Output = io::Result<O>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<O>> {
        let this = self.get_mut();
        this.cut.poll(cx)?;
        let done = ready!(Pin::new(&mut this.inner).poll(cx));
        if done.is_ok() {
            this.sockets.prove_number(this.number);
        }
        Poll::Ready(done)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::{Pending, pending};

    use futures_util::FutureExt;
    use futures_util::future::{Either, Ready, poll_fn, ready};

    use super::super::bounds::QUIC_ARRIVALS_PER_SOURCE_MAX;
    use super::super::stats::NetworkStats;
    use super::*;

    type Upgrade = Either<Pending<io::Result<u8>>, Ready<io::Result<u8>>>;

    /// Connections that come in, each from an address and with a handshake.
    struct Incoming(VecDeque<(Multiaddr, Upgrade)>);

    impl Transport for Incoming {
        type Output = u8;
        type Error = io::Error;
        type ListenerUpgrade = Upgrade;
        type Dial = Pending<io::Result<u8>>;

        fn listen_on(
            &mut self,
            _: ListenerId,
            _: Multiaddr,
        ) -> Result<(), TransportError<io::Error>> {
            Ok(())
        }

        fn remove_listener(&mut self, _: ListenerId) -> bool {
            false
        }

        fn dial(
            &mut self,
            _: Multiaddr,
            _: DialOpts,
        ) -> Result<Self::Dial, TransportError<io::Error>> {
            Ok(pending())
        }

        fn poll(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<TransportEvent<Upgrade, io::Error>> {
            let Some((send_back_addr, upgrade)) = self.0.pop_front() else { return Poll::Pending };
            let local_addr = "/ip4/10.0.0.100/udp/4001/quic-v1".parse().unwrap();
            let listener_id = ListenerId::next();
            Poll::Ready(TransportEvent::Incoming {
                listener_id,
                upgrade,
                local_addr,
                send_back_addr,
            })
        }
    }

    async fn next(transport: &mut Cuttable<Incoming>) -> Handshake<Upgrade> {
        let event = poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await;
        event.into_incoming().expect("one comes in").0
    }

    #[tokio::test]
    async fn the_longest_under_way_is_cut_for_a_newcomer_and_no_proven_one_is() {
        let from = |port: usize| format!("/ip4/10.0.0.1/udp/{port}/quic-v1").parse().unwrap();
        let mut coming = VecDeque::from([(from(1), Either::Right(ready(Ok(7))))]);
        let count = QUIC_ARRIVALS_PER_SOURCE_MAX;
        coming.extend((0..=count).map(|port| (from(2 + port), Either::Left(pending()))));
        let stats = Arc::<NetworkStats>::default();
        let sockets = Arc::new(Sockets::new(stats.clone()));
        let mut transport = Cuttable::new(Incoming(coming), sockets);
        let get = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        let proven = next(&mut transport).await;
        assert_eq!(proven.await.unwrap(), 7);
        assert_eq!((get(&stats.arrivals), get(&stats.unproven)), (0, 0));
        let mut waiting = VecDeque::new();
        for _ in 0..count {
            waiting.push_back(next(&mut transport).await);
        }
        let first = waiting.pop_front().unwrap();
        // Its task has to be woken.
        let first = tokio::spawn(first);
        tokio::task::yield_now().await;
        assert_eq!(get(&stats.gave_way), 0);
        waiting.push_back(next(&mut transport).await);
        let cut = first.await.unwrap().unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!((get(&stats.gave_way), get(&stats.unproven)), (1, 0));
        assert!(waiting.iter_mut().all(|other| other.now_or_never().is_none()));
        assert_eq!(get(&stats.arrivals), count as u64);
        drop(waiting);
        assert_eq!((get(&stats.arrivals), get(&stats.unproven)), (0, count as u64));
    }
}
