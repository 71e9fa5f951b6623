//! The flags of `bzzz run`.

use std::path::PathBuf;

use crate::config::{ConfigError, Sources};
use crate::types::Level;

/// Runs a node.
///
/// A node that has a membership in its data directory goes on with it; the flags that say how to
/// get one then have no effect, so the same command line serves every start. Only the addresses of
/// --join are still tried, while a member is not where it was.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RunArgs {
    /// Configuration file; without it bzzz.toml is looked for
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the identity and the journals of this node
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Make a new cluster, with this node as its first member
    #[arg(long, visible_alias = "bootstrap", conflicts_with = "join")]
    pub bootstrap_mode: bool,
    /// Address of a member to join at or to look for, such as 10.0.0.7:4001; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub join: Vec<String>,
    /// File with the join token, `-` for standard input
    #[arg(long, value_name = "FILE", env = "BZZZ_JOIN_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Address to accept other nodes at, such as /ip4/0.0.0.0/tcp/4001; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Socket of the HTTP API, on loopback; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub api: Option<String>,
    /// Display name of this node
    #[arg(long, value_name = "NAME")]
    pub node_id: Option<String>,
    /// Install kind (worker, bootstrap, storage, gateway) or the role of an agent
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Label of this node; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Least level that is logged, or a filter such as info,bzzz=debug
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Go on without what is lost of the record store and no other member has
    #[arg(long)]
    pub accept_lost_records: bool,
    /// Become a new member if node.key is gone: what the data directory holds is moved aside
    #[arg(long)]
    pub replace_key: bool,
    /// Let actors be killed and the clock be set wrong through the API, to watch what happens
    #[arg(long)]
    pub enable_fault_injection: bool,
    /// Speak and understand this level only, as the release before does: for trying an upgrade out
    #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
    pub level: Option<Level>,
    /// File that is written once the API answers, with the address of it
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Any key of the configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// A level that this build can take: its own, or the one before.
fn parse_level(text: &str) -> Result<Level, String> {
    let (oldest, newest) = (Level::NEWEST.oldest_spoken(), Level::NEWEST);
    let level = text.parse().ok().map(Level).filter(|level| (oldest..=newest).contains(level));
    level.ok_or_else(|| format!("this build speaks levels {oldest} and {newest}"))
}

impl RunArgs {
    /// The sources of the configuration with these flags.
    pub fn sources(&self) -> Result<Sources, ConfigError> {
        let mut sources = Sources::of_process()?;
        sources.config_flag.clone_from(&self.config);
        let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
        for (key, flag, value) in [
            ("node.data_dir", "--data-dir", self.data_dir.clone()),
            ("cluster.bootstrap", "--bootstrap-mode", self.bootstrap_mode.then(|| "true".into())),
            ("p2p.bootstrap_peers", "--join", list(&self.join)),
            ("p2p.listen", "--listen", list(&self.listen)),
            ("api.listen", "--api", self.api.clone()),
            ("node.id", "--node-id", self.node_id.clone()),
            ("node.role", "--role", self.role.clone()),
            ("node.labels", "--label", list(&self.label)),
            ("telemetry.log.level", "--log-level", self.log_level.clone()),
        ] {
            if let Some(value) = value {
                sources.flags.push((key.to_owned(), value));
                sources.flag_names.insert(key.to_owned(), flag.to_owned());
            }
        }
        for setting in &self.set {
            // Without a value the key's own complaint is better than one about the form.
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            sources.flags.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(sources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn flags_become_configuration() {
        let args = RunArgs {
            join: vec!["10.0.0.1:4001".into(), "/ip4/10.0.0.2/tcp/4001".into()],
            label: vec!["zone=a".into(), "disk=ssd".into()],
            api: Some("127.0.0.1:0".into()),
            set: vec!["election.interval=2h".into()],
            ..RunArgs::default()
        };
        let mut sources = args.sources().unwrap();
        sources.env.clear();
        sources.home = None;
        let dir = tempfile::tempdir().unwrap();
        (sources.cwd, sources.etc) = (dir.path().into(), dir.path().into());
        let loaded = load(&sources).unwrap();
        assert_eq!(loaded.config.p2p.bootstrap_peers.len(), 2);
        assert_eq!(loaded.config.node.labels["disk"], "ssd");
        assert_eq!(loaded.config.election.interval.as_secs(), 7_200);
        assert_eq!(loaded.origins["api.listen"].to_string(), "flag --api");
    }
}
