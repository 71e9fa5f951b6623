//! Members that do not vote: how they get what was committed.
//!
//! Problem: more voters than seven make every write and every election slower, but every member has
//! to hold the control state. A *follower* asks its *source* for what comes after its last entry; consensus is
//! not told of it. In a small cluster every voter is a source. In a large one voters could not serve
//! everybody: followers follow followers, in the tree of `core::overlay::Overlay`.
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
//!
//! Everything is decided here; `consensus::follow` waits, sends and keeps.

pub mod assembly;
mod state;

use std::collections::BTreeMap;
use std::time::Duration;

pub use assembly::{Assembled, Assembly, Part, assemble};
use state::State;
pub use state::body;

use crate::core::consensus::{ConsensusEvent, Role};
use crate::core::control::{Change, ControlState, StoredSnapshot};
use crate::core::overlay::{Overlay, Shape};
use crate::messages::wire::{FollowBody, Rpc, RpcReply};
use crate::types::limits::{FOLLOW_STALE_MS, FOLLOW_WAIT_MS, VOTERS_MAX};
use crate::types::{LogId, MemberId, Mono, PeerId, Term};

/// How long it waits before it asks another voter.
const TURN_WAIT: Duration = Duration::from_millis(50);
/// How long it waits where there is nothing to follow.
const IDLE_WAIT: Duration = Duration::from_millis(FOLLOW_WAIT_MS);
/// What is older than that is too old to be passed on.
const STALE_AFTER: Duration = Duration::from_millis(FOLLOW_STALE_MS);
/// After how long a follower that has left its source tries it again.
const RETURN_AFTER: Duration = Duration::from_secs(30);

/// Whether the leader replicates to this node, as consensus here sees it.
#[derive(Clone, Copy, Debug)]
pub struct Feed {
    /// Where the configuration that it goes by stands in the log.
    pub configured_at: Option<LogId>,
    /// True if this node is in it.
    pub includes: bool,
}

/// What consensus on this node knows when it asks what to do.
pub struct Seen {
    /// Whether it is fed.
    pub feed: Feed,
    /// True if it has heard of a majority not long ago.
    pub hears_majority: bool,
    /// The last entry that it has applied.
    pub applied: Option<LogId>,
    /// Those that it votes with.
    pub fellows: Vec<PeerId>,
}

/// What to do next.
pub enum Next {
    /// From now on consensus feeds this node, or it does not any more.
    ChangeSides {
        /// Which of both.
        fed: bool,
    },
    /// Nothing, for so long.
    Wait(Duration),
    /// Ask this, and say what is answered.
    Ask(Question),
}

/// A question under way.
pub struct Question {
    /// Whom to ask.
    pub source: PeerId,
    /// What.
    pub rpc: Rpc,
    as_voter: bool,
    asked_at: Mono,
}

/// What a follower asks of this node.
pub struct Wanted {
    /// Who asks.
    pub from: PeerId,
    /// The last entry that it has.
    pub after: Option<LogId>,
    /// How much it has of a snapshot.
    pub offset: u64,
    /// True if it only wants to know how things stand.
    pub probe: bool,
    /// When it asked.
    pub asked_at: Mono,
}

/// What has to be done, in this order.
pub enum Effect {
    /// Tell the control actor.
    Tell(ConsensusEvent),
    /// Wake those that wait for more entries.
    More,
    /// Keep the state; what was kept before is of no use any more.
    Save(Vec<u8>),
}

/// The control state of a member that does not vote, and whom it asks for more.
pub struct Following {
    own: MemberId,
    /// Members to ask as long as no state is here.
    roster: BTreeMap<MemberId, PeerId>,
    shape: Shape,
    save_every: u64,
    state: State,
    /// Whether it was fed when it was asked last; none before that.
    was_fed: Option<bool>,
    /// Which of the sources is asked.
    turn: usize,
    /// When the first of them was left.
    left_at: Mono,
    /// How many were asked in vain since one answered.
    in_vain: usize,
    effects: Vec<Effect>,
}

impl Following {
    /// A follower with the state that was saved last, if there is one.
    pub fn new(
        own: MemberId,
        roster: BTreeMap<MemberId, PeerId>,
        saved: Option<&[u8]>,
        save_every: u64,
        shape: Shape,
    ) -> Self {
        let mut state = State::default();
        // A record that can't be read costs nothing but the time to get its content again.
        if let Some(saved) = saved.and_then(|bytes| StoredSnapshot::read(bytes).ok()) {
            state.restore(saved);
        }
        let (turn, left_at, in_vain) = (0, Mono::default(), 0);
        let effects = Vec::new();
        Self {
            own,
            roster,
            shape,
            save_every,
            state,
            was_fed: None,
            turn,
            left_at,
            in_vain,
            effects,
        }
    }

    /// What has to be done by now.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The last entry that it has applied.
    pub fn last(&self) -> Option<LogId> {
        self.state.last
    }

    /// The newest term that was told.
    pub fn known_term(&self) -> Term {
        self.state.role.term
    }

    /// True once some voter has answered.
    pub fn has_followed(&self) -> bool {
        !self.state.role.voters.is_empty()
    }

    /// True while the leader replicates to this node, so that it need not follow.
    pub fn is_fed(&self, feed: Feed) -> bool {
        feed.includes && self.state.unfed_at <= feed.configured_at
    }

    /// Tells all that is known, for a control actor that knows nothing yet.
    pub fn resync(&mut self) {
        self.tell_state(vec![Change::Installed]);
        if self.has_followed() {
            self.tell_role();
        }
    }

    fn tell(&mut self, event: ConsensusEvent) {
        self.effects.push(Effect::Tell(event));
    }

    fn tell_state(&mut self, changes: Vec<Change>) {
        if let Some(log_id) = self.state.last {
            let view = self.state.control.view().clone();
            self.tell(ConsensusEvent::Applied { log_id, view, changes });
        }
    }

    fn tell_role(&mut self) {
        self.tell(ConsensusEvent::Role(self.state.role.clone()));
    }

    /// What to do now. Each question has to be answered by `on_answer` before the next call.
    pub fn next(&mut self, now: Mono, seen: &Seen) -> Next {
        let fed = self.is_fed(seen.feed);
        match self.was_fed.replace(fed) {
            None => self.left_at = now,
            Some(was_fed) if was_fed != fed => return Next::ChangeSides { fed },
            Some(_) => {}
        }
        if fed && seen.hears_majority {
            return Next::Wait(IDLE_WAIT);
        }
        // After a long time away all that it voted with may be gone.
        let (sources, is_tree) = match fed && self.in_vain < seen.fellows.len() {
            true => (seen.fellows.clone(), false),
            false => self.sources(self.in_vain),
        };
        if is_tree && self.turn > 0 && now.since(self.left_at) >= RETURN_AFTER {
            self.turn = 0;
        }
        let Some(source) = sources.get(self.turn % sources.len().max(1)) else {
            return Next::Wait(self.settle(now, seen.feed, Asked::InVain));
        };
        let (after, offset) = if fed {
            (seen.applied, 0)
        } else {
            let open = self.state.assembly.as_ref();
            (self.state.last, open.map_or(0, Assembly::offset))
        };
        let rpc = Rpc::Follow { after, offset, probe: fed };
        Next::Ask(Question { source: *source, rpc, as_voter: fed, asked_at: now })
    }

    /// What a source has answered, if it has. Returns how long to wait before the next call.
    pub fn on_answer(
        &mut self,
        now: Mono,
        feed: Feed,
        question: &Question,
        answer: Option<RpcReply>,
    ) -> Duration {
        let asked = self.judge(now, feed, question, answer);
        self.settle(now, feed, asked)
    }

    fn judge(
        &mut self,
        now: Mono,
        feed: Feed,
        question: &Question,
        answer: Option<RpcReply>,
    ) -> Asked {
        let Some(RpcReply::Follow { term, leader, voters, voters_at, fed, age_ms, upto, body }) =
            answer
        else {
            return Asked::InVain;
        };
        if !fed {
            self.state.unfed_at = self.state.unfed_at.max(voters_at);
        }
        if question.as_voter || self.is_fed(feed) {
            // Consensus knows more by now and has told it, or it is to be asked as a follower.
            return Asked::StillVotes;
        }
        if voters.len() > 2 * VOTERS_MAX {
            return Asked::InVain;
        }
        let voters = voters.into_iter().collect();
        let role = Role { term, leader, voters, ..Role::default() };
        // So the way of the answer counts as age.
        let majority_at = question.asked_at - Duration::from_millis(u64::from(age_ms));
        let is_fresh = now.since(majority_at) < STALE_AFTER;
        match is_fresh && self.take(Told { role, majority_at, upto }, body) {
            true => Asked::Told,
            false => Asked::InVain,
        }
    }

    fn settle(&mut self, now: Mono, feed: Feed, asked: Asked) -> Duration {
        // The leader may have taken it in meanwhile.
        if !self.is_fed(feed) {
            self.tell_if_stale(now);
        }
        match asked {
            Asked::StillVotes => {
                self.turn = self.turn.wrapping_add(1);
                self.in_vain = 0;
                IDLE_WAIT
            }
            Asked::Told => {
                self.in_vain = 0;
                Duration::ZERO
            }
            Asked::InVain => {
                if self.turn == 0 {
                    self.left_at = now;
                }
                self.turn = self.turn.wrapping_add(1);
                self.in_vain += 1;
                self.state.assembly = None;
                TURN_WAIT
            }
        }
    }

    /// Consensus has ceased to feed this node: this is all that it had, and who it took for the leader.
    pub fn leave_consensus(&mut self, stored: StoredSnapshot, control: ControlState, role: Role) {
        // What was known of a majority before it voted is of no use, and of the leader it knows more now.
        self.state.heard = None;
        if role.term > self.state.role.term && role.leader.is_some() {
            self.state.role = Role { leading: false, ..role };
            self.tell_role();
        }
        if stored.last > self.state.last {
            self.state.restore((stored, control));
        }
    }

    /// Whom to ask, in this order, and whether the first of them is this member's place in the tree. Without
    /// the tree the voters, from a place on that differs for each member; any member if no voter is known
    /// or all of them were asked in vain.
    fn sources(&self, in_vain: usize) -> (Vec<PeerId>, bool) {
        let view = self.state.control.view();
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
        let voters = self.state.role.voters.iter().filter_map(|voter| known.get(voter).copied());
        let mut voters = from(voters.collect());
        if voters.is_empty() || in_vain > voters.len() {
            let others = known.iter().filter(|(id, _)| **id != self.own);
            return (from(others.map(|(_, peer)| *peer).collect()), false);
        }
        let overlay = Overlay::new(self.shape, &known, &self.state.role.voters);
        let source = overlay.source(self.own).and_then(|source| known.get(&source).copied());
        let Some(source) = source.filter(|_| !overlay.is_full()) else { return (voters, false) };
        voters.retain(|voter| *voter != source);
        voters.insert(0, source);
        (voters, true)
    }

    /// Says that no leader is known once nobody has told of a majority for too long.
    fn tell_if_stale(&mut self, now: Mono) {
        let is_stale = self.state.majority_age(now).is_some_and(|age| age > 2 * STALE_AFTER);
        if is_stale && self.state.role.leader.take().is_some() {
            self.tell_role();
        }
    }

    /// Answers a member that follows this one, which follows itself.
    pub fn serve(&mut self, now: Mono, wanted: &Wanted) -> RpcReply {
        let state = &mut self.state;
        let age = state.majority_age(now).filter(|age| *age < STALE_AFTER);
        // Whoever still catches up is as old as what it lacks, and does not know how old that is.
        let age = age.filter(|_| !state.behind);
        let body = match wanted.probe {
            true => Some(FollowBody::Entries(Vec::new())),
            false => state.what_follows(wanted.after, wanted.offset),
        };
        let Some((age, body)) = age.zip(body) else { return RpcReply::Unavailable };
        RpcReply::Follow {
            term: state.role.term,
            leader: state.role.leader,
            voters: state.role.voters.iter().copied().collect(),
            voters_at: state.voters_at,
            fed: state.voters.nodes.values().any(|peer| *peer == wanted.from),
            age_ms: age_ms(age, now.since(wanted.asked_at)),
            upto: state.last,
            body,
        }
    }

    fn take(&mut self, told: Told, body: FollowBody) -> bool {
        let Told { role, majority_at, upto } = told;
        let changes = match body {
            FollowBody::Entries(entries) if entries.is_empty() => None,
            FollowBody::Entries(entries) => {
                let mut changes = Vec::new();
                if !self.state.apply(entries, &mut changes) {
                    return false;
                }
                Some(changes)
            }
            FollowBody::Snapshot { last, total, offset, part } => {
                match self.state.assemble(Part { last, total, offset, bytes: &part.0 }) {
                    Assembled::More => None,
                    Assembled::Whole(_) => Some(vec![Change::Installed]),
                    Assembled::Unusable => return false,
                }
            }
        };
        if let Some(changes) = changes {
            self.tell_state(changes);
            self.effects.push(Effect::More);
        }
        self.save();
        self.state.behind = self.state.last < upto;
        self.state.hear(majority_at);
        // The one asked before may know of a newer leader.
        if role.term >= self.state.role.term && !role.voters.is_empty() {
            // A term in which nobody has won yet may never be heard of again.
            let term = if role.leader.is_some() { role.term } else { self.state.role.term };
            let role = Role { term, ..role };
            if self.state.role != role {
                self.state.role = role;
                self.tell_role();
            }
        }
        true
    }

    /// Saves the state now and then, so that a restart does not begin with nothing. What was
    /// committed is not lost with it, so nobody waits for the disk.
    fn save(&mut self) {
        let index = self.state.last.map_or(0, |last| last.index);
        if index < self.state.saved_index + self.save_every {
            return;
        }
        self.state.saved_index = index;
        self.effects.push(Effect::Save(self.state.snapshot()));
    }
}

/// The age of an answer when it was asked for: the time that it waited counts for whoever asks.
pub fn age_ms(age: Duration, waited: Duration) -> u32 {
    u32::try_from(age.saturating_sub(waited).as_millis()).unwrap_or(u32::MAX)
}

/// What an answer tells beside its body.
struct Told {
    role: Role,
    /// A majority followed the leader at this time, and all that was committed then is in `upto`.
    majority_at: Mono,
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
