//! The pump: takes operations, has them awaited, casts what comes of them.
//!
//! One task reads the bounded queue; whatever takes time runs in a task of its own, so a slow call
//! holds up no other. A second task watches openraft's metrics and casts who leads, who votes and
//! which round a majority acknowledged.

mod heard;
mod serve;

use heard::Heard;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::async_runtime::{AsyncRuntime as _, Instant as _};
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::ReadPolicy;
use openraft::type_config::alias::CommittedLeaderIdOf;
use tokio::sync::mpsc;

use super::follow::Follower;
use super::log::LogStore;
use super::machine::StateMachine;
use super::network::Calls;
use super::raft::{AppData, Config, RaftLogId, voters};
use super::runtime::{Instant, Runtime};
use crate::core::consensus::{ConsensusEvent, Op, ProposalAnswer, Quorum, Role, VoterChange};
use crate::core::follow::Assembly;
use crate::messages::Proposal;
use crate::ports::Sink;
use crate::types::limits::{ELECTION_TIMEOUT_MAX_MS, LEASE_MS};
use crate::types::{Lock, MemberId, Mono, PeerId, Term};

/// openraft with our types.
pub type Raft = openraft::Raft<Config, StateMachine>;

/// How long a voter change may take, catching up included.
const VOTERS_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether a member has caught up.
const CATCH_UP_POLL: Duration = Duration::from_millis(5);
/// How long taking back a failed change may take.
const FORGET_TIMEOUT: Duration = Duration::from_secs(1);
/// Two casts of the same kind of news are at least this far apart.
const NEWS_INTERVAL: Duration = Duration::from_millis(10);

/// What the tasks of one start share.
struct Shared {
    own: MemberId,
    raft: Raft,
    machine: StateMachine,
    log: LogStore,
    follower: Arc<Follower>,
    calls: Calls,
    events: Sink<ConsensusEvent>,
    /// Until then this node keeps quiet, because it has forgotten its promises.
    quiet_until: Mono,
    heard: Mutex<Heard>,
    /// True if who leads is to be told although it may be what was told before.
    untold: AtomicBool,
    /// Held from working out who leads until that is cast, so that an older view is never cast last.
    telling: Mutex<()>,
    /// When the leader's calls were passed on for the last time.
    told_at: AtomicU64,
    /// Term in which this node handed leadership over.
    transferred_in: AtomicU64,
    inflight: Mutex<BTreeMap<PeerId, usize>>,
    /// A snapshot that is being received, and from whom.
    assembly: Mutex<(Option<PeerId>, Option<Assembly>)>,
}

/// What the pump works with, beside openraft.
pub struct Parts {
    /// This member.
    pub own: MemberId,
    /// The control state that openraft applies to.
    pub machine: StateMachine,
    /// The log.
    pub log: LogStore,
    /// The control state while this member does not vote.
    pub follower: Arc<Follower>,
}

/// The pump; cheap to clone into tasks.
#[derive(Clone)]
pub struct Pump(Arc<Shared>);

/// Counts a request of a peer that is in work.
struct InFlight(Pump, PeerId);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut inflight = self.0.0.inflight.locked();
        if let Some(count) = inflight.get_mut(&self.1) {
            *count -= 1;
        }
    }
}

impl Pump {
    /// A pump for a core that has just started. `is_old` if its log held anything.
    pub fn new(
        raft: Raft,
        parts: Parts,
        calls: Calls,
        events: Sink<ConsensusEvent>,
        is_old: bool,
    ) -> Self {
        let Parts { own, machine, log, follower } = parts;
        let now = Instant::now();
        let wait = Duration::from_millis(ELECTION_TIMEOUT_MAX_MS);
        let quiet_until = if is_old { (now + wait).0 } else { now.0 };
        Self(Arc::new(Shared {
            own,
            raft,
            machine,
            log,
            follower,
            calls,
            events,
            quiet_until,
            heard: Mutex::default(),
            untold: AtomicBool::new(false),
            telling: Mutex::default(),
            told_at: AtomicU64::new(0),
            transferred_in: AtomicU64::new(0),
            inflight: Mutex::default(),
            assembly: Mutex::default(),
        }))
    }

    fn cast(&self, event: ConsensusEvent) {
        (self.0.events)(event);
    }

    /// openraft.
    pub(super) fn raft(&self) -> &Raft {
        &self.0.raft
    }

    /// The control state that openraft applies to.
    pub(super) fn machine(&self) -> &StateMachine {
        &self.0.machine
    }

    /// Calls to peers.
    pub(super) fn calls(&self) -> &Calls {
        &self.0.calls
    }

    /// True while this node must not vote: it may have promised its vote, or its silence, to a
    /// leader that it does not remember.
    fn is_quiet(&self) -> bool {
        let sole = self.0.raft.voter_ids().eq([self.0.own.0]);
        Instant::now().0 < self.0.quiet_until && !sole
    }

    /// Runs until the queue closes. `ended` hears why openraft stopped, if it does so by itself.
    pub async fn run(
        self,
        mut queue: mpsc::Receiver<Op>,
        ended: impl FnOnce(String) + Send + 'static,
    ) {
        drop(Runtime::spawn(self.clone().watch(ended)));
        drop(Runtime::spawn(self.clone().switch_elections_on()));
        drop(Runtime::spawn(self.0.follower.clone().run(self.clone())));
        while let Some(op) = queue.recv().await {
            self.take(op);
        }
    }

    /// openraft's own, later timer is the safety net behind the ranked candidacy.
    async fn switch_elections_on(self) {
        let wait = self.0.quiet_until.since(Instant::now().0);
        if !wait.is_zero() {
            Runtime::sleep(wait).await;
        }
        if self.0.follower.is_fed(&self) {
            self.0.raft.runtime_config().elect(true);
        }
    }

    /// openraft may hold elections, unless this node keeps quiet.
    pub(super) fn let_elect(&self) {
        if Instant::now().0 >= self.0.quiet_until {
            self.0.raft.runtime_config().elect(true);
        }
    }

    /// Casts who leads, now and with the next change.
    pub(super) fn tell_role_again(&self) {
        let _telling = self.0.telling.locked();
        self.0.untold.store(true, Ordering::Relaxed);
        if let Some(role) = self.news() {
            self.cast(ConsensusEvent::Role(role));
        }
    }

    /// What openraft knows of the leader, if that is no old news: the leader may not replicate to this node, or
    /// have told others only that it does so again.
    fn news(&self) -> Option<Role> {
        let role = self.role();
        let follower = &self.0.follower;
        let counts = follower.is_fed(self) && role.term >= follower.known_term();
        (counts || !follower.has_followed()).then_some(role)
    }

    fn take(&self, op: Op) {
        let pump = self.clone();
        match op {
            Op::Propose { term, proposal } => drop(Runtime::spawn(pump.propose(term, proposal))),
            Op::ReadIndex { nonce } => drop(Runtime::spawn(pump.read_index(nonce))),
            Op::Elect => drop(Runtime::spawn(pump.elect())),
            Op::Transfer { to } => drop(Runtime::spawn(pump.transfer(to))),
            Op::Voters(change) => drop(Runtime::spawn(pump.change_voters(change))),
            Op::Resync => {
                self.0.machine.resync();
                if self.0.follower.is_fed(self) {
                    self.tell_role_again();
                } else {
                    self.0.follower.resync();
                }
            }
            Op::Inbound { from, message } => self.take_message(from, message),
        }
    }

    // ---- Operations of this node ---------------------------------------------------------------

    async fn propose(self, term: Term, proposal: Proposal) {
        let id = proposal.id;
        let (responder, answered) = openraft::impls::OneshotResponder::new_pair();
        let write = self
            .0
            .raft
            .write(AppData(proposal))
            .with_leader(CommittedLeaderIdOf::<Config>::new(term))
            .responder(responder);
        let answer = match write.await {
            Err(_) => ProposalAnswer::Unknown,
            Ok(()) => match answered.await {
                Ok(Ok(_)) => ProposalAnswer::Applied,
                Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
                    ProposalAnswer::Refused { leader: forward.leader_id.map(MemberId) }
                }
                Ok(Err(_)) | Err(_) => ProposalAnswer::Unknown,
            },
        };
        self.cast(ConsensusEvent::Answered { id, answer });
    }

    async fn read_index(self, nonce: u64) {
        let index = match self.0.raft.get_read_log_id(ReadPolicy::LeaseRead).await {
            Ok((read, _)) if self.is_surely_leading() => Some(read.index()),
            _ => None,
        };
        self.cast(ConsensusEvent::ReadReady { nonce, index });
    }

    /// True while no other node can lead. openraft's own lease is as long as the election timeout,
    /// which leaves nothing for clocks that drift apart, and it goes on during a transfer.
    fn is_surely_leading(&self) -> bool {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let sole = metrics.membership_config.membership().voter_ids().eq([self.0.own.0]);
        let recent = metrics
            .last_quorum_acked
            .is_some_and(|at| Instant::now() - *at < Duration::from_millis(LEASE_MS));
        let transferred = self.0.transferred_in.load(Ordering::Relaxed) == metrics.current_term;
        metrics.state.is_leader() && !transferred && (recent || sole)
    }

    async fn elect(self) {
        if !self.is_quiet() {
            // Fails only when the core has stopped, which the watcher reports.
            drop(self.0.raft.trigger().elect(true).await);
        }
    }

    /// Leadership can't be taken back within its term, so the target is checked first.
    async fn transfer(self, to: MemberId) {
        let ready = {
            let metrics = self.0.raft.metrics();
            let metrics = metrics.borrow_watched();
            let matched =
                metrics.replication.as_ref().and_then(|r| r.get(&to.0)).cloned().flatten();
            let heartbeat =
                metrics.heartbeat.as_ref().and_then(|h| h.get(&to.0)).copied().flatten();
            let recent = heartbeat.is_some_and(|at| {
                Instant::now() - *at < Duration::from_millis(ELECTION_TIMEOUT_MAX_MS)
            });
            let ready = recent && matched.map(|id| id.index()) == metrics.last_log_index;
            ready.then_some(metrics.current_term)
        };
        if let Some(term) = ready {
            self.0.transferred_in.store(term, Ordering::Relaxed);
            drop(self.0.raft.trigger().transfer_leader(to.0).await);
        } else {
            self.cast(ConsensusEvent::TransferRefused);
        }
    }

    async fn change_voters(self, change: VoterChange) {
        let raft = &self.0.raft;
        let steps = async {
            match change {
                VoterChange::Add(member, peer) => {
                    let added = raft.add_learner(member.0, peer, false).await?;
                    // openraft takes a short log that was not replicated yet for up to date.
                    while !self.has_replicated(member, &added.log_id) {
                        Runtime::sleep(CATCH_UP_POLL).await;
                    }
                    let add = ChangeMembers::AddVoterIds([member.0].into());
                    raft.change_membership(add, false).await?;
                }
                VoterChange::Settle => {
                    let none = ChangeMembers::AddVoterIds(BTreeSet::new());
                    raft.change_membership(none, false).await?;
                }
                VoterChange::Remove(member) => {
                    let remove = ChangeMembers::RemoveVoters([member.0].into());
                    raft.change_membership(remove, false).await?;
                }
            }
            Ok::<(), RaftError<Config, ClientWriteError<Config>>>(())
        };
        let done = match Runtime::timeout(VOTERS_TIMEOUT, steps).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(%error, ?change, "the voter change did not take place");
                false
            }
            Err(_) => false,
        };
        if let (VoterChange::Add(member, _), false) = (change, done) {
            // It may be gone for good. If it became a voter after all, this is refused.
            let forget = ChangeMembers::RemoveNodes([member.0].into());
            drop(Runtime::timeout(FORGET_TIMEOUT, raft.change_membership(forget, false)).await);
        }
        self.cast(ConsensusEvent::VotersChanged { done });
    }

    /// True once a member holds the log up to an entry.
    fn has_replicated(&self, member: MemberId, upto: &RaftLogId) -> bool {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref().and_then(|r| r.get(&member.0)).copied();
        matched.flatten().is_some_and(|matched| matched >= *upto)
    }

    // ---- Watching ------------------------------------------------------------------------------

    pub(super) fn role(&self) -> Role {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        Role {
            term: metrics.current_term,
            leader: metrics.current_leader.map(MemberId),
            voters: voters(metrics.membership_config.membership()),
            joint: metrics.membership_config.membership().get_joint_config().len() > 1,
            leading: metrics.state.is_leader() && metrics.current_leader == Some(self.0.own.0),
        }
    }

    async fn watch(self, ended: impl FnOnce(String)) {
        let mut metrics = self.0.raft.metrics();
        let mut told = Role::default();
        let mut acked: Option<Quorum> = None;
        loop {
            let (term, leader, leading, quorum, stopped) = {
                let now = metrics.borrow_and_update();
                let leading = now.state.is_leader() && now.current_leader == Some(self.0.own.0);
                let quorum = now.last_quorum_acked.filter(|_| leading).map(|at| Quorum {
                    term: now.current_term,
                    acked_at: at.0,
                    committed: now.cluster_committed.as_ref().map_or(0, |id| id.index()),
                });
                let voters = now.membership_config.membership().voter_ids().map(MemberId);
                let joint = now.membership_config.membership().get_joint_config().len() > 1;
                let same_voters = joint == told.joint && voters.eq(told.voters.iter().copied());
                let leader = now.current_leader.map(MemberId);
                let leader = (leader, same_voters);
                let stopped = now.running_state.as_ref().err().map(ToString::to_string);
                (now.current_term, leader, leading, quorum, stopped)
            };
            if let Some(reason) = stopped {
                return ended(reason);
            }
            let is_untold = self.0.untold.swap(false, Ordering::Relaxed);
            if is_untold
                || (term, leader, leading) != (told.term, (told.leader, true), told.leading)
            {
                let _telling = self.0.telling.locked();
                told = self.news().unwrap_or_default();
                if told != Role::default() {
                    self.cast(ConsensusEvent::Role(told.clone()));
                }
            }
            if let Some(quorum) = quorum {
                self.on_quorum(quorum.acked_at, quorum.committed);
                let news = acked.is_none_or(|old| {
                    old.term != quorum.term || quorum.acked_at.since(old.acked_at) >= NEWS_INTERVAL
                });
                if news {
                    acked = Some(quorum);
                    self.cast(ConsensusEvent::Quorum(quorum));
                }
            }
            if metrics.changed().await.is_err() {
                // It says why when it ends in order; only a panic takes it away without a word.
                return ended("a part of openraft panicked".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod bench;

#[cfg(test)]
mod tests;
