//! One driver for all machines: mailbox in, one method call, flush.
//!
//! `flush` fixes the order in which a machine's wishes become real: durable writes go to the store
//! under a ticket; everything else that the same call wanted, and everything that comes after,
//! waits behind that ticket until the store has it. It never waits itself.
//!
//! A write that fails stops the actor with its parked effects unsent: it starts again from disk,
//! as if the call had never happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::actors::Env;
use crate::actors::directory::Addressed;
use crate::actors::parked::{Parked, Ticket};
use crate::actors::work::{Answer, OpenWork, Running};
use crate::core::ctx::{Ctx, Effect, Outbox, ReplyTo, Rng};
use crate::core::front::{self, Written};
use crate::core::machine::Machine;
use crate::core::news::{Host, News};
use crate::core::peers;
use crate::core::records::store::StoreFault;
use crate::core::refusal::Refusal;
use crate::core::work::{Done, Work};
use crate::messages::Lane;
use crate::messages::wire::Message;
use crate::ports::network::SendError;
use crate::ports::{Consensus as _, Network as _};
use crate::types::fault::{Fault, planted};
use crate::types::limits::{BULK_ABOVE, PARKED_MAX, WORK_OPEN_MAX};
use crate::types::metrics;
use crate::types::{Mono, PeerId, ProposalId};

/// Least time until an alarm: the grain of the timers.
const TICK: Duration = Duration::from_millis(1);

/// What arrives in an actor's mailbox.
pub enum Mail<M: Machine> {
    /// First of all, from the actor itself: load and report.
    Load,
    /// Somebody tells something.
    Msg(M::Msg),
    /// There are news, with their number.
    News(u64, News),
    /// Somebody asks and waits.
    Call(M::Request, RpcReplyPort<M::Reply>),
    /// An alarm that was set for this time.
    Wake(Mono),
    /// Writes up to this ticket are on disk, or failed.
    Durable(Ticket, Result<(), String>),
    /// What became of a command that the machine had decided.
    Decided(ProposalId, Result<Written, Refusal>),
    /// What came of work.
    Done {
        /// Under which it was asked for.
        token: u64,
        /// Which work that was.
        number: u64,
        /// What came of it.
        done: Done,
    },
    /// Fail, as if something had gone wrong.
    Crash,
    /// Stop in order.
    Stop,
}

/// Makes a machine from what is on disk.
pub type Factory<M> = Arc<dyn Fn(&Env) -> Result<M, String> + Send + Sync>;

/// Drives one machine.
pub struct Driver<M: Machine> {
    env: Arc<Env>,
    factory: Factory<M>,
    loaded: Arc<dyn Fn() + Send + Sync>,
}

/// What a driver keeps between two calls.
pub struct State<M: Machine> {
    myself: ActorRef<Mail<M>>,
    machine: Option<M>,
    rng: Rng,
    out: Outbox<M::Reply>,
    parked: Parked<Effect<M::Reply>>,
    replies: BTreeMap<ReplyTo, RpcReplyPort<M::Reply>>,
    next_reply: u64,
    alarm: Option<Mono>,
    /// Work that is under way, by its token.
    work: OpenWork,
    /// Number of the last news that it was told of when it started.
    news_upto: u64,
}

impl<M: Addressed> Driver<M> {
    /// A driver that makes its machine with `factory` and calls `loaded` when it has.
    pub fn new(env: Arc<Env>, factory: Factory<M>, loaded: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { env, factory, loaded }
    }

    fn call(&self, state: &mut State<M>, call: impl FnOnce(&mut M, &mut Ctx<'_, M::Reply>)) {
        let Some(machine) = state.machine.as_mut() else { return };
        let clock = &self.env.ports.clock;
        let wall = if M::SEES_OWN_CLOCK { clock.wall() } else { self.env.wall() };
        let mut ctx = Ctx { now: clock.now(), wall, rng: &mut state.rng, out: &mut state.out };
        call(machine, &mut ctx);
        self.flush(state);
    }

    fn flush(&self, state: &mut State<M>) {
        let effects = std::mem::take(&mut state.out.effects);
        let writes = std::mem::take(&mut state.out.writes);
        if let Some(at) = state.out.wake_at.take() {
            self.set_alarm(state, at);
        }
        if writes.is_empty() {
            for effect in state.parked.pass(effects) {
                self.perform(state, effect);
            }
            return;
        }
        let ticket = state.parked.write(effects);
        let myself = state.myself.clone();
        let env = Arc::downgrade(&self.env);
        self.env.store.write(
            writes,
            Box::new(move |result| {
                if let Some(env) = env.upgrade() {
                    let durable = Mail::Durable(ticket, result.map_err(|e| e.to_string()));
                    M::slot(&env.directory).mail_to(&myself, durable);
                }
            }),
        );
    }

    fn set_alarm(&self, state: &mut State<M>, at: Mono) {
        if state.alarm.is_some_and(|set| set <= at) {
            return;
        }
        state.alarm = Some(at);
        // A machine that asks for a time in the past gets the next tick, so it can't spin.
        let after = at.since(self.env.ports.clock.now()).max(TICK);
        let myself = state.myself.clone();
        let env = Arc::downgrade(&self.env);
        self.env.ports.clock.alarm(
            after,
            Box::new(move || {
                if let Some(env) = env.upgrade() {
                    M::slot(&env.directory).mail_to(&myself, Mail::Wake(at));
                }
            }),
        );
    }

    fn perform(&self, state: &mut State<M>, effect: Effect<M::Reply>) {
        let ports = &self.env.ports;
        match effect {
            Effect::Send(to, message) => self.send(to, &message),
            Effect::Reply(to, answer) => {
                if let Some(port) = state.replies.remove(&to) {
                    // Whoever asked may have gone away.
                    drop(port.send(answer));
                }
            }
            Effect::Cast(cast) => self.env.directory.deliver(cast),
            Effect::News(news) => self.env.directory.tell(news),
            Effect::Propose(id, command) => {
                self.env.directory.deliver(front::proposed(M::NAME, id, command));
            }
            Effect::Decided(by, id, result) => self.env.directory.decided(by, id, result),
            Effect::Submit(op) => {
                if self.env.consensus.submit(op).is_err() {
                    self.env.counters.add(&metrics::CONSENSUS_BUSY, 1);
                }
            }
            Effect::Event(body) => self.env.events.tell(self.env.wall(), self.env.member, body),
            Effect::Tell { member, at, body } => self.env.events.tell(at, Some(member), body),
            Effect::Gossip(topic, bytes) => {
                if ports.network.gossip(topic, bytes).is_err() {
                    self.env.counters.add(&metrics::GOSSIP_NOT_SENT, 1);
                }
            }
            Effect::Judge(id, verdict) => ports.network.judge(id, verdict),
            Effect::Keep(peer, addresses) => ports.network.keep(peer, addresses),
            Effect::Release(peer) => ports.network.release(peer),
            Effect::OnDemand(peers) => self.env.reach.set_on_demand(peers),
            Effect::SendFrame(to, lane, bytes) => self.send_frame(to, lane, bytes),
            Effect::ProbeUse => {
                let used = peers::Msg::Used(self.env.reach.take_used());
                self.env.directory.deliver(used.into());
            }
            Effect::AdmitPeers(peers) => ports.network.admit(peers),
            Effect::Dial(address) => ports.network.dial(address),
            Effect::ProbeHost => {
                let (capabilities, load) = (ports.host.capabilities(), ports.host.load());
                let disk = ports.journals.disk().max(ports.records.disk());
                self.env.directory.tell(News::Disk(disk));
                self.env.directory.tell(News::Host(Host { capabilities, load }));
            }
            Effect::Speak(level) => self.env.speech.learn(level),
            Effect::GoBy(middle) => self.env.go_by(middle),
            Effect::Halt(why) => (self.env.halt)(why),
            Effect::Do(token, work) => self.begin(state, token, work),
            Effect::Cancel(token) => state.work.cancel(token),
            Effect::StoreRestored => self.env.records.restored(),
            Effect::Count(metric, by) => self.env.counters.add(metric, by),
            Effect::Took(metric, took) => ports.meter.took(metric, took),
        }
    }

    fn begin(&self, state: &mut State<M>, token: u64, work: Work) {
        let is_full = state.work.len() >= WORK_OPEN_MAX;
        let (number, cancelled) = state.work.begin(token);
        let env = Arc::downgrade(&self.env);
        let answer = Answer::<M> { env, to: state.myself.clone(), token, number };
        if is_full {
            self.env.counters.add(&metrics::WORK_REFUSED, 1);
            return answer.give(Done::Busy);
        }
        match work {
            Work::Records(ops) => {
                let done = move |result| answer.give(Done::Records(result));
                self.env.records.run(ops, Box::new(done));
            }
            Work::Compute(task) => {
                let busy = answer.clone();
                let job = Box::new(move || {
                    if !cancelled.is_set() {
                        let running = Running::new(answer);
                        running.end((task.run)(&cancelled));
                    }
                });
                if !self.env.ports.workers.run(job) {
                    self.env.counters.add(&metrics::WORK_REFUSED, 1);
                    busy.give(Done::Busy);
                }
            }
        }
    }

    fn on_done(
        &self,
        state: &mut State<M>,
        token: u64,
        number: u64,
        done: Done,
    ) -> Result<(), ActorProcessingErr> {
        if let Done::Records(Err(StoreFault::Failed(reason))) = &done {
            return Err(format!("the record store failed: {reason}").into());
        }
        if state.work.end(token, number) {
            self.call(state, |machine, ctx| machine.on_done(ctx, token, done));
        }
        Ok(())
    }

    fn send(&self, to: PeerId, message: &Message) {
        let bytes = match self.env.speech.encode(message) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, message = message.name(), "a message does not fit in a frame");
                return;
            }
        };
        let lane = if bytes.len() > BULK_ABOVE && message.lane() != Lane::Join {
            Lane::Bulk
        } else {
            message.lane()
        };
        match message {
            // What the peers say of the connection itself is no use of it.
            Message::Peers(_) => self.send_frame(to, lane, bytes),
            _ => self.count_sent(self.env.reach.send(to, lane, bytes)),
        }
    }

    fn send_frame(&self, to: PeerId, lane: Lane, bytes: Vec<u8>) {
        self.count_sent(self.env.ports.network.send(to, lane, bytes));
    }

    fn count_sent(&self, sent: Result<(), SendError>) {
        if sent == Err(SendError::QueueFull) {
            self.env.counters.add(&metrics::SENDS_DROPPED, 1);
        }
    }

    fn load(&self, state: &mut State<M>) -> Result<(), ActorProcessingErr> {
        state.machine = Some((self.factory)(&self.env)?);
        self.call(state, |machine, ctx| machine.on_start(ctx));
        let (upto, newest) = self.env.directory.newest(M::NEWS);
        state.news_upto = upto;
        let is_uninformed = planted(Fault::StartsUninformed) && self.env.starts.get(M::NAME) > 1;
        for news in newest.into_iter().filter(|_| !is_uninformed) {
            self.call(state, |machine, ctx| machine.on_news(ctx, news));
        }
        (self.loaded)();
        Ok(())
    }

    fn on_call(&self, state: &mut State<M>, request: M::Request, port: RpcReplyPort<M::Reply>) {
        if state.parked.len() >= PARKED_MAX {
            // Dropping the port tells the caller that this actor has too much to do.
            self.env.counters.add(&metrics::CALLS_REFUSED, 1);
            return;
        }
        state.next_reply += 1;
        let reply = ReplyTo(state.next_reply);
        state.replies.insert(reply, port);
        self.call(state, |machine, ctx| machine.on_request(ctx, request, reply));
    }

    fn on_durable(
        &self,
        state: &mut State<M>,
        ticket: Ticket,
        result: Result<(), String>,
    ) -> Result<(), ActorProcessingErr> {
        if let Err(reason) = result {
            return Err(format!("a write to the node's store failed: {reason}").into());
        }
        for effect in state.parked.durable(ticket) {
            self.perform(state, effect);
        }
        Ok(())
    }
}

impl<M: Addressed> Actor for Driver<M> {
    type Msg = Mail<M>;
    type State = State<M>;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<Mail<M>>,
        (): (),
    ) -> Result<State<M>, ActorProcessingErr> {
        // Before the address is known, so that nothing that is mailed to it comes first.
        myself.cast(Mail::Load)?;
        M::slot(&self.env.directory).put(myself.clone());
        Ok(State {
            myself,
            machine: None,
            rng: self.env.rng(M::NAME),
            out: Outbox::default(),
            parked: Parked::default(),
            replies: BTreeMap::new(),
            next_reply: 0,
            alarm: None,
            work: OpenWork::default(),
            news_upto: 0,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Mail<M>>,
        mail: Mail<M>,
        state: &mut State<M>,
    ) -> Result<(), ActorProcessingErr> {
        M::slot(&self.env.directory).taken();
        match mail {
            Mail::Load => self.load(state)?,
            Mail::News(number, news) if number > state.news_upto => {
                self.call(state, |machine, ctx| machine.on_news(ctx, news));
            }
            // It was told of these, or of newer ones, when it started.
            Mail::News(..) => {}
            Mail::Msg(msg) => self.call(state, |machine, ctx| machine.on_msg(ctx, msg)),
            Mail::Call(request, port) => self.on_call(state, request, port),
            Mail::Wake(at) => {
                if state.alarm == Some(at) {
                    state.alarm = None;
                }
                self.call(state, |machine, ctx| machine.on_wake(ctx));
            }
            Mail::Durable(ticket, result) => self.on_durable(state, ticket, result)?,
            Mail::Done { token, number, done } => self.on_done(state, token, number, done)?,
            Mail::Decided(id, result) => {
                self.call(state, |machine, ctx| machine.on_decided(ctx, id, result));
            }
            Mail::Crash => return Err("stopped by fault injection".into()),
            Mail::Stop => {
                self.call(state, |machine, ctx| machine.on_stop(ctx));
                state.myself.stop(None);
            }
        }
        Ok(())
    }
}
