//! Members that do not vote: how they get what was committed.
//!
//! Problem: more voters than seven make every write and every election slower, but every member has
//! to hold the control state. A *follower* asks its *source* for what comes after its last entry; openraft is
//! not told of it. In a small cluster every voter is a source. In a large one voters could not serve
//! everybody: followers follow followers, in the tree of `core::peers::Overlay`.
//!
//! States of a follower: following a source; idle, while consensus itself feeds this node; asking,
//! when consensus should feed it and does not.
//!
//! Flow: the follower asks for the entries after the last that it has applied. The source answers
//! with those that follow on, up to what it has applied itself, and waits a little if there are
//! none; if what it keeps does not reach back so far, it answers with a part of a snapshot instead.
//! Every answer also says who leads and who votes, and its *age*: for how long what whoever answers has applied
//! may have been out of date. It begins at the leader, with the last answer of a majority, and goes on counting
//! from node to node. A source that does not answer, or whose age is `FOLLOW_STALE_MS`, is left for the next one.
//!
//! A voter that was cut off for long may have lost its vote, and its own log does not tell. When it
//! hears no leader it asks others, and from the answer that it is not fed any more it follows.
//!
//! Invariants:
//! 1. Only committed entries are served: whoever serves has applied them.
//! 2. A follower applies an entry only directly after the one before it, with the same function as
//!    a voter.
//! 3. Every part of an answer is bounded, and checked before it is used.
//! 4. Followers that follow each other in a circle notice: nobody among them hears of a majority, and what each
//!    knows of one only gets older. So do those whose source is cut off together with an old leader.
//! 5. The term that a follower knows never falls.
//!
//! Trust: a follower believes its source, voter or not, as a voter believes its leader: all of them are members,
//! and consensus is not for members that lie. Whoever claims an absurd term makes this follower deaf to
//! leaders until it is started again, as it could make voters deaf. Entries still have to chain, and a
//! snapshot to decode.

mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::async_runtime::{AsyncRuntime as _, Instant as _};
use tokio::sync::Notify;

use super::machine::decode;
use super::pump::Pump;
use super::raft::log_id;
use super::runtime::{Instant, Runtime};
use crate::core::consensus::{ConsensusEvent, Role};
use crate::core::control::Change;
use crate::core::overlay::{Overlay, Shape};
use crate::messages::wire::{FollowBody, Rpc, RpcReply};
use crate::ports::journal::Opened;
use crate::ports::{Journal, Sink};
use crate::types::limits::{FOLLOW_STALE_MS, FOLLOW_WAIT_MS, VOTERS_MAX};
use crate::types::{Lock, LogId, MemberId, PeerId, Term};

pub(super) use state::body;
use state::{Assembled, State};

/// How long a follower waits for an answer: as long as the voter may wait, and some.
const ANSWER_WAIT: Duration = Duration::from_millis(4 * FOLLOW_WAIT_MS);
/// How long it waits before it asks another voter.
const TURN_WAIT: Duration = Duration::from_millis(50);
/// What is older than that is too old to be passed on.
const STALE_AFTER: Duration = Duration::from_millis(FOLLOW_STALE_MS);
/// After how long a follower that has left its source tries it again.
const RETURN_AFTER: Duration = Duration::from_secs(30);

/// The control state of a member that does not vote.
pub struct Follower {
    own: MemberId,
    /// Members to ask as long as no state is here.
    roster: BTreeMap<MemberId, PeerId>,
    /// None if it can't be used.
    journal: Option<Arc<dyn Journal>>,
    save_every: u64,
    shape: Shape,
    events: Sink<ConsensusEvent>,
    /// Is told of more entries.
    more: Notify,
    state: Mutex<State>,
}

impl Follower {
    /// A follower with the state that it saved last, if there is one.
    pub fn open(
        own: MemberId,
        roster: BTreeMap<MemberId, PeerId>,
        opened: Option<Opened>,
        save_every: u64,
        shape: Shape,
        events: Sink<ConsensusEvent>,
    ) -> Self {
        let (journal, records) = opened.unzip();
        let mut state = State::default();
        // A record that can't be read costs nothing but the time to get its content again.
        let saved = records.unwrap_or_default().pop().and_then(|bytes| decode(&bytes).ok());
        if let Some(saved) = saved {
            state.restore(saved);
        }
        let state = Mutex::new(state);
        Self { own, roster, journal, save_every, shape, events, more: Notify::new(), state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.locked()
    }

    /// Casts all that is known, for a control actor that knows nothing yet.
    pub fn resync(&self) {
        let state = self.lock();
        self.tell_state(&state, vec![Change::Installed]);
        if !state.role.voters.is_empty() {
            (self.events)(ConsensusEvent::Role(state.role.clone()));
        }
    }

    /// The newest term that was told.
    pub(super) fn known_term(&self) -> Term {
        self.lock().role.term
    }

    /// True once some voter has answered.
    pub fn has_followed(&self) -> bool {
        !self.lock().role.voters.is_empty()
    }

    fn tell_state(&self, state: &State, changes: Vec<Change>) {
        if let Some(log_id) = state.last {
            let view = state.control.view().clone();
            (self.events)(ConsensusEvent::Applied { log_id, view, changes });
        }
    }

    /// True while the leader replicates to this node, so that it need not follow.
    pub(super) fn is_fed(&self, pump: &Pump) -> bool {
        let unfed_at = self.lock().unfed_at;
        let metrics = pump.raft().metrics();
        let metrics = metrics.borrow_watched();
        let configured_at = metrics.membership_config.log_id().as_ref().map(log_id);
        metrics.membership_config.membership().get_node(&self.own.0).is_some()
            && unfed_at <= configured_at
    }

    /// Follows until consensus has stopped. While it feeds this node itself, nothing is done.
    pub(super) async fn run(self: Arc<Self>, pump: Pump) {
        let mut turn = 0;
        let mut left_at = Instant::now();
        let mut in_vain = 0;
        let mut was_fed = self.is_fed(&pump);
        loop {
            if pump.raft().metrics().borrow_watched().running_state.is_err() {
                return;
            }
            let fed = self.is_fed(&pump);
            if fed != was_fed {
                was_fed = fed;
                self.change_sides(&pump, fed);
            }
            if fed && pump.hears_majority() {
                Runtime::sleep(Duration::from_millis(FOLLOW_WAIT_MS)).await;
                continue;
            }
            // After a long time away all that it voted with may be gone.
            let fellows = if fed { self.fellows(&pump) } else { Vec::new() };
            let (sources, is_tree) = match in_vain < fellows.len() {
                true => (fellows, false),
                false => self.sources(in_vain),
            };
            if is_tree && turn > 0 && Instant::now() - left_at >= RETURN_AFTER {
                turn = 0;
            }
            let asked = match sources.get(turn % sources.len().max(1)) {
                Some(source) => self.ask(&pump, *source).await,
                None => Asked::InVain,
            };
            // The leader may have taken it in meanwhile.
            if !self.is_fed(&pump) {
                self.tell_if_stale();
            }
            match asked {
                Asked::StillVotes => {
                    turn = turn.wrapping_add(1);
                    in_vain = 0;
                    Runtime::sleep(Duration::from_millis(FOLLOW_WAIT_MS)).await;
                }
                Asked::Told => in_vain = 0,
                Asked::InVain => {
                    if turn == 0 {
                        left_at = Instant::now();
                    }
                    turn = turn.wrapping_add(1);
                    in_vain += 1;
                    self.lock().assembly = None;
                    Runtime::sleep(TURN_WAIT).await;
                }
            }
        }
    }

    /// This node has begun, or ceased, to be one that consensus feeds.
    fn change_sides(&self, pump: &Pump, fed: bool) {
        if fed {
            pump.let_elect();
            // What followers said of the leader holds no longer, perhaps that none is known.
            pump.tell_role_again();
        } else {
            pump.raft().runtime_config().elect(false);
            tracing::info!("this node does not vote any more, and follows");
            let (control, stored) = pump.machine().copy();
            let mut state = self.lock();
            // What was known of a majority before it voted is of no use, and of the leader it knows more now.
            state.heard = None;
            let role = pump.role();
            if role.term > state.role.term && role.leader.is_some() {
                state.role = Role { leading: false, ..role };
                (self.events)(ConsensusEvent::Role(state.role.clone()));
            }
            if stored.last > state.last {
                state.restore((stored, control));
            }
        }
    }

    /// Whom a voter asks that hears nobody: all that it votes with.
    fn fellows(&self, pump: &Pump) -> Vec<PeerId> {
        let metrics = pump.raft().metrics();
        let metrics = metrics.borrow_watched();
        let nodes = metrics.membership_config.membership().nodes();
        nodes.filter(|(id, _)| **id != self.own.0).map(|(_, peer)| *peer).collect()
    }

    /// Whom to ask, in this order, and whether the first of them is this member's place in the tree. Without
    /// the tree the voters, from a place on that differs for each member; any member if no voter is known
    /// or all of them were asked in vain.
    fn sources(&self, in_vain: usize) -> (Vec<PeerId>, bool) {
        let state = self.lock();
        let view = state.control.view();
        let from = |mut peers: Vec<PeerId>| {
            let turn = self.own.0 as usize % peers.len().max(1);
            peers.rotate_left(turn);
            peers
        };
        let mut known: BTreeMap<MemberId, PeerId> =
            view.roster.members.values().map(|member| (member.id, member.peer)).collect();
        if known.is_empty() {
            known.clone_from(&self.roster);
        }
        let voters = state.role.voters.iter().filter_map(|voter| known.get(voter).copied());
        let mut voters = from(voters.collect());
        if voters.is_empty() || in_vain > voters.len() {
            let others = known.iter().filter(|(id, _)| **id != self.own);
            return (from(others.map(|(_, peer)| *peer).collect()), false);
        }
        let overlay = Overlay::new(self.shape, &known, &state.role.voters);
        let source = overlay.source(self.own).and_then(|source| known.get(&source).copied());
        let Some(source) = source.filter(|_| !overlay.is_full()) else { return (voters, false) };
        voters.retain(|voter| *voter != source);
        voters.insert(0, source);
        (voters, true)
    }

    /// Says that no leader is known once nobody has told of a majority for too long.
    fn tell_if_stale(&self) {
        let mut state = self.lock();
        let is_stale = state.majority_age(Instant::now()).is_some_and(|age| age > 2 * STALE_AFTER);
        if is_stale && state.role.leader.take().is_some() {
            (self.events)(ConsensusEvent::Role(state.role.clone()));
        }
    }

    /// Answers a member that follows this one, which follows itself.
    pub(super) async fn serve(
        &self,
        from: PeerId,
        after: Option<LogId>,
        offset: u64,
        probe: bool,
    ) -> RpcReply {
        let asked_at = Instant::now();
        let more = self.more.notified();
        if !probe && self.lock().last <= after {
            // Nothing new is an answer as well.
            drop(Runtime::timeout(Duration::from_millis(FOLLOW_WAIT_MS), more).await);
        }
        let mut state = self.lock();
        let age = state.majority_age(Instant::now()).filter(|age| *age < STALE_AFTER);
        // Whoever still catches up is as old as what it lacks, and does not know how old that is.
        let age = age.filter(|_| !state.behind);
        let body = match probe {
            true => Some(FollowBody::Entries(Vec::new())),
            false => state.what_follows(after, offset),
        };
        let Some((age, body)) = age.zip(body) else { return RpcReply::Unavailable };
        RpcReply::Follow {
            term: state.role.term,
            leader: state.role.leader,
            voters: state.role.voters.iter().copied().collect(),
            voters_at: state.voters_at,
            fed: state.voters.nodes.values().any(|peer| *peer == from),
            age_ms: age_ms(age, asked_at),
            upto: state.last,
            body,
        }
    }

    /// Asks once.
    async fn ask(&self, pump: &Pump, source: PeerId) -> Asked {
        let asks_as_voter = self.is_fed(pump);
        let (after, offset) = if asks_as_voter {
            (pump.machine().applied(), 0)
        } else {
            let state = self.lock();
            (state.last, state.assembly.as_ref().map_or(0, |open| open.bytes.len() as u64))
        };
        let rpc = Rpc::Follow { after, offset, probe: asks_as_voter };
        let asked_at = Instant::now();
        let answer = pump.calls().call(source, rpc, ANSWER_WAIT).await;
        if let Ok(RpcReply::Follow { fed: false, voters_at, .. }) = &answer {
            let mut state = self.lock();
            state.unfed_at = state.unfed_at.max(*voters_at);
        }
        if asks_as_voter || self.is_fed(pump) {
            // Consensus knows more by now and has told it, or it is to be asked as a follower.
            return match answer {
                Ok(RpcReply::Follow { .. }) => Asked::StillVotes,
                _ => Asked::InVain,
            };
        }
        match answer {
            Ok(RpcReply::Follow { term, leader, voters, body, age_ms, upto, .. })
                if voters.len() <= 2 * VOTERS_MAX =>
            {
                let age = Duration::from_millis(u64::from(age_ms));
                let voters = voters.into_iter().collect();
                let role = Role { term, leader, voters, ..Role::default() };
                // So the way of the answer counts as age.
                let majority_at = asked_at - age;
                let is_fresh = Instant::now() - majority_at < STALE_AFTER;
                if is_fresh && self.take(Told { role, majority_at, upto }, body) {
                    Asked::Told
                } else {
                    Asked::InVain
                }
            }
            _ => Asked::InVain,
        }
    }

    fn take(&self, told: Told, body: FollowBody) -> bool {
        let Told { role, majority_at, upto } = told;
        let mut state = self.lock();
        let taken = match body {
            FollowBody::Entries(entries) if entries.is_empty() => true,
            FollowBody::Entries(entries) => {
                let mut changes = Vec::new();
                let taken = state.apply(entries, &mut changes);
                if taken {
                    self.tell_state(&state, changes);
                    self.more.notify_waiters();
                }
                taken
            }
            FollowBody::Snapshot { last, total, offset, part } => {
                match state.assemble(last, total, offset, &part) {
                    Assembled::More => true,
                    Assembled::Done => {
                        self.tell_state(&state, vec![Change::Installed]);
                        self.more.notify_waiters();
                        true
                    }
                    Assembled::Unusable => false,
                }
            }
        };
        if taken {
            self.save(&mut state);
            state.behind = state.last < upto;
            state.hear(majority_at);
            // The one asked before may know of a newer leader.
            if role.term >= state.role.term && !role.voters.is_empty() {
                // A term in which nobody has won yet may never be heard of again.
                let term = if role.leader.is_some() { role.term } else { state.role.term };
                let role = Role { term, ..role };
                if state.role != role {
                    state.role = role.clone();
                    (self.events)(ConsensusEvent::Role(role));
                }
            }
        }
        taken
    }

    /// Saves the state now and then, so that a restart does not begin with nothing. What was
    /// committed is not lost with it, so nobody waits for the disk.
    fn save(&self, state: &mut State) {
        let index = state.last.map_or(0, |last| last.index);
        if index < state.saved_index + self.save_every {
            return;
        }
        state.saved_index = index;
        if let Some(journal) = &self.journal {
            journal.rewrite(vec![state.snapshot()], Box::new(|_| {}));
        }
    }
}

/// The age of an answer when it was asked for: the time that it waited counts for whoever asks.
pub(super) fn age_ms(age: Duration, asked_at: Instant) -> u32 {
    millis(age.saturating_sub(Instant::now() - asked_at))
}

pub(super) fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// What an answer tells beside its body.
struct Told {
    role: Role,
    /// A majority followed the leader at this time, and all that was committed then is in `upto`.
    majority_at: Instant,
    /// What whoever answered has applied.
    upto: Option<LogId>,
}

/// What came of asking.
enum Asked {
    /// By a voter, which has no use for more.
    StillVotes,
    Told,
    InVain,
}

#[cfg(test)]
mod tests;
