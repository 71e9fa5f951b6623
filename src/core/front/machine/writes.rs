//! Writes on their way: proposed again and again under one id, until they are decided or unknown.

use crate::messages::command::{EvaluationCommand, TokensCommand};
use std::time::Duration;

use super::super::write::{Asker, Pending, Written};
use super::{Front, Reply};
use crate::core::consensus::{Op, ProposalAnswer};
use crate::core::control::{self, Change};
use crate::core::ctx::{Ctx, Effect};
use crate::core::refusal::Refusal;
use crate::core::{election, join};
use crate::messages::command::Refused;
use crate::messages::wire::{FrontMessage, Message};
use crate::messages::{Command, Outcome, Proposal};
use crate::types::fault::{Fault, planted};
use crate::types::limits::{PROPOSAL_RETRY_MS, REQUESTS_MAX};
use crate::types::metrics;
use crate::types::{Mono, PeerId, ProposalId, Wall};

/// True for commands that end something at a time, or say when something was.
fn is_about_time(command: &Command) -> bool {
    matches!(
        command,
        Command::Tokens(TokensCommand::Create { .. })
            | Command::Tokens(TokensCommand::Admit { .. })
            | Command::Evaluation(EvaluationCommand::Done)
    )
}

impl Front {
    /// Tells a member no that asks this leader to admit a node with a key that is in use; true if
    /// so. One that was handed to consensus before is not asked about any more.
    pub(super) fn is_declined(
        &self,
        ctx: &mut Ctx<'_, Reply>,
        from: PeerId,
        id: ProposalId,
        command: &Command,
    ) -> bool {
        let Command::Tokens(TokensCommand::Admit { token, candidate, .. }) = command else {
            return false;
        };
        if self.forwarded.contains_key(&id)
            || join::has_made(&self.standing.view, *token, candidate)
        {
            return false;
        }
        let answer = match self.admission.claim(ctx, &self.standing, *token, candidate) {
            join::Claim::Free => return false,
            join::Claim::Early => {
                FrontMessage::NotProposed { id, leader: self.standing.role.leader }
            }
            join::Claim::Taken => FrontMessage::Declined { id, reason: Refused::DuplicateIdentity },
        };
        ctx.out.send(from, Message::Front(answer));
        true
    }

    /// The leader has told this node no.
    pub(super) fn declined(&mut self, ctx: &mut Ctx<'_, Reply>, id: ProposalId, reason: Refused) {
        let is_join = |pending: &Pending| {
            matches!(pending.asker, Asker::Joiner(_)) && pending.decided.is_none()
        };
        if self.writes.get(&id).is_some_and(is_join) {
            self.finish(ctx, id, Err(Refusal::Refused(reason)));
        }
    }

    pub(super) fn begin_write(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        id: Option<ProposalId>,
        asker: Asker,
        command: Command,
    ) {
        let id = id.unwrap_or_else(|| ctx.rng.proposal_id());
        if let Err(refused) = control::check(&command) {
            self.answer(ctx, asker, id, Err(Refusal::Refused(refused)));
            return;
        }
        if let Err(refused) = self.check_level(&command) {
            self.answer(ctx, asker, id, Err(Refusal::Refused(refused)));
            return;
        }
        if self.open() >= REQUESTS_MAX || self.writes.contains_key(&id) {
            self.answer(ctx, asker, id, Err(Refusal::Busy));
            return;
        }
        let refusal = self.standing.disk_refusal().or_else(|| self.untimely(&command));
        let split = || self.standing.split_refusal().filter(|_| is_about_time(&command));
        if let Some(refusal) = refusal.or_else(split) {
            self.answer(ctx, asker, id, Err(refusal));
            return;
        }
        self.writes.insert(id, Pending::new(asker, command, ctx.now));
        election::want_lease(ctx.out);
        self.advance_write(ctx, id);
    }

    /// What some members do not understand is proposed by nobody.
    pub(super) fn check_level(&self, command: &Command) -> Result<(), Refused> {
        let (needed, level) = (command.since(), self.standing.view.level.level);
        if needed > level { Err(Refused::LevelTooLow { needed, level }) } else { Ok(()) }
    }

    /// Does whatever can be done about a write now.
    pub(super) fn advance_write(&mut self, ctx: &mut Ctx<'_, Reply>, id: ProposalId) {
        let has_lease = self.standing.lease(ctx.now).is_some();
        let behind = self.standing.is_behind(ctx.now);
        let Some(pending) = self.writes.get_mut(&id) else { return };
        if let Some(mut written) = pending.decided.clone() {
            if has_lease || planted(Fault::AckAfterLease) {
                let lease = self.standing.last_lease();
                written.lease_term = lease.map_or(0, |lease| lease.term);
                self.finish(ctx, id, Ok(written));
            } else if pending.lease_by <= ctx.now {
                self.finish(ctx, id, Err(Refusal::OutcomeUnknown));
            } else {
                ctx.out.wake_at(pending.next_at());
            }
            return;
        }
        if pending.deadline <= ctx.now {
            self.finish(ctx, id, Err(Refusal::OutcomeUnknown));
            return;
        }
        let may_refuse = !pending.proposed || planted(Fault::RefusedHappens);
        if may_refuse && pending.lease_by <= ctx.now {
            let command = pending.command.clone();
            let why = self.why_waiting(ctx.now, &command);
            self.finish(ctx, id, Err(why));
            return;
        }
        let due = pending
            .again_at
            .is_none_or(|again| again <= ctx.now || pending.sent_in < self.standing.role.term);
        if due && has_lease && !behind {
            self.propose(ctx, id);
        }
        if let Some(pending) = self.writes.get(&id) {
            ctx.out.wake_at(pending.next_at().max(ctx.now + Duration::from_millis(1)));
        }
    }

    pub(super) fn propose(&mut self, ctx: &mut Ctx<'_, Reply>, id: ProposalId) {
        let leader = self.leader_peer();
        let (term, leading) = (self.standing.role.term, self.standing.role.leading);
        let stamp = self.stamp(ctx.wall);
        let waits = |pending: &Pending| leading && !self.can_time(&pending.command);
        if self.writes.get(&id).is_none_or(waits) {
            return;
        }
        let Some(pending) = self.writes.get_mut(&id) else { return };
        if leading {
            pending.sent(ctx.now, term);
            let proposal = Proposal { id, at: stamp, command: pending.command.clone() };
            ctx.out.submit(Op::Propose { term, proposal });
        } else if let Some(leader) = leader {
            pending.sent(ctx.now, term);
            let command = pending.command.clone();
            ctx.out.send(leader, Message::Front(FrontMessage::Propose { id, command }));
        }
    }

    /// True if the time that would go into a command is good enough for it.
    pub(super) fn can_time(&self, command: &Command) -> bool {
        !is_about_time(command) || self.standing.knows_time()
    }

    /// The time that goes into a command: none as long as it is not known.
    pub(super) fn stamp(&self, wall: Wall) -> Wall {
        if self.standing.knows_time() { wall } else { Proposal::NO_TIME }
    }

    /// Why a command that waits has not been proposed.
    fn why_waiting(&self, now: Mono, command: &Command) -> Refusal {
        let has_lease = self.standing.lease(now).is_some();
        if has_lease && self.standing.is_behind(now) {
            return Refusal::Behind;
        }
        let untimed = has_lease && self.standing.role.leading && !self.can_time(command);
        match self.standing.refusal() {
            Refusal::NoLeader if untimed => {
                self.standing.clock_refusal().unwrap_or(Refusal::NoLeader)
            }
            refusal => refusal,
        }
    }

    pub(super) fn finish(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        id: ProposalId,
        result: Result<Written, Refusal>,
    ) {
        let Some(pending) = self.writes.remove(&id) else { return };
        if matches!(result, Err(Refusal::Minority { .. })) {
            self.refused += 1;
        }
        if let Err(refusal) = &result {
            ctx.out.count(match refusal {
                Refusal::OutcomeUnknown => &metrics::FRONT_WRITES_UNKNOWN,
                _ => &metrics::FRONT_WRITES_REFUSED,
            });
        }
        let result = result.and_then(|written| match written.outcome {
            Outcome::Refused(refused) => Err(Refusal::Refused(refused)),
            _ => Ok(written),
        });
        self.answer(ctx, pending.asker, id, result);
    }

    pub(super) fn answer(
        &self,
        ctx: &mut Ctx<'_, Reply>,
        asker: Asker,
        id: ProposalId,
        result: Result<Written, Refusal>,
    ) {
        match asker {
            Asker::Client(reply) => ctx.out.reply(reply, Reply::Written(result)),
            Asker::Joiner(peer) => {
                ctx.out.send(peer, Message::Join(join::answer(&self.standing.view, result)));
            }
            Asker::Machine(by) => ctx.out.effects.push(Effect::Decided(by, id, result)),
        }
    }

    pub(super) fn advance_all(&mut self, ctx: &mut Ctx<'_, Reply>) {
        let ids: Vec<ProposalId> = self.writes.keys().copied().collect();
        for id in ids {
            self.advance_write(ctx, id);
        }
    }

    pub(super) fn on_decided(&mut self, ctx: &mut Ctx<'_, Reply>, change: &Change) {
        let Change::Decided { id, outcome, log_id } = change else { return };
        self.forwarded.remove(id);
        if let Some(pending) = self.writes.get_mut(id) {
            ctx.out.took(&metrics::PROPOSAL_SECONDS, ctx.now.since(pending.asked_at));
            pending.decided =
                Some(Written { outcome: outcome.clone(), log_id: *log_id, lease_term: 0 });
            // The lease may have run out while the log moved on; it is asked for once more.
            pending.lease_by = ctx.now + Duration::from_millis(PROPOSAL_RETRY_MS * 2);
            self.advance_write(ctx, *id);
        }
    }

    pub(super) fn on_answered(
        &mut self,
        ctx: &mut Ctx<'_, Reply>,
        id: ProposalId,
        answer: ProposalAnswer,
    ) {
        let ProposalAnswer::Refused { leader } = answer else { return };
        if let Some(peer) = self.forwarded.remove(&id) {
            ctx.out.send(peer, Message::Front(FrontMessage::NotProposed { id, leader }));
        } else {
            self.not_proposed(ctx, id);
        }
    }

    /// The leader that a write went to did not take it: another one may.
    pub(super) fn not_proposed(&mut self, ctx: &mut Ctx<'_, Reply>, id: ProposalId) {
        if let Some(pending) = self.writes.get_mut(&id) {
            let soon = ctx.now + Duration::from_millis(PROPOSAL_RETRY_MS / 5);
            pending.again_at = pending.again_at.map(|again| again.min(soon));
            ctx.out.wake_at(soon);
        }
    }
}
