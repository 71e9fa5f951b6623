//! The TCP connections of this node below TLS, so that any of them can be cut from outside.
//!
//! Problem: the library has no way to give up a connection that is in its handshake, and none to
//! tell which connections use an address of this machine. The first is wanted when somebody has to
//! give way (`arrivals`). The second when this machine loses an address: TCP goes on repeating what
//! nobody can answer for many minutes.
//!
//! Flow: a connection is made or accepted -> it is written down here, and waits if it was accepted
//! -> it has shown whose it is, and waits no longer. A connection that is cut fails at its next
//! read or write, for which its task is woken; whatever stands on it then ends as if the other end
//! had broken it off.
//!
//! Invariants:
//! 1. What is written down is a socket that is open; it goes with the socket.
//! 2. Only connections that were accepted wait, and no longer than until they have shown whose they
//!    are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::task::AtomicWaker;
use futures_util::{AsyncRead, AsyncWrite};
use libp2p::Multiaddr;
use libp2p::core::ConnectedPoint;
use libp2p::tcp::tokio::TcpStream;

use super::arrivals::{Arrivals, Source, Tally, Told};
use super::bounds::HOSTS_PER_PEER_MAX;
use super::queue::lock;
use super::stats::{NetworkStats, count};
use super::transport::address;
use crate::types::PeerId;

/// Whether a connection was cut.
#[derive(Default)]
struct Cut {
    is_cut: AtomicBool,
    reader: AtomicWaker,
}

impl Cut {
    fn make(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn check(&self) -> io::Result<()> {
        if self.is_cut.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

/// What is known of one connection.
struct Entry {
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    cut: Arc<Cut>,
}

#[derive(Default)]
struct Table {
    /// By numbers that grow with time.
    open: BTreeMap<u64, Entry>,
    made: u64,
    arrivals: Arrivals,
    tally: Tally,
    /// Where members are known to be.
    hosts: BTreeMap<PeerId, BTreeSet<IpAddr>>,
}

impl Table {
    fn is_kept(&self, host: IpAddr) -> bool {
        self.hosts.values().any(|hosts| hosts.contains(&host))
    }

    /// One has ended without having shown whose it is.
    fn note(&mut self, source: Source, gave_way: bool) -> Option<Told> {
        self.tally.note(Instant::now(), source, gave_way)
    }
}

/// Says that many have ended, if they have.
fn say(told: Option<Told>) {
    if let Some(Told { ended, gave_way, most_from }) = told {
        tracing::warn!(
            ended, gave_way, %most_from,
            "many connections to this node have ended without showing whose they are; members \
             and joiners are let in beside them"
        );
    }
}

/// All of them, see the module.
#[derive(Default)]
pub(super) struct Sockets {
    table: Mutex<Table>,
    stats: Arc<NetworkStats>,
}

impl Sockets {
    pub(super) fn new(stats: Arc<NetworkStats>) -> Self {
        Self { table: Mutex::default(), stats }
    }

    /// Takes note of a connection that has been made or accepted.
    pub(super) fn watch(self: &Arc<Self>, stream: TcpStream, point: &ConnectedPoint) -> Socket {
        let remote = socket(point.get_remote_address());
        let local = match point {
            ConnectedPoint::Listener { local_addr, .. } => socket(local_addr),
            ConnectedPoint::Dialer { .. } => stream.0.local_addr().ok(),
        };
        let (cut, mut told) = (Arc::<Cut>::default(), None);
        let mut table = lock(&self.table);
        table.made += 1;
        let number = table.made;
        table.open.insert(number, Entry { local, remote, cut: cut.clone() });
        if point.is_listener() {
            let host = remote.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |remote| remote.ip());
            let is_kept = table.is_kept(host);
            let left = table.arrivals.arrive(number, Source::of(host), is_kept);
            if let Some((leaver, source)) = left {
                if let Some(entry) = table.open.get(&leaver) {
                    entry.cut.make();
                }
                count(&self.stats.gave_way);
                told = table.note(source, true);
            }
            self.show(&table);
        }
        drop(table);
        say(told);
        Socket { stream, number, cut, sockets: self.clone(), is_silent: true }
    }

    fn show(&self, table: &Table) {
        self.stats.arrivals.store(table.arrivals.len() as u64, Ordering::Relaxed);
    }

    /// A connection has shown whose it is.
    pub(super) fn prove(&self, local: &Multiaddr, remote: &Multiaddr) {
        let ends = (socket(local), socket(remote));
        if ends.0.is_none() {
            return;
        }
        let mut table = lock(&self.table);
        let table = &mut *table;
        for (number, _) in table.open.iter().filter(|(_, open)| (open.local, open.remote) == ends) {
            table.arrivals.leave(*number);
        }
        self.show(table);
    }

    /// Cuts all connections from an address that this machine has no more; returns how many that
    /// are.
    pub(super) fn lose(&self, address: IpAddr) -> usize {
        let table = lock(&self.table);
        let is_lost = |open: &&Entry| open.local.is_some_and(|local| local.ip() == address);
        let lost: Vec<&Entry> = table.open.values().filter(is_lost).collect();
        for entry in &lost {
            entry.cut.make();
        }
        lost.len()
    }

    /// Keeps places for connections from hosts at which a member is.
    pub(super) fn keep_places(&self, peer: PeerId, hosts: impl Iterator<Item = IpAddr>) {
        // On this machine everybody is at one host.
        let hosts: BTreeSet<IpAddr> = hosts.filter(|host| !host.is_loopback()).collect();
        let mut table = lock(&self.table);
        let known = table.hosts.entry(peer).or_default();
        if known.len() + hosts.len() > HOSTS_PER_PEER_MAX {
            known.clear();
        }
        known.extend(hosts.into_iter().take(HOSTS_PER_PEER_MAX));
    }

    /// Keeps no places for a member any more.
    pub(super) fn give_places_up(&self, peer: PeerId) {
        lock(&self.table).hosts.remove(&peer);
    }

    /// Keeps places for those members alone.
    pub(super) fn retain_places(&self, is_member: impl Fn(PeerId) -> bool) {
        lock(&self.table).hosts.retain(|peer, _| is_member(*peer));
    }

    /// True for a host that has places of its own.
    pub(super) fn is_kept(&self, host: IpAddr) -> bool {
        lock(&self.table).is_kept(host)
    }

    /// A connection that is none of these was refused for lack of a place.
    pub(super) fn note_refused(&self, host: IpAddr) {
        let told = lock(&self.table).note(Source::of(host), true);
        say(told);
    }

    fn speak(&self, number: u64) {
        lock(&self.table).arrivals.speak(number);
    }

    fn end(&self, number: u64) {
        let mut table = lock(&self.table);
        table.open.remove(&number);
        let Some(source) = table.arrivals.leave(number) else { return };
        count(&self.stats.unproven);
        let told = table.note(source, false);
        self.show(&table);
        drop(table);
        say(told);
    }
}

fn socket(at: &Multiaddr) -> Option<SocketAddr> {
    address(at)?.socket()
}

/// A connection that can be cut.
pub(super) struct Socket {
    stream: TcpStream,
    number: u64,
    cut: Arc<Cut>,
    sockets: Arc<Sockets>,
    /// True until something has come.
    is_silent: bool,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.sockets.end(self.number);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // Whoever has a connection reads it, also while it cannot write.
        this.cut.reader.register(cx.waker());
        this.cut.check()?;
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if this.is_silent && matches!(read, Poll::Ready(Ok(1..))) {
            this.is_silent = false;
            this.sockets.speak(this.number);
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.cut.check()?;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.cut.check()?;
        Pin::new(&mut this.stream).poll_write_vectored(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.cut.check()?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.cut.check()?;
        Pin::new(&mut this.stream).poll_close(cx)
    }
}
