//! A transport that lets another one go first.
//!
//! Where a peer has addresses of both transports, both are dialled and the first connection counts
//! (RFC 8305, "happy eyeballs"). TCP gets a head start: inside one network it costs less processor
//! time for each byte than QUIC in user space. QUIC comes to its turn where a firewall drops TCP, or
//! takes its time with it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use tokio::time::sleep;

/// The transport, and how long each dial on it waits first.
pub(super) struct Delayed<T> {
    inner: T,
    head_start: Duration,
}

impl<T> Delayed<T> {
    pub(super) fn new(inner: T, head_start: Duration) -> Self {
        Self { inner, head_start }
    }
}

impl<T> Transport for Delayed<T>
where
    T: Transport + Unpin,
    T::Dial: Send + 'static,
    T::Output: 'static,
    T::Error: 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<T::Error>> {
        // Nothing is sent before the future is polled.
        let (dial, head_start) = (self.inner.dial(address, options)?, self.head_start);
        Ok(Box::pin(async move {
            sleep(head_start).await;
            dial.await
        }))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
