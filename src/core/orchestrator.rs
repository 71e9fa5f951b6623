//! The orchestrator: the duties of the leader (SLURP, in the words of the plan).
//!
//! It takes the duties when its node begins to lead and gives them up when it stops leading, and
//! says so. A duty is bound to a term, so that work begun under one term is never finished under
//! another.
//!
//! Invariants:
//! 1. On duty implies that this node led in that term when it was last told.
//! 2. Duties of an older term end before those of a newer one begin.

use std::convert::Infallible;

use crate::core::ctx::{Ctx, ReplyTo};
use crate::core::event::EventBody;
use crate::core::init::Init;
use crate::core::machine::{Machine, Service};
use crate::core::news::{Kind, News};
use crate::types::{Mono, Term};

/// What the orchestrator is asked.
#[derive(Debug)]
pub enum Request {
    /// Whether it is on duty.
    Status,
}

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Term of the duties, none while another node has them.
    pub on_duty: Option<Term>,
    /// Since when that is so.
    pub since: Mono,
}

/// The orchestrator of one node.
#[derive(Default)]
pub struct Orchestrator {
    on_duty: Option<Term>,
    since: Mono,
}

impl Service for Orchestrator {
    fn init(_init: &Init<'_>) -> Result<Self, String> {
        Ok(Self::default())
    }
}

impl Machine for Orchestrator {
    const NAME: &'static str = "orchestrator";
    const NEWS: &'static [Kind] = &[Kind::Role];
    type Msg = Infallible;
    type Request = Request;
    type Reply = Reply;

    fn on_start(&mut self, ctx: &mut Ctx<'_, Reply>) {
        self.since = ctx.now;
    }

    fn on_msg(&mut self, _ctx: &mut Ctx<'_, Reply>, msg: Infallible) {
        match msg {}
    }

    fn on_news(&mut self, ctx: &mut Ctx<'_, Reply>, news: News) {
        let News::Role(role) = news else { return };
        let duty = role.leading.then_some(role.term);
        if duty == self.on_duty {
            return;
        }
        if let Some(term) = self.on_duty.take() {
            ctx.out.event(EventBody::Duty { on_duty: false, term });
        }
        if let Some(term) = duty {
            ctx.out.event(EventBody::Duty { on_duty: true, term });
        }
        self.on_duty = duty;
        self.since = ctx.now;
    }

    fn on_request(&mut self, ctx: &mut Ctx<'_, Reply>, Request::Status: Request, reply: ReplyTo) {
        ctx.out.reply(reply, Reply { on_duty: self.on_duty, since: self.since });
    }

    fn on_wake(&mut self, _ctx: &mut Ctx<'_, Reply>) {}
}
