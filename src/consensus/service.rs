//! The actor that owns consensus on a node.
//!
//! Flow: started -> shut down whatever an earlier incarnation left -> open the journals -> start
//! openraft -> report as loaded. The handle outlives the actor: it stands in the child spec, so
//! actors that submit operations need not know of a restart, and a panicked incarnation's core is
//! found and stopped by the next one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use openraft::SnapshotPolicy;
use openraft::async_runtime::AsyncRuntime as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

use super::follow::Follower;
use super::log::LogStore;
use super::machine::StateMachine;
use super::network::{Calls, Network2};
use super::pump::{Parts, Pump, Raft};
use super::runtime::{Runtime, Scope, scoped};
use crate::core::consensus::{ConsensusEvent, Op};
use crate::core::overlay::Shape;
use crate::messages::wire::Speech;
use crate::ports::consensus::Busy;
use crate::ports::{Consensus, Journals, Network, Sink};
use crate::types::limits::{
    APPEND_ENTRIES_MAX, CONSENSUS_QUEUE_MAX, ELECTION_TIMEOUT_MAX_MS, ELECTION_TIMEOUT_MIN_MS,
    HEARTBEAT_MS, JOURNAL_REWRITE_ABOVE, LOG_KEPT_BEHIND_SNAPSHOT, SNAPSHOT_EVERY,
};
use crate::types::{Lock, MemberId, PeerId};

/// What the rest of the node knows of consensus: the way in.
#[derive(Default)]
pub struct Handle {
    queue: Mutex<Option<mpsc::Sender<Op>>>,
    core: Mutex<Option<(Raft, StateMachine, Calls)>>,
}

impl Consensus for Handle {
    fn submit(&self, op: Op) -> Result<(), Busy> {
        let queue = self.queue.locked();
        queue.as_ref().ok_or(Busy)?.try_send(op).map_err(|_| Busy)
    }
}

impl Handle {
    fn take_core(&self) -> Option<(Raft, Calls)> {
        self.queue.locked().take();
        let core = self.core.locked().take();
        core.map(|(raft, _, calls)| (raft, calls))
    }

    fn put(&self, queue: mpsc::Sender<Op>, raft: Raft, machine: StateMachine, calls: Calls) {
        *self.queue.locked() = Some(queue);
        *self.core.locked() = Some((raft, machine, calls));
    }

    /// Index and hash of the replicated state, for comparing members.
    pub fn digest(&self) -> Option<(u64, [u8; 32])> {
        let core = self.core.locked();
        core.as_ref().map(|(_, machine, _)| machine.digest())
    }

    /// True while this node leads.
    pub fn is_leading(&self) -> bool {
        let core = self.core.locked();
        core.as_ref().is_some_and(|(raft, ..)| raft.metrics().borrow_watched().state.is_leader())
    }
}

/// What the service is told.
#[derive(Debug)]
pub enum ServiceMsg {
    /// Open everything.
    Load,
    /// openraft stopped by itself.
    Fatal(String),
    /// Fail, as if something had gone wrong.
    Crash,
    /// Stop in order.
    Stop,
}

/// How much of the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Log entries after which the control state is saved and the log before it dropped.
    pub snapshot_every: u64,
    /// Log entries kept behind a snapshot for members that are a little behind.
    pub behind_snapshot: u64,
    /// Bytes from which on the log's journal is rewritten once most of it is garbage.
    pub rewrite_above: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            snapshot_every: SNAPSHOT_EVERY,
            behind_snapshot: LOG_KEPT_BEHIND_SNAPSHOT,
            rewrite_above: JOURNAL_REWRITE_ABOVE,
        }
    }
}

/// Owns consensus on one node.
pub struct ConsensusService {
    /// This member.
    pub own: MemberId,
    /// Its key.
    pub peer: PeerId,
    /// True if this node makes the cluster, should its log be empty.
    pub found: bool,
    /// True if this node has been a voter before, so that an empty log is a lost one.
    pub has_history: bool,
    /// How much of the log is kept.
    pub retention: Retention,
    /// How a large cluster is laid out.
    pub shape: Shape,
    /// Members and their keys, as this node knew them last.
    pub roster: BTreeMap<MemberId, PeerId>,
    /// How consensus tasks see the node.
    pub scope: Scope,
    /// Where the journals are.
    pub journals: Arc<dyn Journals>,
    /// Peers.
    pub network: Arc<dyn Network>,
    /// Which versions of messages are spoken.
    pub speech: Arc<Speech>,
    /// The way in.
    pub handle: Arc<Handle>,
    /// Where events go.
    pub events: Sink<ConsensusEvent>,
    /// Called once everything is open.
    pub loaded: Arc<dyn Fn() + Send + Sync>,
}

pub(super) fn settings(retention: Retention) -> openraft::Config {
    openraft::Config {
        cluster_name: "bzzz".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_TIMEOUT_MIN_MS,
        election_timeout_max: ELECTION_TIMEOUT_MAX_MS,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        // Switched on by the pump once the node has sat out its first election timeout.
        enable_elect: false,
        api_channel_size: Some(1_024),
        max_payload_entries: APPEND_ENTRIES_MAX,
        backoff: "20ms 40ms 80ms 160ms 200ms".into(),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(retention.snapshot_every),
        max_in_snapshot_log_to_keep: retention.behind_snapshot,
        install_snapshot_timeout: 2_000,
        ..openraft::Config::default()
    }
}

impl ConsensusService {
    async fn load(&self, myself: &ActorRef<ServiceMsg>) -> Result<(), ActorProcessingErr> {
        self.shut_down().await;
        let (log_journal, log_records) = self.journals.open("consensus-log")?;
        let (snapshot_journal, snapshot_records) = self.journals.open("consensus-snapshot")?;
        let log = LogStore::open(log_journal, &log_records, self.retention.rewrite_above)?;
        let machine = StateMachine::open(snapshot_journal, &snapshot_records, self.events.clone())?;
        if log.purged() > machine.applied() {
            return Err(
                "the snapshot that the consensus log goes on from is gone, so this node can't come \
                        back as the same member; move the data directory aside and join again with a token"
                    .into(),
            );
        }
        // What it holds can be had again from any voter.
        let opened = self.journals.open("follower-state");
        let opened = opened.inspect_err(|error| {
            tracing::warn!(%error, "what this node has followed is not kept any more");
        });
        let follower = Arc::new(Follower::open(
            self.own,
            self.roster.clone(),
            opened.ok(),
            self.retention.snapshot_every,
            self.shape,
            self.events.clone(),
        ));
        let is_old = log.is_old();
        let had_log = self.has_history || self.found && !snapshot_records.is_empty();
        if had_log && !is_old {
            return Err(
                "the consensus log of this member is gone, so it can't come back as the same \
                        member; move the data directory aside and join again with a token"
                    .into(),
            );
        }
        let calls = Calls::new(self.network.clone(), self.speech.clone(), self.scope.seed());
        let config = Arc::new(settings(self.retention).validate()?);
        let network = Network2::new(calls.clone(), self.events.clone());
        let raft = Raft::new(self.own.0, config, network, log.clone(), machine.clone()).await?;
        if self.found && !is_old {
            raft.initialize(BTreeMap::from([(self.own.0, self.peer)])).await?;
        }
        let (queue, operations) = mpsc::channel(CONSENSUS_QUEUE_MAX);
        let parts = Parts { own: self.own, machine: machine.clone(), log, follower };
        let pump = Pump::new(raft.clone(), parts, calls.clone(), self.events.clone(), is_old);
        let actor = myself.clone();
        let ended = move |reason| drop(actor.cast(ServiceMsg::Fatal(reason)));
        drop(Runtime::spawn(pump.run(operations, ended)));
        self.handle.put(queue, raft, machine, calls);
        (self.loaded)();
        Ok(())
    }

    async fn shut_down(&self) {
        if let Some((raft, calls)) = self.handle.take_core() {
            // Whoever waits for an answer holds a journal that is to be opened again.
            calls.close();
            // An error means that a task of the core panicked; it is gone either way.
            drop(raft.shutdown().await);
        }
    }
}

impl Actor for ConsensusService {
    type Msg = ServiceMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<ServiceMsg>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<ServiceMsg>,
        message: ServiceMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ServiceMsg::Load => scoped(self.scope.clone(), self.load(&myself)).await,
            ServiceMsg::Fatal(reason) => Err(reason.into()),
            ServiceMsg::Crash => Err("stopped by fault injection".into()),
            ServiceMsg::Stop => {
                scoped(self.scope.clone(), self.shut_down()).await;
                myself.stop(None);
                Ok(())
            }
        }
    }
}
