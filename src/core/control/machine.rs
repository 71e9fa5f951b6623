//! The keeper of the view: takes what consensus tells, hands it on, and steers who votes.
//!
//! States: following, or leading; while leading, idle or with one voter change under way.
//!
//! Flow: consensus casts its events here and nowhere else, and what they say is told as news. A leader compares the roster with the voters after every change
//! of either and submits one step at a time; a step that failed is tried again a little later.
//!
//! Invariants:
//! 1. At most one voter change of this node is under way.
//! 2. The vote of a member that is silent is taken only when another one can have it, never to get a
//!    majority back.
//! 3. A step is submitted only with a majority's acknowledgement younger than a lease, and only a
//!    member that answers becomes a voter.
//! 4. The views that others get have rising indexes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Change, Member, View, roster};
use crate::core::consensus::{ConsensusEvent, Op, Quorum, Role, VoterChange};
use crate::core::ctx::{Ctx, Effect, Halt, Outbox, ReplyTo};
use crate::core::event::EventBody;
use crate::core::init::Init;
use crate::core::machine::{Machine, Service};
use crate::core::news::{Kind, News};
use crate::core::{election, front, gossip, peers};
use crate::messages::command::RosterCommand;
use crate::messages::wire::NoteBody;
use crate::types::limits::{LEASE_MS, VOTER_SILENT_MS, VOTERS_MAX};
use crate::types::{Level, MemberId, Mono, Term};

/// A step that nothing is heard of for this long did not reach consensus, or its end was lost.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// How far the term of a member that claims to lead may be ahead of ours: that many elections in the
/// time that this node can be cut off.
const TERMS_AHEAD_MAX: Term = 100_000;
/// How often the cluster is told what this build understands, until it knows.
const UPGRADE_RETRY: Duration = Duration::from_secs(2);
/// How long a voter is silent before another member votes in its place.
const VOTER_SILENT: Duration = Duration::from_millis(VOTER_SILENT_MS);
/// How long after a failed or finished step the voters are looked at again.
const VOTERS_RETRY: Duration = Duration::from_millis(100);

/// What the keeper of the view is told.
#[derive(Debug)]
pub enum Msg {
    /// By consensus.
    Consensus(ConsensusEvent),
    /// A member says that it leads.
    Leads {
        /// Since this term.
        term: Term,
        /// Who.
        leader: MemberId,
    },
}

/// A member says that it leads.
pub fn leads<R>(out: &mut Outbox<R>, term: Term, leader: MemberId) {
    out.cast(Msg::Leads { term, leader });
}

/// What the keeper of the view is asked.
#[derive(Debug)]
pub enum Request {
    /// The newest view and role.
    Current,
}

/// What it answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Newest view.
    pub view: Arc<View>,
    /// Newest role.
    pub role: Role,
}

/// The keeper of the view.
pub struct Control {
    own: MemberId,
    build: Level,
    /// When the cluster may be told again what this build understands.
    upgrade_at: Mono,
    view: Arc<View>,
    role: Role,
    /// The last claim of a member to lead that was told of.
    claimed: (Term, MemberId),
    quorum: Option<Quorum>,
    answering: BTreeSet<MemberId>,
    /// Since when each voter has not answered.
    silent_since: BTreeMap<MemberId, Mono>,
    /// When the step under way has ended at the latest.
    changing_until: Option<Mono>,
    /// The member that was to vote last; after a failure another one gets its turn.
    tried: MemberId,
    look_again_at: Option<Mono>,
}

impl Control {
    /// The keeper on this member, which knows nothing yet.
    pub fn new(own: MemberId, build: Level) -> Self {
        Self {
            own,
            build,
            upgrade_at: Mono(0),
            view: Arc::default(),
            role: Role::default(),
            claimed: (0, MemberId::default()),
            quorum: None,
            answering: BTreeSet::new(),
            silent_since: BTreeMap::new(),
            changing_until: None,
            tried: MemberId::default(),
            look_again_at: None,
        }
    }

    fn on_applied(&mut self, ctx: &mut Ctx<'_, Reply>, view: Arc<View>, changes: Vec<Change>) {
        if view.applied < self.view.applied {
            return;
        }
        let first = self.view.applied.is_none();
        let spoken = self.view.level.level;
        self.view = view;
        if first || self.view.level.level != spoken {
            self.note_level(ctx);
        }
        for event in changes.iter().filter_map(|change| change.event(&self.view)) {
            ctx.out.event(event);
        }
        if first || changes.iter().any(|change| !change.is_routine()) {
            ctx.out.tell(News::View(self.view.clone()));
        }
        ctx.out.tell(News::Applied { view: self.view.clone(), changes: changes.into() });
        self.tell_upgrade(ctx);
        self.steer_voters(ctx);
    }

    /// Speaks what the cluster speaks, or stops.
    fn note_level(&self, ctx: &mut Ctx<'_, Reply>) {
        if self.view.cluster.made.is_none() {
            return;
        }
        match roster::check_level(&self.view, self.build) {
            Ok(()) => ctx.out.effects.push(Effect::Speak(self.view.level.level)),
            Err(other) => ctx.out.halt(Halt::OtherLevel(other)),
        }
    }

    /// Tells the cluster what this build understands, where it has another one on record.
    fn tell_upgrade(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let known = self.view.roster.members.get(&self.own);
        if known.is_none_or(|member| member.level == self.build) {
            return;
        }
        if self.upgrade_at <= ctx.now {
            self.upgrade_at = ctx.now + UPGRADE_RETRY;
            let (member, level) = (self.own, self.build);
            front::propose(ctx.out, RosterCommand::Upgraded { member, level }.into());
        }
        self.look_again(ctx, self.upgrade_at);
    }

    fn on_role(&mut self, ctx: &mut Ctx<'_, Reply>, role: Role) {
        if role == self.role {
            return;
        }
        if (role.leader, role.term) != (self.role.leader, self.role.term) {
            ctx.out.event(EventBody::Leader { term: role.term, leader: role.leader });
        }
        if role.leading && !(self.role.leading && self.role.term == role.term) {
            gossip::tell(ctx.out, NoteBody::Leads { term: role.term });
        }
        if role.voters != self.role.voters {
            ctx.out.event(EventBody::Voters { voters: role.voters.iter().copied().collect() });
        }
        if !role.leading {
            self.quorum = None;
        }
        self.role = role.clone();
        self.note_silence(ctx.now);
        ctx.out.tell(News::Role(role));
        self.steer_voters(ctx);
    }

    /// A member says that it leads. Only told on, as what that member says: whom this node believes to
    /// lead, consensus says.
    fn on_leads(&mut self, ctx: &mut Ctx<'_, Reply>, term: Term, leader: MemberId) {
        let newer = term > self.role.term && term - self.role.term <= TERMS_AHEAD_MAX;
        if newer && self.claimed != (term, leader) {
            self.claimed = (term, leader);
            let body = EventBody::Leader { term, leader: Some(leader) };
            ctx.out.effects.push(Effect::Tell { member: leader, at: ctx.wall, body });
        }
    }

    fn note_silence(&mut self, now: Mono) {
        let silent = |voter: &MemberId| *voter != self.own && !self.answering.contains(voter);
        let since = |voter: MemberId| (voter, *self.silent_since.get(&voter).unwrap_or(&now));
        self.silent_since = self.role.voters.iter().copied().filter(silent).map(since).collect();
    }

    /// The next step from the voters that are to the voters that should be.
    fn next_step(&self, now: Mono) -> Option<VoterChange> {
        if self.role.joint {
            return Some(VoterChange::Settle);
        }
        let members: BTreeSet<MemberId> = self.view.roster.members.keys().copied().collect();
        // Leaving comes first: a dead voter that is no member any more only raises the majority.
        if let Some(gone) =
            self.role.voters.iter().find(|voter| !members.contains(voter) && **voter != self.own)
        {
            return Some(VoterChange::Remove(*gone));
        }
        // Whoever does not answer would only raise the majority.
        let fit = |member: &&Arc<Member>| {
            !self.role.voters.contains(&member.id) && self.answering.contains(&member.id)
        };
        let mut newcomers = self.view.roster.members.values().filter(fit);
        let first = newcomers.clone().next()?;
        if self.role.voters.len() >= VOTERS_MAX {
            // The one that is to vote instead gets its vote in the next step.
            let overdue = |since: Mono| now.since(since) >= VOTER_SILENT;
            let silent = self.silent_since.iter().find(|(_, since)| overdue(**since));
            return silent.map(|(voter, _)| VoterChange::Remove(*voter));
        }
        let next = newcomers.find(|member| member.id > self.tried).unwrap_or(first);
        Some(VoterChange::Add(next.id, next.peer))
    }

    fn steer_voters(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if !self.role.leading || self.role.voters.is_empty() {
            return;
        }
        if let Some(until) = self.changing_until.filter(|until| *until > ctx.now) {
            return self.look_again(ctx, until);
        }
        let Some(step) = self.next_step(ctx.now) else {
            let overdue = self.silent_since.values().map(|since| *since + VOTER_SILENT);
            if let Some(at) = overdue.filter(|at| *at > ctx.now).min() {
                self.look_again(ctx, at);
            }
            return;
        };
        let fresh = self.quorum.is_some_and(|quorum| {
            quorum.term == self.role.term
                && ctx.now.since(quorum.acked_at) < Duration::from_millis(LEASE_MS)
        });
        if fresh || self.role.voters.len() == 1 {
            self.changing_until = Some(ctx.now + STEP_TIMEOUT);
            if let VoterChange::Add(member, _) = step {
                self.tried = member;
            }
            ctx.out.submit(Op::Voters(step));
        } else {
            self.look_again(ctx, ctx.now + VOTERS_RETRY);
        }
    }

    fn look_again(&mut self, ctx: &mut Ctx<'_, Reply>, at: Mono) {
        let earlier = self.look_again_at.filter(|earlier| *earlier > ctx.now);
        let at = earlier.map_or(at, |earlier| earlier.min(at));
        self.look_again_at = Some(at);
        ctx.out.wake_at(at);
    }
}

impl Service for Control {
    fn init(init: &Init<'_>) -> Result<Self, String> {
        Ok(Self::new(init.run.member, init.settings.level))
    }
}

impl Machine for Control {
    const NAME: &'static str = "control";
    // Whoever is to vote has to be there for sure.
    const NEWS: &'static [Kind] = &[Kind::Linked];
    type Msg = Msg;
    type Request = Request;
    type Reply = Reply;

    fn on_start(&mut self, ctx: &mut Ctx<'_, Reply>) {
        ctx.out.submit(Op::Resync);
    }

    fn on_news(&mut self, ctx: &mut Ctx<'_, Reply>, news: News) {
        if let News::Linked(members) = news {
            self.answering = members;
            self.note_silence(ctx.now);
            self.steer_voters(ctx);
        }
    }

    fn on_msg(&mut self, ctx: &mut Ctx<'_, Reply>, msg: Msg) {
        let event = match msg {
            Msg::Consensus(event) => event,
            Msg::Leads { term, leader } => return self.on_leads(ctx, term, leader),
        };
        match event {
            ConsensusEvent::Applied { view, changes, .. } => self.on_applied(ctx, view, changes),
            ConsensusEvent::Answered { id, answer } => {
                front::answered(ctx.out, id, answer);
            }
            ConsensusEvent::ReadReady { nonce, index } => {
                front::read_indexed(ctx.out, nonce, index);
            }
            ConsensusEvent::Role(role) => self.on_role(ctx, role),
            ConsensusEvent::Heard { leader, at, .. } => ctx.out.tell(News::Heard { leader, at }),
            ConsensusEvent::Quorum(quorum) => {
                self.quorum = Some(quorum);
                ctx.out.tell(News::Quorum(quorum));
            }
            ConsensusEvent::TransferRefused => election::transfer_refused(ctx.out),
            ConsensusEvent::LogLost { member } => peers::log_lost(ctx.out, member),
            ConsensusEvent::VotersChanged { done } => {
                self.changing_until = None;
                if done {
                    self.steer_voters(ctx);
                } else {
                    self.look_again(ctx, ctx.now + VOTERS_RETRY);
                }
            }
        }
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, Reply>, Request::Current: Request, reply: ReplyTo) {
        ctx.out.reply(reply, Reply { view: self.view.clone(), role: self.role.clone() });
    }

    fn on_wake(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if self.look_again_at.is_some_and(|at| at <= ctx.now) {
            self.look_again_at = None;
            self.tell_upgrade(ctx);
            self.steer_voters(ctx);
        } else if let Some(at) = self.look_again_at {
            ctx.out.wake_at(at);
        }
    }
}

#[cfg(test)]
mod guards;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::{members as members_of, peer};

    /// Member 1 leads; these are members, voters, and answering.
    fn control(members: &[u64], voters: &[u64], answering: &[u64]) -> Control {
        let mut control = Control::new(MemberId(1), Level::FIRST);
        let members = members_of(members.iter().copied());
        control.view = Arc::new(View { roster: members, ..View::default() });
        control.role.voters = voters.iter().copied().map(MemberId).collect();
        control.role.leading = true;
        control.answering = answering.iter().copied().map(MemberId).collect();
        control
    }

    fn add(id: u64) -> Option<VoterChange> {
        Some(VoterChange::Add(MemberId(id), peer(id)))
    }

    #[test]
    fn only_a_member_that_answers_gets_a_vote() {
        assert_eq!(control(&[1, 2], &[1], &[]).next_step(Mono(0)), None);
        assert_eq!(control(&[1, 2, 3], &[1], &[3]).next_step(Mono(0)), add(3));
        assert_eq!(control(&[1, 2], &[1, 2], &[2]).next_step(Mono(0)), None, "all vote");
        let eight = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(
            control(&eight, &eight[..7], &eight[1..]).next_step(Mono(0)),
            None,
            "seven vote"
        );
    }

    #[test]
    fn a_member_that_could_not_catch_up_does_not_keep_others_from_voting() {
        let mut control = control(&[1, 2, 3], &[1], &[2, 3]);
        assert_eq!(control.next_step(Mono(0)), add(2));
        control.tried = MemberId(2);
        assert_eq!(control.next_step(Mono(0)), add(3));
        control.tried = MemberId(3);
        assert_eq!(control.next_step(Mono(0)), add(2), "and then it is tried again");
    }

    #[test]
    fn a_voter_that_is_silent_for_a_minute_is_replaced_if_another_member_can_vote() {
        let members = [1, 2, 3, 4, 5, 6, 7, 8];
        let minute = Mono(VOTER_SILENT_MS * 1_000);
        let mut control = control(&members, &members[..7], &[2, 3, 4, 5, 6, 8]);
        control.note_silence(Mono(0));
        control.note_silence(Mono(1));
        assert_eq!(control.next_step(Mono(minute.0 - 1)), None);
        assert_eq!(control.next_step(minute), Some(VoterChange::Remove(MemberId(7))));
        control.answering.remove(&MemberId(8));
        assert_eq!(control.next_step(minute), None, "nobody can vote instead");
        control.answering.extend([MemberId(7), MemberId(8)]);
        control.note_silence(minute);
        control.answering.remove(&MemberId(7));
        control.note_silence(minute);
        assert_eq!(control.next_step(minute), None, "it has answered meanwhile");
    }

    #[test]
    fn who_is_no_member_loses_its_vote_before_another_one_gets_one() {
        let remove = Some(VoterChange::Remove(MemberId(2)));
        assert_eq!(control(&[1, 3], &[1, 2], &[3]).next_step(Mono(0)), remove);
        assert_eq!(control(&[2, 3], &[1, 2, 3], &[2, 3]).next_step(Mono(0)), None, "not by itself");
    }

    #[test]
    fn a_change_that_was_left_half_done_is_ended_first() {
        let mut control = control(&[1, 3], &[1, 2], &[3]);
        control.role.joint = true;
        assert_eq!(control.next_step(Mono(0)), Some(VoterChange::Settle));
    }
}
