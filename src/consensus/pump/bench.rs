//! A member with a real core, whose peers are the test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Context;
use std::time::Duration;

use super::{Parts, Pump, Raft};
use crate::consensus::fixture::Scratch;
use crate::consensus::follow::Follower;
use crate::consensus::log::LogStore;
use crate::consensus::machine::StateMachine;
use crate::consensus::network::{Calls, Network2};
use crate::consensus::runtime::{NodeScope, scoped};
use crate::consensus::service::{Retention, settings};
use crate::core::consensus::{ConsensusEvent, Op};
use crate::core::overlay::Shape;
use crate::messages::Lane;
use crate::messages::wire::Speech;
use crate::messages::wire::{
    AppendReply, ConsensusMessage, Entry, Message, Payload, Rpc, RpcReply, VoteId, VoterConfig,
};
use crate::ports::network::{GossipId, NetworkEvent, SendError, Topic, Verdict};
use crate::ports::{Network, Sink};
use crate::types::{Address, Level, LogId, MemberId, Mono, PeerId};

/// A clock that the test moves.
#[derive(Default)]
struct Clock(AtomicU64);

impl NodeScope for Clock {
    fn now(&self) -> Mono {
        Mono(self.0.load(Ordering::Relaxed))
    }

    fn real(&self, duration: Duration) -> Duration {
        duration
    }

    fn seed(&self) -> u64 {
        7
    }

    fn may_run(&self, _: &mut Context<'_>) -> bool {
        true
    }
}

/// What was sent.
#[derive(Default)]
struct Wire(Mutex<Vec<(PeerId, ConsensusMessage)>>);

impl Network for Wire {
    fn attach(&self, _: Sink<NetworkEvent>) {}

    fn local_peer(&self) -> PeerId {
        peer(1)
    }

    fn listen_addresses(&self) -> Vec<Address> {
        Vec::new()
    }

    fn dial(&self, _: Address) {}

    fn keep(&self, _: PeerId, _: Vec<Address>) {}

    fn release(&self, _: PeerId) {}

    fn admit(&self, _: BTreeSet<PeerId>) {}

    fn send(&self, to: PeerId, _: Lane, bytes: Vec<u8>) -> Result<(), SendError> {
        let Ok(Message::Consensus(message)) = Message::decode(&bytes, Level::NEWEST) else {
            unreachable!()
        };
        self.0.lock().unwrap().push((to, message));
        Ok(())
    }

    fn gossip(&self, _: Topic, _: Vec<u8>) -> Result<(), SendError> {
        Ok(())
    }

    fn judge(&self, _: GossipId, _: Verdict) {}
}

pub(super) fn peer(id: u64) -> PeerId {
    PeerId([id as u8; 32])
}

pub(super) fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

pub(super) fn vote(term: u64, candidate: u64) -> VoteId {
    VoteId { term, candidate: MemberId(candidate), committed: false }
}

/// Of a leader.
pub(super) fn won(term: u64, leader: u64) -> VoteId {
    VoteId { committed: true, ..vote(term, leader) }
}

pub(super) fn voters(ids: &[u64]) -> VoterConfig {
    let configs = vec![ids.iter().copied().map(MemberId).collect()];
    VoterConfig { configs, nodes: ids.iter().map(|id| (MemberId(*id), peer(*id))).collect() }
}

pub(super) fn blank(term: u64, index: u64) -> Entry {
    Entry { id: id(term, index), payload: Payload::Blank }
}

/// Member 1 of three.
pub(super) struct Bench {
    pub(super) pump: Pump,
    pub(super) machine: StateMachine,
    clock: Arc<Clock>,
    wire: Arc<Wire>,
    events: Arc<Mutex<Vec<ConsensusEvent>>>,
    asked: u64,
}

/// Runs a test with a member that has just started; `is_old` if it may have made promises before.
pub(super) fn with_member(is_old: bool, test: impl AsyncFnOnce(&mut Bench)) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    let clock = Arc::new(Clock::default());
    runtime.block_on(scoped(clock.clone(), async {
        let mut bench = Bench::new(clock, is_old).await;
        test(&mut bench).await;
        drop(bench.pump.raft().shutdown().await);
    }));
}

impl Bench {
    async fn new(clock: Arc<Clock>, is_old: bool) -> Self {
        let (wire, events) = (Arc::new(Wire::default()), Arc::new(Mutex::default()));
        let heard: Arc<Mutex<Vec<ConsensusEvent>>> = events.clone();
        let sink: Sink<ConsensusEvent> = Arc::new(move |event| heard.lock().unwrap().push(event));
        let journal = || Arc::new(Scratch::default());
        let log = LogStore::open(journal(), &[], u64::MAX).unwrap();
        let machine = StateMachine::open(journal(), &[], sink.clone()).unwrap();
        let own = MemberId(1);
        let shape = Shape::default();
        let follower = Follower::open(own, Default::default(), None, u64::MAX, shape, sink.clone());
        let calls = Calls::new(wire.clone(), Arc::new(Speech::new(Level::NEWEST)), 0);
        let config = Arc::new(settings(Retention::default()).validate().unwrap());
        let network = Network2::new(calls.clone(), sink.clone());
        let raft = Raft::new(own.0, config, network, log.clone(), machine.clone()).await.unwrap();
        let follower = Arc::new(follower);
        let parts = Parts { own, machine: machine.clone(), log, follower };
        let pump = Pump::new(raft, parts, calls, sink, is_old);
        Self { pump, machine, clock, wire, events, asked: 1 << 32 }
    }

    /// Lets everything run that can, by the test's own clock at once. Time is virtual, and openraft collects
    /// what the disk has done for a moment.
    pub(super) async fn settle(&self) {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) fn now(&self) -> Mono {
        self.clock.now()
    }

    pub(super) async fn wait(&self, ms: u64) {
        self.clock.0.fetch_add(ms * 1_000, Ordering::Relaxed);
        self.settle().await;
    }

    /// Lets timers run down that openraft has, which measure more than a moment.
    pub(super) async fn idle(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// What has been told since the last call.
    pub(super) fn told(&self) -> Vec<ConsensusEvent> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    /// Has an operation carried out.
    pub(super) async fn op(&self, op: Op) {
        self.pump.take(op);
        self.settle().await;
    }

    /// Hands in a question of a peer; says under which number.
    pub(super) fn send(&mut self, from: u64, rpc: Rpc) -> u64 {
        self.asked += 1;
        let message = ConsensusMessage::Request { correlation: self.asked, rpc };
        self.pump.take(Op::Inbound { from: peer(from), message });
        self.asked
    }

    /// What was answered, if anything was.
    pub(super) async fn ask(&mut self, from: u64, rpc: Rpc) -> Option<RpcReply> {
        let number = self.send(from, rpc);
        self.settle().await;
        self.answers().into_iter().find(|(n, _)| *n == number).map(|(_, reply)| reply)
    }

    /// All that was answered since the last call.
    pub(super) fn answers(&self) -> Vec<(u64, RpcReply)> {
        let mut sent = self.wire.0.lock().unwrap();
        let (answers, rest) = std::mem::take(&mut *sent)
            .into_iter()
            .partition(|(_, message)| matches!(message, ConsensusMessage::Response { .. }));
        *sent = rest;
        let answers: Vec<(PeerId, ConsensusMessage)> = answers;
        let answer = |(_, message)| match message {
            ConsensusMessage::Response { correlation, reply } => (correlation, reply),
            ConsensusMessage::Request { .. } => unreachable!(),
        };
        answers.into_iter().map(answer).collect()
    }

    /// What peers were asked since the last call.
    pub(super) fn questions(&self) -> Vec<(PeerId, u64, Rpc)> {
        let sent = std::mem::take(&mut *self.wire.0.lock().unwrap());
        let question = |(to, message)| match message {
            ConsensusMessage::Request { correlation, rpc } => Some((to, correlation, rpc)),
            ConsensusMessage::Response { .. } => None,
        };
        sent.into_iter().filter_map(question).collect()
    }

    /// A leader replicates these entries.
    pub(super) async fn append(
        &mut self,
        leader: VoteId,
        prev: Option<LogId>,
        entries: Vec<Entry>,
        commit: Option<LogId>,
    ) -> Option<RpcReply> {
        let rpc = Rpc::Append { vote: leader, prev, entries, commit, age_ms: 0 };
        self.ask(leader.candidate.0, rpc).await
    }

    /// Member 2 leads in term 1, and has replicated who votes.
    pub(super) async fn led_by_2(&mut self) {
        let config = Payload::Membership(voters(&[1, 2, 3]));
        let entries = vec![Entry { id: id(1, 0), payload: config }, blank(1, 1)];
        let reply = self.append(won(1, 2), None, entries, Some(id(1, 1))).await;
        assert_eq!(reply, Some(RpcReply::Append(AppendReply::Success)));
        self.told();
    }

    /// This member is the only voter.
    pub(super) async fn is_alone(&self) {
        let voters: BTreeMap<u64, PeerId> = [(1, peer(1))].into();
        self.pump.raft().initialize(voters).await.unwrap();
        self.settle().await;
    }

    /// Its peers agree to everything that they are asked now.
    pub(super) async fn agree(&self) {
        self.agree_but(0).await;
    }

    /// All of them but one, which is silent.
    pub(super) async fn agree_but(&self, silent: u64) {
        let silent = peer(silent);
        for (to, correlation, rpc) in self.questions() {
            let reply = match rpc {
                _ if to == silent => continue,
                Rpc::PreVote { vote, .. } | Rpc::Vote { vote, .. } => {
                    RpcReply::Vote { vote, granted: true, last: None }
                }
                Rpc::Append { .. } => RpcReply::Append(AppendReply::Success),
                Rpc::Transfer { .. } => RpcReply::Transfer { accepted: true },
                other => panic!("{other:?}"),
            };
            let message = ConsensusMessage::Response { correlation, reply };
            self.pump.take(Op::Inbound { from: to, message });
        }
        self.settle().await;
    }

    /// This member has won an election, and a majority follows it.
    pub(super) async fn leads(&mut self) {
        self.led_by_2().await;
        self.wait(1_000).await;
        self.op(Op::Elect).await;
        for _ in 0..6 {
            self.agree().await;
        }
        assert!(self.pump.role().leading, "{:?}", self.pump.role());
        self.told();
    }
}
