//! The composition root: configuration and ports in, a supervised tree of actors out.
//!
//! Flow: `prepare` opens the node's store and finds out who it is (or makes it somebody new);
//! `start` joins the cluster if it has to, then starts the tree: store and network first, then
//! consensus, then the keeper of the view, then the services. The daemon, the tests and the
//! simulator call the same two functions.
//!
//! Invariants:
//! 1. The boot counter is on disk before anything is said to a peer.
//! 2. A membership that was given is on disk before it is used.

mod identity;
mod tree;

use std::future::Future;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use ractor::{Actor, ActorRef};
use tokio::sync::{Notify, oneshot};

pub use identity::{
    Membership, NodeIdentity, Origin, Prepared, StartError, has_membership, membership, prepare,
};

use crate::actors::env::EnvSinks;
use crate::actors::network::{DispatchMsg, Dispatcher};
use crate::actors::{Driver, Env, EventLog, Mail, Unsent};
use crate::consensus::{Retention, Scope};
use crate::core::consensus::ConsensusEvent;
use crate::core::ctx::Halt;
use crate::core::election;
use crate::core::join::{self, Joiner};
use crate::core::machines::NAMES;
use crate::core::overlay::Shape;
use crate::core::peers;
use crate::messages::command::Candidate;
use crate::messages::wire::Announcement;
use crate::ports::{Clock, Ports, Sink};
use crate::supervisors::SupervisorMsg;
use crate::types::limits::LEASE_WAIT_MS;
use crate::types::metrics;
use crate::types::{Lock, MemberId, Wall};

/// How long a stopping leader waits until another node leads.
const RESIGN_WAIT: Duration = Duration::from_millis(1_500);

/// Names of all actors that do the work of a member, in the order in which they are started.
pub fn actor_names() -> Vec<&'static str> {
    tree::BEFORE_MACHINES.iter().chain(NAMES).copied().collect()
}

/// How a node is configured.
#[derive(Clone)]
pub struct NodeConfig {
    /// What the cluster is told of this node when it joins.
    pub candidate: Candidate,
    /// What it announces, but for the capabilities, which are probed.
    pub announcement: Announcement,
    /// Weights and times of the election.
    pub election: election::Settings,
    /// How much of the replicated log is kept.
    pub retention: Retention,
    /// Whom it keeps connections to in a large cluster.
    pub shape: Shape,
    /// How consensus tasks see the node.
    pub scope: Scope,
    /// Hears everything that consensus tells, before the node does. For tests and simulations.
    pub observer: Option<Observer>,
}

/// Hears what consensus tells.
pub type Observer = Arc<dyn Fn(&ConsensusEvent) + Send + Sync>;

/// How a node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop, and did.
    Stopped,
    /// It had to stop.
    Halted(Halt),
    /// Its root supervisor gave up.
    GaveUp,
}

#[derive(Default)]
struct HaltSlot {
    reason: Mutex<Option<Halt>>,
    set: Notify,
}

/// A running node.
pub struct Node {
    env: Arc<Env>,
    identity: NodeIdentity,
    root: ActorRef<SupervisorMsg>,
    tree: Mutex<Option<ractor::concurrency::JoinHandle<()>>>,
    services: Arc<Mutex<Option<ActorRef<SupervisorMsg>>>>,
    halt: Arc<HaltSlot>,
}

/// How often it is looked whether a node has compared its clock.
const TIME_LOOK: Duration = Duration::from_millis(20);

/// How long cluster time is waited for by what is refused without it.
pub const TIME_WAIT: Duration = Duration::from_millis(LEASE_WAIT_MS);

/// Cluster time. A node that has just started compares its clock with those of others first, which takes moments; one
/// that reaches too few of them goes by its own after `wait`, and is refused whatever needs more than that.
pub async fn cluster_time(env: &Env, wait: Duration) -> Wall {
    let clock = env.ports.clock.as_ref();
    let deadline = clock.now() + wait;
    while env.known_wall().is_none() && clock.now() < deadline {
        pause(clock, TIME_LOOK).await;
    }
    env.wall()
}

/// Waits on a node's own clock.
pub async fn pause(clock: &dyn Clock, duration: Duration) {
    let (done, over) = oneshot::channel();
    clock.alarm(
        duration,
        Box::new(move || {
            let _ = done.send(());
        }),
    );
    drop(over.await);
}

/// What can't be sent yet waits with the peers, who see to a connection.
fn hold_unsent(env: Weak<Env>) -> Sink<Unsent> {
    Arc::new(move |Unsent { to, lane, bytes }| {
        if let Some(env) = env.upgrade()
            && env.directory.peers.offer(peers::Msg::Unsent(to, lane, bytes)).is_err()
        {
            env.counters.add(&metrics::PEERS_UNSENT_DROPPED, 1);
        }
    })
}

/// Starts a node.
pub async fn start(
    prepared: Prepared,
    ports: Ports,
    config: NodeConfig,
) -> Result<Arc<Node>, StartError> {
    let prepared = match &prepared.origin {
        Origin::Join { .. } => join_cluster(prepared, &ports, &config).await?,
        Origin::Found { .. } | Origin::Resume => prepared,
    };
    let Some(identity) = prepared.identity.clone() else { return Err(StartError::NotAMember) };
    if identity.founder {
        identity::keep_role_keys(&prepared, ports.keyring.as_ref()).await?;
    }
    let halt = Arc::new(HaltSlot::default());
    let halting = halt.clone();
    let (member, events) = (Some(identity.member), EventLog::of_start(prepared.boot_counter));
    let build = config.candidate.level;
    let env = Arc::new_cyclic(|env: &Weak<Env>| {
        let halt = Arc::new(move |why| {
            halting.reason.locked().get_or_insert(why);
            halting.set.notify_waiters();
            halting.set.notify_one();
        });
        let (store, unsent) = (prepared.store.clone(), hold_unsent(env.clone()));
        Env::new(ports, store, member, EnvSinks { halt, unsent }, events, build)
    });
    let (loaded, all_loaded) = oneshot::channel();
    let services = Arc::default();
    let root = tree::root(&env, &prepared, &identity, &config, loaded, &services)?;
    let (root, tree) =
        Actor::spawn(None, root, ()).await.map_err(|error| StartError::Spawn(error.to_string()))?;
    drop(root.cast(SupervisorMsg::Load));
    let node = Node { env, identity, root, tree: Mutex::new(Some(tree)), services, halt };
    // Dropped unanswered if the root gives up before everything has loaded.
    if all_loaded.await.is_err() {
        let failures: Vec<String> = node
            .env
            .board
            .rows()
            .into_iter()
            .filter_map(|(path, row)| row.last_failure.map(|why| format!("{path}: {why}")))
            .collect();
        // A supervisor that gave up repeats what its child has said.
        let first = failures.iter().find(|failure| !failure.contains(" failed too often: "));
        let reason = first.cloned().unwrap_or_else(|| failures.join("; "));
        return Err(StartError::Tree(reason));
    }
    Ok(Arc::new(node))
}

/// Becomes a member, with nothing running but what that needs.
async fn join_cluster(
    prepared: Prepared,
    ports: &Ports,
    config: &NodeConfig,
) -> Result<Prepared, StartError> {
    let Origin::Join { token, addresses } = prepared.origin.clone() else { return Ok(prepared) };
    let sinks = EnvSinks { halt: Arc::new(|_| {}), unsent: Arc::new(|_| {}) };
    let store = prepared.store.clone();
    let build = config.candidate.level;
    let env = Arc::new(Env::new(ports.clone(), store, None, sinks, EventLog::default(), build));
    let candidate = config.candidate.clone();
    let factory = Arc::new(move |env: &Env| {
        Ok(Joiner::new(token.clone(), candidate.clone(), addresses.clone(), env.ports.clock.now()))
    });
    let spawn_error = |error: ractor::SpawnErr| StartError::Spawn(error.to_string());
    let nothing: Arc<dyn Fn() + Send + Sync> = Arc::new(|| {});
    let loaded = nothing.clone();
    let dispatcher = Dispatcher { env: env.clone(), loaded, intake: Arc::default() };
    let (dispatcher, _) = Actor::spawn(None, dispatcher, ()).await.map_err(spawn_error)?;
    drop(dispatcher.cast(DispatchMsg::Load));
    // It dials as soon as it is there, and the dispatcher brings what is answered.
    let driver = Driver::new(env.clone(), factory, nothing);
    let (joiner, _) = Actor::spawn(None, driver, ()).await.map_err(spawn_error)?;
    let result = env.directory.join.ask(join::Request::Outcome).await;
    joiner.stop(None);
    dispatcher.stop(None);
    let joined = result.map_err(|error| StartError::Spawn(error.to_string()))??;
    identity::keep_membership(prepared, joined).await
}

impl Node {
    /// What the actors share: addresses, events, counters.
    pub fn env(&self) -> &Arc<Env> {
        &self.env
    }

    /// Who this node is.
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// This member.
    pub fn member(&self) -> MemberId {
        self.identity.member
    }

    /// Makes an actor fail. The name is the last part of its path.
    pub fn crash(&self, actor: &str) -> bool {
        let known =
            self.env.board.rows().iter().any(|(path, _)| path.rsplit('/').next() == Some(actor));
        drop(self.root.cast(SupervisorMsg::Crash(actor.to_owned())));
        if let Some(services) = self.services.locked().as_ref() {
            drop(services.cast(SupervisorMsg::Crash(actor.to_owned())));
        }
        known
    }

    /// The supervision tree as a table, with the present mailbox depths.
    pub fn actors(&self) -> Vec<(String, crate::actors::ActorInfo)> {
        let directory = &self.env.directory;
        let mut rows = self.env.board.rows();
        for (path, row) in &mut rows {
            row.mailbox = directory.waiting(path.rsplit('/').next().unwrap_or_default());
        }
        rows
    }

    /// Hands leadership over if this node has it, then stops everything in reverse order.
    pub async fn stop(&self, reason: &str) -> Ended {
        self.resign(reason).await;
        drop(self.root.cast(SupervisorMsg::Stop));
        self.ended().await
    }

    async fn resign(&self, reason: &str) {
        let clock = self.env.ports.clock.as_ref();
        let deadline = clock.now() + RESIGN_WAIT;
        let election = &self.env.directory.election;
        election.mail(Mail::Msg(election::Msg::Resign { reason: reason.to_owned() }));
        while clock.now() < deadline {
            match election.ask(election::Request::Status).await {
                Ok(status) if status.role.leading && status.handover.is_some() => {}
                _ => return,
            }
            pause(clock, Duration::from_millis(10)).await;
        }
    }

    /// Waits until the node has ended.
    pub async fn ended(&self) -> Ended {
        let tree = self.tree.locked().take();
        let halted = || self.halt.reason.locked().clone();
        let Some(tree) = tree else { return halted().map_or(Ended::Stopped, Ended::Halted) };
        // Whichever comes first: the tree ends, or somebody asks for a halt.
        let mut tree = std::pin::pin!(tree);
        let mut halt = std::pin::pin!(self.halt.set.notified());
        let ended = std::future::poll_fn(|context| {
            if let Some(why) = halted() {
                return std::task::Poll::Ready(Some(why));
            }
            if halt.as_mut().poll(context).is_ready()
                && let Some(why) = halted()
            {
                return std::task::Poll::Ready(Some(why));
            }
            tree.as_mut().poll(context).map(|_| None)
        });
        match ended.await {
            Some(why) => {
                drop(self.root.cast(SupervisorMsg::Stop));
                drop(tree.await);
                Ended::Halted(why)
            }
            None => {
                let failed =
                    self.env.board.rows().iter().any(|(_, row)| row.last_failure.is_some());
                let gave_up = failed && self.root_gave_up();
                if gave_up { Ended::GaveUp } else { Ended::Stopped }
            }
        }
    }

    fn root_gave_up(&self) -> bool {
        self.env.board.rows().iter().any(|(path, row)| path == "root" && row.last_failure.is_some())
    }

    /// Kills every actor at once, as a crash of the process would.
    pub fn kill(&self) {
        self.root.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First words of the lines of a block that begins with this one.
    fn names(page: &str, first: &str) -> Vec<String> {
        let lines = page.lines().skip_while(|line| !line.starts_with(first)).skip(1);
        let lines = lines.take_while(|line| !line.starts_with("```"));
        lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }

    #[test]
    fn the_trees_in_the_documents_are_those_of_the_code() {
        let mut expected: Vec<&str> = actor_names();
        // It has no machine of its own: it watches over those below it.
        expected.insert(tree::BEFORE_MACHINES.len() + 1, "services");
        assert_eq!(names(include_str!("../ARCHITECTURE.md"), "root  rest_for_one"), expected);
        assert_eq!(names(include_str!("../docs/operations.md"), "ACTOR  "), expected);
    }
}
