//! Who is whose child.
//!
//! root (rest_for_one) -> store, network, consensus, control, services (one_for_one) -> all other
//! machines, in the order of `core::machines`. What a child needs is started before it; a failure
//! takes along what was started after.

use crate::messages::command::ClusterCommand;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorRef};
use tokio::sync::oneshot;

use super::{NodeConfig, NodeIdentity, Prepared, StartError};
use crate::actors::directory::Addressed;
use crate::actors::driver::Factory;
use crate::actors::network::{DispatchMsg, Dispatcher};
use crate::actors::{Driver, Env, Mail, StoreMsg, Storekeeper};
use crate::consensus::{ConsensusService, ServiceMsg};
use crate::core::init::{Init, Run, Settings};
use crate::core::join::Roster;
use crate::core::machine::Service;
use crate::core::machines::with_machines;
use crate::core::restart::{RestartType, Strategy};
use crate::core::{control, election};
use crate::messages::Command;
use crate::supervisors::supervisor::Loaded;
use crate::supervisors::{ChildSpec, Supervisor, SupervisorMsg, SupervisorSpec};
use crate::types::limits::{RESTART_INTENSITY, RESTART_PERIOD};
use crate::types::{Lock, MemberId, PeerId};

/// How long the services of a leader wait, once they have given up, for another node to lead.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the machines rest on, in the order in which it is started.
pub const BEFORE_MACHINES: &[&str] = &["store", "network", "consensus"];

type Services = Arc<Mutex<Option<ActorRef<SupervisorMsg>>>>;

fn send<T: ractor::Message>(cell: &ActorCell, message: T) {
    // A child that is gone already needs no message.
    drop(cell.send_message(message));
}

/// What all machines of a node are made from, again whenever one of them is started anew.
struct Blueprint {
    run: Run,
    settings: Settings,
}

impl Blueprint {
    fn make<M: Service>(&self, env: &Env) -> Result<M, String> {
        M::init(&Init {
            now: env.ports.clock.now(),
            run: self.run,
            settings: &self.settings,
            values: env.store.as_ref(),
            vault: &env.ports.vault,
            keyring: &env.ports.keyring,
            capabilities: &|| env.ports.host.capabilities(),
            open_records: &|| env.records.open(env.ports.records.as_ref()),
        })
    }
}

fn machine<M: Service + Addressed>(env: &Arc<Env>, blueprint: &Arc<Blueprint>) -> ChildSpec {
    let (env, blueprint) = (env.clone(), blueprint.clone());
    let factory: Factory<M> = Arc::new(move |env: &Env| blueprint.make(env));
    ChildSpec {
        id: M::NAME,
        restart: RestartType::Permanent,
        start: Arc::new(move |supervisor, loaded| {
            let driver = Driver::new(env.clone(), factory.clone(), loaded);
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, driver, (), supervisor).await?;
                Ok(actor.get_cell())
            })
        }),
        stop: Arc::new(|cell| send(cell, Mail::<M>::Stop)),
        crash: Arc::new(|cell| send(cell, Mail::<M>::Crash)),
    }
}

macro_rules! machines {
    ($(
        $field:ident $variant:ident: $machine:ty,
        hears [$($heard:ident)*],
        tells [$($(#[doc = $doc:literal])+ $kind:ident($fact:ty))*];
    )*) => {
        /// All machines, in the order in which they are started.
        fn machines(env: &Arc<Env>, blueprint: &Arc<Blueprint>) -> Vec<ChildSpec> {
            vec![$(machine::<$machine>(env, blueprint)),*]
        }
    };
}
with_machines!(machines);

fn store(env: &Arc<Env>) -> ChildSpec {
    let (env, is_fresh) = (env.clone(), Arc::new(AtomicBool::new(true)));
    ChildSpec {
        id: "store",
        restart: RestartType::Permanent,
        start: Arc::new(move |supervisor, loaded| {
            let keeper = Storekeeper { env: env.clone(), is_fresh: is_fresh.clone(), loaded };
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, keeper, (), supervisor).await?;
                drop(actor.cast(StoreMsg::Load));
                Ok(actor.get_cell())
            })
        }),
        stop: Arc::new(|cell| send(cell, StoreMsg::Stop)),
        crash: Arc::new(|cell| send(cell, StoreMsg::Crash)),
    }
}

fn network(env: &Arc<Env>) -> ChildSpec {
    let env = env.clone();
    ChildSpec {
        id: "network",
        restart: RestartType::Permanent,
        start: Arc::new(move |supervisor, loaded| {
            let dispatcher = Dispatcher { env: env.clone(), loaded, intake: Arc::default() };
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, dispatcher, (), supervisor).await?;
                drop(actor.cast(DispatchMsg::Load));
                Ok(actor.get_cell())
            })
        }),
        stop: Arc::new(|cell| send(cell, DispatchMsg::Stop)),
        crash: Arc::new(|cell| send(cell, DispatchMsg::Crash)),
    }
}

fn consensus(
    env: &Arc<Env>,
    identity: &NodeIdentity,
    config: &NodeConfig,
    known: Roster,
) -> ChildSpec {
    let has_history = known.voted;
    let roster: BTreeMap<MemberId, PeerId> =
        known.members.into_iter().map(|(id, (peer, _))| (id, peer)).collect();
    let (env, identity, scope) = (env.clone(), identity.clone(), config.scope.clone());
    let (observer, retention, shape) = (config.observer.clone(), config.retention, config.shape);
    ChildSpec {
        id: "consensus",
        restart: RestartType::Permanent,
        start: Arc::new(move |supervisor, loaded| {
            let listener = Arc::downgrade(&env);
            let (observer, roster) = (observer.clone(), roster.clone());
            let service = ConsensusService {
                own: identity.member,
                peer: identity.peer,
                found: identity.founder,
                has_history,
                retention,
                shape,
                roster: roster.clone(),
                scope: scope.clone(),
                journals: env.ports.journals.clone(),
                network: env.reach.clone(),
                speech: env.speech.clone(),
                handle: env.consensus.clone(),
                events: Arc::new(move |event| {
                    if let Some(observer) = &observer {
                        observer(&event);
                    }
                    if let Some(env) = listener.upgrade() {
                        env.directory.control.mail(Mail::Msg(control::Msg::Consensus(event)));
                    }
                }),
                loaded,
            };
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, service, (), supervisor).await?;
                drop(actor.cast(ServiceMsg::Load));
                Ok(actor.get_cell())
            })
        }),
        stop: Arc::new(|cell| send(cell, ServiceMsg::Stop)),
        crash: Arc::new(|cell| send(cell, ServiceMsg::Crash)),
    }
}

/// The command that makes the cluster, if this node is to make it.
fn founding(
    prepared: &Prepared,
    identity: &NodeIdentity,
    config: &NodeConfig,
) -> Result<Option<Command>, StartError> {
    let stored = if identity.founder { prepared.role_keys()? } else { None };
    Ok(stored.map(|keys| {
        Command::Cluster(ClusterCommand::Found {
            cluster: identity.cluster,
            name: identity.cluster_name.clone(),
            founder: config.candidate.clone(),
            roles: keys.roles,
        })
    }))
}

fn services(env: &Arc<Env>, children: Vec<ChildSpec>, address: &Services) -> ChildSpec {
    let last_env = Arc::downgrade(env);
    let resign: Loaded = Arc::new(move || {
        if let Some(env) = last_env.upgrade() {
            let reason = "a service of the leader failed too often".to_owned();
            env.directory.election.mail(Mail::Msg(election::Msg::Resign { reason }));
        }
    });
    let spec = SupervisorSpec {
        path: "root/services".into(),
        strategy: Strategy::OneForOne,
        intensity: RESTART_INTENSITY,
        period: RESTART_PERIOD,
        children,
        last_words: Some((resign, LAST_WORDS)),
    };
    let (env, address) = (env.clone(), address.clone());
    ChildSpec {
        id: "services",
        restart: RestartType::Permanent,
        start: Arc::new(move |supervisor, loaded| {
            let child = Supervisor { env: env.clone(), spec: spec.clone(), loaded };
            let address = address.clone();
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, child, (), supervisor).await?;
                *address.locked() = Some(actor.clone());
                drop(actor.cast(SupervisorMsg::Load));
                Ok(actor.get_cell())
            })
        }),
        stop: Arc::new(|cell| send(cell, SupervisorMsg::Stop)),
        crash: Arc::new(|_| {}),
    }
}

/// The root supervisor of a node; `loaded` hears when everything is up.
pub fn root(
    env: &Arc<Env>,
    prepared: &Prepared,
    identity: &NodeIdentity,
    config: &NodeConfig,
    loaded: oneshot::Sender<()>,
    services_address: &Services,
) -> Result<Supervisor, StartError> {
    // An unreadable one must not pass for none: it says whether this node has voted.
    let known = prepared.roster()?;
    let run = Run {
        cluster: identity.cluster,
        member: identity.member,
        peer: identity.peer,
        boot_counter: prepared.boot_counter,
        boot: prepared.boot,
    };
    let settings = Settings {
        announcement: config.announcement.clone(),
        election: config.election.clone(),
        shape: config.shape,
        level: config.candidate.level,
        founding: founding(prepared, identity, config)?,
    };
    let mut machines = machines(env, &Arc::new(Blueprint { run, settings })).into_iter();
    // Whatever goes by the view starts again with the keeper of it.
    let keeper = machines.next().into_iter();
    let rest = machines.collect();
    let spec = SupervisorSpec {
        path: "root".into(),
        strategy: Strategy::RestForOne,
        intensity: RESTART_INTENSITY,
        period: RESTART_PERIOD,
        children: [store(env), network(env), consensus(env, identity, config, known)]
            .into_iter()
            .chain(keeper)
            .chain([services(env, rest, services_address)])
            .collect(),
        last_words: None,
    };
    let loaded = Mutex::new(Some(loaded));
    Ok(Supervisor {
        env: env.clone(),
        spec,
        loaded: Arc::new(move || {
            if let Some(loaded) = loaded.locked().take() {
                // Whoever started the node may have gone away.
                let _ = loaded.send(());
            }
        }),
    })
}
