//! From configuration to a running node, step by step.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Handle;

use super::RunError;
use super::args::RunArgs;
use super::data_dir::{About, DataDir};
use super::holdings::{self, FreshKey, Held};
use super::log::Log;
use super::origin::{OriginError, origin};
use super::scope::ProcessScope;
use crate::adapters::cache::MemoryCache;
use crate::adapters::clock::SystemClock;
use crate::adapters::entropy::SystemEntropy;
use crate::adapters::files;
use crate::adapters::host::SystemHost;
use crate::adapters::journal::FileJournals;
use crate::adapters::keyring::AgeKeyring;
use crate::adapters::lines::Lines;
use crate::adapters::meter::Registry;
use crate::adapters::network::{NetworkConfig, P2pNetwork, Probing};
use crate::adapters::records::RecordStats;
use crate::adapters::vault::KeyVault;
use crate::adapters::workers::Threads;
use crate::config::{Config, Loaded, Origin as ValueOrigin};
use crate::consensus::Retention;
use crate::core::election;
use crate::core::fitness::Weights;
use crate::core::overlay::Shape;
use crate::http::api::ReadyFile;
use crate::http::{self, Api, ApiToken, App, Bound, Server, Sources};
use crate::messages::command::Candidate;
use crate::messages::wire::Announcement;
use crate::node::{self, Node, NodeConfig, Origin, Prepared, StartError};
use crate::ports::{Clock, Entropy, Network as _, Ports};
use crate::types::address::Host;
use crate::types::limits::{CACHE_BYTES_MAX, CACHE_TTL};
use crate::types::{Address, Level, PeerId, Wall};

/// Name under which a node announces its API.
const SERVICE: &str = "bzzz";
/// Files that this process may have open, if the system lets it: each connection takes one.
const OPEN_FILES: u64 = 16_384;
/// Journals whose counters are shown.
const JOURNALS: [&str; 4] = ["store", "consensus-log", "consensus-snapshot", "follower-state"];

/// Threads for work that takes a processor for a while: heartbeats have the other half of a small machine.
const WORK_THREADS: usize = 2;

/// A node that has everything it needs to start.
pub struct Starting {
    dir: DataDir,
    about: About,
    config: Config,
    /// The clock, if it may be set wrong.
    fault_injection: Option<Arc<SystemClock>>,
    /// What it speaks.
    level: Level,
    journals: Arc<FileJournals>,
    prepared: Prepared,
    fresh_key: FreshKey,
    network: Arc<P2pNetwork>,
    record_stats: Arc<RecordStats>,
    meter: Arc<Registry>,
    ports: Ports,
    token: ApiToken,
    server: Server<Api>,
    log: Lines,
}

/// A node that runs and answers.
pub struct Started {
    /// The node.
    pub node: Arc<Node>,
    /// Its API.
    pub server: Server<Api>,
    /// What is told once it runs.
    ready: ReadyFile,
    name: String,
    /// True if this start has made a cluster.
    has_founded: bool,
    dir: DataDir,
    /// The token of the API.
    pub token: ApiToken,
}

fn network_config(config: &Config, prepared: &Prepared) -> NetworkConfig {
    NetworkConfig {
        cluster_tag: prepared.cluster.to_string(),
        listen: config.p2p.listen.clone(),
        announce: config.p2p.announce.clone(),
        // Also of a node that has joined long ago: all members may have moved since.
        hints: config.p2p.bootstrap_peers.clone(),
        max_connections: config.p2p.max_connections,
        mdns: config.p2p.mdns,
        relay: config.p2p.relay,
        probing: Probing::Public,
    }
}

/// From here on every request is answered, if only that the node is not there yet.
fn open_doors(
    config: &Config,
    dir: &DataDir,
    api: Arc<Api>,
) -> Result<Server<Api>, http::ServeError> {
    let doors = Bound::bind(config.api.listen)?.with_local(dir.path());
    doors.serve(api)
}

fn keyring(vault: &KeyVault) -> Result<Arc<AgeKeyring>, RunError> {
    let keyring = AgeKeyring::new(vault.content_identity());
    Ok(Arc::new(keyring.map_err(|error| RunError::System("start a thread", error))?))
}

/// Who the node is, or how it becomes somebody.
async fn identify(
    journals: &FileJournals,
    entropy: &SystemEntropy,
    peer: PeerId,
    wanted: Result<Origin, OriginError>,
) -> Result<Prepared, RunError> {
    let resumed = wanted.as_ref().map_or(Origin::Resume, Clone::clone);
    match (node::prepare(journals, entropy, peer, resumed).await, wanted) {
        // Without a membership it matters that there is no telling how to get one.
        (Err(StartError::NotAMember), Err(error)) => Err(error.into()),
        (prepared, _) => Ok(prepared?),
    }
}

/// What the node says of itself: what it said before, or what it makes up now, and the name that was chosen.
fn about(
    dir: &DataDir,
    config: &Config,
    (addresses, now): (&[Address], Wall),
    resumes: bool,
) -> Result<About, RunError> {
    let fresh = About { name: name(config, addresses, now), since: now };
    let mut about = dir.about(fresh, resumes)?;
    if let Some(chosen) = config.node.chosen_id() {
        about.name = chosen.to_owned();
    }
    Ok(about)
}

impl Starting {
    /// Takes the data directory and the sockets, and finds out who the node is.
    pub async fn prepare(args: &RunArgs, loaded: &Loaded, log: Lines) -> Result<Self, RunError> {
        raise_open_files();
        let config = loaded.config.clone();
        let wanted = origin(loaded, args.token_file.as_deref());
        if let Some(path) = &args.ready_file {
            // One from an earlier run would say that this one is ready.
            remove(path)?;
        }
        let dir = DataDir::open(
            &std::path::absolute(&config.node.data_dir)
                .map_err(|error| RunError::System("find the data directory", error))?,
        )?;
        let Held { journals, vault, membership, fresh_key } = holdings::take(&dir, args, &wanted)?;
        let (journals, vault) = (Arc::new(journals), Arc::new(vault));
        let entropy = Arc::new(SystemEntropy);
        let token = ApiToken::load_or_create(dir.path(), entropy.seed())?;
        let meter = Registry::start(&Handle::current());
        let server = open_doors(&config, &dir, http::api(token.clone(), meter.clone()))?;
        let given_up = args.accept_lost_records;
        let stores = holdings::records(&dir, &journals, membership.as_ref(), given_up).await?;
        let peer = vault.peer_id();
        // Whoever founds is a member from here on.
        let fresh_key = fresh_key.unless(matches!(wanted, Ok(Origin::Found { .. })));
        let prepared = identify(&journals, &entropy, peer, wanted).await?;
        if matches!(prepared.origin, Origin::Join { .. }) {
            server.service().joins();
        }
        warn_of_other_name(loaded, &prepared);
        let resumes = matches!(prepared.origin, Origin::Resume);
        let runtime = Handle::current();
        let network =
            P2pNetwork::start(network_config(&config, &prepared), &vault, runtime.clone())?;
        let clock = Arc::new(SystemClock::start(runtime.clone()));
        let about = about(&dir, &config, (&network.listen_addresses(), clock.wall()), resumes)?;
        let record_stats = stores.stats();
        let ports = Ports {
            bulk: network.bulk(),
            cache: Arc::new(MemoryCache::new(CACHE_BYTES_MAX, CACHE_TTL)),
            clock: clock.clone(),
            entropy,
            host: Arc::new(SystemHost::start(dir.path(), runtime)),
            journals: journals.clone(),
            keyring: keyring(&vault)?,
            meter: meter.clone(),
            network: network.clone(),
            records: Arc::new(stores),
            vault,
            workers: Arc::new(Threads::new(WORK_THREADS)),
        };
        Ok(Self {
            dir,
            about,
            config,
            fault_injection: args.enable_fault_injection.then_some(clock),
            level: args.level.unwrap_or(Level::NEWEST),
            journals,
            prepared,
            fresh_key,
            network,
            record_stats,
            meter,
            ports,
            token,
            server,
            log,
        })
    }

    /// The network, which outlives the node.
    pub fn network(&self) -> Arc<P2pNetwork> {
        self.network.clone()
    }

    /// Joins if it has to, starts the actors, and opens the API.
    pub async fn start(self) -> Result<Started, RunError> {
        let node_config = self.node_config();
        let boot_counter = self.prepared.boot_counter;
        if let Origin::Join { addresses, .. } = &self.prepared.origin {
            tracing::info!(?addresses, "joining a cluster");
        }
        let Self { ports, prepared, fresh_key, server, token, dir, .. } = self;
        let has_founded = matches!(prepared.origin, Origin::Found { .. });
        let store = prepared.store.clone();
        // Whoever is interrupted from here on may be a member, and needs the key that it is known
        // by.
        let made = fresh_key.release();
        let node = match node::start(prepared, ports, node_config).await {
            Ok(node) => node,
            Err(error) => {
                let is_nobody = !error.is_open() && !node::has_membership(&store);
                if let Some(key) = made.filter(|_| is_nobody) {
                    holdings::remove_key(&key);
                }
                return Err(error.into());
            }
        };
        let api = server.address();
        let name = self.about.name;
        let connections = server.connections();
        let sources = Sources {
            meter: self.meter,
            network: Some(self.network.stats()),
            journals: JOURNALS
                .into_iter()
                .filter_map(|name| Some((name, self.journals.stats(name)?)))
                .collect(),
            records: Some(self.record_stats),
            log: Some(self.log),
        };
        sources.measure();
        let mut app = App::new(node.clone(), name.clone(), boot_counter, api, connections, sources);
        app.fault_injection = self.fault_injection;
        server.service().run(app);
        let ready = ReadyFile {
            api: api.to_string(),
            member: node.member().to_string(),
            peer: node.identity().peer.to_string(),
            addresses: self.network.listen_addresses().iter().map(Address::to_string).collect(),
            pid: std::process::id(),
        };
        Ok(Started { node, server, ready, name, has_founded, dir, token })
    }

    fn node_config(&self) -> NodeConfig {
        let addresses = self.network.listen_addresses();
        let weights = self.config.election.weights;
        let first = addresses.first();
        NodeConfig {
            candidate: Candidate {
                peer: self.network.local_peer(),
                name: self.about.name.clone(),
                role: self.config.node.role.clone(),
                addresses: addresses.clone(),
                labels: self.config.node.labels.clone(),
                content_key: self.ports.keyring.own(),
                level: self.level,
            },
            announcement: Announcement {
                node_id: self.about.name.clone(),
                capabilities: self.ports.host.capabilities(),
                ip_address: first.map_or_else(String::new, host_text),
                p2p_port: first.map_or(0, |address| address.port),
                services: BTreeMap::from([(SERVICE.to_owned(), self.server.address().port())]),
                joined_at: self.about.since,
                links: BTreeMap::new(),
            },
            election: election::Settings {
                weights: Weights {
                    stability: weights.stability,
                    resources: weights.resources,
                    position: weights.position,
                    geography: weights.geography,
                    load: weights.load,
                },
                interval: self.config.election.interval,
                shape: Shape::default(),
            },
            retention: Retention::default(),
            shape: Shape::default(),
            scope: Arc::new(ProcessScope::new(
                self.ports.clock.clone(),
                self.ports.entropy.clone(),
            )),
            observer: None,
        }
    }
}

impl Started {
    /// Says that the node runs: to people, and in the ready file.
    pub fn tell(&self, args: &RunArgs, people: Option<&Log>) -> Result<(), RunError> {
        let version = env!("CARGO_PKG_VERSION");
        let (ready, name) = (&self.ready, &self.name);
        let (dir, token) = (self.dir.path().display(), self.token.path().display());
        if self.has_founded {
            let identity = self.node.identity();
            let (cluster, id) = (&identity.cluster_name, identity.cluster);
            let founded = format!("founded a new cluster {cluster} ({id})");
            // Somebody may have meant to join one.
            match people {
                Some(log) => log.say(&format!("bzzz {version}: {founded}")),
                None => tracing::warn!("{founded}"),
            }
        }
        if let Some(log) = people {
            log.say(&format!(
                "bzzz {version}: {name} is member {} of cluster {}\n  peer   {}\n  p2p    {}\n  \
                 api    http://{}\n  data   {dir}\n  token  {token}",
                ready.member,
                self.node.identity().cluster_name,
                ready.peer,
                ready.addresses.join(" "),
                ready.api,
            ));
        } else {
            tracing::info!(
                version, name, member = ready.member, peer = ready.peer, api = ready.api,
                p2p = ready.addresses.join(" "), data = %dir, token_file = %token, "the node runs"
            );
        }
        if let Some(path) = &args.ready_file {
            let bytes = serde_json::to_vec(ready).unwrap_or_default();
            files::replace(path, &bytes)
                .map(drop)
                .map_err(|error| RunError::System("write the ready file", error))?;
        }
        Ok(())
    }
}

/// Many systems let a process have more files open than they give it at first.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if limit.current.is_some_and(|now| now < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "this process can't have more files open than it has now");
        }
    }
}

fn remove(path: &Path) -> Result<(), RunError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(RunError::System("remove the old ready file", error))
        }
        _ => Ok(()),
    }
}

/// A name that somebody chose for the cluster, on a node that is in another one.
fn warn_of_other_name(loaded: &Loaded, prepared: &Prepared) {
    let Some(identity) = &prepared.identity else { return };
    let chosen = loaded.origins.get("cluster.name").filter(|o| **o != ValueOrigin::Default);
    let wanted = &loaded.config.cluster.name;
    if chosen.is_some() && *wanted != identity.cluster_name {
        let is = &identity.cluster_name;
        tracing::warn!(wanted, is, "cluster.name differs from the cluster that this node is in");
    }
}

fn host_text(address: &Address) -> String {
    match &address.host {
        Host::Ip(ip) => ip.to_string(),
        Host::Dns(name) => name.clone(),
    }
}

/// The display name: as configured, or `node-<12 digits of the address>-<date>`.
fn name(config: &Config, addresses: &[Address], today: Wall) -> String {
    if let Some(chosen) = config.node.chosen_id() {
        return chosen.to_owned();
    }
    let ip = addresses.iter().find_map(|address| match &address.host {
        Host::Ip(ip) => Some(*ip),
        Host::Dns(_) => None,
    });
    format!("node-{}-{}", ip.map_or_else(|| "0".repeat(12), ip_digits), today.date_digits())
}

/// Twelve digits of an address: all of an IPv4 address in decimal, the end of an IPv6 address in
/// hexadecimal.
fn ip_digits(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets().iter().map(|byte| format!("{byte:03}")).collect(),
        IpAddr::V6(ip) => ip.octets()[10..].iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_twelve_digits_of_the_address() {
        assert_eq!(ip_digits("10.0.0.7".parse().unwrap()), "010000000007");
        assert_eq!(ip_digits("fd00::1:2".parse().unwrap()), "000000010002");
    }
}
