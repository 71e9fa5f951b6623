//! The keeper of the view: takes what consensus tells, and tells it as news.
//!
//! Flow: consensus casts its events here and nowhere else. What they say becomes news, or goes to the
//! one machine that it is for. It also sees to it that this node speaks what the cluster speaks, and that
//! the cluster knows what this build understands.
//!
//! Invariants:
//! 1. The views that others get have rising indexes.
//! 2. A node whose build does not speak the level of its cluster stops.

use std::sync::Arc;
use std::time::Duration;

use super::{Change, View};
use crate::core::consensus::{ConsensusEvent, Op, Role};
use crate::core::ctx::{Ctx, Effect, Halt, Outbox, ReplyTo};
use crate::core::event::EventBody;
use crate::core::init::Init;
use crate::core::machine::{Machine, Service};
use crate::core::news::{Applied, Heard, News};
use crate::core::refusal::Refusal;
use crate::core::{election, front, gossip, orchestrator, peers};
use crate::messages::command::{Refused, RosterCommand};
use crate::messages::wire::NoteBody;
use crate::types::{Level, MemberId, Mono, ProposalId, Term};

/// How far the term of a member that claims to lead may be ahead of ours: that many elections in the
/// time that this node can be cut off.
const TERMS_AHEAD_MAX: Term = 100_000;
/// How often the cluster is told what this build understands, until it knows.
const UPGRADE_RETRY: Duration = Duration::from_secs(2);

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
    /// How that was told last, while it is not decided.
    upgrade: Option<ProposalId>,
    view: Arc<View>,
    role: Role,
    /// The last claim of a member to lead that was told of.
    claimed: (Term, MemberId),
    look_again_at: Option<Mono>,
}

impl Control {
    /// The keeper on this member, which knows nothing yet.
    pub fn new(own: MemberId, build: Level) -> Self {
        Self {
            own,
            build,
            upgrade_at: Mono(0),
            upgrade: None,
            view: Arc::default(),
            role: Role::default(),
            claimed: (0, MemberId::default()),
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
        ctx.out.tell(News::Applied(Applied { view: self.view.clone(), changes: changes.into() }));
        self.tell_upgrade(ctx);
    }

    /// Speaks what the cluster speaks, or stops.
    fn note_level(&self, ctx: &mut Ctx<'_, Reply>) {
        if self.view.cluster.made.is_none() {
            return;
        }
        let level = self.view.level.level;
        if level > self.build {
            // The cluster has no way back.
            let other = Refused::OtherLevel { build: self.build, level };
            return ctx.out.halt(Halt::OtherLevel(other));
        }
        // An older one may be what is replayed from long ago; that the cluster is still there is said where
        // this build is to become known (`on_decided`).
        ctx.out.effects.push(Effect::Speak(level.max(self.build.oldest_spoken())));
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
            self.upgrade = Some(ctx.propose(RosterCommand::Upgraded { member, level }));
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
        self.role = role.clone();
        ctx.out.tell(News::Role(role));
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
    type Msg = Msg;
    type Request = Request;
    type Reply = Reply;

    fn on_start(&mut self, ctx: &mut Ctx<'_, Reply>) {
        ctx.out.submit(Op::Resync);
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
            ConsensusEvent::Heard { leader, at, .. } => {
                ctx.out.tell(News::Heard(Heard { leader, at }));
            }
            ConsensusEvent::Quorum(quorum) => ctx.out.tell(News::Quorum(quorum)),
            ConsensusEvent::TransferRefused => election::transfer_refused(ctx.out),
            ConsensusEvent::LogLost { member } => peers::log_lost(ctx.out, member),
            ConsensusEvent::VotersChanged { done } => {
                orchestrator::voters_changed(ctx.out, done);
            }
        }
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, Reply>, Request::Current: Request, reply: ReplyTo) {
        ctx.out.reply(reply, Reply { view: self.view.clone(), role: self.role.clone() });
    }

    fn on_decided(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        id: ProposalId,
        result: Result<front::Written, Refusal>,
    ) {
        if self.upgrade.take_if(|upgrade| *upgrade == id).is_some()
            && let Err(Refusal::Refused(other @ Refused::OtherLevel { .. })) = result
        {
            ctx.out.halt(Halt::OtherLevel(other));
        }
    }

    fn on_wake(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if self.look_again_at.is_some_and(|at| at <= ctx.now) {
            self.look_again_at = None;
            self.tell_upgrade(ctx);
        } else if let Some(at) = self.look_again_at {
            ctx.out.wake_at(at);
        }
    }
}

#[cfg(test)]
mod guards;
