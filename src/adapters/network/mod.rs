//! Peers over libp2p: TCP with TLS 1.3 and yamux, or QUIC, and one stream for each lane.
//!
//! The problem: two nodes must exchange ordered frames with little delay, tell at once when the
//! other is gone, and not be harmed by whoever else finds the port. A libp2p swarm gives
//! authenticated connections and streams; this module decides who may have them, which of them
//! live, and how much each may cost.
//!
//! What the sink is told:
//! - `Up` comes once a connection exists, if the peer is not in the roster or if this node dialled
//!   it with `dial`. For another peer of the roster it comes when the consensus and control lanes
//!   can be sent on. A roster peer that takes this node for a stranger has no use for those lanes;
//!   for it `Up` comes when the join lane is opened.
//! - `Down` comes when the last connection is gone or was given up, and only after an `Up`.
//! - A peer that joins the roster while it is connected is `Up` already. There is no second `Up`;
//!   frames on its other lanes are taken from `admit` on, and wait for the lanes.
//! - A sink that is attached is told `Up` for each peer that is up then. Nothing is up before there
//!   is a sink.
//! - `dial` ends in one `Up` or `DialFailed`. If it leads to a peer that is up already, it fails and
//!   says so. A kept peer whose address leads to somebody else causes a `DialFailed` as well.
//! - `Down` may be followed by an `Up` of the same peer at once. That a peer was restarted shows in
//!   nothing else here.
//!
//! What may be lost: frames that were queued or under way when a stream or connection broke. Where
//! two connections to one peer came from simultaneous dials, one is closed and the frames on it may
//! be lost, without a `Down`. Frames on one lane never overtake each other, also not then.
//!
//! Invariants:
//! 1. A frame comes from whom the connection authenticated, between its `Up` and its `Down`.
//! 2. A peer outside the roster is heard on the join lane only.
//! 3. Nothing is allocated for a length that was not checked, and every queue, count and time that
//!    a peer can influence has a bound in `types::limits` or in `bounds`.
//! 4. No call waits: sends go to the queue of their lane, everything else to the event loop.

mod agenda;
mod arrivals;
mod behaviour;
mod bounds;
mod bulk;
mod charges;
mod circuits;
mod closing;
mod contest;
mod delayed;
mod detached;
mod dialer;
mod dials;
mod discovery;
mod driver;
mod frame;
mod gate;
mod handshakes;
mod hints;
mod interfaces;
mod joins;
mod lane;
mod lanes;
mod learned;
mod mesh;
mod peers;
mod queue;
mod sockets;
mod stats;
mod strangers;
mod table;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::swarm::Swarm;
use rustix::io::Errno;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::adapters::vault::KeyVault;
use crate::messages::{GossipId, Topic, Verdict};
use crate::ports::network::SendError;
use crate::ports::{Bulk, Lane, Network, NetworkEvent, Sink};
use crate::types::address::{Host, Transport};
use crate::types::limits::{ADDRESSES_MAX, GOSSIP_LEN_MAX};
use crate::types::{Address, PeerId};

use behaviour::Lanes;
use bounds::INTERFACES_WAIT;
use bulk::BulkNet;
pub use circuits::Probing;
use driver::{Command, Driver};
use mesh::Topics;
pub use stats::{BulkStats, LaneStats, NetworkStats};
use table::Shared;
use transport::SwarmPlan;

/// Longest cluster tag.
const CLUSTER_TAG_LEN_MAX: usize = 64;

/// What a node's network has to know at its start.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The cluster id in hexadecimal; part of every protocol name, so that nodes of different
    /// clusters have nothing to say to each other.
    pub cluster_tag: String,
    /// Where to listen. Port 0 takes a free port.
    pub listen: Vec<Address>,
    /// Where others can dial this node, if that is not where it listens. Port 0 stands for the
    /// port that it listens on.
    pub announce: Vec<Address>,
    /// Where members may be, whichever: dialled while a member is missed.
    pub hints: Vec<Address>,
    /// Connections at once; further ones are refused.
    pub max_connections: usize,
    /// Whether peers are looked for in the local network.
    pub mdns: bool,
    /// Whether connections between members that can't reach each other are passed on, and this node is
    /// reached that way where it can't be dialled.
    pub relay: bool,
    /// Whom it asks whether it can be dialled.
    pub probing: Probing,
}

/// Why a network does not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Another program listens there.
    #[error(
        "the port of {address} is taken by another program; stop it, or listen on another port"
    )]
    PortTaken {
        /// The address.
        address: Address,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {reason}; use an address of this machine, or 0.0.0.0 for all"
    )]
    Listen {
        /// The address.
        address: Address,
        /// Why.
        reason: String,
    },
    /// The cluster tag cannot be part of a protocol name.
    #[error("the cluster tag {tag:?} must be 1 to 64 letters, digits or hyphens")]
    ClusterTag {
        /// The tag.
        tag: String,
    },
    /// The node's key does not make a certificate.
    #[error("cannot make a TLS certificate from the node's key: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
    /// The operating system gives no thread for bulk bytes.
    #[error("cannot start a thread: {0}; raise the limits of this process")]
    Thread(io::Error),
    /// The operating system gives no random numbers.
    #[error("cannot read /dev/urandom: {0}; make it available to this process")]
    Entropy(io::Error),
}

/// The network of one node, see the module. Dropping it closes all connections.
pub struct P2pNetwork {
    local: PeerId,
    announce: Vec<Address>,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    bulk: Arc<BulkNet>,
}

impl P2pNetwork {
    /// Listens, and runs the event loop on `runtime`. With 0.0.0.0 or `::` it waits a moment for
    /// the addresses of the interfaces, so it should not be called on a thread that must not block.
    pub fn start(
        config: NetworkConfig,
        vault: &KeyVault,
        runtime: Handle,
    ) -> Result<Arc<Self>, NetworkError> {
        let tag = config.cluster_tag;
        let tag_ok = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if tag.is_empty() || tag.len() > CLUSTER_TAG_LEN_MAX || !tag.chars().all(tag_ok) {
            return Err(NetworkError::ClusterTag { tag: tag.chars().take(80).collect() });
        }
        // Sockets register with the runtime when they are made.
        let _entered = runtime.enter();
        let (local, shared) = (vault.peer_id(), Arc::<Shared>::default());
        let run = run_id()?;
        let lanes = Lanes::new(local, &tag, shared.clone(), config.max_connections);
        let topics = Topics::new(&tag);
        let plan = SwarmPlan {
            cluster_tag: &tag,
            keypair: vault.keypair(),
            run,
            topics: &topics,
            relay: config.relay,
            probing: config.probing,
            mdns: [false, true].map(|of_ipv6| config.mdns && is_seen(&config.listen, of_ipv6)),
        };
        let (bulk, doorway) = bulk::Prepared::new(&tag, shared.clone());
        let mut swarm = transport::swarm(&plan, lanes, &shared, &runtime, doorway)?;
        let (listeners, bound) = listen(&mut swarm, &config.listen)?;
        shared.change_listening(|known| known.extend(bound.iter().filter(concrete).cloned()));
        let announce = with_ports(config.announce, &bound);
        for address in announce.iter().filter_map(transport::multiaddr) {
            swarm.add_external_address(address);
        }
        let known = (shared.clone(), topics);
        let (driver, reports) =
            Driver::new(local, swarm, listeners, known, config.relay, config.hints, os_seed()?);
        let (commands, received) = mpsc::unbounded_channel();
        let bulk = Arc::new(bulk.start((local, run), vault.keypair(), commands.downgrade())?);
        let driving = runtime.spawn(driver.run(received, reports));
        runtime.spawn(watch(driving, shared.clone()));
        if !bound.iter().all(|address| concrete(&address))
            && runtime.runtime_flavor() != RuntimeFlavor::CurrentThread
        {
            await_interfaces(&shared);
        }
        Ok(Arc::new(Self { local, announce, shared, commands, bulk }))
    }

    /// The counters.
    pub fn stats(&self) -> Arc<NetworkStats> {
        self.shared.stats.clone()
    }

    /// Its bulk bytes.
    pub fn bulk(&self) -> Arc<dyn Bulk> {
        self.bulk.clone()
    }

    /// Closes listeners and connections, and returns when the peers were told or half a second has
    /// passed. Every call after it does nothing.
    pub async fn shutdown(&self) {
        self.bulk.stop().await;
        let (done, waiting) = oneshot::channel();
        self.command(Command::Shutdown(done));
        // An error says that the event loop had ended before.
        let _ = waiting.await;
    }

    /// Passes a command on. The channel has no bound because only this node's own actors send on
    /// it, each change once, and notes within the rate that everybody keeps; frames take another
    /// way.
    fn command(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }
}

impl Drop for P2pNetwork {
    fn drop(&mut self) {
        self.bulk.stop_soon();
    }
}

impl Network for P2pNetwork {
    fn attach(&self, sink: Sink<NetworkEvent>) {
        self.shared.tell_end(sink.clone());
        self.command(Command::Attach(sink));
    }

    fn local_peer(&self) -> PeerId {
        self.local
    }

    fn listen_addresses(&self) -> Vec<Address> {
        if !self.announce.is_empty() {
            return self.announce.clone();
        }
        let mut addresses = self.shared.listening();
        addresses.retain(|address| !is_link_local(address));
        // The cut below takes QUIC away before it takes an interface, and IPv4 comes first.
        addresses.sort_by_key(|address| (address.transport, is_of_ipv6(address)));
        // What only this machine can reach is told only if there is nothing else.
        if addresses.iter().any(|address| !address.is_loopback()) {
            addresses.retain(|address| !address.is_loopback());
        }
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    fn dial(&self, address: Address) {
        if !self.command(Command::Dial(address.clone()))
            && let Some(sink) = self.shared.sink()
        {
            let reason = "this node is shutting down".to_owned();
            sink(NetworkEvent::DialFailed { address, reason });
        }
    }

    fn keep(&self, peer: PeerId, addresses: Vec<Address>) {
        self.shared.set_kept(peer, true);
        self.command(Command::Keep(peer, addresses));
    }

    fn release(&self, peer: PeerId) {
        self.shared.set_kept(peer, false);
        self.command(Command::Release(peer));
    }

    fn admit(&self, roster: BTreeSet<PeerId>) {
        let removed = self.shared.admit(roster);
        self.command(Command::Admitted(removed));
        self.bulk.on_admitted();
    }

    fn send(&self, to: PeerId, lane: Lane, bytes: Vec<u8>) -> Result<(), SendError> {
        let unattended = self.shared.send(to, lane, bytes)?;
        if unattended && lane == Lane::Join {
            self.command(Command::OpenJoin(to));
        }
        Ok(())
    }

    fn gossip(&self, topic: Topic, bytes: Vec<u8>) -> Result<(), SendError> {
        if bytes.len() > GOSSIP_LEN_MAX {
            return Err(SendError::QueueFull);
        }
        if self.command(Command::Gossip(topic, bytes)) {
            Ok(())
        } else {
            Err(SendError::NotConnected)
        }
    }

    fn judge(&self, id: GossipId, verdict: Verdict) {
        self.command(Command::Judge(id, verdict));
    }
}

/// Listens on all addresses; returns them with their ports.
///
/// libp2p sets SO_REUSEPORT on its listeners, so that a second program of the same user would
/// silently share a taken port and get every other connection. Each address is therefore bound
/// once without that option first, all of them before the first real listener, because a dual-stack
/// `::` collides with 0.0.0.0.
fn listen(
    swarm: &mut Swarm<transport::Behaviour>,
    addresses: &[Address],
) -> Result<(Vec<ListenerId>, Vec<Address>), NetworkError> {
    let (mut bound, mut without) = (Vec::new(), None);
    for address in addresses {
        let socket = address.socket().ok_or_else(|| NetworkError::Listen {
            address: address.clone(),
            reason: "a name is no address to listen on".to_owned(),
        })?;
        let probed = match probe(socket, address.transport) {
            Ok(probed) => probed,
            Err(error) if address.is_unspecified() && lacks_ipv6(socket, &error) => {
                without = Some(listen_error(address, &error));
                continue;
            }
            Err(error) => return Err(listen_error(address, &error)),
        };
        let address = Address::new(probed, address.transport);
        if !bound.contains(&address) {
            bound.push(address);
        }
    }
    match without {
        Some(error) if bound.is_empty() => return Err(error),
        Some(_) => tracing::info!("this machine has no IPv6; listening without it"),
        None => {}
    }
    let mut listeners = Vec::new();
    for address in &bound {
        let multiaddr = transport::multiaddr(address).expect("a socket needs no resolving");
        let listener = swarm.listen_on(multiaddr).map_err(|error| match error {
            TransportError::Other(error) => listen_error(address, &error),
            TransportError::MultiaddrNotSupported(_) => NetworkError::Listen {
                address: address.clone(),
                reason: "the address is not supported".to_owned(),
            },
        })?;
        listeners.push(listener);
    }
    Ok((listeners, bound))
}

/// Binds a socket for a moment; returns where.
fn probe(socket: SocketAddr, transport: Transport) -> io::Result<SocketAddr> {
    match transport {
        Transport::Tcp => TcpListener::bind(socket)?.local_addr(),
        Transport::Quic => UdpSocket::bind(socket)?.local_addr(),
    }
}

fn listen_error(address: &Address, error: &io::Error) -> NetworkError {
    let address = address.clone();
    // The kind also stands in errors that libp2p has wrapped.
    if error.kind() == io::ErrorKind::AddrInUse {
        NetworkError::PortTaken { address }
    } else {
        NetworkError::Listen { address, reason: error.to_string() }
    }
}

fn concrete(address: &&Address) -> bool {
    !address.is_unspecified()
}

/// Waits for the end of the event loop. Whoever uses this network hears of one that was not asked for.
async fn watch(driving: JoinHandle<()>, shared: Arc<Shared>) {
    let Err(error) = driving.await else { return };
    let Ok(panic) = error.try_into_panic() else { return };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let reason = text.unwrap_or_else(|| "it panicked".to_owned());
    tracing::error!(reason, "the event loop of the network has failed");
    shared.fail(reason);
}

/// True if others in the local network can reach one of these over IPv6, or over IPv4.
fn is_seen(listen: &[Address], of_ipv6: bool) -> bool {
    listen.iter().any(|address| !address.is_loopback() && is_of_ipv6(address) == of_ipv6)
}

fn is_of_ipv6(address: &Address) -> bool {
    matches!(&address.host, Host::Ip(IpAddr::V6(_)))
}

/// True if a socket of IPv6 can't be had because the machine has no IPv6 at all.
fn lacks_ipv6(socket: SocketAddr, error: &io::Error) -> bool {
    let code = error.raw_os_error();
    let is_lacking = |errno: Errno| code == Some(errno.raw_os_error());
    socket.is_ipv6() && (is_lacking(Errno::AFNOSUPPORT) || is_lacking(Errno::ADDRNOTAVAIL))
}

fn is_link_local(address: &Address) -> bool {
    match &address.host {
        // Such an address needs an interface to go with it, which differs on each machine.
        Host::Ip(IpAddr::V6(ip)) => Ipv6Addr::is_unicast_link_local(ip),
        Host::Ip(IpAddr::V4(_)) | Host::Dns(_) => false,
    }
}

/// Waits until an address is known that others can dial.
fn await_interfaces(shared: &Shared) {
    let start = Instant::now();
    let found = || shared.listening().iter().any(|address| !address.is_loopback());
    while !found() && start.elapsed() < INTERFACES_WAIT {
        std::thread::sleep(INTERFACES_WAIT / 200);
    }
}

/// Fills in the port of the listener of the same transport where it was left open.
fn with_ports(mut addresses: Vec<Address>, bound: &[Address]) -> Vec<Address> {
    for address in addresses.iter_mut().filter(|address| address.port == 0) {
        let same = bound.iter().find(|bound| bound.transport == address.transport);
        address.port = same.map_or(0, |bound| bound.port);
    }
    addresses.retain(|address| address.port != 0);
    addresses
}

/// Tells this process from every other one.
fn run_id() -> Result<u64, NetworkError> {
    let seed = os_seed()?;
    Ok(u64::from_le_bytes(std::array::from_fn(|at| seed[at])))
}

/// A seed for the jitter of dials, so that two nodes never draw the same.
fn os_seed() -> Result<[u8; 32], NetworkError> {
    let mut seed = [0; 32];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
    read.map_err(NetworkError::Entropy)?;
    Ok(seed)
}
