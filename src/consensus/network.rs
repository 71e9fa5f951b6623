//! Calls of the protocol as our messages: asked, correlated, answered, or given up.
//!
//! A lost message is silence: the call fails as unreachable when its time is up, and openraft asks
//! again with its own backoff. Snapshots travel in parts, each asked and answered.
//!
//! A leader notes what each voter has acknowledged in its term. A voter that refuses an entry behind
//! which it has acknowledged more has an older log than it had: its data directory was put back. It
//! is reported, and its answer kept from openraft, which would go on counting the acknowledgement.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openraft::async_runtime::{AsyncRuntime as _, Instant as _};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use tokio::sync::oneshot;

use super::machine::SnapshotBytes;
use super::raft::{Config, RaftVote, entry, log_id, to_log_id, to_vote, vote};
use super::runtime::{Instant, Runtime};
use crate::core::consensus::ConsensusEvent;
use crate::core::follow::age_ms;
use crate::messages::Lane;
use crate::messages::wire::{AppendReply, ConsensusMessage, Entry, Message, Rpc, RpcReply, Speech};
use crate::ports::{Network, Sink};
use crate::types::limits::{BULK_ABOVE, SNAPSHOT_PART};
use crate::types::{Bytes, Lock, LogId, MemberId, Mono, PeerId, Term};

struct Call {
    to: PeerId,
    answer: oneshot::Sender<RpcReply>,
}

struct Open {
    next: u64,
    calls: BTreeMap<u64, Call>,
}

/// The calls that wait for their answer.
#[derive(Clone)]
pub struct Calls {
    network: Arc<dyn Network>,
    speech: Arc<Speech>,
    open: Arc<Mutex<Open>>,
    /// When a majority last answered this node while it led, in microseconds; 0 if none ever did.
    majority_at: Arc<AtomicU64>,
}

/// Takes a call off the list also when its future is dropped.
struct Registered<'a> {
    calls: &'a Calls,
    correlation: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.calls.lock().calls.remove(&self.correlation);
    }
}

impl Calls {
    /// No calls yet.
    ///
    /// `first` is the number of the first one: answers to calls of an earlier start may still come,
    /// and must not be taken for answers to these.
    pub fn new(network: Arc<dyn Network>, speech: Arc<Speech>, first: u64) -> Self {
        let open = Open { next: first, calls: BTreeMap::new() };
        Self { network, speech, open: Arc::new(Mutex::new(open)), majority_at: Arc::default() }
    }

    /// A majority has answered this node, which leads.
    pub fn know_majority(&self, at: Mono) {
        self.majority_at.fetch_max(at.0, Ordering::Relaxed);
    }

    /// How long ago one did, in milliseconds.
    fn majority_age_ms(&self) -> u32 {
        match self.majority_at.load(Ordering::Relaxed) {
            0 => u32::MAX,
            at => age_ms(Instant::now().0.since(Mono(at)), Duration::ZERO),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.locked()
    }

    /// An answer arrived. One that nobody waits for, or from somebody else, is ignored.
    pub fn on_response(&self, from: PeerId, correlation: u64, reply: RpcReply) {
        let mut open = self.lock();
        if open.calls.get(&correlation).is_some_and(|call| call.to == from)
            && let Some(call) = open.calls.remove(&correlation)
        {
            // The caller may have given up meanwhile.
            drop(call.answer.send(reply));
        }
    }

    /// Ends all calls, as if nobody answered any more.
    pub fn close(&self) {
        self.lock().calls.clear();
    }

    /// Sends a message of the protocol.
    pub fn send(&self, to: PeerId, message: ConsensusMessage) -> bool {
        // Heartbeats must not queue behind what somebody else wants to catch up with.
        let is_payload = match &message {
            ConsensusMessage::Request { rpc, .. } => matches!(rpc, Rpc::Snapshot { .. }),
            ConsensusMessage::Response { reply, .. } => matches!(reply, RpcReply::Follow { .. }),
        };
        match self.speech.encode(&Message::Consensus(message)) {
            Ok(bytes) => {
                let bulk = is_payload && bytes.len() > BULK_ABOVE;
                let lane = if bulk { Lane::Bulk } else { Lane::Consensus };
                self.network.send(to, lane, bytes).is_ok()
            }
            Err(error) => {
                tracing::error!(%error, "a consensus message does not fit in a frame");
                false
            }
        }
    }

    /// Asks a peer and waits for its answer.
    pub async fn call(
        &self,
        to: PeerId,
        rpc: Rpc,
        wait: Duration,
    ) -> Result<RpcReply, Unreachable<Config>> {
        let (answer, answered) = oneshot::channel();
        let correlation = {
            let mut open = self.lock();
            open.next = open.next.wrapping_add(1);
            let correlation = open.next;
            open.calls.insert(correlation, Call { to, answer });
            correlation
        };
        let _registered = Registered { calls: self, correlation };
        if !self.send(to, ConsensusMessage::Request { correlation, rpc }) {
            return Err(Unreachable::from_string("not connected"));
        }
        match Runtime::timeout(wait, answered).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(Unreachable::from_string("the connection closed")),
            Err(_) => Err(Unreachable::from_string("no answer in time")),
        }
    }
}

/// What each member has acknowledged to this node as the leader of a term.
#[derive(Default)]
struct Acknowledged(Mutex<BTreeMap<MemberId, (Term, LogId)>>);

impl Acknowledged {
    /// False if a member can't have given this answer with the log that it had.
    fn agrees(
        &self,
        member: MemberId,
        term: Term,
        prev: Option<LogId>,
        end: Option<LogId>,
        reply: &AppendReply,
    ) -> bool {
        let mut known = self.0.locked();
        let before = known.get(&member).filter(|(then, _)| *then == term).map(|(_, upto)| *upto);
        let upto = match reply {
            AppendReply::Success => end,
            AppendReply::Partial(upto) => *upto,
            AppendReply::Conflict => return prev.is_none() || prev > before,
            AppendReply::HigherVote(_) => None,
        };
        if let Some(upto) = upto.max(before) {
            known.insert(member, (term, upto));
        }
        true
    }
}

/// Makes the clients that openraft calls its peers with.
pub struct Network2 {
    calls: Calls,
    events: Sink<ConsensusEvent>,
    acknowledged: Arc<Acknowledged>,
}

impl Network2 {
    /// Clients that make these calls, and report here.
    pub fn new(calls: Calls, events: Sink<ConsensusEvent>) -> Self {
        Self { calls, events, acknowledged: Arc::default() }
    }
}

impl RaftNetworkFactory<Config> for Network2 {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &PeerId) -> Client {
        Client {
            calls: self.calls.clone(),
            events: self.events.clone(),
            acknowledged: self.acknowledged.clone(),
            member: MemberId(target),
            peer: *node,
        }
    }
}

/// Calls one peer.
pub struct Client {
    calls: Calls,
    events: Sink<ConsensusEvent>,
    acknowledged: Arc<Acknowledged>,
    member: MemberId,
    peer: PeerId,
}

fn unexpected() -> RPCError<Config> {
    RPCError::Unreachable(Unreachable::from_string("the peer can't answer now"))
}

impl Client {
    async fn ask(&self, rpc: Rpc, option: &RPCOption) -> Result<RpcReply, RPCError<Config>> {
        Ok(self.calls.call(self.peer, rpc, option.soft_ttl()).await?)
    }

    async fn ask_vote(
        &self,
        rpc: Rpc,
        option: &RPCOption,
    ) -> Result<VoteResponse<Config>, RPCError<Config>> {
        match self.ask(rpc, option).await? {
            RpcReply::Vote { vote, granted, last } => {
                Ok(VoteResponse::new(to_vote(vote), last.map(to_log_id), granted))
            }
            _ => Err(unexpected()),
        }
    }
}

impl RaftNetworkV2<Config> for Client {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Config>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Config>, RPCError<Config>> {
        let vote = vote(&rpc.vote);
        let prev = rpc.prev_log_id.as_ref().map(log_id);
        let entries: Vec<Entry> = rpc.entries.iter().map(entry).collect();
        let end = entries.last().map(|entry| entry.id).or(prev);
        let commit = rpc.leader_commit.as_ref().map(log_id);
        let age_ms = self.calls.majority_age_ms();
        let rpc = Rpc::Append { vote, prev, entries, commit, age_ms };
        let RpcReply::Append(reply) = self.ask(rpc, &option).await? else {
            return Err(unexpected());
        };
        if !self.acknowledged.agrees(self.member, vote.term, prev, end, &reply) {
            (self.events)(ConsensusEvent::LogLost { member: self.member });
            return Err(unexpected());
        }
        Ok(match reply {
            AppendReply::Success => AppendEntriesResponse::Success,
            AppendReply::Partial(last) => {
                AppendEntriesResponse::PartialSuccess(last.map(to_log_id))
            }
            AppendReply::Conflict => AppendEntriesResponse::Conflict,
            AppendReply::HigherVote(vote) => AppendEntriesResponse::HigherVote(to_vote(vote)),
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Config>,
        option: RPCOption,
    ) -> Result<VoteResponse<Config>, RPCError<Config>> {
        let last = rpc.last_log_id.as_ref().map(log_id);
        let transfer = rpc.leadership_transfer;
        self.ask_vote(Rpc::Vote { vote: vote(&rpc.vote), last, transfer }, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Config>,
        option: RPCOption,
    ) -> Result<VoteResponse<Config>, RPCError<Config>> {
        let last = rpc.last_log_id.as_ref().map(log_id);
        self.ask_vote(Rpc::PreVote { vote: vote(&rpc.vote), last }, &option).await
    }

    async fn full_snapshot(
        &mut self,
        leader: RaftVote,
        snapshot: SnapshotOf<Config, SnapshotBytes>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Config>, StreamingError<Config>> {
        let bytes = snapshot.snapshot;
        let mut offset = 0;
        loop {
            let end = bytes.len().min(offset + SNAPSHOT_PART);
            let rpc = Rpc::Snapshot {
                vote: vote(&leader),
                last: snapshot.meta.last_log_id.as_ref().map(log_id),
                total: bytes.len() as u64,
                offset: offset as u64,
                part: Bytes(bytes[offset..end].to_vec()),
            };
            let RpcReply::Snapshot { vote: theirs } =
                self.calls.call(self.peer, rpc, option.soft_ttl()).await?
            else {
                return Err(Unreachable::from_string("the peer can't take a snapshot now").into());
            };
            if end == bytes.len() || to_vote(theirs) > leader {
                return Ok(SnapshotResponse::new(to_vote(theirs)));
            }
            offset = end;
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Config>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Config>, RPCError<Config>> {
        let rpc = Rpc::Transfer {
            vote: vote(request.from_leader()),
            // openraft tells every voter, and only the one that is named may run.
            to: MemberId(*request.to_node_id()),
            last: request.last_log_id().map(log_id),
        };
        match self.ask(rpc, &option).await? {
            RpcReply::Transfer { accepted: true } => Ok(Ok(())),
            RpcReply::Transfer { accepted: false } => Ok(Err(TransferLeaderError::LogNotFlushed {
                expected: request.last_log_id().copied(),
                actual: None,
            })),
            _ => Err(unexpected()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_refuses_what_it_has_acknowledged_has_lost_its_log() {
        let known = Acknowledged::default();
        let at = |index| Some(LogId { term: 3, index });
        let agrees = |member, term, prev, end, reply| {
            known.agrees(MemberId(member), term, prev, end, &reply)
        };
        assert!(agrees(2, 3, at(9), at(9), AppendReply::Conflict), "it has acknowledged nothing");
        assert!(agrees(2, 3, at(4), at(8), AppendReply::Success));
        assert!(agrees(2, 3, at(2), at(3), AppendReply::Success), "an older answer came late");
        assert!(agrees(2, 3, at(9), at(9), AppendReply::Conflict), "that it never had");
        assert!(!agrees(2, 3, at(8), at(12), AppendReply::Conflict));
        assert!(!agrees(2, 3, at(6), at(6), AppendReply::Conflict));
        assert!(agrees(3, 3, at(6), at(6), AppendReply::Conflict), "somebody else");
        assert!(agrees(2, 3, at(8), at(12), AppendReply::Partial(at(10))));
        assert!(!agrees(2, 3, at(10), at(12), AppendReply::Conflict));
        assert!(agrees(2, 4, at(8), at(8), AppendReply::Conflict), "said in another term");
    }
}
