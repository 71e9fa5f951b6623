//! How a machine sees the world, and how it acts on it.
//!
//! A machine is a synchronous state machine. Each call gets one `Ctx`: the time, a generator of
//! its own, and an outbox. It never reads a clock, never blocks, never spawns; whatever it wants
//! done it puts in the outbox, and the driver (`actors::driver`) does it in this order: durable
//! writes, then everything else, which waits until the writes are on disk.
//!
//! Invariants:
//! 1. Nothing leaves a node that depends on state which a crash could still take back.
//! 2. Effects leave in the order in which the machine produced them.
//! 3. A machine that is given the same inputs and the same generator produces the same outbox.

use std::collections::BTreeSet;

use rand::Rng as _;
use rand::SeedableRng;

use std::time::Duration;

use crate::core::cluster_time::Middle;
use crate::core::consensus::Op;
use crate::core::event::EventBody;
use crate::core::front::Written;
use crate::core::machines::Cast;
use crate::core::news::News;
use crate::core::refusal::Refusal;
use crate::core::work::Work;
use crate::messages::wire::Message;
use crate::messages::{Command, Refused};
use crate::messages::{GossipId, Lane, Topic, Verdict};
use crate::types::metrics::Family;
use crate::types::{Address, Level, MemberId, Mono, PeerId, ProposalId, Wall};

/// The generator of one actor: cryptographically strong, and the same for the same seed anywhere.
pub struct Rng(rand_chacha::ChaCha12Rng);

impl Rng {
    /// A generator for this seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(rand_chacha::ChaCha12Rng::from_seed(seed))
    }

    /// A generator of its own for everything called `name`, so that one actor drawing more does
    /// not change what another draws.
    pub fn split(seed: &[u8; 32], name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(seed);
        hasher.update(name.as_bytes());
        Self::from_seed(*hasher.finalize().as_bytes())
    }

    /// Sixty-four random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A number below `bound`, which must not be 0. The bias of the remainder is below 2^-32 for
    /// the bounds used here.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        self.next_u64() % bound
    }

    /// A fresh id for a proposal.
    pub fn proposal_id(&mut self) -> ProposalId {
        ProposalId(self.bytes())
    }
}

/// Stands for the reply port that the driver keeps while a machine works on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyTo(pub u64);

/// A durable write: a key and its new value, or none to delete it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Key in the node's own store.
    pub key: String,
    /// Value, encoded.
    pub value: Option<Vec<u8>>,
}

/// Something that a machine wants done.
#[derive(Debug)]
pub enum Effect<R> {
    /// Send a message to a peer. It may get lost.
    Send(PeerId, Message),
    /// Answer a call.
    Reply(ReplyTo, R),
    /// Tell another actor of this node.
    Cast(Cast),
    /// Tell every actor of this node that wants to know.
    News(News),
    /// Have a command decided under this id; what becomes of it is told.
    Propose(ProposalId, Command),
    /// Tell the machine of this name what became of its command.
    Decided(&'static str, ProposalId, Result<Written, Refusal>),
    /// Hand something to consensus.
    Submit(Op),
    /// Let the world know.
    Event(EventBody),
    /// Let the world know what another member has told.
    Tell {
        /// Who.
        member: MemberId,
        /// When, by its clock.
        at: Wall,
        /// What.
        body: EventBody,
    },
    /// Hand a signed note to the mesh.
    Gossip(Topic, Vec<u8>),
    /// Say what becomes of a message of the mesh.
    Judge(GossipId, Verdict),
    /// Keep a connection to a peer.
    Keep(PeerId, Vec<Address>),
    /// Drop the connection to a peer.
    Release(PeerId),
    /// These members are connected on demand only: when somebody sends to them.
    OnDemand(BTreeSet<PeerId>),
    /// Send a frame that waited for a connection.
    SendFrame(PeerId, Lane, Vec<u8>),
    /// Find out which members that are connected on demand are in use; the answer is cast to the peers.
    ProbeUse,
    /// These peers may speak more than the join protocol.
    AdmitPeers(BTreeSet<PeerId>),
    /// Stop the whole node: going on would be wrong.
    Halt(Halt),
    /// Dial an address whose owner is not known yet.
    Dial(Address),
    /// Look at this computer; what is found is news.
    ProbeHost,
    /// Have something done that takes a while; what came of it is told under the token.
    Do(u64, Work),
    /// What was asked for under this token is not wanted any more.
    Cancel(u64),
    /// The record store has everything again.
    StoreRestored,
    /// The cluster speaks this from now on.
    Speak(Level),
    /// From now on, what most of the cluster has as time of day is this.
    GoBy(Middle),
    /// Count something.
    Count(&'static Family, u64),
    /// Say how long something took.
    Took(&'static Family, Duration),
}

/// Why a node must stop, and what its user can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// Another node turned this one away for good.
    #[error("{0}")]
    TurnedAway(crate::messages::wire::Turned),
    /// This node was removed from the cluster.
    #[error(
        "this node was removed from the cluster; move its data directory aside and join again with a token"
    )]
    Removed,
    /// This build does not speak what the cluster speaks.
    #[error("{0}")]
    OtherLevel(Refused),
    /// A durable write failed.
    #[error("a write to the data directory failed: {0}")]
    Disk(String),
    /// Consensus can't go on.
    #[error("consensus stopped: {0}")]
    Consensus(String),
    /// No connection is served any more.
    #[error("the network of this node failed, and it has to be started again: {0}")]
    Network(String),
}

/// What a machine wants done, in order.
pub struct Outbox<R> {
    /// Durable writes; the effects below wait for them.
    pub writes: Vec<Write>,
    /// Effects, in order.
    pub effects: Vec<Effect<R>>,
    /// When the machine wants to be woken; the earliest of all wishes counts.
    pub wake_at: Option<Mono>,
}

impl<R> Default for Outbox<R> {
    fn default() -> Self {
        Self { writes: Vec::new(), effects: Vec::new(), wake_at: None }
    }
}

impl<R> Outbox<R> {
    /// Writes a value to the node's own store.
    pub fn write(&mut self, key: impl Into<String>, value: Vec<u8>) {
        self.writes.push(Write { key: key.into(), value: Some(value) });
    }

    /// Sends a message to a peer.
    pub fn send(&mut self, to: PeerId, message: Message) {
        self.effects.push(Effect::Send(to, message));
    }

    /// Answers a call.
    pub fn reply(&mut self, to: ReplyTo, answer: R) {
        self.effects.push(Effect::Reply(to, answer));
    }

    /// Tells another actor of this node.
    pub fn cast(&mut self, cast: impl Into<Cast>) {
        self.effects.push(Effect::Cast(cast.into()));
    }

    /// Tells every actor of this node that wants to know.
    pub fn tell(&mut self, news: News) {
        self.effects.push(Effect::News(news));
    }

    /// Hands something to consensus.
    pub fn submit(&mut self, op: Op) {
        self.effects.push(Effect::Submit(op));
    }

    /// Lets the world know.
    pub fn event(&mut self, event: EventBody) {
        self.effects.push(Effect::Event(event));
    }

    /// Has something done that takes a while.
    pub fn work(&mut self, token: u64, work: Work) {
        self.effects.push(Effect::Do(token, work));
    }

    /// Counts something.
    pub fn count(&mut self, metric: &'static Family) {
        self.effects.push(Effect::Count(metric, 1));
    }

    /// Says how long something took.
    pub fn took(&mut self, metric: &'static Family, took: Duration) {
        self.effects.push(Effect::Took(metric, took));
    }

    /// Stops the node.
    pub fn halt(&mut self, why: Halt) {
        self.effects.push(Effect::Halt(why));
    }

    /// Asks to be woken at `at` or earlier.
    pub fn wake_at(&mut self, at: Mono) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// What a machine is given at each call.
pub struct Ctx<'a, R> {
    /// Monotonic time.
    pub now: Mono,
    /// Time of day as most of the cluster has it (see [`crate::core::cluster_time`]). It may jump, and no safety rests on
    /// it.
    pub wall: Wall,
    /// The actor's own generator.
    pub rng: &'a mut Rng,
    /// What to do.
    pub out: &'a mut Outbox<R>,
}

impl<R> Ctx<'_, R> {
    /// Has a command decided, by whoever leads. What becomes of it is told to `on_decided` under the id
    /// that is returned, unless the front fails meanwhile: whoever waits for it asks again after a while.
    pub fn propose(&mut self, command: impl Into<Command>) -> ProposalId {
        let id = self.rng.proposal_id();
        self.out.effects.push(Effect::Propose(id, command.into()));
        id
    }
}
