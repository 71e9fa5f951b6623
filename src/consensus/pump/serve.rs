//! What peers ask of this node: checked, counted against the peer, answered.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::async_runtime::{AsyncRuntime as _, Instant as _};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest,
};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};

use super::heard::Heard;
use super::{InFlight, NEWS_INTERVAL, Pump};
use crate::consensus::raft::{
    Config, log_id, to_entry, to_log_id, to_stored_membership, to_vote, vote, voters,
};
use crate::consensus::runtime::{Instant, Runtime};
use crate::core::consensus::{ConsensusEvent, entries_are_sound, is_sound};
use crate::core::control::StoredSnapshot;
use crate::core::follow::{self, Assembled, Part, assemble};
use crate::messages::wire::{AppendReply, ConsensusMessage, FollowBody, Rpc, RpcReply};
use crate::types::codec::decode_durable;
use crate::types::fault::{Fault, planted};
use crate::types::limits::{CONSENSUS_INFLIGHT_MAX, FOLLOW_STALE_MS, FOLLOW_WAIT_MS};
use crate::types::{Lock, LogId, MemberId, Mono, PeerId, Term};

impl Pump {
    pub(super) fn take_message(&self, from: PeerId, message: ConsensusMessage) {
        match message {
            ConsensusMessage::Response { correlation, reply } => {
                self.0.calls.on_response(from, correlation, reply);
            }
            ConsensusMessage::Request { correlation, rpc } => {
                let Some(permit) = self.admit(from) else { return };
                drop(Runtime::spawn(self.clone().answer(permit, from, correlation, rpc)));
            }
        }
    }

    fn admit(&self, from: PeerId) -> Option<InFlight> {
        let mut inflight = self.0.inflight.locked();
        let count = inflight.entry(from).or_default();
        if *count >= CONSENSUS_INFLIGHT_MAX {
            return None;
        }
        *count += 1;
        Some(InFlight(self.clone(), from))
    }

    async fn answer(self, _permit: InFlight, from: PeerId, correlation: u64, rpc: Rpc) {
        if let Some(reply) = self.serve(from, rpc).await {
            self.0.calls.send(from, ConsensusMessage::Response { correlation, reply });
        }
    }

    /// False if a message speaks for a member that is known and is not its sender.
    fn may_speak(&self, from: PeerId, member: MemberId) -> bool {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let known = metrics.membership_config.membership().get_node(&member.0);
        known.is_none_or(|peer| *peer == from)
    }

    async fn serve(&self, from: PeerId, rpc: Rpc) -> Option<RpcReply> {
        if let Rpc::Append { vote, .. }
        | Rpc::Vote { vote, .. }
        | Rpc::PreVote { vote, .. }
        | Rpc::Snapshot { vote, .. }
        | Rpc::Transfer { vote, .. } = &rpc
            && !self.may_speak(from, vote.candidate)
        {
            // As often as it likes to say so, hence no warning.
            tracing::debug!(peer = %from, member = %vote.candidate, "it speaks for another member");
            return None;
        }
        match rpc {
            Rpc::Append { vote, prev, entries, commit, age_ms } => {
                if !entries_are_sound(prev, &entries) {
                    return None;
                }
                let request = AppendEntriesRequest {
                    vote: to_vote(vote),
                    prev_log_id: prev.map(to_log_id),
                    entries: entries.into_iter().map(to_entry).collect(),
                    leader_commit: commit.map(to_log_id),
                };
                let age = (age_ms != u32::MAX).then(|| Duration::from_millis(u64::from(age_ms)));
                self.serve_append(vote.term, vote.candidate, age, request).await
            }
            Rpc::Vote { vote, last, transfer } => {
                if self.is_quiet() && !transfer && !planted(Fault::RestartedVoterGrants) {
                    return None;
                }
                let request = VoteRequest {
                    vote: to_vote(vote),
                    last_log_id: last.map(to_log_id),
                    leadership_transfer: transfer,
                };
                vote_reply(self.0.raft.vote(request).await.ok()?)
            }
            Rpc::PreVote { vote, last } => {
                if self.is_quiet() && !planted(Fault::RestartedVoterGrants) {
                    return None;
                }
                let request = VoteRequest::new(to_vote(vote), last.map(to_log_id));
                vote_reply(self.0.raft.pre_vote(request).await.ok()?)
            }
            Rpc::Snapshot { vote: leader, last, total, offset, part } => {
                let Some(bytes) = self.assemble(from, last, total, offset, part.0)? else {
                    let own = self.0.raft.metrics().borrow_watched().vote;
                    return Some(RpcReply::Snapshot { vote: vote(&own) });
                };
                self.install(to_vote(leader), bytes).await
            }
            Rpc::Follow { after, offset, probe } => {
                self.serve_follow(from, after, offset, probe).await
            }
            Rpc::Transfer { vote, to, last } => {
                if to != self.0.own {
                    return None;
                }
                let request = TransferLeaderRequest::new(to_vote(vote), to.0, last.map(to_log_id));
                let answer = self.0.raft.handle_transfer_leader(request).await.ok()?;
                Some(RpcReply::Transfer { accepted: answer.is_ok() })
            }
        }
    }

    async fn serve_follow(
        &self,
        from: PeerId,
        after: Option<LogId>,
        offset: u64,
        probe: bool,
    ) -> Option<RpcReply> {
        let asked_at = Instant::now();
        let follower = &self.0.follower;
        if !follower.is_fed(self) {
            return Some(follower.serve(from, after, offset, probe).await);
        }
        if !self.is_current() {
            return Some(RpcReply::Unavailable);
        }
        let body = if probe {
            FollowBody::Entries(Vec::new())
        } else {
            match self.what_follows(after, offset).await {
                Some(body) => body?,
                None => return Some(RpcReply::Unavailable),
            }
        };
        self.follow_reply(from, asked_at, body)
    }

    /// What was committed after an entry, once there is something new or it has waited long enough.
    /// None if this voter is behind the one that asks; the inner one if nothing here follows on.
    async fn what_follows(&self, after: Option<LogId>, offset: u64) -> Option<Option<FollowBody>> {
        let wait = Duration::from_millis(FOLLOW_WAIT_MS);
        // Nothing new is an answer as well.
        drop(Runtime::timeout(wait, self.0.machine.wait_beyond(after)).await);
        if self.0.machine.applied() < after {
            return None;
        }
        let entries = match self.0.machine.applied() {
            Some(applied) => self.0.log.committed_after(after, applied),
            None => Some(Vec::new()),
        };
        Some(follow::body(entries, self.0.machine.snapshot(), offset))
    }

    fn follow_reply(&self, from: PeerId, asked_at: Instant, body: FollowBody) -> Option<RpcReply> {
        let upto = self.0.machine.applied();
        let age = self.age()?;
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        Some(RpcReply::Follow {
            term: metrics.current_term,
            leader: metrics.current_leader.map(MemberId),
            voters: voters(membership).into_iter().collect(),
            voters_at: metrics.membership_config.log_id().as_ref().map(log_id),
            fed: membership.nodes().any(|(_, peer)| *peer == from),
            age_ms: follow::age_ms(age, Instant::now() - asked_at),
            upto,
            body,
        })
    }

    /// True if a majority followed the leader not long ago, as far as this voter knows.
    pub(in crate::consensus) fn hears_majority(&self) -> bool {
        let at = self.heard().majority_at();
        self.since(at).is_some_and(|age| age < Duration::from_millis(FOLLOW_STALE_MS))
    }

    /// True if what it has applied was all there is not long ago.
    fn is_current(&self) -> bool {
        self.age().is_some_and(|age| age < Duration::from_millis(FOLLOW_STALE_MS))
    }

    /// For how long what it has applied may have been out of date; none if it never knew.
    fn age(&self) -> Option<Duration> {
        let applied = self.applied_index();
        let at = self.heard().current_at(applied);
        self.since(at)
    }

    fn applied_index(&self) -> u64 {
        self.0.machine.applied().map_or(0, |last| last.index)
    }

    /// A majority has answered this voter, which leads.
    pub(super) fn on_quorum(&self, acked_at: Mono, committed: u64) {
        self.0.calls.know_majority(acked_at);
        let applied = self.applied_index();
        self.heard().on_call(acked_at, Some(Duration::ZERO), committed, applied);
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.heard.locked()
    }

    /// How long ago that was. A sole voter is its own majority.
    fn since(&self, heard_at: Option<Mono>) -> Option<Duration> {
        if self.0.raft.voter_ids().eq([self.0.own.0]) {
            return Some(Duration::ZERO);
        }
        heard_at.map(|at| Instant::now().0.since(at))
    }

    async fn serve_append(
        &self,
        term: Term,
        leader: MemberId,
        age: Option<Duration>,
        request: AppendEntriesRequest<Config>,
    ) -> Option<RpcReply> {
        let arrived = Instant::now().0;
        let committed = request.leader_commit.map_or(0, |commit| commit.index());
        let reply = match self.0.raft.append_entries(request).await.ok()? {
            AppendEntriesResponse::Success => AppendReply::Success,
            AppendEntriesResponse::PartialSuccess(last) => {
                AppendReply::Partial(last.as_ref().map(log_id))
            }
            AppendEntriesResponse::Conflict => AppendReply::Conflict,
            AppendEntriesResponse::HigherVote(higher) => AppendReply::HigherVote(vote(&higher)),
        };
        if !matches!(reply, AppendReply::HigherVote(_)) {
            let applied = self.applied_index();
            self.heard().on_call(arrived, age, committed, applied);
            self.tell_heard(term, leader, arrived);
        }
        Some(RpcReply::Append(reply))
    }

    fn tell_heard(&self, term: Term, leader: MemberId, at: Mono) {
        let last = self.0.told_at.load(Ordering::Relaxed);
        if at.since(Mono(last)) >= NEWS_INTERVAL {
            self.0.told_at.store(at.0, Ordering::Relaxed);
            self.cast(ConsensusEvent::Heard { term, leader, at });
        }
    }

    /// Adds a part. The outer none refuses it, the inner one waits for more.
    fn assemble(
        &self,
        from: PeerId,
        last: Option<LogId>,
        total: u64,
        offset: u64,
        part: Vec<u8>,
    ) -> Option<Option<Vec<u8>>> {
        let mut assembly = self.0.assembly.locked();
        let (sender, open) = &mut *assembly;
        if offset == 0 {
            *sender = Some(from);
        } else if *sender != Some(from) {
            return None;
        }
        match assemble(open, Part { last, total, offset, bytes: &part }) {
            Assembled::More => Some(None),
            Assembled::Whole(bytes) => Some(Some(bytes)),
            Assembled::Unusable => None,
        }
    }

    async fn install(
        &self,
        leader: crate::consensus::raft::RaftVote,
        bytes: Vec<u8>,
    ) -> Option<RpcReply> {
        let stored: StoredSnapshot = decode_durable(&bytes).ok()?;
        // openraft asserts the second.
        let is_older = |last: LogId| last.term <= leader.leader_id.term;
        if !is_sound(&stored.voters) || !stored.last.is_none_or(is_older) {
            return None;
        }
        if let Some(last) = stored.last
            && let Some(answer) = self.superfluous(leader, last).await?
        {
            return Some(answer);
        }
        let meta = SnapshotMetaOf::<Config> {
            last_log_id: stored.last.map(to_log_id),
            last_membership: to_stored_membership(stored.voters_at, &stored.voters),
        };
        let snapshot = SnapshotOf::<Config, _> { meta, snapshot: Arc::new(bytes) };
        let answer = self.0.raft.install_full_snapshot(leader, snapshot).await.ok()?;
        Some(RpcReply::Snapshot { vote: vote(&answer.vote) })
    }

    /// The answer to a snapshot up to `last` whose entries are all here already. openraft's account of what its log
    /// holds goes back to the snapshot where the log is ahead of it and only the commit is behind: what follows is then
    /// not applied before a new entry comes. So the log is asked first, by an append of nothing. Even if that is
    /// refused, openraft knows from it that `last` is committed, and an entry that comes in between makes it pass over
    /// the snapshot.
    async fn superfluous(
        &self,
        leader: crate::consensus::raft::RaftVote,
        last: LogId,
    ) -> Option<Option<RpcReply>> {
        let last = Some(to_log_id(last));
        let nothing = AppendEntriesRequest {
            vote: leader,
            prev_log_id: last,
            entries: Vec::new(),
            leader_commit: last,
        };
        Some(match self.0.raft.append_entries(nothing).await.ok()? {
            AppendEntriesResponse::Conflict => None,
            AppendEntriesResponse::HigherVote(higher) => {
                Some(RpcReply::Snapshot { vote: vote(&higher) })
            }
            AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => {
                Some(RpcReply::Snapshot { vote: vote(&leader) })
            }
        })
    }
}

fn vote_reply(response: openraft::raft::VoteResponse<Config>) -> Option<RpcReply> {
    Some(RpcReply::Vote {
        vote: vote(&response.vote),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id),
    })
}

#[cfg(test)]
mod tests;
