//! The connections for bulk bytes: which there are, and which one a stream goes on.
//!
//! Flow: somebody wants a stream to a peer -> there is a connection, or one is dialled -> the stream is
//! opened on it. Of two connections with one peer that come from simultaneous dials, new streams go on the
//! one that the side with the smaller id has dialled; otherwise on the later one, as the peer has lost the
//! earlier one. The other one closes with its last stream.
//!
//! Invariants:
//! 1. At most `BULK_CONNECTIONS_MAX` connections stand or are dialled, and `BULK_CONNECTIONS_PER_PEER_MAX`
//!    with one peer; where all places are taken, one without streams gives way.
//! 2. There is none with who is no member.
//! 3. Whoever wants a stream is answered.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use libp2p::core::Endpoint;
use libp2p::core::transport::{DialOpts, PortUse, Transport as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::Bulks;
use super::connection::{Ask, Drive, Give, Live, Opened, Tally, drive};
use super::doors::{Arrived, Dialling, Io};
use crate::adapters::network::bounds::{BULK_DIAL, BULK_HEAD_START, GOODBYE, SETUP_TIMEOUT};
use crate::adapters::network::dialer::{can_be_dialled, innermost, resolve};
use crate::adapters::network::driver::Command;
use crate::adapters::network::stats::count;
use crate::adapters::network::transport::{from_libp2p, multiaddr};
use crate::ports::bulk::BulkError;
use crate::types::address::Transport;
use crate::types::limits::{
    BULK_ADDRESSES_MAX, BULK_CONNECTIONS_MAX, BULK_CONNECTIONS_PER_PEER_MAX, BULK_IDLE,
};
use crate::types::{Address, Lock, PeerId};

/// A stream that is wanted.
pub struct Want {
    /// To whom.
    pub to: PeerId,
    /// Where that may be.
    pub at: Vec<Address>,
    /// Who wants it.
    pub give: Give,
}

/// What happens.
pub enum Event {
    /// Somebody wants a stream.
    Want(Want),
    /// A dial has come to its end.
    Dialled(PeerId, Result<Io, String>),
    /// A connection has ended.
    Ended(PeerId, u64),
    /// The roster has changed.
    Admitted,
    /// The node stops; who asks is told when all is closed.
    Stop(Option<oneshot::Sender<()>>),
}

struct Connection {
    number: u64,
    /// True if this side has dialled it.
    is_own: bool,
    since: Instant,
    asks: mpsc::UnboundedSender<Ask>,
    tally: Arc<Tally>,
    task: AbortHandle,
}

impl Connection {
    /// Asks for a stream; gives back who wants it if the connection is just ending.
    fn ask(&self, give: Give) -> Result<(), Give> {
        let ask = (give, Live::new(&self.tally));
        self.asks.send(ask).map_err(|mpsc::error::SendError((give, _))| give)
    }
}

#[derive(Default)]
struct Known {
    connections: Vec<Connection>,
    /// Who waits for the dial under way.
    waiting: Vec<Give>,
    is_dialling: bool,
}

impl Known {
    /// Places that are taken.
    fn taken(&self) -> usize {
        self.connections.len() + usize::from(self.is_dialling)
    }

    fn is_unused(&self) -> bool {
        self.connections.is_empty() && !self.is_dialling
    }
}

/// See the module.
pub struct Reactor {
    local: PeerId,
    bulks: Arc<Bulks>,
    dialling: Arc<Mutex<Dialling>>,
    /// Asks the event loop where a peer is.
    routes: mpsc::WeakUnboundedSender<Command>,
    peers: HashMap<PeerId, Known>,
    numbers: u64,
    tasks: JoinSet<()>,
}

impl Reactor {
    /// One without connections.
    pub fn new(
        local: PeerId,
        bulks: Arc<Bulks>,
        dialling: Dialling,
        routes: mpsc::WeakUnboundedSender<Command>,
    ) -> Self {
        let dialling = Arc::new(Mutex::new(dialling));
        let (peers, tasks) = (HashMap::new(), JoinSet::new());
        Self { local, bulks, dialling, routes, peers, numbers: 0, tasks }
    }

    /// Runs until the node stops.
    pub async fn run(
        mut self,
        mut arrivals: mpsc::Receiver<Arrived>,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) {
        let done = loop {
            tokio::select! {
                Some(event) = events.recv() => match event {
                    Event::Want(want) => self.on_want(want),
                    Event::Dialled(peer, dialled) => self.on_dialled(peer, dialled),
                    Event::Ended(peer, number) => self.on_ended(peer, number),
                    Event::Admitted => self.on_admitted(),
                    Event::Stop(done) => break done,
                },
                Some(Arrived { peer, io }) = arrivals.recv() => self.on_arrived(peer, io),
                // Those that have ended say so themselves; here they are only forgotten.
                Some(_) = self.tasks.join_next() => {}
            }
        };
        // Whoever comes now is turned away, and whoever waits hears it from what is dropped.
        drop(arrivals);
        for known in self.peers.values() {
            known.connections.iter().for_each(|connection| connection.tally.close());
        }
        let goodbye = async { while self.tasks.join_next().await.is_some() {} };
        // Who does not take the goodbye in time sees the connection break.
        let _ = timeout(GOODBYE, goodbye).await;
        if let Some(done) = done {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
    }

    /// The connection that new streams go on.
    fn home(&self, peer: PeerId) -> Option<&Connection> {
        let known = self.peers.get(&peer)?;
        let stay = || known.connections.iter().filter(|connection| !connection.tally.is_leaving());
        let (first, last) = (stay().next()?, stay().next_back()?);
        if last.since.duration_since(first.since) >= SETUP_TIMEOUT {
            return Some(last);
        }
        let smaller_is_own = self.local < peer;
        stay().max_by_key(|connection| connection.is_own == smaller_is_own)
    }

    fn on_want(&mut self, Want { to, at, mut give }: Want) {
        if let Some(home) = self.home(to) {
            match home.ask(give) {
                Ok(()) => return,
                Err(back) => give = back,
            }
        }
        let is_dialling = self.peers.get(&to).is_some_and(|known| known.is_dialling);
        if !is_dialling && !self.make_room(to) {
            count(&self.bulks.shared.stats.bulk.refused);
            // Whoever wanted it may be gone.
            let _ = give.send(Err(BulkError::Busy));
            return;
        }
        let known = self.peers.entry(to).or_default();
        known.waiting.retain(|give| !give.is_closed());
        known.waiting.push(give);
        if !std::mem::replace(&mut known.is_dialling, true) {
            self.dial(to, at);
        }
    }

    /// True if one more connection may be made with a peer.
    fn make_room(&mut self, peer: PeerId) -> bool {
        let with_peer = self.peers.get(&peer).map_or(0, Known::taken);
        let is_full = with_peer >= BULK_CONNECTIONS_PER_PEER_MAX;
        if !is_full && self.peers.values().map(Known::taken).sum::<usize>() < BULK_CONNECTIONS_MAX {
            return true;
        }
        // A peer that was off may have left some behind.
        let of = self.peers.iter().filter(|(of, _)| !is_full || **of == peer);
        let all = of.flat_map(|(_, known)| &known.connections);
        let unused = all.filter(|connection| connection.tally.is_idle());
        let Some(oldest) = unused.min_by_key(|connection| connection.number) else { return false };
        let number = oldest.number;
        // At once, so that as many are open as are counted. Whoever was just opening a stream on it tries again.
        oldest.task.abort();
        for known in self.peers.values_mut() {
            known.connections.retain(|connection| connection.number != number);
        }
        true
    }

    fn on_arrived(&mut self, peer: PeerId, io: Io) {
        if !self.bulks.shared.is_admitted(peer) || !self.make_room(peer) {
            count(&self.bulks.shared.stats.bulk.refused);
            return;
        }
        self.begin(peer, io, false);
    }

    fn on_dialled(&mut self, peer: PeerId, dialled: Result<Io, String>) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.is_dialling = false;
        let waiting = std::mem::take(&mut known.waiting);
        let failed = match dialled {
            Ok(_) if !self.bulks.shared.is_admitted(peer) => Some(BulkError::NotAMember),
            Ok(io) => {
                self.begin(peer, io, true);
                None
            }
            Err(reason) => {
                count(&self.bulks.shared.stats.bulk.dial_failures);
                Some(BulkError::NoWay { reason })
            }
        };
        let why = failed.unwrap_or(BulkError::Busy);
        for give in waiting {
            let left = match self.home(peer) {
                Some(home) => home.ask(give),
                None => Err(give),
            };
            if let Err(give) = left {
                // Whoever wanted it may be gone.
                let _ = give.send(Err(why.clone()));
            }
        }
        self.forget_unused(peer);
    }

    fn on_ended(&mut self, peer: PeerId, number: u64) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.connections.retain(|connection| connection.number != number);
        }
        self.forget_unused(peer);
    }

    fn forget_unused(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(Known::is_unused) {
            self.peers.remove(&peer);
        }
        self.update_gauge();
    }

    /// Ends what is with those who are no members any more.
    fn on_admitted(&mut self) {
        let shared = self.bulks.shared.clone();
        for (peer, known) in &mut self.peers {
            if shared.is_admitted(*peer) {
                continue;
            }
            for connection in known.connections.drain(..) {
                connection.task.abort();
            }
            for give in known.waiting.drain(..) {
                // Whoever wanted it may be gone.
                let _ = give.send(Err(BulkError::NotAMember));
            }
        }
        self.peers.retain(|_, known| !known.is_unused());
        self.update_gauge();
    }

    fn update_gauge(&self) {
        let connections: usize = self.peers.values().map(|known| known.connections.len()).sum();
        let gauge = &self.bulks.shared.stats.bulk.connections;
        gauge.store(connections as u64, Ordering::Relaxed);
    }

    fn begin(&mut self, peer: PeerId, io: Io, is_own: bool) {
        self.numbers += 1;
        let (number, tally) = (self.numbers, Arc::<Tally>::default());
        let (asks, received) = mpsc::unbounded_channel();
        let bulks = self.bulks.clone();
        let accept = move |opened: Opened| bulks.accept(peer, opened);
        let plan = Drive { is_own, idle: BULK_IDLE, asks: received, tally: tally.clone(), accept };
        let bulks = self.bulks.clone();
        let task = self.tasks.spawn(async move {
            let reason = drive(plan, io).await;
            tracing::debug!(%peer, reason, "a connection for bulk bytes has ended");
            bulks.tell(Event::Ended(peer, number));
        });
        let since = Instant::now();
        let connection = Connection { number, is_own, since, asks, tally, task };
        let known = self.peers.entry(peer).or_default();
        known.connections.push(connection);
        let waiting = std::mem::take(&mut known.waiting);
        let home = self.home(peer).map(|home| home.number);
        for connection in self.peers.get(&peer).into_iter().flat_map(|known| &known.connections) {
            if Some(connection.number) != home {
                connection.tally.leave();
            }
        }
        // Also those that wait for a dial, where the peer has come first.
        for give in waiting {
            if let Some(Err(give)) = self.home(peer).map(|home| home.ask(give)) {
                // Whoever wanted it may be gone.
                let _ = give.send(Err(BulkError::Busy));
            }
        }
        self.update_gauge();
    }

    fn dial(&mut self, peer: PeerId, at: Vec<Address>) {
        let (routes, dialling, bulks) =
            (self.routes.clone(), self.dialling.clone(), self.bulks.clone());
        self.tasks.spawn(async move {
            let reach = async { reach(peer, addresses(peer, at, &routes).await, &dialling).await };
            let in_vain = |_| Err("nobody answered in time".to_owned());
            let dialled = timeout(BULK_DIAL, reach).await.unwrap_or_else(in_vain);
            bulks.tell(Event::Dialled(peer, dialled));
        });
    }
}

/// Where a peer may be: first where this node has reached it, then where it is said to be.
async fn addresses(
    peer: PeerId,
    at: Vec<Address>,
    routes: &mpsc::WeakUnboundedSender<Command>,
) -> Vec<Address> {
    let known = match routes.upgrade() {
        Some(routes) => {
            let (give, taken) = oneshot::channel();
            // An event loop that is gone knows nothing.
            let _ = routes.send(Command::Route(peer, give));
            taken.await.unwrap_or_default()
        }
        None => Vec::new(),
    };
    let mut all: Vec<Address> = Vec::new();
    for address in known.into_iter().chain(at) {
        if address.transport == Transport::Tcp
            && can_be_dialled(&address)
            && !all.contains(&address)
        {
            all.push(address);
        }
    }
    all.truncate(BULK_ADDRESSES_MAX);
    all
}

/// Dials one address after the other until the peer answers at one.
async fn reach(
    peer: PeerId,
    addresses: Vec<Address>,
    dialling: &Mutex<Dialling>,
) -> Result<Io, String> {
    let resolved = resolve(addresses).await?;
    let mut left: VecDeque<_> = resolved.iter().filter_map(|(at, _)| multiaddr(at)).collect();
    left.truncate(BULK_ADDRESSES_MAX);
    let (mut dials, mut failure) = (FuturesUnordered::new(), "nobody answered".to_owned());
    loop {
        if let Some(at) = left.pop_front() {
            let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
            match dialling.locked().dial(at, options) {
                Ok(dial) => dials.push(dial),
                Err(error) => failure = innermost(&error),
            }
        }
        if dials.is_empty() {
            if left.is_empty() {
                return Err(failure);
            }
            continue;
        }
        let next = async {
            if left.is_empty() {
                std::future::pending().await
            } else {
                sleep(BULK_HEAD_START).await
            }
        };
        tokio::select! {
            Some(dialled) = dials.next() => match dialled {
                Ok((found, io)) if from_libp2p(&found) == Some(peer) => return Ok(io),
                Ok((found, _)) => failure = format!("another node answers at its address: {found}"),
                Err(error) => failure = innermost(&error),
            },
            () = next => {}
        }
    }
}
