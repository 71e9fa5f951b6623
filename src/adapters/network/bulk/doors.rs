//! Where a connection for bulk bytes is told apart: in the negotiation after TLS.
//!
//! Problem: both kinds come in at one port, and the library has to see nothing of the second kind.
//!
//! Flow: TLS has shown whose a connection is -> the dialler names yamux, or bytes in bulk -> yamux goes
//! on as ever; a connection for bulk bytes is handed to its thread, and its upgrade fails, so that the
//! swarm forgets it.
//!
//! Invariants:
//! 1. Only members are offered the name.
//! 2. What is handed on has shown whose it is, and waits in no place for arrivals any more.
//! 3. Handing on never waits: where the thread has as many as it may, the connection is closed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Ready, ready};
use futures_util::io::BufWriter;
use futures_util::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::core::{ConnectedPoint, Transport as _, UpgradeInfo, upgrade};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, StreamProtocol, tcp, tls, yamux};
use tokio::sync::mpsc;

use crate::adapters::network::NetworkError;
use crate::adapters::network::bounds::{SETUP_TIMEOUT, YAMUX_FRAME_MAX};
use crate::adapters::network::sockets::Sockets;
use crate::adapters::network::stats::count;
use crate::adapters::network::table::Shared;
use crate::adapters::network::transport::{from_libp2p, protocol_name};
use crate::types::PeerId;

/// What the library calls its multiplexer.
const YAMUX: &str = "/yamux/1.0.0";

/// Has what yamux writes leave once it is flushed: it writes the header of a frame and the rest one after the other, and
/// each would be a record of TLS and a call of the kernel.
fn collecting<C: AsyncWrite>(io: C) -> BufWriter<C> {
    BufWriter::with_capacity(YAMUX_FRAME_MAX, io)
}

/// A connection that TLS runs on, whatever is below.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Any of them.
pub type Io = Box<dyn Duplex>;

/// The name of connections for bulk bytes in a cluster.
pub fn name(cluster_tag: &str) -> StreamProtocol {
    StreamProtocol::try_from_owned(protocol_name(cluster_tag, "bytes"))
        .expect("the name begins with a slash")
}

/// A connection that a member has opened for bulk bytes.
pub struct Arrived {
    /// Who, as TLS has shown.
    pub peer: PeerId,
    /// The connection.
    pub io: Io,
}

/// Where such connections are handed in; one for a node.
#[derive(Clone)]
pub struct Doorway {
    name: StreamProtocol,
    shared: Arc<Shared>,
    arrived: mpsc::Sender<Arrived>,
}

impl Doorway {
    /// One that hands on what comes for this name.
    pub fn new(name: StreamProtocol, shared: Arc<Shared>, arrived: mpsc::Sender<Arrived>) -> Self {
        Self { name, shared, arrived }
    }

    /// The door for one connection, if it is one that came in from a member.
    fn at(&self, peer: &libp2p::PeerId, point: &ConnectedPoint) -> Option<Door> {
        let ConnectedPoint::Listener { local_addr, send_back_addr } = point else { return None };
        let peer = from_libp2p(peer).filter(|peer| self.shared.is_admitted(*peer))?;
        let ends = (local_addr.clone(), send_back_addr.clone());
        Some(Door { peer, ends, way: self.clone() })
    }
}

/// See `Doorway::at`.
#[derive(Clone)]
struct Door {
    peer: PeerId,
    ends: (Multiaddr, Multiaddr),
    way: Doorway,
}

impl Door {
    /// Hands a connection on; returns what the swarm is told of it.
    fn hand_in(self, io: Io) -> io::Error {
        let Self { peer, ends: (local, remote), way } = self;
        way.shared.sockets.hand_over(&local, &remote);
        if way.arrived.try_send(Arrived { peer, io }).is_err() {
            count(&way.shared.stats.bulk.refused);
        }
        io::Error::other("the connection is for bytes in bulk, which the swarm has no part in")
    }
}

/// What a connection of the swarm may become.
#[derive(Clone)]
pub struct Doors {
    lanes: yamux::Config,
    bulk: Option<Door>,
}

impl Doors {
    /// Those of one connection.
    pub fn of(
        lanes: yamux::Config,
        bulk: Option<&Doorway>,
        peer: &libp2p::PeerId,
        point: &ConnectedPoint,
    ) -> Self {
        Self { lanes, bulk: bulk.and_then(|way| way.at(peer, point)) }
    }
}

impl UpgradeInfo for Doors {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        let bulk = self.bulk.as_ref().map(|door| door.way.name.clone());
        let names = std::iter::once(StreamProtocol::new(YAMUX)).chain(bulk);
        names.collect::<Vec<_>>().into_iter()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Doors {
    type Output = yamux::Muxer<BufWriter<C>>;
    type Error = io::Error;
    type Future = Ready<io::Result<yamux::Muxer<BufWriter<C>>>>;

    fn upgrade_inbound(self, io: C, name: StreamProtocol) -> Self::Future {
        match self.bulk.filter(|door| door.way.name == name) {
            Some(door) => ready(Err(door.hand_in(Box::new(io)))),
            None => self.lanes.upgrade_inbound(collecting(io), YAMUX),
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Doors {
    type Output = yamux::Muxer<BufWriter<C>>;
    type Error = io::Error;
    type Future = Ready<io::Result<yamux::Muxer<BufWriter<C>>>>;

    fn upgrade_outbound(self, io: C, _: StreamProtocol) -> Self::Future {
        self.lanes.upgrade_outbound(collecting(io), YAMUX)
    }
}

/// Asks for a connection for bulk bytes.
#[derive(Clone)]
struct Proposal(StreamProtocol);

impl UpgradeInfo for Proposal {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Once<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(self.0.clone())
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Proposal {
    type Output = Whole<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Whole<C>>>;

    fn upgrade_outbound(self, io: C, _: StreamProtocol) -> Self::Future {
        ready(Ok(Whole(io)))
    }
}

// The library wants both directions of whatever it upgrades; nothing listens on this one.
impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Proposal {
    type Output = Whole<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Whole<C>>>;

    fn upgrade_inbound(self, _: C, _: StreamProtocol) -> Self::Future {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// A connection that is not divided into streams yet. The library wants a multiplexer where there is none.
struct Whole<C>(C);

impl<C: AsyncRead + AsyncWrite> StreamMuxer for Whole<C> {
    type Substream = C;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<C>> {
        Poll::Pending
    }

    fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<C>> {
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Poll::Pending
    }
}

/// What dials for bulk bytes go out on; nothing listens on it.
pub type Dialling = Boxed<(libp2p::PeerId, Io)>;

/// See `Dialling`.
pub fn dialling(
    keypair: &Keypair,
    name: StreamProtocol,
    sockets: Arc<Sockets>,
) -> Result<Dialling, NetworkError> {
    let tls = tls::Config::new(keypair)
        .map_err(|error| NetworkError::Tls { reason: error.to_string() })?;
    let bare = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let watched = bare.map(move |stream: tcp::tokio::TcpStream, point: ConnectedPoint| {
        sockets.watch(stream, &point)
    });
    // Not the lazy version: that the peer has no such door is to be known before anything is sent.
    let secured = watched
        .upgrade(upgrade::Version::V1)
        .authenticate(tls)
        .multiplex_ext(move |_: &libp2p::PeerId, _: &ConnectedPoint| Proposal(name.clone()))
        .timeout(SETUP_TIMEOUT);
    Ok(secured.map(|(peer, whole), _| (peer, Box::new(whole.0) as Io)).boxed())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::AsyncWriteExt as _;
    use futures_util::future::poll_fn;

    use super::*;
    use crate::types::Lock;

    /// What is written at once each time.
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<usize>>>);

    impl AsyncRead for Writes {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Writes {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.locked().push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_frame_and_its_header_are_written_at_once() {
        let writes = Writes::default();
        let doors = Doors { lanes: yamux::Config::default(), bulk: None };
        let upgraded = doors.upgrade_outbound(writes.clone(), StreamProtocol::new(YAMUX));
        let mut muxer = upgraded.await.unwrap();
        let mut stream = poll_fn(|cx| Pin::new(&mut muxer).poll_outbound(cx)).await.unwrap();
        // The first time it also asks how long a round takes.
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut muxer).poll(cx).is_pending())).await);
        writes.0.locked().clear();
        for length in [1, 1_000, 16 * 1024] {
            stream.write_all(&vec![7; length]).await.unwrap();
            assert!(
                poll_fn(|cx| Poll::Ready(Pin::new(&mut muxer).poll(cx).is_pending())).await,
                "nothing comes"
            );
            // Twelve bytes say whose they are, and how many.
            assert_eq!(std::mem::take(&mut *writes.0.locked()), [12 + length]);
        }
    }
}
