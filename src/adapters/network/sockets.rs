//! The connections of this node below TLS, so that any of them can be cut from outside: those over
//! TCP, and of the others those that are in their handshake (`handshakes`).
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
//! 1. What is written down is a socket that is open, or a handshake under way; it goes with that.
//! 2. Only connections that were accepted wait, and no longer than until they have shown whose they
//!    are.
//! 3. A member's hosts are those that the roster names and those where it has proven its key.
//!    What others only claim is none of them.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
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

use super::arrivals::{Arrival, Arrivals, Source, Summary, Tally, Way};
use super::bounds::{NAMED_HOSTS_PER_PEER_MAX, PROVEN_HOSTS_PER_PEER_MAX};
use super::queue::lock;
use super::stats::{NetworkStats, count};
use super::transport::address;
use crate::types::PeerId;
use crate::types::address::Transport;

/// Whether a connection was cut.
#[derive(Default)]
pub(super) struct Cut {
    is_cut: AtomicBool,
    /// True if another runtime than the one that has accepted it is to look after it.
    moves: AtomicBool,
    reader: AtomicWaker,
}

impl Cut {
    /// Fails what is cut, and has `cx` woken when that happens later.
    pub(super) fn poll(&self, cx: &Context<'_>) -> io::Result<()> {
        self.reader.register(cx.waker());
        self.check()
    }

    /// True if it was not cut before.
    fn make(&self) -> bool {
        let was_cut = self.is_cut.swap(true, Ordering::AcqRel);
        self.reader.wake();
        !was_cut
    }

    fn check(&self) -> io::Result<()> {
        if self.is_cut.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

/// What is known of one connection; ends only of one over TCP.
struct Entry {
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    cut: Arc<Cut>,
}

/// Hosts at which a member is known to be, each list with the one that was confirmed last at its
/// end.
#[derive(Default)]
struct Hosts {
    /// Those that the roster names.
    named: Vec<IpAddr>,
    /// Those where it has proven its key.
    proven: Vec<IpAddr>,
}

/// Takes note of a host at the end of a list, at the expense of the one that was confirmed first.
fn confirm(hosts: &mut Vec<IpAddr>, host: IpAddr, max: usize) {
    // On this machine everybody is at one host.
    if host.is_loopback() {
        return;
    }
    hosts.retain(|known| *known != host);
    if hosts.len() >= max {
        hosts.remove(0);
    }
    hosts.push(host);
}

#[derive(Default)]
struct Table {
    /// By numbers that grow with time.
    open: BTreeMap<u64, Entry>,
    made: u64,
    arrivals: Arrivals,
    tally: Tally,
    /// Where members are known to be.
    hosts: BTreeMap<PeerId, Hosts>,
}

impl Table {
    fn is_kept(&self, host: IpAddr) -> bool {
        let host = host.to_canonical();
        let is_of = |hosts: &Hosts| hosts.named.contains(&host) || hosts.proven.contains(&host);
        self.hosts.values().any(is_of)
    }

    /// Writes down a connection; returns its number.
    fn enter(&mut self, ends: (Option<SocketAddr>, Option<SocketAddr>), cut: Arc<Cut>) -> u64 {
        self.made += 1;
        self.open.insert(self.made, Entry { local: ends.0, remote: ends.1, cut });
        self.made
    }

    /// One has ended without having shown whose it is.
    fn count_end(&mut self, source: Source, gave_way: bool) -> Option<Summary> {
        self.tally.count_end(Instant::now(), source, gave_way)
    }
}

/// Logs that many have ended, if they have.
fn warn_of_many(summary: Option<Summary>) {
    if let Some(Summary { ended, gave_way, most_from }) = summary {
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
        let cut = Arc::<Cut>::default();
        let mut table = lock(&self.table);
        let number = table.enter((local, remote), cut.clone());
        let mut summary = None;
        if point.is_listener() {
            let host = remote.map(|remote| remote.ip());
            summary = self.arrive(&mut table, number, Way::Tcp, Source::of_point(point), host);
        }
        drop(table);
        warn_of_many(summary);
        Socket { stream: Some(stream), number, cut, sockets: self.clone(), is_silent: true }
    }

    /// Takes note of a connection that is not over TCP and whose handshake begins; returns its
    /// number.
    pub(super) fn begin(&self, local: &Multiaddr, remote: &Multiaddr, cut: Arc<Cut>) -> u64 {
        let source = Source::of_ends(local, remote);
        let way = if matches!(source, Source::Relay(_)) { Way::Circuit } else { Way::Quic };
        let host = socket(remote).map(|remote| remote.ip());
        let mut table = lock(&self.table);
        let number = table.enter((None, None), cut);
        let summary = self.arrive(&mut table, number, way, source, host);
        drop(table);
        warn_of_many(summary);
        number
    }

    /// Lets a newcomer in, and cuts whoever has to give way to it.
    fn arrive(
        &self,
        table: &mut Table,
        number: u64,
        way: Way,
        source: Source,
        host: Option<IpAddr>,
    ) -> Option<Summary> {
        let is_kept = host.is_some_and(|host| table.is_kept(host));
        let left = table.arrivals.arrive(number, Arrival::new(way, source, is_kept));
        let summary = left.and_then(|(leaver, source)| {
            if let Some(entry) = table.open.get(&leaver) {
                entry.cut.make();
            }
            count(&self.stats.gave_way);
            table.count_end(source, true)
        });
        self.update_gauge(table);
        summary
    }

    fn update_gauge(&self, table: &Table) {
        self.stats.arrivals.store(table.arrivals.len() as u64, Ordering::Relaxed);
    }

    /// A connection has shown whose it is.
    pub(super) fn prove(&self, local: &Multiaddr, remote: &Multiaddr) {
        // Another one may come from the same port over UDP.
        if address(local).is_none_or(|local| local.transport != Transport::Tcp) {
            return;
        }
        let ends = (socket(local), socket(remote));
        let mut table = lock(&self.table);
        let table = &mut *table;
        for (number, _) in table.open.iter().filter(|(_, open)| (open.local, open.remote) == ends) {
            table.arrivals.leave(*number);
        }
        self.update_gauge(table);
    }

    /// A connection has shown whose it is, and is looked after by another runtime from now on.
    pub(super) fn hand_over(&self, local: &Multiaddr, remote: &Multiaddr) {
        self.prove(local, remote);
        let ends = (socket(local), socket(remote));
        let table = lock(&self.table);
        for open in table.open.values().filter(|open| (open.local, open.remote) == ends) {
            open.cut.moves.store(true, Ordering::Release);
        }
    }

    /// Cuts all connections from an address that this machine has no more; returns how many that
    /// are.
    pub(super) fn lose(&self, address: IpAddr) -> usize {
        let table = lock(&self.table);
        let is_lost = |open: &&Entry| open.local.is_some_and(|local| local.ip() == address);
        let mut cut = 0;
        for entry in table.open.values().filter(is_lost) {
            cut += usize::from(entry.cut.make());
        }
        cut
    }

    /// A handshake that was written down here by its number has shown whose it is.
    pub(super) fn prove_number(&self, number: u64) {
        let mut table = lock(&self.table);
        table.arrivals.leave(number);
        self.update_gauge(&table);
    }

    /// Keeps places for connections from hosts that the roster names for a member.
    pub(super) fn keep_named(&self, peer: PeerId, hosts: impl Iterator<Item = IpAddr>) {
        let mut table = lock(&self.table);
        let known = table.hosts.entry(peer).or_default();
        for host in hosts {
            confirm(&mut known.named, host.to_canonical(), NAMED_HOSTS_PER_PEER_MAX);
        }
    }

    /// Keeps places for connections from a host where a member has proven its key.
    pub(super) fn keep_proven(&self, peer: PeerId, host: IpAddr) {
        let mut table = lock(&self.table);
        let known = table.hosts.entry(peer).or_default();
        confirm(&mut known.proven, host.to_canonical(), PROVEN_HOSTS_PER_PEER_MAX);
    }

    /// Keeps places for those members alone. Whoever is only not dialled any more keeps them: it
    /// may dial this node.
    pub(super) fn retain_places(&self, is_member: impl Fn(PeerId) -> bool) {
        lock(&self.table).hosts.retain(|peer, _| is_member(*peer));
    }

    fn speak(&self, number: u64) {
        lock(&self.table).arrivals.speak(number);
    }

    /// A connection is gone.
    pub(super) fn end(&self, number: u64) {
        let mut table = lock(&self.table);
        table.open.remove(&number);
        let Some(Arrival { source, is_kept, .. }) = table.arrivals.leave(number) else { return };
        self.update_gauge(&table);
        // A member dials at several addresses, and gives up all connections but one.
        if is_kept {
            return;
        }
        count(&self.stats.unproven);
        let summary = table.count_end(source, false);
        drop(table);
        warn_of_many(summary);
    }
}

fn socket(at: &Multiaddr) -> Option<SocketAddr> {
    address(at)?.socket()
}

/// A connection that can be cut.
pub(super) struct Socket {
    /// None only if it could not be moved to another runtime.
    stream: Option<TcpStream>,
    number: u64,
    cut: Arc<Cut>,
    sockets: Arc<Sockets>,
    /// True until something has come.
    is_silent: bool,
}

impl Socket {
    /// The connection, in the runtime that looks after it.
    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.cut.check()?;
        if self.cut.moves.swap(false, Ordering::AcqRel)
            && let Some(TcpStream(stream)) = self.stream.take()
        {
            self.stream = Some(TcpStream(tokio::net::TcpStream::from_std(stream.into_std()?)?));
        }
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        self.stream.as_mut().map(Pin::new).ok_or_else(gone)
    }
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
        this.cut.poll(cx)?;
        let read = this.stream()?.poll_read(cx, buffer);
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
        this.stream()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.stream()?.poll_write_vectored(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.stream()?.poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.stream()?.poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn multiaddr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn begin(sockets: &Sockets, from: u8) -> u64 {
        let local = multiaddr("/ip4/10.0.0.100/udp/4001/quic-v1");
        let remote = multiaddr(&format!("/ip4/10.0.0.{from}/udp/9/quic-v1"));
        sockets.begin(&local, &remote, Arc::default())
    }

    #[test]
    fn the_hosts_of_a_member_are_bounded_and_those_of_the_roster_stay() {
        let (sockets, peer) = (Sockets::default(), PeerId([1; 32]));
        let is_kept = |last| lock(&sockets.table).is_kept(host(last));
        sockets.keep_named(peer, [host(1), host(2)].into_iter());
        for last in 3..=2 + 2 * PROVEN_HOSTS_PER_PEER_MAX as u8 {
            sockets.keep_proven(peer, host(last));
            // It is there as well all the time.
            sockets.keep_proven(peer, host(3));
        }
        assert!(is_kept(1) && is_kept(2) && is_kept(3));
        assert!(!is_kept(4), "the one that was confirmed first goes first");
        assert_eq!(lock(&sockets.table).hosts[&peer].proven.len(), PROVEN_HOSTS_PER_PEER_MAX);
        sockets.keep_named(peer, std::iter::once("127.0.0.1".parse().unwrap()));
        assert!(!lock(&sockets.table).is_kept("127.0.0.1".parse().unwrap()));
        sockets.retain_places(|_| false);
        assert!(!is_kept(1) && !is_kept(3));
    }

    #[test]
    fn what_a_member_gives_up_is_not_unproven() {
        let sockets = Sockets::default();
        sockets.keep_proven(PeerId([1; 32]), host(1));
        let unproven = || sockets.stats.unproven.load(Ordering::Relaxed);
        let (member, other) = (begin(&sockets, 1), begin(&sockets, 2));
        sockets.end(member);
        assert_eq!(unproven(), 0);
        sockets.end(other);
        assert_eq!(unproven(), 1);
        assert_eq!(sockets.stats.arrivals.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn whoever_has_shown_its_key_over_quic_has_not_shown_it_over_tcp() {
        let sockets = Sockets::default();
        let ends = ["10.0.0.100:4001", "10.0.0.1:9"].map(|end| end.parse().ok());
        let mut table = lock(&sockets.table);
        let number = table.enter((ends[0], ends[1]), Arc::default());
        table.arrivals.arrive(number, Arrival::new(Way::Tcp, Source::of(host(1)), false));
        drop(table);
        let prove = |way: &str| {
            let local = multiaddr(&format!("/ip4/10.0.0.100/{}", way.replace('N', "4001")));
            sockets.prove(&local, &multiaddr(&format!("/ip4/10.0.0.1/{}", way.replace('N', "9"))));
            lock(&sockets.table).arrivals.len()
        };
        assert_eq!(prove("udp/N/quic-v1"), 1);
        assert_eq!(prove("tcp/N"), 0);
    }
}
