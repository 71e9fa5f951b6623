//! What every protocol is made of: a synchronous state machine with one call for each way in.

use crate::core::ctx::{Ctx, ReplyTo};
use crate::core::front::Written;
use crate::core::init::Init;
use crate::core::news::{Kind, News};
use crate::core::refusal::Refusal;
use crate::core::work::Done;
use crate::types::{PeerId, ProposalId};

/// A protocol, as a synchronous state machine.
pub trait Machine: Send + Sized + 'static {
    /// Name of the actor that drives it.
    const NAME: &'static str;
    /// True for the machine that compares this node's clock with those of others: it is given that clock's time of day
    /// as it is.
    const SEES_OWN_CLOCK: bool = false;
    /// What it wants to know whenever there are news, and when it starts, in this order.
    const NEWS: &'static [Kind] = &[];
    /// What others tell it without waiting.
    type Msg: Send + 'static;
    /// What others ask it.
    type Request: Send + 'static;
    /// What it answers.
    type Reply: Send + 'static;

    /// Called once, before anything else.
    fn on_start(&mut self, ctx: &mut Ctx<'_, Self::Reply>);

    /// There are news of a kind that it wants to know.
    fn on_news(&mut self, _ctx: &mut Ctx<'_, Self::Reply>, _news: News) {}

    /// Something arrived.
    fn on_msg(&mut self, ctx: &mut Ctx<'_, Self::Reply>, msg: Self::Msg);

    /// Somebody asks and waits for exactly one answer, now or later.
    fn on_request(
        &mut self,
        ctx: &mut Ctx<'_, Self::Reply>,
        request: Self::Request,
        reply: ReplyTo,
    );

    /// The time that it asked to be woken at has come, or an earlier one.
    fn on_wake(&mut self, ctx: &mut Ctx<'_, Self::Reply>);

    /// What came of the work that it has asked for under this token.
    fn on_done(&mut self, _ctx: &mut Ctx<'_, Self::Reply>, _token: u64, _done: Done) {}

    /// What became of a command that it had decided: what came of it, or why that is not known or did not
    /// happen.
    fn on_decided(
        &mut self,
        _ctx: &mut Ctx<'_, Self::Reply>,
        _id: ProposalId,
        _result: Result<Written, Refusal>,
    ) {
    }

    /// The node is stopping; last words.
    fn on_stop(&mut self, _ctx: &mut Ctx<'_, Self::Reply>) {}
}

/// A machine that every member runs. [`crate::core::machines`] lists them.
pub trait Service: Machine {
    /// Makes it, when the node starts and again after it has failed.
    fn init(init: &Init<'_>) -> Result<Self, String>;
}

/// A machine that other nodes speak to with messages of this kind.
pub trait Hears<W>: Machine {
    /// What it is told when one arrives from this peer.
    fn heard(from: PeerId, message: W) -> Self::Msg;
}
