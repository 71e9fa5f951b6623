//! The supervisor actor: starts children in order, watches them, and does what `core::restart`
//! decides.
//!
//! States: working through a plan (stop these, then start those, one at a time), or resting with
//! all children in place; and, from the moment it has to end, ending: everything is stopped in
//! reverse order, then the supervisor stops, failed if it gave up.
//!
//! Flow: start a child -> it reports that it has loaded, or its deadline passes -> the next one.
//! A child ends -> decision -> the plan grows. A child is stopped by a message, and killed when it
//! does not end in time.
//!
//! Invariants:
//! 1. At most one child is being started or stopped at a time.
//! 2. A child is started only when everything before it in the plan is done.
//! 3. News of an earlier incarnation of a child change nothing.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use crate::actors::{ActorState, Env, Mail};
use crate::core::event::EventBody;
use crate::core::gossip;
use crate::core::restart::{Decision, Exit, RestartType, Restarts, Strategy};
use crate::messages::wire::NoteBody;
use crate::types::limits::{START_DEADLINE, STOP_DEADLINE};

/// What a start function returns.
pub type Starting = Pin<Box<dyn Future<Output = Result<ActorCell, SpawnErr>> + Send>>;
/// Called by a child once it has loaded.
pub type Loaded = Arc<dyn Fn() + Send + Sync>;

/// How a child is started, stopped and made to fail.
#[derive(Clone)]
pub struct ChildSpec {
    /// Name within its supervisor.
    pub id: &'static str,
    /// When it is started again.
    pub restart: RestartType,
    /// Spawns it, linked to the supervisor, and has it load.
    pub start: Arc<dyn Fn(ActorCell, Loaded) -> Starting + Send + Sync>,
    /// Asks it to stop in order.
    pub stop: Arc<dyn Fn(&ActorCell) + Send + Sync>,
    /// Makes it fail, for watching what happens then.
    pub crash: Arc<dyn Fn(&ActorCell) + Send + Sync>,
}

/// A supervisor and its children.
#[derive(Clone)]
pub struct SupervisorSpec {
    /// Path in the tree, as people see it.
    pub path: String,
    /// Whom a failure takes along.
    pub strategy: Strategy,
    /// Restarts that are tolerated within `period`.
    pub intensity: u32,
    /// The period.
    pub period: Duration,
    /// Children, in the order of their start.
    pub children: Vec<ChildSpec>,
    /// Called before the supervisor gives up, and how long it then waits: time for a leader to
    /// hand over.
    pub last_words: Option<(Loaded, Duration)>,
}

/// What a supervisor is told.
pub enum SupervisorMsg {
    /// Start the children.
    Load,
    /// A child has loaded.
    Loaded {
        /// Which child.
        child: usize,
        /// Which incarnation of it.
        incarnation: u64,
    },
    /// A child should have started or stopped by now.
    Deadline {
        /// Which child.
        child: usize,
        /// Which incarnation of it.
        incarnation: u64,
        /// What it should not be any more.
        state: ActorState,
    },
    /// The time for last words is over.
    LastWordsSpoken,
    /// Make a child fail.
    Crash(String),
    /// Stop everything, in order.
    Stop,
}

struct Child {
    cell: Option<ActorCell>,
    state: ActorState,
    incarnation: u64,
}

/// Whether a supervisor has to end.
enum Ending {
    /// No.
    No,
    /// It gave up, for this reason, and waits while its last words are heard.
    LastWords(String),
    /// Its children are being stopped; with the reason if it failed.
    Stopping(Option<String>),
}

/// What a supervisor keeps.
pub struct State {
    children: Vec<Child>,
    restarts: Restarts,
    stop: VecDeque<usize>,
    start: VecDeque<usize>,
    ending: Ending,
    loaded: bool,
}

/// A supervisor.
pub struct Supervisor {
    /// What the node's actors share.
    pub env: Arc<Env>,
    /// Who its children are.
    pub spec: SupervisorSpec,
    /// Called once all children have loaded.
    pub loaded: Loaded,
}

impl Supervisor {
    fn path(&self, child: usize) -> String {
        format!("{}/{}", self.spec.path, self.spec.children[child].id)
    }

    fn set(&self, state: &mut State, child: usize, to: ActorState) {
        state.children[child].state = to;
        self.env.board.update(&self.path(child), |row| row.state = to);
    }

    fn alarm(&self, myself: &ActorRef<SupervisorMsg>, after: Duration, msg: SupervisorMsg) {
        let myself = myself.clone();
        self.env.ports.clock.alarm(after, Box::new(move || drop(myself.cast(msg))));
    }

    /// Does the next thing of the plan, unless one is under way.
    async fn proceed(
        &self,
        myself: &ActorRef<SupervisorMsg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let busy =
            |child: &Child| matches!(child.state, ActorState::Starting | ActorState::Stopping);
        while !state.children.iter().any(busy) {
            if let Some(child) = state.stop.pop_front() {
                self.stop_child(myself, state, child);
                continue;
            }
            match &state.ending {
                Ending::LastWords(_) => return Ok(()),
                Ending::Stopping(Some(reason)) => return Err(reason.clone().into()),
                Ending::Stopping(None) => {
                    myself.stop(None);
                    return Ok(());
                }
                Ending::No => {}
            }
            let Some(child) = state.start.pop_front() else {
                if !std::mem::replace(&mut state.loaded, true) {
                    (self.loaded)();
                }
                return Ok(());
            };
            self.start_child(myself, state, child).await;
        }
        Ok(())
    }

    fn stop_child(&self, myself: &ActorRef<SupervisorMsg>, state: &mut State, child: usize) {
        let Some(cell) = state.children[child].cell.clone() else { return };
        self.set(state, child, ActorState::Stopping);
        (self.spec.children[child].stop)(&cell);
        let incarnation = state.children[child].incarnation;
        let deadline = SupervisorMsg::Deadline { child, incarnation, state: ActorState::Stopping };
        self.alarm(myself, STOP_DEADLINE, deadline);
    }

    async fn start_child(&self, myself: &ActorRef<SupervisorMsg>, state: &mut State, child: usize) {
        if state.children[child].cell.is_some() {
            return;
        }
        state.children[child].incarnation += 1;
        let incarnation = state.children[child].incarnation;
        self.set(state, child, ActorState::Starting);
        let address = myself.clone();
        let loaded: Loaded =
            Arc::new(move || drop(address.cast(SupervisorMsg::Loaded { child, incarnation })));
        match (self.spec.children[child].start)(myself.get_cell(), loaded).await {
            Ok(cell) => {
                state.children[child].cell = Some(cell);
                let deadline =
                    SupervisorMsg::Deadline { child, incarnation, state: ActorState::Starting };
                self.alarm(myself, START_DEADLINE, deadline);
            }
            Err(error) => self.on_exit(myself, state, child, Exit::Failed, &error.to_string()),
        }
    }

    fn on_exit(
        &self,
        myself: &ActorRef<SupervisorMsg>,
        state: &mut State,
        child: usize,
        exit: Exit,
        reason: &str,
    ) {
        let expected = state.children[child].state == ActorState::Stopping;
        state.children[child].cell = None;
        self.set(state, child, ActorState::Stopped);
        if expected || !matches!(state.ending, Ending::No) {
            return;
        }
        tracing::warn!(actor = self.path(child), reason, "an actor ended");
        self.env.board.update(&self.path(child), |row| row.last_failure = Some(reason.to_owned()));
        let running: Vec<bool> = state.children.iter().map(|child| child.cell.is_some()).collect();
        let now = self.env.ports.clock.now();
        match state.restarts.on_exit(now, child, exit, &running) {
            Decision::LeaveStopped => {}
            Decision::Restart { stop, start } => {
                self.plan_restart(state, stop, start, child, reason)
            }
            Decision::GiveUp => self.give_up(myself, state, child, reason),
        }
    }

    fn plan_restart(
        &self,
        state: &mut State,
        stop: Vec<usize>,
        start: Vec<usize>,
        child: usize,
        reason: &str,
    ) {
        let actor = self.path(child);
        self.env.board.update(&actor, |row| row.restarts += 1);
        let note = NoteBody::ActorRestarted { actor: actor.clone(), reason: reason.to_owned() };
        self.env.directory.gossip.mail(Mail::Msg(gossip::Msg::Tell(note)));
        let body = EventBody::ActorRestarted { actor, reason: reason.to_owned() };
        self.env.events.tell(self.env.wall(), self.env.member, body);
        state.stop.extend(stop);
        let mut start: Vec<usize> = state.start.drain(..).chain(start).collect();
        start.sort_unstable();
        start.dedup();
        state.start = start.into();
    }

    fn give_up(
        &self,
        myself: &ActorRef<SupervisorMsg>,
        state: &mut State,
        child: usize,
        reason: &str,
    ) {
        let reason = format!("{} failed too often: {reason}", self.path(child));
        tracing::error!(supervisor = self.spec.path, reason, "giving up");
        self.env.board.update(&self.spec.path, |row| row.last_failure = Some(reason.clone()));
        state.start.clear();
        match &self.spec.last_words {
            Some((speak, wait)) => {
                speak();
                state.ending = Ending::LastWords(reason);
                self.alarm(myself, *wait, SupervisorMsg::LastWordsSpoken);
            }
            None => Self::stop_all(state, Some(reason)),
        }
    }

    fn stop_all(state: &mut State, failure: Option<String>) {
        state.ending = Ending::Stopping(failure);
        state.start.clear();
        state.stop =
            (0..state.children.len()).rev().filter(|c| state.children[*c].cell.is_some()).collect();
    }

    fn on_deadline(&self, state: &State, child: usize, incarnation: u64, overdue: ActorState) {
        let late = &state.children[child];
        if late.incarnation == incarnation
            && late.state == overdue
            && let Some(cell) = &late.cell
        {
            tracing::error!(
                actor = self.path(child),
                ?overdue,
                "an actor is overdue and is killed"
            );
            cell.kill();
        }
    }

    fn crash(&self, state: &State, id: &str) {
        let named = self.spec.children.iter().position(|spec| spec.id == id);
        if let Some(child) = named
            && let Some(cell) = &state.children[child].cell
        {
            (self.spec.children[child].crash)(cell);
        }
    }
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<SupervisorMsg>,
        (): (),
    ) -> Result<State, ActorProcessingErr> {
        let kinds = self.spec.children.iter().map(|spec| spec.restart).collect();
        let children = self.spec.children.iter().map(|_| Child {
            cell: None,
            state: ActorState::Stopped,
            incarnation: 0,
        });
        Ok(State {
            children: children.collect(),
            restarts: Restarts::new(
                self.spec.strategy,
                self.spec.intensity,
                self.spec.period,
                kinds,
            ),
            stop: VecDeque::new(),
            start: (0..self.spec.children.len()).collect(),
            ending: Ending::No,
            loaded: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Load => {}
            SupervisorMsg::Loaded { child, incarnation } => {
                let loaded = &state.children[child];
                if loaded.incarnation == incarnation && loaded.state == ActorState::Starting {
                    self.set(state, child, ActorState::Running);
                }
            }
            SupervisorMsg::Deadline { child, incarnation, state: overdue } => {
                self.on_deadline(state, child, incarnation, overdue);
            }
            SupervisorMsg::LastWordsSpoken => {
                if let Ending::LastWords(reason) = &state.ending {
                    let reason = reason.clone();
                    Self::stop_all(state, Some(reason));
                }
            }
            SupervisorMsg::Crash(id) => self.crash(state, &id),
            SupervisorMsg::Stop => {
                let failure = match &state.ending {
                    Ending::No => None,
                    Ending::LastWords(reason) => Some(reason.clone()),
                    Ending::Stopping(failure) => failure.clone(),
                };
                Self::stop_all(state, failure);
            }
        }
        self.proceed(&myself, state).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, exit, reason) = match event {
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell, Exit::Normal, reason.unwrap_or_else(|| "it stopped".into()))
            }
            SupervisionEvent::ActorFailed(cell, error) => (cell, Exit::Failed, error.to_string()),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {
                return Ok(());
            }
        };
        let ended = state.children.iter().position(|child| {
            child.cell.as_ref().is_some_and(|running| running.get_id() == cell.get_id())
        });
        if let Some(child) = ended {
            self.on_exit(&myself, state, child, exit, &reason);
            return self.proceed(&myself, state).await;
        }
        Ok(())
    }
}
