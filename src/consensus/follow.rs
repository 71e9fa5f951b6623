//! Members that do not vote: how they get what was committed.
//!
//! Problem: more voters than seven make every write and every election slower, but every member has
//! to hold the control state. A *follower* asks one voter after the other for what comes after
//! its last entry; openraft is not told of it.
//!
//! States of a follower: following a voter; idle, while consensus itself feeds this node; asking,
//! when consensus should feed it and does not.
//!
//! Flow: the follower asks for the entries after the last that it has applied. The voter answers
//! with those that follow on, up to what it has applied itself, and waits a little if there are
//! none; if its log does not reach back so far, it answers with a part of its snapshot instead.
//! Every answer also says who leads and who votes. A voter that does not answer, or has not heard
//! of a majority for `FOLLOW_STALE_MS`, is left for the next one.
//!
//! A voter that was cut off for long may have lost its vote, and its own log does not tell. When it
//! hears no leader it asks others, and from the answer that it is not fed any more it follows.
//!
//! Invariants:
//! 1. Only committed entries are served: a voter serves what it has applied.
//! 2. A follower applies an entry only directly after the one before it, with the same function as
//!    a voter.
//! 3. Every part of an answer is bounded, and checked before it is used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::async_runtime::{AsyncRuntime as _, Instant as _};

use super::machine::{StoredSnapshot, decode};
use super::pump::{Pump, entries_are_sound};
use super::raft::log_id;
use super::runtime::{Instant, Runtime};
use crate::core::consensus::{ConsensusEvent, Role};
use crate::core::control::{Change, ControlState};
use crate::messages::wire::v1::{Entry, FollowBody, Payload, Rpc, RpcReply, VoterConfig};
use crate::ports::journal::Opened;
use crate::ports::{Journal, Sink};
use crate::types::codec::encode_durable;
use crate::types::limits::{
    FOLLOW_STALE_MS, FOLLOW_WAIT_MS, SNAPSHOT_LEN_MAX, SNAPSHOT_PART, VOTERS_MAX,
};
use crate::types::{Bytes, LogId, MemberId, PeerId};

/// How long a follower waits for an answer: as long as the voter may wait, and some.
const ANSWER_WAIT: Duration = Duration::from_millis(4 * FOLLOW_WAIT_MS);
/// How long it waits before it asks another voter.
const TURN_WAIT: Duration = Duration::from_millis(50);
/// How long it asks a voter that has nothing new.
const FRESH_WAIT: Duration = Duration::from_millis(FOLLOW_STALE_MS);

/// A snapshot that is being received.
struct Assembly {
    last: Option<LogId>,
    total: usize,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct State {
    control: ControlState,
    last: Option<LogId>,
    voters_at: Option<LogId>,
    voters: VoterConfig,
    role: Role,
    /// The newest configuration under which the leader does not replicate to this node.
    unfed_at: Option<LogId>,
    saved_index: u64,
    assembly: Option<Assembly>,
}

/// The control state of a member that does not vote.
pub struct Follower {
    own: MemberId,
    /// Members to ask as long as no state is here.
    roster: BTreeMap<MemberId, PeerId>,
    /// None if it can't be used.
    journal: Option<Arc<dyn Journal>>,
    save_every: u64,
    events: Sink<ConsensusEvent>,
    state: Mutex<State>,
}

impl Follower {
    /// A follower with the state that it saved last, if there is one.
    pub fn open(
        own: MemberId,
        roster: BTreeMap<MemberId, PeerId>,
        opened: Option<Opened>,
        save_every: u64,
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
        Self { own, roster, journal, save_every, events, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Casts all that is known, for a control actor that knows nothing yet.
    pub fn resync(&self) {
        let state = self.lock();
        self.tell_state(&state, vec![Change::Installed]);
        if !state.role.voters.is_empty() {
            (self.events)(ConsensusEvent::Role(state.role.clone()));
        }
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
        let mut turn = self.own.0 as usize;
        let mut fresh_at = Instant::now();
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
            let voters = if in_vain < fellows.len() { fellows } else { self.voters(in_vain) };
            let asked = match voters.get(turn % voters.len().max(1)) {
                Some(voter) => self.ask(&pump, *voter).await,
                None => Asked::InVain,
            };
            match asked {
                Asked::StillVotes => {
                    turn = turn.wrapping_add(1);
                    in_vain = 0;
                    Runtime::sleep(Duration::from_millis(FOLLOW_WAIT_MS)).await;
                }
                Asked::Fresh => (fresh_at, in_vain) = (Instant::now(), 0),
                // It may be that nothing is written, or that this voter gets nothing itself.
                Asked::NothingNew if Instant::now() - fresh_at < FRESH_WAIT => in_vain = 0,
                Asked::NothingNew => {
                    turn = turn.wrapping_add(1);
                    (fresh_at, in_vain) = (Instant::now(), 0);
                }
                Asked::InVain => {
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
        } else {
            pump.raft().runtime_config().elect(false);
            tracing::info!("this node does not vote any more, and follows");
            let (control, stored) = pump.machine().copy();
            let mut state = self.lock();
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

    /// Whom to ask: the voters, or any member if they are not known or all of them were asked in
    /// vain.
    fn voters(&self, in_vain: usize) -> Vec<PeerId> {
        let state = self.lock();
        let view = state.control.view();
        let voters: Vec<PeerId> =
            state.role.voters.iter().filter_map(|voter| view.peer_of(*voter)).collect();
        if !voters.is_empty() && in_vain <= voters.len() {
            return voters;
        }
        let known: BTreeMap<MemberId, PeerId> =
            view.members.values().map(|member| (member.id, member.peer)).collect();
        let known = if known.is_empty() { &self.roster } else { &known };
        known.iter().filter(|(id, _)| **id != self.own).map(|(_, peer)| *peer).collect()
    }

    /// Asks once.
    async fn ask(&self, pump: &Pump, voter: PeerId) -> Asked {
        let asks_as_voter = self.is_fed(pump);
        let (after, offset) = if asks_as_voter {
            (pump.machine().applied(), 0)
        } else {
            let state = self.lock();
            (state.last, state.assembly.as_ref().map_or(0, |open| open.bytes.len() as u64))
        };
        let rpc = Rpc::Follow { after, offset, probe: asks_as_voter };
        let answer = pump.calls().call(voter, rpc, ANSWER_WAIT).await;
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
            Ok(RpcReply::Follow { term, leader, voters, body, .. })
                if voters.len() <= 2 * VOTERS_MAX =>
            {
                let empty = matches!(&body, FollowBody::Entries(entries) if entries.is_empty());
                let voters = voters.into_iter().collect();
                let role = Role { term, leader, voters, ..Role::default() };
                match self.take(role, body) {
                    true if empty => Asked::NothingNew,
                    true => Asked::Fresh,
                    false => Asked::InVain,
                }
            }
            _ => Asked::InVain,
        }
    }

    fn take(&self, role: Role, body: FollowBody) -> bool {
        let mut state = self.lock();
        let taken = match body {
            FollowBody::Entries(entries) if entries.is_empty() => true,
            FollowBody::Entries(entries) => {
                let mut changes = Vec::new();
                let taken = state.apply(entries, &mut changes);
                if taken {
                    self.tell_state(&state, changes);
                }
                taken
            }
            FollowBody::Snapshot { last, total, offset, part } => {
                match state.assemble(last, total, offset, &part) {
                    Assembled::More => true,
                    Assembled::Done => {
                        self.tell_state(&state, vec![Change::Installed]);
                        true
                    }
                    Assembled::Unusable => false,
                }
            }
        };
        if taken {
            self.save(&mut state);
            // A voter that is behind may be in an older term than the one before it.
            if state.role != role && !role.voters.is_empty() && role.term >= state.role.term {
                state.role = role.clone();
                (self.events)(ConsensusEvent::Role(role));
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
        let stored = StoredSnapshot {
            last: state.last,
            voters_at: state.voters_at,
            voters: state.voters.clone(),
            state: Bytes(state.control.encode()),
        };
        if let Some(journal) = &self.journal {
            journal.rewrite(vec![encode_durable(&stored)], Box::new(|_| {}));
        }
    }
}

/// What came of asking.
enum Asked {
    /// By a voter, which has no use for more.
    StillVotes,
    Fresh,
    NothingNew,
    InVain,
}

enum Assembled {
    More,
    Done,
    Unusable,
}

impl State {
    fn restore(&mut self, (stored, control): (StoredSnapshot, ControlState)) {
        self.control = control;
        self.last = stored.last;
        self.voters_at = stored.voters_at;
        self.voters = stored.voters;
        self.saved_index = stored.last.map_or(0, |last| last.index);
    }

    fn apply(&mut self, entries: Vec<Entry>, changes: &mut Vec<Change>) -> bool {
        if !entries_are_sound(self.last, &entries) {
            return false;
        }
        for entry in entries {
            match entry.payload {
                Payload::Proposal(proposal) => {
                    self.control.apply(entry.id, &proposal, changes);
                }
                Payload::Blank => self.control.skip(entry.id),
                Payload::Membership(voters) => {
                    self.control.skip(entry.id);
                    (self.voters_at, self.voters) = (Some(entry.id), voters);
                }
            }
            self.last = Some(entry.id);
        }
        true
    }

    fn assemble(
        &mut self,
        last: Option<LogId>,
        total: u64,
        offset: u64,
        part: &Bytes,
    ) -> Assembled {
        // Going back would take away what readers have seen.
        let total = usize::try_from(total).ok().filter(|total| *total <= SNAPSHOT_LEN_MAX);
        let Some(total) = total.filter(|_| last > self.last) else { return Assembled::Unusable };
        if offset == 0 {
            self.assembly = Some(Assembly { last, total, bytes: Vec::new() });
        }
        let Some(mut open) = self.assembly.take().filter(|open| {
            (open.last, open.total, open.bytes.len() as u64) == (last, total, offset)
                && open.bytes.len() + part.0.len() <= total
                && !part.0.is_empty()
        }) else {
            return Assembled::Unusable;
        };
        open.bytes.extend_from_slice(&part.0);
        if open.bytes.len() < total {
            self.assembly = Some(open);
            return Assembled::More;
        }
        match decode(&open.bytes) {
            Ok((stored, control)) if stored.last > self.last => {
                self.restore((stored, control));
                Assembled::Done
            }
            _ => Assembled::Unusable,
        }
    }
}

/// Answers a follower as far as log and snapshot go; none if neither follows on.
pub(super) fn body(
    entries: Option<Vec<Entry>>,
    snapshot: Option<(Option<LogId>, Arc<Vec<u8>>)>,
    offset: u64,
) -> Option<FollowBody> {
    if let Some(entries) = entries {
        return Some(FollowBody::Entries(entries));
    }
    let (last, bytes) = snapshot?;
    // A part of an earlier snapshot does not go with this one: the follower begins again.
    let offset = usize::try_from(offset).ok().filter(|offset| *offset < bytes.len()).unwrap_or(0);
    let end = bytes.len().min(offset + SNAPSHOT_PART);
    Some(FollowBody::Snapshot {
        last,
        total: bytes.len() as u64,
        offset: offset as u64,
        part: Bytes(bytes[offset..end].to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::Proposal;
    use crate::messages::command::{Command, Expect};
    use crate::ports::journal::Completion;
    use crate::types::{ProposalId, Wall};

    struct NoJournal;

    impl Journal for NoJournal {
        fn append(&self, _: Vec<Vec<u8>>, _: Completion) {}
        fn rewrite(&self, _: Vec<Vec<u8>>, _: Completion) {}
        fn len_bytes(&self) -> u64 {
            0
        }
    }

    fn follower() -> Follower {
        let opened: Opened = (Arc::new(NoJournal), Vec::new());
        Follower::open(MemberId(9), BTreeMap::new(), Some(opened), 1_000, Arc::new(|_| {}))
    }

    fn role() -> Role {
        Role { term: 1, voters: [MemberId(1)].into(), ..Role::default() }
    }

    fn entries(indexes: std::ops::Range<u64>) -> Vec<Entry> {
        let entry = |index: u64| Entry {
            id: LogId { term: 1, index },
            payload: Payload::Proposal(Proposal {
                id: ProposalId(u128::from(index).to_le_bytes()),
                at: Wall(1),
                command: Command::SetHead {
                    key: format!("monitoring/{index}"),
                    expect: Expect::Absent,
                    value: Bytes(vec![1]),
                    author: String::new(),
                },
            }),
        };
        indexes.map(entry).collect()
    }

    fn index(follower: &Follower) -> Option<u64> {
        follower.lock().last.map(|last| last.index)
    }

    #[test]
    fn entries_are_applied_only_where_they_follow_on() {
        let follower = follower();
        assert!(!follower.take(role(), FollowBody::Entries(entries(1..3))), "0 is missing");
        assert!(follower.take(role(), FollowBody::Entries(entries(0..3))));
        assert!(!follower.take(role(), FollowBody::Entries(entries(2..4))), "2 once more");
        assert!(!follower.take(role(), FollowBody::Entries(entries(4..5))), "3 is missing");
        assert_eq!(index(&follower), Some(2));
        assert!(follower.take(role(), FollowBody::Entries(Vec::new())), "nothing new");
        assert_eq!(follower.lock().control.view().heads.len(), 3);
    }

    fn snapshot(upto: u64) -> Vec<u8> {
        let source = follower();
        source.take(role(), FollowBody::Entries(entries(0..upto + 1)));
        let state = source.lock();
        encode_durable(&StoredSnapshot {
            last: state.last,
            voters_at: None,
            voters: VoterConfig::default(),
            state: Bytes(state.control.encode()),
        })
    }

    #[test]
    fn a_snapshot_in_parts_is_taken_whole_or_not_at_all() {
        let bytes = snapshot(5);
        let last = Some(LogId { term: 1, index: 5 });
        let total = bytes.len() as u64;
        let part = |from: usize, to: usize| FollowBody::Snapshot {
            last,
            total,
            offset: from as u64,
            part: Bytes(bytes[from..to].to_vec()),
        };
        let follower = follower();
        assert!(!follower.take(role(), part(10, 20)), "it begins at its beginning");
        assert!(follower.take(role(), part(0, 10)));
        assert!(!follower.take(role(), part(20, 30)), "a part is missing");
        assert!(follower.take(role(), part(0, 10)), "begun again");
        assert!(follower.take(role(), part(10, bytes.len())));
        assert_eq!(index(&follower), Some(5));
        assert!(follower.take(role(), FollowBody::Entries(entries(6..8))), "and on from there");
        assert!(!follower.take(role(), part(0, bytes.len())), "never back");
        assert_eq!(index(&follower), Some(7));
    }

    #[test]
    fn a_damaged_or_oversize_snapshot_changes_nothing() {
        let mut bytes = snapshot(5);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let last = Some(LogId { term: 1, index: 5 });
        let total = bytes.len() as u64;
        let follower = follower();
        let damaged = FollowBody::Snapshot { last, total, offset: 0, part: Bytes(bytes) };
        assert!(!follower.take(role(), damaged));
        let total = SNAPSHOT_LEN_MAX as u64 + 1;
        let oversize = FollowBody::Snapshot { last, total, offset: 0, part: Bytes(vec![1]) };
        assert!(!follower.take(role(), oversize));
        let empty = FollowBody::Snapshot { last, total: 9, offset: 0, part: Bytes::default() };
        assert!(!follower.take(role(), empty));
        assert_eq!(index(&follower), None);
    }

    #[test]
    fn a_voter_goes_on_with_its_snapshot_where_the_follower_is_and_begins_again_with_a_new_one() {
        let bytes = Arc::new(vec![7; SNAPSHOT_PART + 10]);
        let part = |offset| match body(None, Some((None, bytes.clone())), offset) {
            Some(FollowBody::Snapshot { offset, part, .. }) => (offset as usize, part.0.len()),
            other => panic!("{other:?}"),
        };
        assert_eq!(part(0), (0, SNAPSHOT_PART));
        assert_eq!(part(SNAPSHOT_PART as u64), (SNAPSHOT_PART, 10));
        assert_eq!(part(bytes.len() as u64), (0, SNAPSHOT_PART), "it had more than there is");
        assert_eq!(body(None, None, 0), None, "neither log nor snapshot");
    }
}
