//! Typed addresses of one node's actors.
//!
//! An actor that is restarted puts its new address in the same slot, so nobody holds a stale one.
//! A slot counts what waits in the mailbox: mailboxes are unbounded, so every way in looks at the
//! count first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ractor::{ActorRef, RpcReplyPort};

use crate::actors::driver::Mail;
use crate::core::cast::Cast;
use crate::core::control::Control;
use crate::core::election::Election;
use crate::core::front::Front;
use crate::core::gossip::Gossip;
use crate::core::join::Joiner;
use crate::core::keys::Keys;
use crate::core::machine::Machine;
use crate::core::orchestrator::Orchestrator;
use crate::core::peers::Peers;
use crate::core::records::{Coordinator, Copier, Replica};
use crate::types::limits::MAILBOX_MAX;

/// The actor can't take more, or is being restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{actor} is busy or restarting; try again shortly")]
pub struct Unavailable {
    /// Which actor.
    pub actor: &'static str,
}

/// The address of one actor.
pub struct Slot<M: Machine> {
    address: RwLock<Option<ActorRef<Mail<M>>>>,
    waiting: Arc<AtomicUsize>,
}

impl<M: Machine> Default for Slot<M> {
    fn default() -> Self {
        Self { address: RwLock::new(None), waiting: Arc::default() }
    }
}

impl<M: Machine> Slot<M> {
    /// The actor lives here from now on, with an empty mailbox.
    pub fn put(&self, address: ActorRef<Mail<M>>) {
        self.waiting.store(0, Ordering::Relaxed);
        *self.address.write().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// Messages in the mailbox.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The actor took a message out.
    pub fn taken(&self) {
        // Saturating, because a restart sets the count to zero while messages are in hand.
        let saturating = |n: usize| Some(n.saturating_sub(1));
        let _ = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, saturating);
    }

    /// Puts something in the mailbox whatever its length: what comes from inside is bounded where
    /// it enters the node.
    pub fn mail(&self, mail: Mail<M>) -> bool {
        let address = self.address.read().unwrap_or_else(PoisonError::into_inner);
        let sent = address.as_ref().is_some_and(|address| {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            address.cast(mail).is_ok()
        });
        if !sent {
            self.taken();
        }
        sent
    }

    /// Puts something in the mailbox of one incarnation of the actor: what an earlier one has begun
    /// is no news to a later one.
    pub fn mail_to(&self, address: &ActorRef<Mail<M>>, mail: Mail<M>) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if address.cast(mail).is_err() {
            self.taken();
        }
    }

    /// Tells the actor something that came from outside, unless it has too much to do.
    pub fn offer(&self, msg: M::Msg) -> Result<(), Unavailable> {
        let unavailable = Unavailable { actor: M::NAME };
        if self.waiting() >= MAILBOX_MAX || !self.mail(Mail::Msg(msg)) {
            return Err(unavailable);
        }
        Ok(())
    }

    /// Asks the actor and waits for its answer. For the edges of a node only; actors never wait.
    pub async fn ask(&self, request: M::Request) -> Result<M::Reply, Unavailable> {
        let unavailable = Unavailable { actor: M::NAME };
        if self.waiting() >= MAILBOX_MAX {
            return Err(unavailable);
        }
        let (answer, answered) = ractor::concurrency::oneshot();
        if !self.mail(Mail::Call(request, RpcReplyPort::from(answer))) {
            return Err(unavailable);
        }
        answered.await.map_err(|_| unavailable)
    }
}

/// The addresses of one node's actors.
#[derive(Default)]
pub struct Directory {
    /// Keeper of the view.
    pub control: Slot<Control>,
    /// Election and lease.
    pub election: Slot<Election>,
    /// Clients' way in.
    pub front: Slot<Front>,
    /// Notes from member to member.
    pub gossip: Slot<Gossip>,
    /// Keeper of keys.
    pub keys: Slot<Keys>,
    /// Duties of the leader.
    pub orchestrator: Slot<Orchestrator>,
    /// Peers.
    pub peers: Slot<Peers>,
    /// Coordinator of records.
    pub records: Slot<Coordinator>,
    /// Replica of records.
    pub replica: Slot<Replica>,
    /// Copier of records.
    pub copier: Slot<Copier>,
    /// Joining, before there is anything else.
    pub join: Slot<Joiner>,
}

impl Directory {
    /// Delivers a cast. A receiver that is being restarted misses it, and asks for the present
    /// state when it starts.
    pub fn deliver(&self, cast: Cast) {
        match cast {
            Cast::Control(msg) => self.control.mail(Mail::Msg(msg)),
            Cast::Election(msg) => self.election.mail(Mail::Msg(msg)),
            Cast::Front(msg) => self.front.mail(Mail::Msg(msg)),
            Cast::Gossip(msg) => self.gossip.mail(Mail::Msg(msg)),
            Cast::Keys(msg) => self.keys.mail(Mail::Msg(msg)),
            Cast::Orchestrator(msg) => self.orchestrator.mail(Mail::Msg(msg)),
            Cast::Peers(msg) => self.peers.mail(Mail::Msg(msg)),
            Cast::Records(msg) => self.records.mail(Mail::Msg(msg)),
            Cast::Replica(msg) => self.replica.mail(Mail::Msg(msg)),
            Cast::Copier(msg) => self.copier.mail(Mail::Msg(msg)),
        };
    }
}
