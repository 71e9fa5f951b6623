//! Peers: connections, and frames on them.
//!
//! The adapter owns connections, streams, queues and limits; it knows nothing of what the frames
//! say. Whom a frame came from is whom the connection authenticated.

use std::collections::BTreeSet;

use crate::messages::wire::Turned;
pub use crate::messages::{GossipId, Lane, Topic, Verdict};
use crate::ports::Sink;
use crate::types::{Address, PeerId};

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection to that peer now.
    #[error("the peer is not connected")]
    NotConnected,
    /// The peer takes frames more slowly than they come; this one was dropped and counted.
    #[error("the queue to the peer is full")]
    QueueFull,
}

/// What happens on the network by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkEvent {
    /// A connection to an authenticated peer stands. Sent once until the next `Down`.
    Up {
        /// Who it is.
        peer: PeerId,
        /// The address that was dialled, if this node dialled.
        dialled: Option<Address>,
    },
    /// The last connection to the peer is gone.
    Down {
        /// Who it was.
        peer: PeerId,
    },
    /// The peer wants no connection to this node.
    TurnedAway {
        /// Who says so.
        peer: PeerId,
        /// Why.
        why: Turned,
    },
    /// A dial that `dial` asked for failed.
    DialFailed {
        /// The address.
        address: Address,
        /// Why, in words.
        reason: String,
    },
    /// Somebody in the local network said that a peer that is not looked for is at this address. It may
    /// be of another cluster, and it may not be true.
    Found {
        /// Who.
        peer: PeerId,
        /// Where.
        address: Address,
    },
    /// A message came through the mesh, within the length limit. It is passed on only after a
    /// verdict.
    Gossip {
        /// Which.
        id: GossipId,
        /// Its topic.
        topic: Topic,
        /// The member of the roster that has passed it on; not who wrote it.
        via: PeerId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A frame arrived, within the length limit of its lane.
    Frame {
        /// Authenticated sender.
        from: PeerId,
        /// Lane it came on.
        lane: Lane,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// Nothing more will come, and nothing is sent: a part of the network has failed that cannot be
    /// restarted by itself.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

/// The network of one node.
pub trait Network: Send + Sync + 'static {
    /// Names who gets the events from now on; replaces the earlier sink.
    fn attach(&self, sink: Sink<NetworkEvent>);

    /// This node's own identity.
    fn local_peer(&self) -> PeerId;

    /// Addresses that this node can be dialled at.
    fn listen_addresses(&self) -> Vec<Address>;

    /// Dials an address whose peer id is not known yet, once.
    fn dial(&self, address: Address);

    /// Keeps a connection to `peer`, redialling its addresses with backoff and jitter until
    /// `release`. Called again, it replaces the addresses.
    fn keep(&self, peer: PeerId, addresses: Vec<Address>);

    /// Stops redialling `peer` and closes the connections to it.
    fn release(&self, peer: PeerId);

    /// The peers that may use other lanes than `Join`.
    fn admit(&self, roster: BTreeSet<PeerId>);

    /// Queues a frame. It may still be lost; nothing is ever delivered twice on one connection.
    fn send(&self, to: PeerId, lane: Lane, bytes: Vec<u8>) -> Result<(), SendError>;

    /// Hands a message to the mesh: it goes from member to member, each of which judges it first. It
    /// may be lost, and does not come back to this node.
    fn gossip(&self, topic: Topic, bytes: Vec<u8>) -> Result<(), SendError>;

    /// Says what becomes of a message of the mesh that this node was told of. Without a verdict it is
    /// dropped after a while.
    fn judge(&self, id: GossipId, verdict: Verdict);
}
