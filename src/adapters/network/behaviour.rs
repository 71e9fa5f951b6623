//! Streams for lanes, and who may connect at all.
//!
//! `libp2p-stream` is not used: it picks one connection at random where two exist, does not say on
//! which one a stream came, and drops streams that arrive at the same time. Here a lane is opened on
//! a named connection, and streams wait in a bounded queue.
//!
//! Invariants:
//! 1. Whom to dial is for the event loop to say: no other behaviour dials a peer that is not sought, unless
//!    its gate lets it.
//! 2. Only peers with Ed25519 keys connect, and never this node to itself.
//! 3. At most `max_connections` connections stand, at most `STRANGERS_MAX` of them inbound from
//!    strangers: one of them gives way to the next (`strangers`).
//!
//! How many are in their handshake is bounded by `arrivals`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, UpgradeInfo, upgrade};
use libp2p::swarm::behaviour::{
    CloseConnection, ConnectionClosed, ConnectionEstablished, DialFailure,
};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, Stream, StreamProtocol};

use super::arrivals::Source;
use super::bounds::{CONNECTIONS_PER_PEER_MAX, STREAMS_WAITING_MAX};
use super::stats::{count, index};
use super::strangers::{Place, Stranger, place_for};
use super::table::Shared;
use super::transport::{from_libp2p, notice_protocols, protocols, to_libp2p};
use crate::ports::Lane;
use crate::types::PeerId;

/// Protocol names of the lanes, in the order of `Lane::ALL`.
pub(super) type Protocols = [StreamProtocol; 4];

/// What the event loop asks of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    /// A stream for a lane.
    Lane(Lane),
    /// To tell the peer why it will be disconnected.
    Tell(Notice),
}

/// Why a peer is disconnected. Said by opening a stream for the protocol of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Another run of its identity is connected here.
    Duplicate,
    /// It is not in the roster.
    Stranger,
}

impl Notice {
    pub(super) const ALL: [Self; 2] = [Self::Duplicate, Self::Stranger];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Stranger => "stranger",
        }
    }
}

/// What happens on a connection.
#[derive(Debug)]
pub(super) enum Happened {
    /// To a lane.
    Lane(Lane, LaneOutcome),
    /// The peer says why it disconnects.
    Notified(Notice),
    /// The peer has heard a notice, or can't.
    Heard,
}

/// What happens, and where.
#[derive(Debug)]
pub(super) struct LaneEvent {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) happened: Happened,
}

/// See `LaneEvent`.
#[derive(Debug)]
pub(super) enum LaneOutcome {
    /// This side asked for a stream, and here it is.
    Opened(Stream),
    /// The peer opened a stream.
    Accepted(Stream),
    /// This side asked for a stream and does not get one.
    Failed(String),
}

/// Why a connection is refused.
#[derive(Debug, thiserror::Error)]
enum Denial {
    #[error("the peer has no ed25519 key")]
    NotEd25519,
    #[error("the address is this node's own")]
    OwnAddress,
    #[error("this node has as many connections as it may")]
    TooMany,
    #[error("nobody has asked for this peer")]
    Unasked,
}

/// An established connection, also one that is being closed.
struct Standing {
    peer: PeerId,
    is_inbound: bool,
    /// Where it came from, or leads.
    source: Source,
    since: Instant,
    /// True once it has had to give way.
    is_leaving: bool,
}

/// The behaviour, see the module.
pub(super) struct Lanes {
    local: PeerId,
    /// Connections at once.
    max: usize,
    protocols: Protocols,
    notices: [StreamProtocol; 2],
    shared: Arc<Shared>,
    /// Peers that others are asked for; whoever asks may dial them as well.
    sought: HashSet<PeerId>,
    established: HashMap<ConnectionId, Standing>,
    out: VecDeque<ToSwarm<LaneEvent, Option<Ask>>>,
}

impl Lanes {
    pub(super) fn new(local: PeerId, tag: &str, shared: Arc<Shared>, max: usize) -> Self {
        Self {
            local,
            max,
            protocols: protocols(tag),
            notices: notice_protocols(tag),
            shared,
            sought: HashSet::new(),
            established: HashMap::new(),
            out: VecDeque::new(),
        }
    }

    /// Lets others dial a peer, or no longer.
    pub(super) fn seek(&mut self, peer: PeerId, sought: bool) {
        if sought {
            self.sought.insert(peer);
        } else {
            self.sought.remove(&peer);
        }
    }

    /// Asks something of one connection. The event loop polls the swarm after this, so nobody has to
    /// be woken.
    pub(super) fn ask(&mut self, peer: libp2p::PeerId, connection: ConnectionId, ask: Ask) {
        self.notify(peer, connection, Some(ask));
    }

    /// Has a connection look whether the gates of the other behaviours can be opened.
    pub(super) fn look(&mut self, peer: libp2p::PeerId, connection: ConnectionId) {
        self.notify(peer, connection, None);
    }

    fn notify(&mut self, peer_id: libp2p::PeerId, connection: ConnectionId, event: Option<Ask>) {
        let handler = NotifyHandler::One(connection);
        self.out.push_back(ToSwarm::NotifyHandler { peer_id, handler, event });
    }

    /// Looks whether a peer may connect; one that comes in does so from a source.
    fn check(
        &mut self,
        peer: &libp2p::PeerId,
        from: Option<Source>,
    ) -> Result<(), ConnectionDenied> {
        let peer = from_libp2p(peer).ok_or_else(|| ConnectionDenied::new(Denial::NotEd25519))?;
        if peer == self.local {
            return Err(ConnectionDenied::new(Denial::OwnAddress));
        }
        let same = self.established.values().filter(|other| other.peer == peer).count();
        let stranger_from = from.filter(|_| !self.shared.is_known(peer));
        let too_many = self.established.len() >= self.max
            || same >= CONNECTIONS_PER_PEER_MAX
            || stranger_from.is_some_and(|from| !self.make_room_for_a_stranger(from));
        if too_many {
            count(&self.shared.stats.refused_stranger);
            return Err(ConnectionDenied::new(Denial::TooMany));
        }
        Ok(())
    }

    /// Sends a stranger away for one more from this source, if need be; true if there is room then.
    fn make_room_for_a_stranger(&mut self, from: Source) -> bool {
        let is_stranger = |standing: &Standing| {
            standing.is_inbound && !standing.is_leaving && !self.shared.is_known(standing.peer)
        };
        let leaving = self.established.values().filter(|other| other.is_leaving).count();
        let strangers = self.established.iter().filter(|&(_, other)| is_stranger(other));
        let strangers: Vec<Stranger> = strangers
            .map(|(id, &Standing { peer, source, since, .. })| Stranger {
                id: *id,
                source,
                since,
                has_asked: self.shared.has_asked(peer),
            })
            .collect();
        let leaver = match place_for(from, &strangers, leaving, Instant::now()) {
            Place::Free => return true,
            Place::None => return false,
            Place::Of(leaver) => leaver,
        };
        if let Some(standing) = self.established.get_mut(&leaver) {
            standing.is_leaving = true;
            let peer_id = to_libp2p(standing.peer);
            let connection = CloseConnection::One(leaver);
            self.out.push_back(ToSwarm::CloseConnection { peer_id, connection });
            count(&self.shared.stats.gave_way);
        }
        true
    }

    fn handler(&self) -> LaneHandler {
        LaneHandler {
            protocols: self.protocols.clone(),
            notices: self.notices.clone(),
            wanted: VecDeque::new(),
            out: VecDeque::new(),
        }
    }
}

impl NetworkBehaviour for Lanes {
    type ConnectionHandler = LaneHandler;
    type ToSwarm = LaneEvent;

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<libp2p::PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let sought =
            || peer.as_ref().and_then(from_libp2p).is_some_and(|p| self.sought.contains(&p));
        // The other end of a circuit names where to dial for a hole, as often as it likes.
        let is_excess = self.shared.is_excess(connection, addresses.len());
        if !is_excess && (self.shared.is_dialling(connection) || sought()) {
            return Ok(Vec::new());
        }
        count(&self.shared.stats.unasked_dials);
        Err(ConnectionDenied::new(Denial::Unasked))
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<LaneHandler, ConnectionDenied> {
        self.shared.sockets.prove(local, remote);
        self.check(&peer, Some(Source::of_ends(local, remote)))?;
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<LaneHandler, ConnectionDenied> {
        self.check(&peer, None)?;
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.shared.end_dial(connection_id);
            }
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                connection_id,
                peer_id,
                endpoint,
                ..
            }) => {
                if let Some(peer) = from_libp2p(&peer_id) {
                    let standing = Standing {
                        peer,
                        is_inbound: endpoint.is_listener(),
                        source: Source::of_point(endpoint),
                        since: Instant::now(),
                        is_leaving: false,
                    };
                    self.established.insert(connection_id, standing);
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.established.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: libp2p::PeerId,
        connection: ConnectionId,
        happened: THandlerOutEvent<Self>,
    ) {
        // Nobody else gets past `check`.
        let Some(peer) = from_libp2p(&peer) else { return };
        self.out.push_back(ToSwarm::GenerateEvent(LaneEvent { peer, connection, happened }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<LaneEvent, THandlerInEvent<Self>>> {
        self.out.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The lanes of one connection.
pub(super) struct LaneHandler {
    protocols: Protocols,
    notices: [StreamProtocol; 2],
    /// At most one entry per lane and one more: the event loop asks again only after an answer.
    wanted: VecDeque<Ask>,
    out: VecDeque<Happened>,
}

impl ConnectionHandler for LaneHandler {
    /// None only has the connection look at all its handlers.
    type FromBehaviour = Option<Ask>;
    type ToBehaviour = Happened;
    type InboundProtocol = AnyLane;
    type OutboundProtocol = OneLane;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Ask;

    fn listen_protocol(&self) -> SubstreamProtocol<AnyLane, ()> {
        let names = self.protocols.iter().chain(&self.notices).cloned();
        SubstreamProtocol::new(AnyLane(names.collect()), ())
    }

    fn connection_keep_alive(&self) -> bool {
        // The event loop closes what is not wanted; silence is no reason.
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<OneLane, Ask, Happened>> {
        // The connection polls again after every call of the two methods below, so nobody has to be
        // woken.
        if let Some(event) = self.out.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        let Some(ask) = self.wanted.pop_front() else { return Poll::Pending };
        let name = match ask {
            Ask::Lane(lane) => &self.protocols[index(lane)],
            Ask::Tell(notice) => &self.notices[notice as usize],
        };
        let protocol = SubstreamProtocol::new(OneLane(name.clone()), ask);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, ask: Option<Ask>) {
        self.wanted.extend(ask);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, AnyLane, OneLane, (), Ask>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, name),
                ..
            }) => {
                let lane = self.protocols.iter().position(|known| *known == name);
                let notice = self.notices.iter().position(|known| *known == name);
                let accepted =
                    |lane| Happened::Lane(Lane::ALL[lane], LaneOutcome::Accepted(stream));
                let notified = |notice| Happened::Notified(Notice::ALL[notice]);
                if self.out.len() < STREAMS_WAITING_MAX {
                    self.out.extend(lane.map(accepted).or(notice.map(notified)));
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: ask,
            }) => self.out.push_back(match ask {
                Ask::Lane(lane) => Happened::Lane(lane, LaneOutcome::Opened(stream)),
                // The name of the protocol has said it all.
                Ask::Tell(_) => Happened::Heard,
            }),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: Ask::Tell(_), .. }) => {
                self.out.push_back(Happened::Heard);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError {
                info: Ask::Lane(lane),
                error,
            }) => {
                let reason = match error {
                    StreamUpgradeError::Timeout => "the peer did not answer".to_owned(),
                    StreamUpgradeError::NegotiationFailed => {
                        "the peer does not speak the protocol of this cluster".to_owned()
                    }
                    StreamUpgradeError::Io(error) => error.to_string(),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.out.push_back(Happened::Lane(lane, LaneOutcome::Failed(reason)));
            }
            _ => {}
        }
    }
}

/// The protocols that a peer may open a stream for.
pub(super) struct AnyLane(Vec<StreamProtocol>);

/// The protocol that this side opens a stream for.
pub(super) struct OneLane(StreamProtocol);

impl UpgradeInfo for AnyLane {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl upgrade::InboundUpgrade<Stream> for AnyLane {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

impl UpgradeInfo for OneLane {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Once<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(self.0.clone())
    }
}

impl upgrade::OutboundUpgrade<Stream> for OneLane {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}
