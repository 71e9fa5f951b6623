//! The way to members that this node keeps no connection to.
//!
//! Where everybody knows everybody, a frame to somebody who is not connected is dropped at once: whoever
//! sent it learns soon that there is no answer, and what comes late is of no use. In a large cluster most
//! members are not connected, although they could be. A frame to one of those goes to the `peers`, who
//! connect and send it then.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::messages::{GossipId, Lane, Topic, Verdict};
use crate::ports::network::SendError;
use crate::ports::{Network, NetworkEvent, Sink};
use crate::types::{Address, Lock, PeerId};

/// A frame to a member that is not connected.
#[derive(Debug)]
pub struct Unsent {
    /// To whom.
    pub to: PeerId,
    /// On which lane.
    pub lane: Lane,
    /// The frame.
    pub bytes: Vec<u8>,
}

#[derive(Default)]
struct State {
    on_demand: BTreeSet<PeerId>,
    /// Those of them that something was sent to since this was asked last.
    used: BTreeSet<PeerId>,
}

/// See the module.
pub struct Reach {
    network: Arc<dyn Network>,
    unsent: Sink<Unsent>,
    state: Mutex<State>,
}

impl Reach {
    /// The way through `network`; what can't be sent yet goes to `unsent`.
    pub fn new(network: Arc<dyn Network>, unsent: Sink<Unsent>) -> Self {
        Self { network, unsent, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.locked()
    }

    /// Names the members that are reached on demand.
    pub fn set_on_demand(&self, peers: BTreeSet<PeerId>) {
        self.lock().on_demand = peers;
    }

    /// Which of them something was sent to since the last call.
    pub fn take_used(&self) -> BTreeSet<PeerId> {
        std::mem::take(&mut self.lock().used)
    }
}

impl Network for Reach {
    fn send(&self, to: PeerId, lane: Lane, bytes: Vec<u8>) -> Result<(), SendError> {
        let mut state = self.lock();
        if !state.on_demand.contains(&to) {
            drop(state);
            return self.network.send(to, lane, bytes);
        }
        state.used.insert(to);
        drop(state);
        match self.network.send(to, lane, bytes.clone()) {
            Err(SendError::NotConnected) => {
                (self.unsent)(Unsent { to, lane, bytes });
                Ok(())
            }
            sent => sent,
        }
    }

    fn attach(&self, sink: Sink<NetworkEvent>) {
        self.network.attach(sink);
    }

    fn local_peer(&self) -> PeerId {
        self.network.local_peer()
    }

    fn listen_addresses(&self) -> Vec<Address> {
        self.network.listen_addresses()
    }

    fn dial(&self, address: Address) {
        self.network.dial(address);
    }

    fn keep(&self, peer: PeerId, addresses: Vec<Address>) {
        self.network.keep(peer, addresses);
    }

    fn release(&self, peer: PeerId) {
        self.network.release(peer);
    }

    fn admit(&self, roster: BTreeSet<PeerId>) {
        self.network.admit(roster);
    }

    fn gossip(&self, topic: Topic, bytes: Vec<u8>) -> Result<(), SendError> {
        self.network.gossip(topic, bytes)
    }

    fn judge(&self, id: GossipId, verdict: Verdict) {
        self.network.judge(id, verdict);
    }
}
