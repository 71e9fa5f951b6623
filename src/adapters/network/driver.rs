//! The event loop: owns the swarm and decides about connections. `dials` and `lanes` have its parts that
//! decide about dials and lanes, `contest` the one that decides between two runs of one identity.
//!
//! Invariants:
//! 1. Only this task emits `Up`, `Down` and `DialFailed`, so their order is the order of the facts.
//! 2. A connection that is being closed is forgotten at once; its end is not waited for, because a
//!    peer that takes nothing any more could delay it.
//! 3. Of two connections to one peer, the side with the smaller peer id closes one. Only it does, so
//!    the sides cannot each close the one that the other keeps. (Either side lets one go that is silent and
//!    never said which run it is of, see `contest`; whoever is left without any dials again.)

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use libp2p::{Multiaddr, identify, ping};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::agenda::{Agenda, Alarm};
use super::arrivals::Source;
use super::behaviour::{Ask, Notice};
use super::bounds::{CONTEST_LIMIT, GOODBYE, LOOK_INTERVAL, NOTICE_TIMEOUT, STABLE};
use super::charges::Charges;
use super::circuits::Places;
use super::dialer::{Attempt, Dialer, Resolved, Target, can_be_dialled};
use super::discovery::Queries;
use super::hints::Hints;
use super::interfaces::Interfaces;
use super::lane::LaneReport;
use super::mesh::{Topics, Waiting};
use super::peers::{Connection, Peer};
use super::stats::count;
use super::table::{Dial, Phase, Shared};
use super::transport::{Behaviour, BehaviourEvent, address, from_libp2p, run_of, to_libp2p};
use crate::messages::{GossipId, Topic, Verdict};
use crate::ports::{NetworkEvent, Sink};
use crate::types::limits::STRANGER_TIMEOUT_MS;
use crate::types::{Address, PeerId};

/// What the node asks of the event loop.
pub(super) enum Command {
    Attach(Sink<NetworkEvent>),
    Dial(Address),
    Keep(PeerId, Vec<Address>),
    Release(PeerId),
    /// The roster changed; these connected peers are not in it any more.
    Admitted(Vec<PeerId>),
    /// A join frame waits for a lane.
    OpenJoin(PeerId),
    /// For the mesh.
    Gossip(Topic, Vec<u8>),
    Judge(GossipId, Verdict),
    /// Where may a peer be?
    Route(PeerId, oneshot::Sender<Vec<Address>>),
    /// What the local network would say; for tests.
    #[cfg(test)]
    Found(libp2p::mdns::Event),
    /// Dials a name that stands for these addresses; for tests.
    #[cfg(test)]
    DialAs(Address, Vec<Address>),
    /// This machine loses an address, as the library would say; for tests.
    #[cfg(test)]
    Lose(IpAddr),
    /// Fail, as a library may; for tests.
    #[cfg(test)]
    Fail,
    Shutdown(oneshot::Sender<()>),
}

/// What tasks tell the event loop.
pub(super) enum Report {
    Lane(LaneReport),
    Resolved(Target, Result<Resolved, String>),
}

impl From<LaneReport> for Report {
    fn from(report: LaneReport) -> Self {
        Self::Lane(report)
    }
}

/// See the module.
pub(super) struct Driver {
    pub(super) local: PeerId,
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) shared: Arc<Shared>,
    pub(super) agenda: Agenda,
    pub(super) peers: HashMap<PeerId, Peer>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) serials: u64,
    pub(super) dialer: Dialer,
    pub(super) hints: Hints,
    /// When it was looked last which connections are silent.
    pub(super) looked: Instant,
    pub(super) topics: Topics,
    pub(super) waiting: Waiting,
    pub(super) charges: Charges,
    pub(super) queries: Queries,
    /// Peers in the local network that nobody looks for.
    pub(super) nearby: VecDeque<(PeerId, Address)>,
    pub(super) places: Places,
    /// Whether circuits are used, and passed on.
    pub(super) relaying: bool,
    interfaces: Interfaces,
    listeners: Vec<ListenerId>,
}

impl Driver {
    pub(super) fn new(
        local: PeerId,
        swarm: Swarm<Behaviour>,
        listeners: Vec<ListenerId>,
        (shared, topics): (Arc<Shared>, Topics),
        relaying: bool,
        hints: Vec<Address>,
        seed: [u8; 32],
    ) -> (Self, mpsc::UnboundedReceiver<Report>) {
        let (reports, received) = mpsc::unbounded_channel();
        let driver = Self {
            local,
            swarm,
            shared,
            agenda: Agenda::default(),
            peers: HashMap::new(),
            reports,
            serials: 0,
            dialer: Dialer::new(seed),
            hints: Hints::new(hints, Instant::now()),
            looked: Instant::now(),
            topics,
            waiting: Waiting::default(),
            charges: Charges::default(),
            queries: Queries::default(),
            nearby: VecDeque::new(),
            places: Places::default(),
            relaying,
            interfaces: Interfaces::new(),
            listeners,
        };
        (driver, received)
    }

    /// Runs until the network is shut down or its last handle is dropped.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut reports: mpsc::UnboundedReceiver<Report>,
    ) {
        self.looked = Instant::now();
        self.agenda.set(LOOK_INTERVAL, Alarm::Look);
        let done = loop {
            let next = self.agenda.next();
            let alarm = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Shutdown(done)) => break Some(done),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                Some(report) = reports.recv() => match report {
                    Report::Lane(report) => self.on_lane_report(report),
                    Report::Resolved(target, resolved) => self.start_dial(target, resolved),
                },
                event = self.swarm.select_next_some() => self.on_event(event),
                lost = self.interfaces.next_lost() => self.on_lost_address(lost),
                () = alarm => {
                    while let Some(alarm) = self.agenda.pop() {
                        self.on_alarm(alarm);
                    }
                }
            }
        };
        self.finish().await;
        if let Some(done) = done {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
    }

    async fn finish(mut self) {
        for listener in std::mem::take(&mut self.listeners) {
            self.swarm.remove_listener(listener);
        }
        for address in self.dialer.end_all() {
            let reason = "this node is shutting down".to_owned();
            self.emit(NetworkEvent::DialFailed { address, reason });
        }
        self.dialer = Dialer::new([0; 32]);
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.disconnect(peer);
        }
        let goodbye = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        // Who does not take the goodbye in time sees the connection break.
        let _ = timeout(GOODBYE, goodbye).await;
        self.shared.stats.connections.store(0, Ordering::Relaxed);
        self.shared.stats.connections_relayed.store(0, Ordering::Relaxed);
    }

    pub(super) fn emit(&self, event: NetworkEvent) {
        if let Some(sink) = self.shared.sink() {
            sink(event);
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Attach(sink) => self.on_attach(&sink),
            Command::Dial(address) => match self.dialer.begin_once(address.clone(), false) {
                Some(ticket) => self.resolve(Target::Once(ticket), vec![address]),
                None => {
                    let reason = "too many dials are under way; try again later".to_owned();
                    self.emit(NetworkEvent::DialFailed { address, reason });
                }
            },
            Command::Keep(peer, addresses) => {
                self.route(peer, &addresses);
                if self.dialer.keep(peer, addresses) {
                    self.dial_kept(peer);
                }
                if let Some(known) = self.peers.get(&peer) {
                    known.link.set_wanted();
                }
            }
            Command::Release(peer) => {
                self.dialer.release(peer);
                self.unroute(peer);
                self.disconnect(peer);
            }
            Command::Admitted(removed) => {
                for peer in removed {
                    // It may have been admitted again since.
                    if !self.shared.is_admitted(peer) {
                        self.disconnect(peer);
                    }
                }
                let shared = &self.shared;
                self.charges.retain(|peer| shared.is_admitted(peer));
                shared.sockets.retain_places(|peer| shared.is_admitted(peer));
                for peer in self.peers.keys().copied().collect::<Vec<_>>() {
                    self.open_lanes(peer);
                }
            }
            Command::OpenJoin(peer) => self.open_lanes(peer),
            Command::Gossip(topic, bytes) => self.gossip(topic, bytes),
            Command::Judge(id, verdict) => self.judge(id, verdict),
            Command::Route(peer, give) => {
                // Whoever asked may have stopped waiting.
                let _ = give.send(self.addresses(peer));
            }
            #[cfg(test)]
            Command::Found(event) => self.on_local(event),
            #[cfg(test)]
            Command::DialAs(name, addresses) => {
                let ticket = self.dialer.begin_once(name.clone(), false).unwrap();
                let resolved = addresses.into_iter().map(|at| (at, name.clone())).collect();
                self.start_dial(Target::Once(ticket), Ok(resolved));
            }
            #[cfg(test)]
            Command::Lose(ip) => self.on_lost_address(ip),
            #[cfg(test)]
            Command::Fail => panic!("this one is meant"),
            Command::Shutdown(_) => unreachable!("the loop ends on it"),
        }
    }

    /// Gives events to a new sink, which learns first who is there.
    fn on_attach(&mut self, sink: &Sink<NetworkEvent>) {
        self.shared.set_sink(sink.clone());
        for peer in self.peers.values() {
            match peer.link.phase() {
                Phase::Up => {
                    sink(NetworkEvent::Up { peer: peer.link.peer, dialled: peer.dialled() });
                }
                Phase::Pending if peer.is_up() => peer.link.go_up(sink, peer.dialled()),
                Phase::Pending | Phase::Closed => {}
            }
        }
    }

    fn on_alarm(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Redial(peer, generation) => {
                if self.dialer.is_current(peer, generation) {
                    self.dial_kept(peer);
                }
            }
            Alarm::FollowClaims(peer) => self.dial_kept(peer),
            Alarm::DialNext(ticket) => self.dial_next(ticket),
            Alarm::Stranger(peer, connection) => {
                let connected = self.peers.get(&peer).is_some_and(|known| known.has(connection));
                if connected && !self.shared.is_known(peer) {
                    // Whoever was removed while it was off learns it here.
                    let ask = Ask::Tell(Notice::Stranger);
                    self.swarm.behaviour_mut().lanes.ask(to_libp2p(peer), connection, ask);
                    self.agenda.set(NOTICE_TIMEOUT, Alarm::Farewell(peer, connection));
                }
            }
            Alarm::Farewell(peer, connection) => {
                if !self.shared.is_known(peer) {
                    self.close(peer, connection);
                }
            }
            Alarm::Contest(peer, later) => self.on_contest_over(peer, later),
            Alarm::Forgive => self.forgive(),
            Alarm::Nearby => self.tell_nearby(),
            Alarm::Look => self.on_look(),
            Alarm::Reserve => self.on_reserve_again(),
            Alarm::Redraw => self.on_redraw(),
            Alarm::Overdue(peer, connection) => {
                if self.peers.get(&peer).is_some_and(|known| known.stands_back(connection)) {
                    self.close(peer, connection);
                }
            }
            Alarm::Reopen(peer, lane) => {
                if let Some(known) = self.peers.get_mut(&peer) {
                    known.slot(lane).waiting = false;
                    self.open_lanes(peer);
                }
            }
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Lanes(event) => self.on_lane_event(event),
            BehaviourEvent::Mesh(event) => self.on_gossip(event),
            BehaviourEvent::Local(event) | BehaviourEvent::LocalIpv6(event) => self.on_local(event),
            BehaviourEvent::Kad(event) => self.on_routing(event),
            BehaviourEvent::Relay(event) => self.on_relay(&event),
            BehaviourEvent::Circuits(event) => self.on_relay_client(&event),
            BehaviourEvent::Punch(event) => self.on_punched(&event),
            BehaviourEvent::Probe(event) => self.on_probe(&event),
            // Of failures it says too little: what is left unanswered counts.
            BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: result @ (Ok(_) | Err(ping::Failure::Unsupported)),
            }) => {
                if let Some(peer) = from_libp2p(&peer) {
                    self.on_pong(peer, connection, result.is_ok());
                }
            }
            BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                peer_id,
                info,
            }) => {
                let Some(peer) = from_libp2p(&peer_id) else { return };
                self.on_listens(peer, connection_id, &info.listen_addrs);
                if let Some(run) = run_of(&info.agent_version) {
                    self.on_identified(peer, connection_id, run);
                }
            }
            BehaviourEvent::Identify(_) | BehaviourEvent::Ping(_) => {}
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.shared.stats.connections.fetch_add(1, Ordering::Relaxed);
                if endpoint.is_relayed() {
                    self.shared.stats.connections_relayed.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(peer) = from_libp2p(&peer_id) {
                    self.score(peer);
                    self.on_host(peer, endpoint.get_remote_address());
                    self.on_established(peer, connection_id, &endpoint);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, endpoint, .. } => {
                self.shared.stats.connections.fetch_sub(1, Ordering::Relaxed);
                if endpoint.is_relayed() {
                    self.shared.stats.connections_relayed.fetch_sub(1, Ordering::Relaxed);
                }
                if let Some(peer) = from_libp2p(&peer_id) {
                    self.forget(peer, connection_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(attempt) = self.dialer.end(connection_id) {
                    self.on_dial_error(&attempt, &error);
                }
            }
            SwarmEvent::NewListenAddr { listener_id, address: new } => {
                if let Some(address) = address(&new) {
                    self.be_external(new);
                    let is_of_use = can_be_dialled(&address) && !address.is_loopback();
                    self.shared.change_listening(|known| {
                        if !known.contains(&address) {
                            known.push(address);
                        }
                    });
                    if is_of_use {
                        self.on_new_address();
                    }
                } else {
                    self.on_place_address(listener_id, new);
                }
            }
            SwarmEvent::ExpiredListenAddr { address: old, .. } => {
                self.swarm.remove_external_address(&old);
                let other = self.swarm.listeners().find(|at| address(at).is_some()).cloned();
                if let Some(other) = other {
                    self.be_external(other);
                }
                // It may have become part of another network, and still be there.
                let ip = address(&old).and_then(|at| at.socket()).map(|socket| socket.ip());
                if let Some(ip) = ip.filter(|ip| !self.interfaces.have(*ip)) {
                    self.on_lost_address(ip);
                }
            }
            SwarmEvent::ListenerClosed { listener_id, .. } if self.on_place_lost(listener_id) => {}
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                tracing::error!(?addresses, %error, "listening failed; restart this node");
            }
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        if self.shared.end_dial(id) == Some(Dial::Probe) {
            count(&self.shared.stats.probes);
            self.swarm.close_connection(id);
            return;
        }
        let attempt = self.dialer.end(id);
        let at = address(endpoint.get_remote_address());
        let (dialled, once) = match &attempt {
            Some(attempt) => match self.take_attempt(peer, attempt, at) {
                Some(taken) => taken,
                None => {
                    self.swarm.close_connection(id);
                    return;
                }
            },
            None if endpoint.is_dialer() => {
                // Dialled in the course of asking where somebody is.
                if let Some(at) = &at {
                    self.dialer.learn(peer, at.clone());
                }
                (at, None)
            }
            None => (None, None),
        };
        let stranger = !self.shared.is_known(peer);
        let known = self.peers.entry(peer).or_insert_with(|| {
            let link = self.shared.link(peer, Source::of_point(endpoint));
            let up_at_once = !link.is_admitted();
            Peer::new(link, up_at_once, self.local < peer)
        });
        known.connections.push(Connection::new(id, dialled, endpoint));
        if endpoint.is_relayed() {
            match self.dialer.take_again(peer) {
                true => self.dial_kept(peer),
                false => self.seek_direct(peer),
            }
        }
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if known.connections.len() > 1 {
            self.agenda.set(CONTEST_LIMIT, Alarm::Overdue(peer, id));
        }
        if attempt.is_some() {
            known.link.set_wanted();
        } else if stranger {
            let limit = Duration::from_millis(STRANGER_TIMEOUT_MS);
            self.agenda.set(limit, Alarm::Stranger(peer, id));
        }
        match once {
            Some(address) if known.link.phase() == Phase::Up => {
                let reason = format!("the address leads to {peer}, which is already connected");
                self.emit(NetworkEvent::DialFailed { address, reason });
            }
            Some(_) => known.up_at_once = true,
            None => {}
        }
        self.close_surplus(peer);
        self.announce(peer);
        self.open_lanes(peer);
    }

    /// A dial has led to a peer: what was dialled, and the address of the `dial` call if it was
    /// one. None if the connection is of no use.
    fn take_attempt(
        &mut self,
        peer: PeerId,
        attempt: &Attempt,
        at: Option<Address>,
    ) -> Option<(Option<Address>, Option<Address>)> {
        match attempt.target {
            // Released while the dial was under way.
            Target::Kept(kept, _) if !self.dialer.keeps(kept) => None,
            Target::Kept(..) => {
                let named = at.and_then(|at| attempt.named(&at));
                // From now on it is no mere claim that the peer is there.
                if let Some(named) = named.clone() {
                    self.dialer.learn(peer, named);
                }
                Some((named, None))
            }
            Target::Once(ticket) if self.dialer.is_hint(ticket) => {
                self.take_hint(ticket, peer, at.as_ref()).then_some((at, None))
            }
            Target::Once(ticket) => match self.dialer.end_once(ticket) {
                Some(once) => Some((Some(once.clone()), Some(once))),
                // Another address of the name was faster. If that is of the same peer it is not for
                // this side alone to say which connection stays.
                None => self.peers.contains_key(&peer).then_some((at, None)),
            },
        }
    }

    /// A peer is connected from a host, or at one. If it is a member it finds a place there when it
    /// comes back.
    fn on_host(&self, peer: PeerId, remote: &Multiaddr) {
        if let Some(socket) = address(remote).and_then(|at| at.socket())
            && self.shared.is_admitted(peer)
        {
            self.shared.sockets.keep_proven(peer, socket.ip());
        }
    }

    /// This machine has an address no more. Whatever goes on from there is lost, but nobody says
    /// so.
    fn on_lost_address(&mut self, ip: IpAddr) {
        // One that this node was told to listen on may come back, and is not told of again then.
        let still: Vec<Address> = self.swarm.listeners().filter_map(address).collect();
        let is_lost = |at: &Address| at.socket().is_some_and(|socket| socket.ip() == ip);
        self.shared.change_listening(|known| {
            known.retain(|at| !is_lost(at) || still.contains(at));
        });
        let cut = self.shared.sockets.lose(ip);
        if cut > 0 {
            tracing::info!(%ip, connections = cut, "this machine has lost an address");
        }
    }

    /// Closes all but one connection, if that is up to this side.
    pub(super) fn close_surplus(&mut self, peer: PeerId) {
        if self.local < peer
            && let Some(known) = self.peers.get(&peer)
        {
            for connection in known.surplus() {
                self.close(peer, connection);
            }
        }
    }

    /// Tells the sink of a peer that is up, if there is a sink and it was not told.
    pub(super) fn announce(&self, peer: PeerId) {
        if let Some(known) = self.peers.get(&peer)
            && known.is_up()
            && let Some(sink) = self.shared.sink()
        {
            known.link.go_up(&sink, known.dialled());
        }
    }

    /// Closes one connection.
    pub(super) fn close(&mut self, peer: PeerId, connection: ConnectionId) {
        self.swarm.close_connection(connection);
        self.forget(peer, connection);
    }

    /// Closes all connections to a peer.
    pub(super) fn disconnect(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get(&peer) else { return };
        let connections: Vec<_> = known.connections.iter().map(|c| c.id).collect();
        for connection in connections {
            self.close(peer, connection);
        }
    }

    /// Takes note that a connection is gone.
    fn forget(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if !known.has(connection) {
            return;
        }
        known.forget(connection);
        if !known.connections.is_empty() {
            return self.open_lanes(peer);
        }
        let stable = known.since.elapsed() >= STABLE;
        let was_up = known.link.close();
        self.peers.remove(&peer);
        self.shared.unlink(peer);
        if was_up {
            self.emit(NetworkEvent::Down { peer });
        }
        self.redial(peer, stable);
    }
}
