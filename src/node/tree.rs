//! Who is whose child.
//!
//! root (rest_for_one) -> store, network, consensus, control, services (one_for_one) -> peers, election,
//! orchestrator, front, gossip, keys, replica, copier, records. What a child needs is started before it; a failure takes along what was
//! started after.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorRef};
use tokio::sync::oneshot;

use super::{NodeConfig, NodeIdentity, Prepared, StartError};
use crate::actors::driver::Factory;
use crate::actors::network::{DispatchMsg, Dispatcher};
use crate::actors::{Directory, Driver, Env, Mail, Slot, StoreMsg, Storekeeper};
use crate::consensus::{ConsensusService, ServiceMsg};
use crate::core::control::{self, Control};
use crate::core::election::{self, Election};
use crate::core::front::Front;
use crate::core::gossip::{self, Gossip};
use crate::core::join::Roster;
use crate::core::keys::{Keys, ROLE_KEYS};
use crate::core::machine::Machine;
use crate::core::orchestrator::Orchestrator;
use crate::core::peers::{Identity, Peers};
use crate::core::records::{Coordinator, Copier, Replica};
use crate::core::restart::{RestartType, Strategy};
use crate::messages::Command;
use crate::supervisors::supervisor::Loaded;
use crate::supervisors::{ChildSpec, Supervisor, SupervisorMsg, SupervisorSpec};
use crate::types::limits::{RESTART_INTENSITY, RESTART_PERIOD};
use crate::types::{MemberId, PeerId};

/// How long the services of a leader wait, once they have given up, for another node to lead.
const LAST_WORDS: Duration = Duration::from_millis(500);

type Services = Arc<Mutex<Option<ActorRef<SupervisorMsg>>>>;

fn send<T: ractor::Message>(cell: &ActorCell, message: T) {
    // A child that is gone already needs no message.
    drop(cell.send_message(message));
}

fn machine<M: Machine>(
    env: &Arc<Env>,
    slot: fn(&Directory) -> &Slot<M>,
    factory: Factory<M>,
) -> ChildSpec {
    let start_env = env.clone();
    ChildSpec {
        id: M::NAME,
        restart: RestartType::Permanent,
        start: Arc::new(move |supervisor, loaded| {
            let driver = Driver::new(start_env.clone(), factory.clone(), slot, loaded);
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, driver, (), supervisor).await?;
                Ok(actor.get_cell())
            })
        }),
        stop: Arc::new(|cell| send(cell, Mail::<M>::Stop)),
        crash: Arc::new(|cell| send(cell, Mail::<M>::Crash)),
    }
}

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

fn peers_factory(
    prepared: &Prepared,
    identity: &NodeIdentity,
    config: &NodeConfig,
) -> Factory<Peers> {
    let roster = prepared.roster().unwrap_or_default();
    let (boot_counter, boot, seen) = (prepared.boot_counter, prepared.boot, prepared.seen());
    let (identity, announcement) = (identity.clone(), config.announcement.clone());
    let shape = config.shape;
    let store = prepared.store.clone();
    Arc::new(move |env: &Env| {
        // What was learned since the start is on disk.
        let fresh = Prepared {
            store: store.clone(),
            identity: None,
            cluster: identity.cluster,
            origin: super::Origin::Resume,
            boot_counter,
            boot,
        };
        let seen = if fresh.seen().is_empty() { seen.clone() } else { fresh.seen() };
        let id = Identity {
            cluster: identity.cluster,
            member: identity.member,
            peer: identity.peer,
            boot_counter,
            boot,
            seen,
            roster: fresh.roster().unwrap_or_else(|_| roster.clone()),
        };
        let mut announcement = announcement.clone();
        announcement.capabilities = env.ports.host.capabilities();
        Ok(Peers::new(id, announcement, shape))
    })
}

fn front_factory(
    prepared: &Prepared,
    identity: &NodeIdentity,
    config: &NodeConfig,
) -> Result<Factory<Front>, StartError> {
    let stored = if identity.founder { prepared.role_keys()? } else { None };
    let founding = stored.map(|keys| Command::Found {
        cluster: identity.cluster,
        name: identity.cluster_name.clone(),
        founder: config.candidate.clone(),
        roles: keys.roles,
    });
    let (own, peer) = (identity.member, identity.peer);
    Ok(Arc::new(move |env: &Env| {
        Ok(Front::new(own, peer, founding.clone(), env.ports.clock.now()))
    }))
}

fn gossip_factory(prepared: &Prepared, identity: &NodeIdentity) -> Factory<Gossip> {
    let (own, peer) = (identity.member, identity.peer);
    let run = gossip::run_of(own, prepared.boot_counter);
    Arc::new(move |env: &Env| Ok(Gossip::new(own, peer, run, env.ports.vault.clone())))
}

fn services(
    env: &Arc<Env>,
    prepared: &Prepared,
    identity: &NodeIdentity,
    config: &NodeConfig,
    address: &Services,
) -> Result<ChildSpec, StartError> {
    let (own, peer) = (identity.member, identity.peer);
    let settings = election::Settings { shape: config.shape, ..config.election.clone() };
    let election: Factory<Election> = Arc::new(move |env: &Env| {
        Ok(Election::new(own, peer, settings.clone(), env.ports.clock.now()))
    });
    let replica: Factory<Replica> = Arc::new(move |env: &Env| {
        let kept = env.records.open(env.ports.records.as_ref());
        let kept = kept.map_err(|fault| fault.to_string())?;
        Ok(Replica::new(own, peer, env.ports.vault.clone(), kept))
    });
    let copier: Factory<Copier> =
        Arc::new(move |env: &Env| Ok(Copier::new(own, peer, env.ports.vault.clone())));
    let keys: Factory<Keys> = Arc::new(move |env: &Env| {
        // What can't be read can be had again.
        let stored = env.store.read(ROLE_KEYS).unwrap_or_default();
        Ok(Keys::new(own, peer, env.ports.keyring.clone(), stored))
    });
    let records: Factory<Coordinator> =
        Arc::new(move |env: &Env| Ok(Coordinator::new(own, peer, env.ports.vault.clone())));
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
        children: vec![
            machine(env, |d| &d.peers, peers_factory(prepared, identity, config)),
            machine(env, |d| &d.election, election),
            machine(env, |d| &d.orchestrator, Arc::new(|_: &Env| Ok(Orchestrator::default()))),
            machine(env, |d| &d.front, front_factory(prepared, identity, config)?),
            machine(env, |d| &d.gossip, gossip_factory(prepared, identity)),
            machine(env, |d| &d.keys, keys),
            machine(env, |d| &d.replica, replica),
            machine(env, |d| &d.copier, copier),
            machine(env, |d| &d.records, records),
        ],
        last_words: Some((resign, LAST_WORDS)),
    };
    let (env, address) = (env.clone(), address.clone());
    Ok(ChildSpec {
        id: "services",
        restart: RestartType::Permanent,
        start: Arc::new(move |supervisor, loaded| {
            let child = Supervisor { env: env.clone(), spec: spec.clone(), loaded };
            let address = address.clone();
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, child, (), supervisor).await?;
                *address.lock().unwrap_or_else(PoisonError::into_inner) = Some(actor.clone());
                drop(actor.cast(SupervisorMsg::Load));
                Ok(actor.get_cell())
            })
        }),
        stop: Arc::new(|cell| send(cell, SupervisorMsg::Stop)),
        crash: Arc::new(|_| {}),
    })
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
    let own = identity.member;
    let keeper: Factory<Control> = Arc::new(move |_: &Env| Ok(Control::new(own)));
    let spec = SupervisorSpec {
        path: "root".into(),
        strategy: Strategy::RestForOne,
        intensity: RESTART_INTENSITY,
        period: RESTART_PERIOD,
        children: vec![
            store(env),
            network(env),
            consensus(env, identity, config, known),
            machine(env, |d| &d.control, keeper),
            services(env, prepared, identity, config, services_address)?,
        ],
        last_words: None,
    };
    let loaded = Mutex::new(Some(loaded));
    Ok(Supervisor {
        env: env.clone(),
        spec,
        loaded: Arc::new(move || {
            if let Some(loaded) = loaded.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // Whoever started the node may have gone away.
                let _ = loaded.send(());
            }
        }),
    })
}
