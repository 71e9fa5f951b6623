//! The orchestrator: sees to the duties of the leader (SLURP, in the words of the plan).
//!
//! It takes the duties (`core::duties`) when its node begins to lead and gives them up when it stops
//! leading, and says so. It shows each duty what the node sees, has its steps carried out, and keeps a
//! table of what each did last, what it plans, why, and when it looks again. The leader's table goes to
//! all voters with the scores, so all show the same, and a new leader goes on from it.
//!
//! Invariants:
//! 1. On duty implies that this node led in that term when it was last told.
//! 2. Duties of an older term end before those of a newer one begin.
//! 3. A duty has one step under way at most, and none that is paused takes one.
//! 4. The table that is shown is one that was told: that of the highest term, and of that the newest, that this node
//!    knows. So the leader shows what the others show.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::core::consensus::{Op, Quorum};
use crate::core::ctx::{Ctx, Outbox, ReplyTo};
use crate::core::duties::{self, Duty, Look, Sight, Step};
use crate::core::event::EventBody;
use crate::core::front::Written;
use crate::core::init::Init;
use crate::core::machine::{Hears, Machine, Service};
use crate::core::news::{Kind, News};
use crate::core::refusal::Refusal;
use crate::core::standing::Standing;
use crate::messages::wire::{DutyRow, DutyStep, DutyTable, OrchestratorMessage};
use crate::types::limits::DUTY_TEXT_MAX;
use crate::types::{MemberId, Mono, PeerId, ProposalId, Term, Wall};

/// How soon a duty is looked at again whose step failed.
const RETRY: Duration = Duration::from_millis(100);
/// How often it is told at most when a duty looks again, where nothing else is new.
const LOOKS_INTERVAL: Duration = Duration::from_secs(1);

/// What the orchestrator is told.
#[derive(Debug)]
pub enum Msg {
    /// A voter change ended.
    VotersChanged {
        /// Whether it took place.
        done: bool,
    },
    /// This node has all that it gains with the next layout.
    Gained {
        /// It.
        member: MemberId,
        /// Version of the layout.
        layout: u64,
    },
    /// The leader tells what its duties have done.
    Told(DutyTable),
    /// A message arrived.
    Message {
        /// Authenticated sender.
        from: PeerId,
        /// The message.
        message: OrchestratorMessage,
    },
}

/// A voter change of this node has ended.
pub fn voters_changed<R>(out: &mut Outbox<R>, done: bool) {
    out.cast(Msg::VotersChanged { done });
}

/// This member has all that it gains with this layout.
pub fn gained<R>(out: &mut Outbox<R>, member: MemberId, layout: u64) {
    out.cast(Msg::Gained { member, layout });
}

/// The leader has told what its duties have done.
pub fn told<R>(out: &mut Outbox<R>, duties: DutyTable) {
    out.cast(Msg::Told(duties));
}

/// What the orchestrator is asked.
#[derive(Debug)]
pub enum Request {
    /// Whether it is on duty, and what the duties have done.
    Status,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Term of the duties, none while another node has them.
    pub on_duty: Option<Term>,
    /// Since when that is so.
    pub since: Mono,
    /// What the duties of the leader have done and plan, as far as this node knows.
    pub table: Arc<DutyTable>,
    /// Duties that are paused.
    pub paused: BTreeSet<String>,
}

/// What is under way.
#[derive(Debug, PartialEq, Eq)]
enum Under {
    Proposal(ProposalId),
    Voters,
}

/// A duty, and its step that is under way.
struct Tended {
    duty: Box<dyn Duty>,
    step: Option<(Under, String, Mono)>,
    /// When it asked to be looked at again.
    again: Option<Mono>,
    /// Until then it is not looked at: its step has just failed.
    not_before: Mono,
}

/// The orchestrator of one node.
pub struct Orchestrator {
    own_peer: PeerId,
    standing: Standing,
    linked: BTreeSet<MemberId>,
    quorum: Option<Quorum>,
    duties: Vec<Tended>,
    on_duty: Option<Term>,
    since: Mono,
    /// As it stands.
    table: Arc<DutyTable>,
    /// As it was told last, by this leader or another one, and when.
    told: Arc<DutyTable>,
    told_at: Mono,
}

/// Text for people, no longer than what others take.
fn short(mut text: String) -> String {
    if text.len() > DUTY_TEXT_MAX {
        let cut = (0..=DUTY_TEXT_MAX - 3).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        text.push('…');
    }
    text
}

impl Orchestrator {
    /// The orchestrator of a member that has just started, with these duties.
    pub fn new(own: MemberId, own_peer: PeerId, duties: Vec<Box<dyn Duty>>, now: Mono) -> Self {
        let tended = |duty| Tended { duty, step: None, again: None, not_before: now };
        Self {
            own_peer,
            standing: Standing::new(own),
            linked: BTreeSet::new(),
            quorum: None,
            duties: duties.into_iter().map(tended).collect(),
            on_duty: None,
            since: now,
            table: Arc::default(),
            told: Arc::default(),
            told_at: now,
        }
    }

    fn on_role(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let role = &self.standing.role;
        let duty = role.leading.then_some(role.term);
        if duty == self.on_duty {
            return;
        }
        if let Some(term) = self.on_duty.take() {
            ctx.out.event(EventBody::Duty { on_duty: false, term });
        }
        self.on_duty = duty;
        self.since = ctx.now;
        if let Some(term) = duty {
            ctx.out.event(EventBody::Duty { on_duty: true, term });
            self.begin(ctx, term);
        }
    }

    /// Takes the duties over: what they did last, another leader has told.
    fn begin(&mut self, ctx: &mut Ctx<'_, Reply>, term: Term) {
        let (now, wall) = (ctx.now, ctx.wall);
        let (standing, linked, quorum) = (&self.standing, &self.linked, self.quorum);
        let mut rows = Vec::with_capacity(self.duties.len());
        for tended in &mut self.duties {
            // Consensus may still be at a change of voters of an earlier term, and says how it ends.
            tended.step.take_if(|(under, ..)| *under != Under::Voters);
            tended.not_before = now;
            tended.duty.begin(&Sight { now, wall, standing, linked, quorum });
            let name = tended.duty.name();
            let known = self.table.rows.iter().find(|row| row.name == name);
            let last = known.and_then(|row| row.last.clone());
            rows.push(DutyRow { name: name.to_owned(), last, ..DutyRow::default() });
        }
        // Started again in the same term, it goes on counting from what it has told before.
        let version = if self.table.term == term { self.table.version } else { 0 };
        self.table = Arc::new(DutyTable { term, version, rows });
    }

    /// Looks at every duty that has nothing under way.
    fn tend(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if self.on_duty.is_none() {
            return;
        }
        let (now, wall) = (ctx.now, ctx.wall);
        let (standing, linked, quorum) = (&self.standing, &self.linked, self.quorum);
        for tended in &mut self.duties {
            tended.duty.sees(&Sight { now, wall, standing, linked, quorum });
        }
        for at in 0..self.duties.len() {
            self.tend_one(ctx, at);
        }
        self.tell(ctx);
        let tended = self.duties.iter();
        let due = tended.filter_map(|tended| match &tended.step {
            Some((_, _, until)) => Some(*until),
            None => tended.again.map(|again| again.max(tended.not_before)),
        });
        if let Some(at) = due.min() {
            ctx.out.wake_at(at.max(ctx.now + Duration::from_millis(1)));
        }
    }

    fn tend_one(&mut self, ctx: &mut Ctx<'_, Reply>, at: usize) {
        let (now, wall) = (ctx.now, ctx.wall);
        let tended = &mut self.duties[at];
        if let Some((_, what, until)) = &tended.step {
            if *until > now {
                return;
            }
            let what = what.clone();
            self.end(ctx, at, what, "nobody knows: no answer came in time".into(), false);
        }
        let Self { standing, linked, quorum, duties, table, .. } = self;
        let tended = &mut duties[at];
        let name = tended.duty.name();
        let look = if standing.view.duties.paused.contains(name) {
            Look::rest("it is paused; `bzzz slurp resume` goes on")
        } else if tended.not_before > now {
            tended.again = Some(tended.not_before);
            return;
        } else {
            tended.duty.look(&Sight { now, wall, standing, linked, quorum: *quorum })
        };
        tended.again = look.again;
        let row = &mut Arc::make_mut(table).rows[at];
        (row.plan, row.why) = (short(look.plan), short(look.why));
        row.again_at = look.again.map(|again| wall.plus(again.since(now)));
        let Some((step, what)) = look.step else { return };
        let until = now + tended.duty.step_timeout();
        let under = match step {
            Step::Propose(command) => Under::Proposal(ctx.propose(command)),
            Step::Voters(change) => {
                ctx.out.submit(Op::Voters(change));
                Under::Voters
            }
        };
        row.again_at = Some(wall.plus(until.since(now)));
        tended.step = Some((under, short(what), until));
    }

    fn end(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        at: usize,
        what: String,
        outcome: String,
        done: bool,
    ) {
        let tended = &mut self.duties[at];
        tended.step = None;
        tended.not_before = if done { ctx.now } else { ctx.now + RETRY };
        tended.duty.ended(ctx.now, done);
        let table = Arc::make_mut(&mut self.table);
        let (term, at_wall, outcome) = (table.term, ctx.wall, short(outcome));
        table.rows[at].last = Some(DutyStep { what, term, at: at_wall, outcome });
    }

    /// The step that is under way as this ended.
    fn ended(&mut self, ctx: &mut Ctx<'_, Reply>, under: &Under, result: Result<(), String>) {
        let is_it = |tended: &Tended| tended.step.as_ref().is_some_and(|(step, ..)| step == under);
        let Some(at) = self.duties.iter().position(is_it) else { return };
        let Some((_, what, _)) = self.duties[at].step.take() else { return };
        if self.on_duty.is_none() {
            // The table is another leader's by now.
            return;
        }
        let done = result.is_ok();
        let outcome =
            result.err().map_or_else(|| "done".to_owned(), |why| format!("not done: {why}"));
        self.end(ctx, at, what, outcome, done);
        self.tell(ctx);
        self.tend(ctx);
    }

    /// Tells the table if something in it is another one.
    fn tell(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if self.is_news(ctx.now, ctx.wall) {
            Arc::make_mut(&mut self.table).version += 1;
            (self.told, self.told_at) = (self.table.clone(), ctx.now);
            ctx.out.tell(News::Duties(self.table.clone()));
        }
    }

    /// Whether others have to hear of it. When a duty looks again they hear once they would take it to be late, or
    /// wait for longer than it does.
    fn is_news(&self, now: Mono, wall: Wall) -> bool {
        let rows = || self.table.rows.iter().zip(&self.told.rows);
        let is_same = |(one, told): (&DutyRow, &DutyRow)| {
            (&one.last, &one.plan, &one.why) == (&told.last, &told.plan, &told.why)
        };
        let is_off = |(one, told): (&DutyRow, &DutyRow)| match (one.again_at, told.again_at) {
            (Some(again), Some(told)) => {
                again != told && (told <= wall || again.plus(LOOKS_INTERVAL) < told)
            }
            (again, told) => again != told,
        };
        (self.table.term, self.table.version) != (self.told.term, self.told.version)
            || self.table.version == 0
            || !rows().all(is_same)
            || now.since(self.told_at) >= LOOKS_INTERVAL && rows().any(is_off)
    }

    /// Takes over what another leader tells, or this one has told.
    fn learn(&mut self, now: Mono, table: Arc<DutyTable>) {
        let newer = (table.term, table.version) > (self.table.term, self.table.version);
        if newer && self.on_duty.is_none() {
            (self.table, self.told, self.told_at) = (table.clone(), table, now);
        }
    }

    fn on_gained(&mut self, ctx: &mut Ctx<'_, Reply>, member: MemberId, layout: u64) {
        for tended in &mut self.duties {
            tended.duty.gained(member, layout);
        }
        self.tend(ctx);
    }
}

impl Service for Orchestrator {
    fn init(init: &Init<'_>) -> Result<Self, String> {
        Ok(Self::new(init.run.member, init.run.peer, duties::all(init), init.now))
    }
}

impl Hears<OrchestratorMessage> for Orchestrator {
    fn heard(from: PeerId, message: OrchestratorMessage) -> Msg {
        Msg::Message { from, message }
    }
}

impl Machine for Orchestrator {
    const NAME: &'static str = "orchestrator";
    const NEWS: &'static [Kind] = &[
        Kind::Duties,
        Kind::View,
        Kind::Answering,
        Kind::Linked,
        Kind::Quorum,
        Kind::Clocks,
        Kind::Role,
    ];
    type Msg = Msg;
    type Request = Request;
    type Reply = Reply;

    fn on_start(&mut self, _ctx: &mut Ctx<'_, Reply>) {}

    fn on_news(&mut self, ctx: &mut Ctx<'_, Reply>, news: News) {
        self.standing.on_news(ctx.now, &news);
        match news {
            News::Role(_) => self.on_role(ctx),
            News::Linked(linked) => self.linked = linked,
            // What it has told itself before it was started again.
            News::Duties(table) => return self.learn(ctx.now, table),
            // It comes with every round; whoever waits for it looks again soon.
            News::Quorum(quorum) => {
                self.quorum = Some(quorum);
                return;
            }
            _ => {}
        }
        self.tend(ctx);
    }

    fn on_msg(&mut self, ctx: &mut Ctx<'_, Reply>, msg: Msg) {
        match msg {
            Msg::VotersChanged { done } => {
                let result = if done { Ok(()) } else { Err("it could not take place".into()) };
                self.ended(ctx, &Under::Voters, result);
            }
            Msg::Gained { member, layout } => self.on_gained(ctx, member, layout),
            Msg::Told(table) => self.learn(ctx.now, Arc::new(table)),
            Msg::Message { from, message: OrchestratorMessage::Gained { layout } } => {
                let member = self.standing.view.member_of(from).map(|member| member.id);
                if let Some(member) = member.filter(|_| from != self.own_peer) {
                    self.on_gained(ctx, member, layout);
                }
            }
        }
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, Reply>, Request::Status: Request, reply: ReplyTo) {
        let (table, paused) = (self.told.clone(), self.standing.view.duties.paused.clone());
        ctx.out.reply(reply, Reply { on_duty: self.on_duty, since: self.since, table, paused });
    }

    fn on_wake(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.tend(ctx);
    }

    fn on_decided(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        id: ProposalId,
        result: Result<Written, Refusal>,
    ) {
        let result = result.map(drop).map_err(|refusal| refusal.to_string());
        self.ended(ctx, &Under::Proposal(id), result);
    }
}

#[cfg(test)]
mod tests;
