//! The machine of the election.

mod leases;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::candidacy::Candidacy;
use super::handover::{Challenge, Handover, Step, evaluation_due};
use crate::core::consensus::{Op, Role};
use crate::core::control::View;
use crate::core::ctx::{Ctx, Effect, Outbox, ReplyTo};
use crate::core::duties::evaluation;
use crate::core::election::lease::{Grantor, HELD_FOR, Holder, Lease};
use crate::core::event::EventBody;
use crate::core::fitness::{self, Inputs, Weights};
use crate::core::init::Init;
use crate::core::machine::{Hears, Machine, Service};
use crate::core::news::{Heard, Host, Kind, News};
use crate::core::orchestrator;
use crate::core::overlay::Shape;
use crate::messages::wire::{DutyTable, ElectionMessage, LinkReport, Message, Report, ScoreTable};
use crate::types::host::{Capabilities, Load};
use crate::types::journal::DiskState;
use crate::types::limits::LEASE_IDLE_MS;
use crate::types::metrics;
use crate::types::{MemberId, Mono, PeerId, Wall};

/// A report older than this says nothing about its sender any more.
const REPORT_TTL: Duration = Duration::from_secs(5);

/// What the election is configured with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Weights of the criteria.
    pub weights: Weights,
    /// Time between two evaluations of a healthy leader.
    pub interval: Duration,
    /// How a large cluster is laid out.
    pub shape: Shape,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            weights: Weights::default(),
            interval: Duration::from_secs(86_400),
            shape: Shape::default(),
        }
    }
}

/// What the election is told.
#[derive(Debug)]
pub enum Msg {
    /// A write is under way: hold a lease.
    LeaseWanted,
    /// A message arrived.
    Message {
        /// Authenticated sender.
        from: PeerId,
        /// The message.
        message: ElectionMessage,
    },
    /// Consensus did not start the transfer; the target is not ready.
    TransferRefused,
    /// Hand leadership over, if this node has it: it is stopping, or a service gave up.
    Resign {
        /// Why, for the event.
        reason: String,
    },
    /// An operator wants another leader.
    Transfer {
        /// Whom; the fittest other voter if none is named.
        to: Option<MemberId>,
    },
}

/// A write is under way: a lease is to be held.
pub fn want_lease<R>(out: &mut Outbox<R>) {
    out.cast(Msg::LeaseWanted);
}

/// Leadership is to be handed over, if this node has it, for this reason.
pub fn resign<R>(out: &mut Outbox<R>, reason: String) {
    out.cast(Msg::Resign { reason });
}

/// An operator wants this member to lead, or the fittest other voter.
pub fn transfer<R>(out: &mut Outbox<R>, to: Option<MemberId>) {
    out.cast(Msg::Transfer { to });
}

/// Consensus did not start a transfer.
pub fn transfer_refused<R>(out: &mut Outbox<R>) {
    out.cast(Msg::TransferRefused);
}

/// What the election is asked.
#[derive(Debug)]
pub enum Request {
    /// Scores, leader, next evaluation.
    Status,
}

/// What it answers.
#[derive(Clone, Debug)]
pub struct Status {
    /// Role as this node sees it.
    pub role: Role,
    /// The last table that it saw.
    pub table: ScoreTable,
    /// What the scores were computed from; only the leader knows.
    pub inputs: BTreeMap<MemberId, Inputs>,
    /// Weights in force on this node.
    pub weights: Weights,
    /// When the next evaluation is due.
    pub next_evaluation: Wall,
    /// Who is to take over, while a handover is under way.
    pub handover: Option<MemberId>,
    /// This node's lease and what is left of it.
    pub lease: Option<(u64, Duration)>,
}

/// The answer to a request.
pub type Reply = Box<Status>;

/// The election on one node.
pub struct Election {
    own: MemberId,
    own_peer: PeerId,
    settings: Settings,
    role: Role,
    view: Arc<View>,
    candidacy: Candidacy,
    answering: BTreeSet<MemberId>,
    disk: DiskState,
    links: BTreeMap<MemberId, LinkReport>,
    reports: BTreeMap<MemberId, (Report, Mono)>,
    inputs: BTreeMap<MemberId, Inputs>,
    table: ScoreTable,
    /// What the duties of this node have done, while it leads.
    duties: Arc<DutyTable>,
    challenge: Challenge,
    handover: Option<Handover>,
    holder: Holder,
    grantor: Grantor,
    told: Option<Lease>,
    wanted_until: Mono,
    look_at: Mono,
    /// When a lease was asked for last.
    asked_at: Mono,
    /// Whom to ask for a lease instead of the leader, in a large cluster.
    source: Option<PeerId>,
    is_large: bool,
    /// Questions to the source in a row that brought no lease.
    in_vain: u32,
    /// Until then the leader is asked, because the source has nothing to pass on.
    direct_until: Mono,
    /// Until then a lease that was passed on may be held.
    passed_until: Mono,
}

impl Election {
    /// The election on a member that has just started.
    pub fn new(own: MemberId, own_peer: PeerId, settings: Settings, now: Mono) -> Self {
        Self {
            own,
            own_peer,
            settings,
            role: Role::default(),
            view: Arc::default(),
            candidacy: Candidacy::new(own, now),
            answering: BTreeSet::new(),
            disk: DiskState::default(),
            links: BTreeMap::new(),
            reports: BTreeMap::new(),
            inputs: BTreeMap::new(),
            table: ScoreTable::default(),
            duties: Arc::default(),
            challenge: Challenge::default(),
            handover: None,
            holder: Holder::default(),
            grantor: Grantor::new(now),
            told: None,
            wanted_until: Mono(0),
            look_at: Mono(0),
            asked_at: Mono(0),
            source: None,
            is_large: false,
            in_vain: 0,
            direct_until: Mono(0),
            // What was passed on before this machine was started may still be held.
            passed_until: now + HELD_FOR,
        }
    }

    fn sole_voter(&self) -> bool {
        self.role.voters.len() == 1 && self.role.voters.contains(&self.own)
    }

    fn leader_peer(&self) -> Option<PeerId> {
        self.role
            .leader
            .filter(|leader| *leader != self.own)
            .and_then(|leader| self.view.peer_of(leader))
    }

    // ---- Scores ----------------------------------------------------------------------------

    fn on_report(&mut self, ctx: &mut Ctx<'_, Reply>, from: PeerId, report: Report) {
        let Some(member) = self.view.member_of(from).map(|member| member.id) else { return };
        if report.capabilities.is_bounded()
            && report.links.len() <= crate::types::limits::MEMBERS_MAX
        {
            self.reports.insert(member, (report, ctx.now));
        }
        if self.role.leading {
            let (scores, duties) = (self.table.clone(), (*self.duties).clone());
            let table = ElectionMessage::Table { scores, duties };
            ctx.out.send(from, Message::Election(table));
        }
    }

    fn on_table(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        from: PeerId,
        table: ScoreTable,
        duties: DutyTable,
    ) {
        if Some(from) == self.leader_peer() && duties.is_bounded() {
            orchestrator::told(ctx.out, duties);
        }
        let newer = (table.term, table.version) > (self.table.term, self.table.version);
        let bounded = table.scores.len() <= crate::types::limits::VOTERS_MAX * 2;
        if Some(from) == self.leader_peer() && newer && bounded {
            self.table = table;
        }
    }

    /// A node that can't write can't promise anything: it neither leads nor runs.
    fn on_disk(&mut self, ctx: &mut Ctx<'_, Reply>, disk: DiskState) {
        self.disk = disk;
        match disk {
            DiskState::Writable => self.run_or_wait(ctx),
            DiskState::Full => self.resign(ctx, None, "the disk of the leader is full".into()),
            DiskState::Failed => self.resign(ctx, None, "the disk of the leader failed".into()),
        }
    }

    fn on_host(&mut self, ctx: &mut Ctx<'_, Reply>, capabilities: Capabilities, load: Load) {
        let report = Report { load, capabilities, links: self.links.clone() };
        if self.role.leading {
            self.reports.insert(self.own, (report, ctx.now));
            self.evaluate(ctx);
        } else if let Some(leader) = self.leader_peer()
            && (!self.is_large || self.role.voters.contains(&self.own))
        {
            ctx.out.send(leader, Message::Election(ElectionMessage::Report(report)));
        }
    }

    /// The leader computes the one table that everybody ranks by.
    fn evaluate(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.reports.retain(|_, (_, at)| ctx.now.since(*at) < REPORT_TTL);
        let reports =
            self.reports.iter().map(|(member, (report, _))| (*member, report.clone())).collect();
        let voters: Vec<MemberId> = self.role.voters.iter().copied().collect();
        self.inputs = fitness::inputs(&reports, &voters);
        let weights = &self.settings.weights;
        let scores =
            self.inputs.iter().map(|(m, inputs)| (*m, fitness::score(inputs, weights))).collect();
        self.table = ScoreTable { term: self.role.term, version: self.table.version + 1, scores };
        self.reconsider(ctx);
    }

    fn reconsider(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let due = evaluation_due(ctx.wall, self.view.evaluation.at, self.settings.interval)
            && self.view.cluster.made.is_some()
            // Nobody would note it, and the small margin would hold for good.
            && !self.view.duties.paused.contains(evaluation::NAME);
        // Only who answers and has reported can take over.
        let candidates = self
            .table
            .scores
            .iter()
            .filter(|(m, _)| {
                **m == self.own || (self.answering.contains(m) && self.reports.contains_key(m))
            })
            .map(|(member, scores)| (*member, *scores))
            .collect();
        if let Some((to, reason)) = self.challenge.look(ctx.now, self.own, &candidates, due) {
            self.hand_over(ctx, to, reason);
        }
    }

    // ---- Handing over ----------------------------------------------------------------------

    fn hand_over(&mut self, ctx: &mut Ctx<'_, Reply>, to: MemberId, reason: String) {
        if !self.role.leading
            || self.handover.is_some()
            || to == self.own
            || !self.role.voters.contains(&to)
        {
            return;
        }
        ctx.out.event(EventBody::Handover { to, reason });
        self.handover = Some(Handover::new(to, ctx.now));
        let term = self.role.term;
        for holder in self.grantor.close(ctx.now) {
            ctx.out.send(holder, Message::Election(ElectionMessage::LeaseRevoke { term }));
        }
        self.holder.drop_through(term);
        self.tell_lease(ctx);
        self.tend_handover(ctx);
    }

    fn tend_handover(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let Some(handover) = &mut self.handover else { return };
        let to = handover.to;
        match handover.step(ctx.now, self.grantor.held_until(ctx.now)) {
            Step::Wait(at) => ctx.out.wake_at(at),
            Step::Ask => {
                ctx.out.wake_at(handover.next_ask());
                ctx.out.submit(Op::Transfer { to });
            }
            Step::Spent => {}
        }
    }

    fn resign(&mut self, ctx: &mut Ctx<'_, Reply>, to: Option<MemberId>, reason: String) {
        let has_room = |voter: &MemberId| {
            self.reports.get(voter).is_none_or(|(report, _)| report.load.disk_free_mb > 0)
        };
        let others = self
            .role
            .voters
            .iter()
            .copied()
            .filter(|v| *v != self.own && self.answering.contains(v) && has_room(v));
        let to = to.or_else(|| fitness::ranking(&self.table.scores, others).first().copied());
        if let Some(to) = to {
            self.hand_over(ctx, to, reason);
        }
    }

    // ---- Role ------------------------------------------------------------------------------

    fn on_role(&mut self, ctx: &mut Ctx<'_, Reply>, role: Role) {
        let new_term = role.term != self.role.term;
        let lost = self.role.leading && !role.leading;
        let same = self.role.voters == role.voters;
        self.role = role;
        if !same {
            self.find_source();
        }
        if new_term || lost {
            self.grantor.reset();
            self.handover = None;
            self.challenge = Challenge::default();
        }
        if lost {
            // It heard nobody while it led; without this it would run against its successor at once.
            self.candidacy.heard(self.own, ctx.now);
        }
        if new_term {
            self.holder.drop_through(self.role.term.saturating_sub(1));
            self.tell_lease(ctx);
        }
        self.run_or_wait(ctx);
        self.tend_lease(ctx);
    }

    fn run_or_wait(&mut self, ctx: &mut Ctx<'_, Reply>) {
        if self.role.leading
            || !self.role.voters.contains(&self.own)
            || self.disk != DiskState::Writable
        {
            return;
        }
        let rtt = self.links.values().map(|link| link.rtt_us).max().unwrap_or(0);
        let rtt = Duration::from_micros(u64::from(rtt)).min(Duration::from_millis(200));
        match self.candidacy.decide(ctx.now, &self.role.voters, &self.table.scores, rtt, ctx.rng) {
            Ok(()) => {
                ctx.out.submit(Op::Elect);
                ctx.out
                    .wake_at(ctx.now + Duration::from_millis(crate::types::limits::ELECT_RETRY_MS));
            }
            Err(at) => ctx.out.wake_at(at),
        }
    }

    fn status(&self, ctx: &Ctx<'_, Reply>) -> Status {
        Status {
            role: self.role.clone(),
            table: self.table.clone(),
            inputs: self.inputs.clone(),
            weights: self.settings.weights,
            next_evaluation: self.view.evaluation.at.plus(self.settings.interval),
            handover: self.handover.as_ref().map(|handover| handover.to),
            lease: self.holder.lease(ctx.now).map(|lease| (lease.term, lease.until.since(ctx.now))),
        }
    }
}

impl Service for Election {
    fn init(init: &Init<'_>) -> Result<Self, String> {
        let settings = Settings { shape: init.settings.shape, ..init.settings.election.clone() };
        Ok(Self::new(init.run.member, init.run.peer, settings, init.now))
    }
}

impl Hears<ElectionMessage> for Election {
    fn heard(from: PeerId, message: ElectionMessage) -> Msg {
        Msg::Message { from, message }
    }
}

impl Machine for Election {
    const NAME: &'static str = "election";
    const NEWS: &'static [Kind] = &[
        Kind::View,
        Kind::Role,
        Kind::Quorum,
        Kind::Heard,
        Kind::Answering,
        Kind::Disk,
        Kind::Links,
        Kind::Host,
        Kind::Duties,
    ];
    type Msg = Msg;
    type Request = Request;
    type Reply = Reply;

    fn on_start(&mut self, ctx: &mut Ctx<'_, Reply>) {
        // What its predecessor held, this one can't give back.
        ctx.out.tell(News::Lease(None));
        self.run_or_wait(ctx);
    }

    fn on_news(&mut self, ctx: &mut Ctx<'_, Reply>, news: News) {
        match news {
            News::Role(role) => self.on_role(ctx, role),
            News::Heard(Heard { leader, at }) => self.candidacy.heard(leader, at),
            News::Quorum(quorum) => {
                self.grantor.on_quorum(quorum);
                self.tend_lease(ctx);
            }
            News::View(view) => {
                let same = Arc::ptr_eq(&self.view.roster, &view.roster);
                self.view = view;
                if !same {
                    self.find_source();
                }
            }
            News::Answering(members) => self.answering = members,
            News::Links(links) => {
                self.links = links;
                self.look_around(ctx);
                ctx.out.effects.push(Effect::ProbeHost);
            }
            News::Duties(duties) => self.duties = duties,
            News::Disk(disk) => self.on_disk(ctx, disk),
            News::Host(Host { capabilities, load }) => self.on_host(ctx, capabilities, load),
            _ => {}
        }
    }

    fn on_msg(&mut self, ctx: &mut Ctx<'_, Reply>, msg: Msg) {
        match msg {
            Msg::LeaseWanted => {
                self.wanted_until = ctx.now + Duration::from_millis(LEASE_IDLE_MS);
                self.tend_lease(ctx);
            }
            Msg::Message { from, message } => {
                if self.view.member_of(from).is_some() && from != self.own_peer {
                    self.on_message(ctx, from, message);
                }
            }
            Msg::TransferRefused => {
                if self.handover.as_mut().is_some_and(|handover| !handover.refuse(ctx.now)) {
                    self.handover = None;
                    // Who is fitter and never ready is not to cost a pause at every look.
                    self.challenge = Challenge::default();
                    self.grantor.reopen();
                    ctx.out.count(&metrics::ELECTION_TRANSFER_REFUSED);
                }
                self.tend_handover(ctx);
            }
            Msg::Resign { reason } => self.resign(ctx, None, reason),
            Msg::Transfer { to } => self.resign(ctx, to, "an operator asked for it".into()),
        }
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, Reply>, Request::Status: Request, reply: ReplyTo) {
        let status = Box::new(self.status(ctx));
        ctx.out.reply(reply, status);
    }

    fn on_wake(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.run_or_wait(ctx);
        self.tend_lease(ctx);
        self.tend_handover(ctx);
        self.tell_lease(ctx);
    }
}

#[cfg(test)]
mod tests;
