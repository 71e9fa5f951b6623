//! Waits, sends and keeps for `core::follow`, which decides how a member that does not vote gets what was
//! committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::async_runtime::{AsyncRuntime as _, Instant as _};
use tokio::sync::Notify;

use super::pump::Pump;
use super::raft::log_id;
use super::runtime::{Instant, Runtime};
use crate::core::consensus::ConsensusEvent;
use crate::core::follow::{Effect, Feed, Following, Next, Seen, Wanted};
use crate::core::overlay::Shape;
use crate::messages::wire::RpcReply;
use crate::ports::journal::Opened;
use crate::ports::{Journal, Sink};
use crate::types::limits::FOLLOW_WAIT_MS;
use crate::types::{Lock as _, LogId, MemberId, PeerId, Term};

/// How long a follower waits for an answer: as long as the voter may wait, and some.
const ANSWER_WAIT: Duration = Duration::from_millis(4 * FOLLOW_WAIT_MS);

/// The control state of a member that does not vote.
pub struct Follower {
    own: MemberId,
    /// None if it can't be used.
    journal: Option<Arc<dyn Journal>>,
    events: Sink<ConsensusEvent>,
    /// Is told of more entries.
    more: Notify,
    following: Mutex<Following>,
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
        let saved = records.unwrap_or_default().pop();
        let following = Following::new(own, roster, saved.as_deref(), save_every, shape);
        Self { own, journal, events, more: Notify::new(), following: Mutex::new(following) }
    }

    /// Does what comes of a call while no other one can come in between.
    fn with<T>(&self, call: impl FnOnce(&mut Following) -> T) -> T {
        let mut following = self.following.locked();
        let result = call(&mut following);
        for effect in following.take_effects() {
            match effect {
                Effect::Tell(event) => (self.events)(event),
                Effect::More => self.more.notify_waiters(),
                Effect::Save(bytes) => {
                    if let Some(journal) = &self.journal {
                        journal.rewrite(vec![bytes], Box::new(|_| {}));
                    }
                }
            }
        }
        result
    }

    /// Casts all that is known, for a control actor that knows nothing yet.
    pub fn resync(&self) {
        self.with(Following::resync);
    }

    /// The newest term that was told.
    pub(super) fn known_term(&self) -> Term {
        self.following.locked().known_term()
    }

    /// True once some voter has answered.
    pub fn has_followed(&self) -> bool {
        self.following.locked().has_followed()
    }

    /// True while the leader replicates to this node, so that it need not follow.
    pub(super) fn is_fed(&self, pump: &Pump) -> bool {
        self.following.locked().is_fed(self.feed(pump))
    }

    fn feed(&self, pump: &Pump) -> Feed {
        let metrics = pump.raft().metrics();
        let metrics = metrics.borrow_watched();
        let config = &metrics.membership_config;
        Feed {
            configured_at: config.log_id().as_ref().map(log_id),
            includes: config.membership().get_node(&self.own.0).is_some(),
        }
    }

    fn seen(&self, pump: &Pump) -> Seen {
        let fellows = |pump: &Pump| {
            let metrics = pump.raft().metrics();
            let metrics = metrics.borrow_watched();
            let nodes = metrics.membership_config.membership().nodes();
            nodes.filter(|(id, _)| **id != self.own.0).map(|(_, peer)| *peer).collect()
        };
        // One after the other: what is watched is locked while it is looked at.
        Seen {
            feed: self.feed(pump),
            hears_majority: pump.hears_majority(),
            applied: pump.machine().applied(),
            fellows: fellows(pump),
        }
    }

    /// Follows until consensus has stopped. While it feeds this node itself, nothing is done.
    pub(super) async fn run(self: Arc<Self>, pump: Pump) {
        while pump.raft().metrics().borrow_watched().running_state.is_ok() {
            let seen = self.seen(&pump);
            let next = self.with(|following| following.next(Instant::now().0, &seen));
            let wait = match next {
                Next::ChangeSides { fed } => {
                    self.change_sides(&pump, fed);
                    continue;
                }
                Next::Wait(wait) => wait,
                Next::Ask(question) => {
                    let call =
                        pump.calls().call(question.source, question.rpc.clone(), ANSWER_WAIT);
                    let answer = call.await.ok();
                    let feed = self.feed(&pump);
                    let now = Instant::now().0;
                    self.with(|following| following.on_answer(now, feed, &question, answer))
                }
            };
            if !wait.is_zero() {
                Runtime::sleep(wait).await;
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
            let role = pump.role();
            self.with(|following| following.leave_consensus(stored, control, role));
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
        let asked_at = Instant::now().0;
        let more = self.more.notified();
        if !probe && self.following.locked().last() <= after {
            // Nothing new is an answer as well.
            drop(Runtime::timeout(Duration::from_millis(FOLLOW_WAIT_MS), more).await);
        }
        let wanted = Wanted { from, after, offset, probe, asked_at };
        self.with(|following| following.serve(Instant::now().0, &wanted))
    }
}
