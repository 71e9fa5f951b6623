//! The table of every key: what reads, suggests, shows and documents the configuration.

use super::value::Kind;
use crate::types::limits::NODE_NAME_LEN_MAX;

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// Dotted name, such as `election.weights.load`.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Default, as text that an environment variable or a flag could carry too.
    pub default: &'static str,
    /// Shorter name of its environment variable, next to the one that every key has.
    pub alias: Option<&'static str>,
    /// One line for help and for the reference.
    pub doc: &'static str,
}

impl Key {
    const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        alias: Option<&'static str>,
        doc: &'static str,
    ) -> Self {
        Self { name, kind, default, alias, doc }
    }

    /// The environment variable of this key: `BZZZ_`, then the name in upper case, with two
    /// underscores in place of each dot.
    pub fn env_name(&self) -> String {
        format!("BZZZ_{}", self.name.to_ascii_uppercase().replace('.', "__"))
    }
}

const NAME: Kind = Kind::Name { max: NODE_NAME_LEN_MAX };
const TEXT: Kind = Kind::Text { max: NODE_NAME_LEN_MAX };
const WEIGHT: Kind = Kind::Integer { min: 0, max: 100 };

/// Every key, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    Key::new(
        "node.id",
        NAME,
        "auto",
        Some("BZZZ_NODE_ID"),
        "Display name of this node; auto makes one of its address and the date",
    ),
    Key::new(
        "node.role",
        TEXT,
        "worker",
        Some("BZZZ_ROLE"),
        "Install kind (worker, bootstrap, storage, gateway); any other value names the agent role \
         of a worker",
    ),
    Key::new(
        "node.data_dir",
        Kind::Path,
        "/var/lib/bzzz",
        None,
        "Directory of the identity and the journals of this node",
    ),
    Key::new("node.labels", Kind::Labels, "", None, "Labels that this node announces to others"),
    Key::new(
        "cluster.name",
        TEXT,
        "bzzz",
        None,
        "Name of the cluster that this node founds or expects to join",
    ),
    Key::new(
        "cluster.mode",
        Kind::Bool,
        "true",
        Some("BZZZ_CLUSTER_MODE"),
        "Whether this node takes part in a cluster; false runs it on its own",
    ),
    Key::new(
        "cluster.bootstrap",
        Kind::Bool,
        "false",
        None,
        "Whether this node founds a new cluster when it has none yet",
    ),
    Key::new(
        "p2p.listen",
        Kind::Listen,
        "/ip4/0.0.0.0/tcp/4001,/ip6/::/tcp/4001,/ip4/0.0.0.0/udp/4001/quic-v1,/ip6/::/udp/4001/quic-v1",
        None,
        "Addresses on which other nodes are accepted",
    ),
    Key::new(
        "p2p.announce",
        Kind::Reach,
        "",
        None,
        "Addresses told to other nodes; empty announces those listened on",
    ),
    Key::new(
        "p2p.bootstrap_peers",
        Kind::Peers,
        "",
        Some("BZZZ_BOOTSTRAP_PEERS"),
        "Addresses of nodes to contact first",
    ),
    Key::new(
        "p2p.mdns",
        Kind::Bool,
        "true",
        None,
        "Whether peers are looked for in the local network by multicast DNS; never if only this machine can reach the node",
    ),
    Key::new(
        "p2p.relay",
        Kind::Bool,
        "true",
        None,
        "Whether connections between members that can't reach each other are passed on, and this node is reached that way",
    ),
    Key::new(
        "p2p.max_connections",
        Kind::Integer { min: 1, max: 10_000 },
        "500",
        None,
        "Connections to other nodes at once",
    ),
    Key::new(
        "api.listen",
        Kind::Loopback,
        "127.0.0.1:8080",
        None,
        "Socket of the HTTP API, on loopback only; port 0 takes a free one",
    ),
    Key::new(
        "election.interval",
        Kind::Duration,
        "24h",
        None,
        "How often the cluster weighs anew who should lead",
    ),
    Key::new(
        "election.weights.stability",
        WEIGHT,
        "30",
        None,
        "Weight of uptime and answered pings; all weights sum to 100",
    ),
    Key::new(
        "election.weights.resources",
        WEIGHT,
        "25",
        None,
        "Weight of the hardware: GPU memory, processors, memory, disk",
    ),
    Key::new(
        "election.weights.position",
        WEIGHT,
        "20",
        None,
        "Weight of being heard by the other voters",
    ),
    Key::new(
        "election.weights.geography",
        WEIGHT,
        "15",
        None,
        "Weight of low round-trip times to the other voters",
    ),
    Key::new(
        "election.weights.load",
        WEIGHT,
        "10",
        None,
        "Weight of how little a node has to do at present",
    ),
    Key::new(
        "telemetry.log.level",
        Kind::LogFilter,
        "info",
        None,
        "Least level that is logged, or a filter for single modules",
    ),
    Key::new(
        "telemetry.log.format",
        Kind::Choice(&["auto", "text", "json"]),
        "auto",
        None,
        "Form of the log; auto writes text to a terminal and json elsewhere",
    ),
];

/// Characters that a name may differ by and still be suggested.
const SUGGEST_DISTANCE_MAX: usize = 3;

/// The key of a dotted name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// True for a table that holds keys, such as `p2p` or `telemetry.log`.
pub fn is_section(name: &str) -> bool {
    sections().any(|section| section == name)
}

/// What to tell somebody who wrote `name`: the nearest key, or those that there are.
pub(super) fn hint(name: &str) -> String {
    if is_section(name) {
        return format!("it is a table, set one of its keys: {}", known_in(Some(name)));
    }
    let names = KEYS.iter().map(|key| key.name).chain(sections());
    if let Some(near) = nearest(name, names) {
        return format!("did you mean {near}?");
    }
    // The right key under the wrong section, which no count of characters would find.
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    if let Some(key) = KEYS.iter().find(|key| last(key.name) == last(name)) {
        return format!("did you mean {}?", key.name);
    }
    let section = name.rsplit_once('.').map(|(section, _)| section).filter(|s| is_section(s));
    match section {
        Some(name) => format!("use one of the keys of [{name}]: {}", known_in(section)),
        None => format!("use one of the sections {}", known_in(None)),
    }
}

/// What stands directly in a section, or at the top.
fn known_in(section: Option<&str>) -> String {
    let prefix = section.map(|section| format!("{section}.")).unwrap_or_default();
    let mut known: Vec<&str> = KEYS
        .iter()
        .filter_map(|key| key.name.strip_prefix(prefix.as_str()))
        .map(|rest| rest.split('.').next().unwrap_or(rest))
        .collect();
    known.dedup();
    known.join(", ")
}

/// The candidate that differs least from `name`, if it is near enough to have been meant.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    // The sections are mostly right, so it is the last word that has to look alike.
    let word = name.rsplit(['.', '_']).next().unwrap_or(name);
    let allowed = (word.chars().count() / 2).clamp(1, SUGGEST_DISTANCE_MAX);
    candidates
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Every table that holds keys, with repetitions.
fn sections() -> impl Iterator<Item = &'static str> {
    KEYS.iter().flat_map(|key| key.name.match_indices('.').map(|(dot, _)| &key.name[..dot]))
}
