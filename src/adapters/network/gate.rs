//! Keeps protocols for members away from everybody else.
//!
//! Problem: a behaviour of libp2p talks to whoever is connected. Here a stranger may be connected to
//! join, and may become a member on that connection. A behaviour behind a gate offers its protocols
//! to members only, and opens streams only once the lanes run: then each side has seen that the
//! other one takes it for a member. (A stream that is refused would make some behaviours give up on
//! the peer for good.)
//!
//! Invariants:
//! 1. A peer outside the roster is offered none of the protocols.
//! 2. No stream is opened to a peer before the lanes with it ran.
//! 3. A behaviour dials only if its gate was made for that.

use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, UpgradeInfo, upgrade};
use libp2p::swarm::handler::{
    ConnectionEvent, FullyNegotiatedInbound, InboundUpgradeSend, ListenUpgradeError,
    UpgradeInfoSend,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, Stream};

use super::table::{Dial, Shared};
use super::transport::from_libp2p;
use crate::types::PeerId;

/// A behaviour behind a gate.
pub(super) struct Gate<B> {
    pub(super) inner: B,
    shared: Arc<Shared>,
    /// What it may dial for, if it may.
    dials: Option<Dial>,
}

impl<B> Gate<B> {
    pub(super) fn new(inner: B, shared: Arc<Shared>) -> Self {
        Self { inner, shared, dials: None }
    }

    /// A behaviour that may dial by itself.
    pub(super) fn dialling(inner: B, shared: Arc<Shared>, dials: Dial) -> Self {
        Self { inner, shared, dials: Some(dials) }
    }

    fn gated<H>(&self, peer: &libp2p::PeerId, inner: H) -> GateHandler<H> {
        GateHandler { inner, peer: from_libp2p(peer), shared: self.shared.clone(), is_open: false }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gate<B> {
    type ConnectionHandler = GateHandler<B::ConnectionHandler>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: libp2p::PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        let inner = self.inner.handle_established_inbound_connection(id, peer, local, remote)?;
        Ok(self.gated(&peer, inner))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<libp2p::PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: libp2p::PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        let inner =
            self.inner.handle_established_outbound_connection(id, peer, address, role, port)?;
        Ok(self.gated(&peer, inner))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        // Whoever probes is seen at an address and dials this node there. What strangers say of how they see
        // it would pile up.
        if self.dials == Some(Dial::Probe)
            && matches!(event, FromSwarm::NewExternalAddrCandidate(_))
        {
            return;
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: libp2p::PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<B::ToSwarm, THandlerInEvent<Self>>> {
        let polled = self.inner.poll(cx);
        if let Poll::Ready(ToSwarm::Dial { opts }) = &polled
            && let Some(dial) = self.dials
        {
            self.shared.begin_dial(opts.connection_id(), dial);
        }
        polled
    }
}

/// One connection of a behaviour behind a gate. The event loop has it polled when lanes begin to run.
pub(super) struct GateHandler<H> {
    inner: H,
    peer: Option<PeerId>,
    shared: Arc<Shared>,
    is_open: bool,
}

impl<H> GateHandler<H> {
    fn is_member(&self) -> bool {
        self.is_open || self.peer.is_some_and(|peer| self.shared.is_admitted(peer))
    }
}

impl<H: ConnectionHandler> ConnectionHandler for GateHandler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = Gated<H::InboundProtocol>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, H::InboundOpenInfo> {
        let is_member = self.is_member();
        self.inner.listen_protocol().map_upgrade(|inner| Gated(is_member.then_some(inner)))
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<H::OutboundProtocol, H::OutboundOpenInfo, H::ToBehaviour>>
    {
        // Once open it stays so: whoever is removed from the roster is disconnected.
        self.is_open = self.is_open || self.peer.is_some_and(|peer| self.shared.has_lanes(peer));
        if self.is_open { self.inner.poll(cx) } else { Poll::Pending }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<H::ToBehaviour>> {
        self.inner.poll_close(cx)
    }

    fn on_behaviour_event(&mut self, event: H::FromBehaviour) {
        self.inner.on_behaviour_event(event);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            H::OutboundProtocol,
            H::InboundOpenInfo,
            H::OutboundOpenInfo,
        >,
    ) {
        self.inner.on_connection_event(match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info }) => {
                ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
            }
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }) => {
                ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error })
            }
            ConnectionEvent::FullyNegotiatedOutbound(event) => {
                ConnectionEvent::FullyNegotiatedOutbound(event)
            }
            ConnectionEvent::DialUpgradeError(event) => ConnectionEvent::DialUpgradeError(event),
            ConnectionEvent::AddressChange(event) => ConnectionEvent::AddressChange(event),
            ConnectionEvent::LocalProtocolsChange(event) => {
                ConnectionEvent::LocalProtocolsChange(event)
            }
            ConnectionEvent::RemoteProtocolsChange(event) => {
                ConnectionEvent::RemoteProtocolsChange(event)
            }
            _ => return,
        });
    }
}

/// The inbound protocols of a handler behind a gate: none while it is closed.
pub(super) struct Gated<U>(Option<U>);

impl<U: UpgradeInfoSend> UpgradeInfo for Gated<U> {
    type Info = U::Info;
    type InfoIter = std::iter::Flatten<std::option::IntoIter<U::InfoIter>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.as_ref().map(UpgradeInfoSend::protocol_info).into_iter().flatten()
    }
}

impl<U: InboundUpgradeSend> upgrade::InboundUpgrade<Stream> for Gated<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future = U::Future;

    fn upgrade_inbound(self, stream: Stream, info: U::Info) -> U::Future {
        let inner = self.0.expect("a closed gate has offered no protocol");
        inner.upgrade_inbound(stream, info)
    }
}
