//! The libp2p side of addresses and identities, and how a swarm is put together: TCP with TLS 1.3
//! and yamux, QUIC, and the behaviours of this adapter.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::{ConnectedPoint, Transport as _, upgrade};
use libp2p::identity::Keypair;
use libp2p::kad::{self, store::MemoryStore};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, Swarm};
use libp2p::{
    Multiaddr, StreamProtocol, autonat, dcutr, identify, mdns, memory_connection_limits, ping,
    quic, relay, tcp, tls, yamux,
};
use tokio::runtime::Handle;

use super::NetworkError;
use super::behaviour::{Lanes, Notice, Protocols};
use super::bounds::{
    HEAD_START, PING_INTERVAL, PING_TIMEOUT, QUIC_CONNECTION_WINDOW, QUIC_STREAM_WINDOW,
    SETUP_TIMEOUT, STREAMS_MAX,
};
use super::bulk::doors::{Doors, Doorway};
use super::circuits::{self, Probing, is_relayed};
use super::closing::Closing;
use super::delayed::Delayed;
use super::detached::Detached;
use super::discovery;
use super::gate::Gate;
use super::handshakes::Cuttable;
use super::mesh::{self, Mesh, Topics};
use super::sockets::Sockets;
use super::table::{Dial, Shared};
use crate::ports::Lane;
use crate::types::address::Transport;
use crate::types::{Address, PeerId};

/// All behaviours of a node.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    /// First, because it refuses connections.
    pub(super) lanes: Lanes,
    /// Tells the peer which version and which run this is, and where it listens.
    pub(super) identify: identify::Behaviour,
    /// Finds dead connections.
    pub(super) ping: ping::Behaviour,
    /// Carries gossip between members.
    pub(super) mesh: Gate<Mesh>,
    /// Knows which member is close to which.
    pub(super) kad: Gate<kad::Behaviour<MemoryStore>>,
    /// Passes connections on between members that can't reach each other.
    pub(super) relay: Toggle<Gate<relay::Behaviour>>,
    /// Has other members pass connections on.
    pub(super) circuits: Gate<relay::client::Behaviour>,
    /// Makes such connections direct.
    pub(super) punch: Gate<dcutr::Behaviour>,
    /// Finds out whether this node can be dialled.
    pub(super) probe: Gate<autonat::Behaviour>,
    /// Asks in the local network, over IPv4.
    pub(super) local: Toggle<mdns::tokio::Behaviour>,
    /// Asks there over IPv6.
    pub(super) local_ipv6: Toggle<mdns::tokio::Behaviour>,
    /// Refuses connections when memory runs short.
    pub(super) memory: memory_connection_limits::Behaviour,
}

/// The id of a libp2p peer, if it is an Ed25519 key.
pub(super) fn from_libp2p(peer: &libp2p::PeerId) -> Option<PeerId> {
    PeerId::from_multihash(&peer.to_bytes()).ok()
}

/// The libp2p id of a peer.
pub(super) fn to_libp2p(peer: PeerId) -> libp2p::PeerId {
    libp2p::PeerId::from_bytes(&peer.to_multihash())
        .expect("an identity multihash of 36 bytes is a libp2p peer id")
}

/// The multiaddress of an address that needs no resolving.
pub(super) fn multiaddr(address: &Address) -> Option<Multiaddr> {
    let socket = address.socket()?;
    let ip = Multiaddr::from(socket.ip());
    Some(match address.transport {
        Transport::Tcp => ip.with(Protocol::Tcp(socket.port())),
        Transport::Quic => ip.with(Protocol::Udp(socket.port())).with(Protocol::QuicV1),
    })
}

/// The address that a multiaddress begins with, if that is an IP address and a transport of ours.
pub(super) fn address(multiaddr: &Multiaddr) -> Option<Address> {
    // It begins with the address of somebody else.
    if is_relayed(multiaddr) {
        return None;
    }
    let mut parts = multiaddr.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let (port, transport) = match parts.next()? {
        Protocol::Tcp(port) => (port, Transport::Tcp),
        Protocol::Udp(port) if parts.next() == Some(Protocol::QuicV1) => (port, Transport::Quic),
        _ => return None,
    };
    Some(Address::new(SocketAddr::new(ip, port), transport))
}

/// The name of a protocol of a cluster.
pub(super) fn protocol_name(cluster_tag: &str, part: &str) -> String {
    format!("/bzzz/{cluster_tag}/{part}/1")
}

/// Protocol names of the lanes of a cluster.
pub(super) fn protocols(cluster_tag: &str) -> Protocols {
    Lane::ALL.map(|lane| {
        StreamProtocol::try_from_owned(protocol_name(cluster_tag, lane.name()))
            .expect("the name begins with a slash")
    })
}

/// Protocol names of the notices of a cluster.
pub(super) fn notice_protocols(cluster_tag: &str) -> [StreamProtocol; 2] {
    Notice::ALL.map(|notice| {
        StreamProtocol::try_from_owned(protocol_name(cluster_tag, notice.name()))
            .expect("the name begins with a slash")
    })
}

/// What a node says of its program: version, and the run, so that two processes with one key can be
/// told apart.
fn agent(run: u64) -> String {
    format!("bzzz/{} run/{run:016x}", env!("CARGO_PKG_VERSION"))
}

/// The run that an agent names.
pub(super) fn run_of(agent: &str) -> Option<u64> {
    let (_, run) = agent.rsplit_once(" run/")?;
    u64::from_str_radix(run, 16).ok()
}

type Muxed = (libp2p::PeerId, StreamMuxerBox);

/// TCP, then TLS 1.3, then yamux; QUIC, which has all three in it; and circuits through relays, with TLS and
/// yamux on them.
pub(super) fn transport(
    keypair: &Keypair,
    circuits: relay::client::Transport,
    sockets: Arc<Sockets>,
    doorway: Option<Doorway>,
) -> Result<Boxed<Muxed>, NetworkError> {
    let bare = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let watching = sockets.clone();
    let watched = bare.map(move |stream: tcp::tokio::TcpStream, point: ConnectedPoint| {
        watching.watch(stream, &point)
    });
    let over_tcp = secured(watched, keypair, doorway)?;
    let over_quic = Delayed::new(quic::tokio::Transport::new(quic_config(keypair)), HEAD_START)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Closing::new(muxer))))
        .boxed();
    let over_quic = Cuttable::new(over_quic, sockets.clone());
    // A way without a relay is better, if there is one.
    let over_circuits = secured(Delayed::new(circuits, HEAD_START), keypair, None)?;
    let over_circuits = Cuttable::new(over_circuits, sockets);
    Ok(over_circuits
        .or_transport(over_tcp)
        .map(|either, _| either.into_inner())
        .or_transport(over_quic)
        .map(|either, _| either.into_inner())
        .boxed())
}

/// TLS 1.3 and yamux on a transport of bytes; connections for bulk bytes leave through the doorway.
fn secured<T>(
    transport: T,
    keypair: &Keypair,
    doorway: Option<Doorway>,
) -> Result<Boxed<Muxed>, NetworkError>
where
    T: libp2p::core::Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let tls = tls::Config::new(keypair)
        .map_err(|error| NetworkError::Tls { reason: error.to_string() })?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(STREAMS_MAX);
    Ok(transport
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(tls)
        .multiplex_ext(move |peer: &libp2p::PeerId, point: &ConnectedPoint| {
            Doors::of(yamux.clone(), doorway.as_ref(), peer, point)
        })
        .timeout(SETUP_TIMEOUT)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Closing::new(Detached::new(muxer)))))
        .boxed())
}

fn quic_config(keypair: &Keypair) -> quic::Config {
    let mut config = quic::Config::new(keypair);
    config.handshake_timeout = SETUP_TIMEOUT;
    config.max_concurrent_stream_limit = STREAMS_MAX as u32;
    config.max_stream_data = QUIC_STREAM_WINDOW;
    config.max_connection_data = QUIC_CONNECTION_WINDOW;
    config
}

/// What a swarm is made for.
pub(super) struct SwarmPlan<'a> {
    pub(super) cluster_tag: &'a str,
    pub(super) keypair: &'a Keypair,
    /// Tells this process from every other one.
    pub(super) run: u64,
    pub(super) topics: &'a Topics,
    /// Whether peers are looked for in the local network, over IPv4 and over IPv6.
    pub(super) mdns: [bool; 2],
    /// Whether connections are passed on.
    pub(super) relay: bool,
    pub(super) probing: Probing,
}

/// A swarm that does not listen yet.
pub(super) fn swarm(
    plan: &SwarmPlan<'_>,
    lanes: Lanes,
    shared: &Arc<Shared>,
    runtime: &Handle,
    doorway: Doorway,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let SwarmPlan { cluster_tag, keypair, run, topics, mdns, relay, probing } = *plan;
    let own = keypair.public().to_peer_id();
    let identify = identify::Config::new(protocol_name(cluster_tag, "id"), keypair.public())
        .with_agent_version(agent(run))
        .with_push_listen_addr_updates(true)
        .with_cache_size(0);
    let (over_circuits, circuits) = relay::client::new(own);
    let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT);
    let behaviour = Behaviour {
        lanes,
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping),
        mesh: Gate::new(mesh::behaviour(cluster_tag, topics), shared.clone()),
        kad: Gate::new(discovery::routing(own, cluster_tag), shared.clone()),
        relay: relay.then(|| Gate::new(circuits::relay(own), shared.clone())).into(),
        circuits: Gate::new(circuits, shared.clone()),
        punch: Gate::dialling(dcutr::Behaviour::new(own), shared.clone(), Dial::Punch),
        probe: Gate::dialling(circuits::probe(own, probing), shared.clone(), Dial::Probe),
        local: discovery::local(own, mdns[0], false),
        local_ipv6: discovery::local(own, mdns[1], true),
        memory: discovery::memory(),
    };
    let runtime = runtime.clone();
    let config = libp2p::swarm::Config::with_executor(move |task| {
        runtime.spawn(task);
    });
    let transport = transport(keypair, over_circuits, shared.sockets.clone(), Some(doorway))?;
    Ok(Swarm::new(transport, behaviour, own, config))
}
