//! The client commands: each asks one node over its API and prints what it says.

pub mod actor;
pub mod config;
pub mod crypto;
pub mod decision;
pub mod dht;
pub mod election;
pub mod event;
pub mod fault;
pub mod node;
mod panel;
pub mod slurp;
pub mod status;
pub mod token;
pub mod ucxl;

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::args::{self, Global};
use super::client::{Client, REQUEST_TIMEOUT, Secret};
use super::error::{CliError, Exit};
use super::output::Output;
use super::table::printable;
use crate::config::{Sources, load};
use crate::http::api::TOKEN_FILE;
use crate::http::routes::nodes::{NodeInfo, Nodes};

macro_rules! client_commands {
    ($($command:ident($args:ty) => $serve:path, $about:literal;)*) => {
        /// What a node is asked, or this machine without one.
        #[derive(Debug, Subcommand)]
        pub enum ClientCommand {
            $(
                #[doc = $about]
                #[command(subcommand)]
                $command($args),
            )*
        }

        impl ClientCommand {
            /// Does it.
            pub fn run(self, session: &Session<'_>) -> Result<(), CliError> {
                match self {
                    $(Self::$command(command) => $serve(session, command),)*
                }
            }
        }
    };
}

// One row for each: its arguments, who serves it, and what `--help` says of it.
client_commands! {
    Node(args::NodeCommand) => node::node, "Members of the cluster";
    JoinToken(args::TokenCommand) => token::token, "Tokens with which further nodes join";
    Election(args::ElectionCommand) => election::election, "Who leads, and why";
    Slurp(args::SlurpCommand) => slurp::slurp, "Duties of the leader: what each did last, what it plans, and why";
    Ucxl(args::UcxlCommand) => ucxl::ucxl, "Configuration values that the cluster keeps, and addresses";
    Decision(args::DecisionCommand) => decision::decision, "Decisions of agents and people, encrypted to roles";
    Role(args::RoleCommand) => decision::role, "Roles, for whom decisions are";
    Crypto(args::CryptoCommand) => crypto::crypto, "Encrypt and decrypt age files on this machine, without a node";
    Dht(args::DhtCommand) => dht::dht, "Contents that many nodes keep, by their hash";
    Actor(args::ActorCommand) => actor::actor, "Actors inside a node";
    Fault(args::FaultCommand) => fault::fault, "Faults to try things out with; the node must allow fault injection";
    Event(args::EventCommand) => event::event, "What happens in the cluster";
    Config(args::ConfigCommand) => config::config, "Configuration of this machine";
}

/// The bytes of a file, or of the standard input without one or for `-`, and what to call it. More than
/// `most` are an error.
fn read_file(file: Option<&Path>, most: usize) -> Result<(Vec<u8>, String), CliError> {
    let (source, name): (Box<dyn Read>, String) = match file.filter(|f| f.as_os_str() != "-") {
        None => (Box::new(io::stdin().lock()), "the standard input".into()),
        Some(path) => {
            let name = path.display().to_string();
            let opened = File::open(path);
            let file =
                opened.map_err(|error| CliError::usage(format!("cannot read {name}: {error}")))?;
            (Box::new(file), name)
        }
    };
    let mut bytes = Vec::new();
    // One byte more than allowed is enough to know that it is too long.
    source
        .take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| CliError::usage(format!("cannot read {name}: {error}")))?;
    if bytes.len() > most {
        return Err(CliError::usage(format!("{name} is longer than {most} bytes"))
            .hint("a decision or a content may have 1 MiB; keep larger files elsewhere"));
    }
    Ok((bytes, name))
}

/// The port that a node takes if nobody says another one.
const DEFAULT_ADDRESS: &str = "http://127.0.0.1:8080";

/// What every command works with.
pub struct Session<'a> {
    /// Options of every command.
    pub global: &'a Global,
    /// Where to print.
    pub out: Output,
}

impl Session<'_> {
    /// A client of the node that was named, with its token; else of the one whose data directory is
    /// here, by the socket in it.
    pub fn client(&self) -> Result<Client, CliError> {
        let named = self.global.addr.as_deref();
        let address = named.unwrap_or(DEFAULT_ADDRESS);
        if let Some(token) = self.named_token()? {
            return Client::new(address, Some(token));
        }
        let loaded = Sources::of_process().and_then(|sources| load(&sources));
        let loaded = loaded.map_err(|error| CliError::usage(error.to_string()))?;
        let data_dir = &loaded.config.node.data_dir;
        if named.is_none()
            && let Some(client) = Client::local(data_dir, REQUEST_TIMEOUT)
        {
            return Ok(client);
        }
        // Nobody said that there is a token here, so that there is none becomes an error only
        // once a node asks for it. Before that it matters more whether one listens at all.
        match Secret::read(&data_dir.join(TOKEN_FILE)) {
            Ok(token) => Client::new(address, Some(token)),
            Err(why) => Ok(Client::new(address, None)?.without_token(why)),
        }
    }

    /// The token of the flag or of the environment.
    fn named_token(&self) -> Result<Option<Secret>, CliError> {
        if let Some(path) = &self.global.token_file {
            return Secret::read(path).map(Some);
        }
        let variable = |name| std::env::var_os(name).filter(|text| !text.is_empty());
        if let Some(path) = variable("BZZZ_TOKEN_FILE") {
            return Secret::read(&PathBuf::from(path)).map(Some);
        }
        let Some(text) = variable("BZZZ_TOKEN") else { return Ok(None) };
        text.to_str().and_then(Secret::parse).map(Some).ok_or_else(|| {
            CliError::new(Exit::Auth, "BZZZ_TOKEN does not hold a token of the API")
                .hint("set it to what stands in the node's api.token file, or unset it")
        })
    }

    /// Asks before something that cannot be undone.
    fn confirm(&self, question: &str) -> Result<(), CliError> {
        if self.global.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(CliError::usage(format!("{question} needs a yes"))
                .hint("repeat the command with --yes"));
        }
        self.out.warn(&format!("{question}? [y/N]"));
        let mut line = String::new();
        io::stdin()
            .lock()
            .read_line(&mut line)
            .map_err(|error| CliError::failure(format!("cannot read your answer: {error}")))?;
        if matches!(line.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(CliError::failure("nothing was changed"))
    }
}

/// The member that a user means by its id or its name.
fn member(client: &Client, text: &str) -> Result<String, CliError> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    let nodes: Nodes = client.read("/api/v1/nodes")?;
    pick(&nodes.items, text).map(|node| node.member.clone())
}

/// The node with that id, name or peer id.
fn pick<'a>(nodes: &'a [NodeInfo], text: &str) -> Result<&'a NodeInfo, CliError> {
    let same = |node: &&NodeInfo| node.member == text || node.name == text || node.peer == text;
    let found: Vec<&NodeInfo> = nodes.iter().filter(same).collect();
    let shown = printable(text);
    match found.as_slice() {
        [node] => Ok(node),
        [] => Err(CliError::new(Exit::NotFound, format!("there is no node {shown}"))
            .hint("`bzzz node list` shows the members")),
        several => {
            let ids: Vec<&str> = several.iter().map(|node| node.member.as_str()).collect();
            Err(CliError::usage(format!("several nodes are called {shown}"))
                .hint(format!("name one by its member id: {}", ids.join(", "))))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::types::host::Capabilities;

    /// A member for tests.
    pub fn node(member: &str, name: &str) -> NodeInfo {
        NodeInfo {
            member: member.into(),
            peer: format!("peer{member}"),
            name: name.into(),
            role: "worker".into(),
            addresses: vec![format!("/ip4/10.0.0.{member}/tcp/4001")],
            labels: [("zone".into(), "a".into())].into(),
            computed_labels: [("gpu".into(), "nvidia".into())].into(),
            links_us: (member == "1").then(|| ("2".to_owned(), 2_100)).into_iter().collect(),
            joined_at: "2025-08-10T16:22:20.000Z".into(),
            level: 2,
            voter: true,
            leader: member == "1",
            is_self: member == "1",
            answers: true,
            presumed: false,
            rtt_us: (member != "1").then_some(2_300),
            up_s: (member != "1").then_some(3_720),
            capabilities: Some(Capabilities {
                gpu_type: "nvidia".into(),
                gpu_model: "NVIDIA RTX A5000".into(),
                gpu_memory_mb: vec![24_576; 4],
                cpu_cores: 32,
                memory_gb: 128,
                storage_gb: 2_048,
                ollama_type: "parallama".into(),
            }),
        }
    }

    #[test]
    fn nodes_are_found_by_name_if_it_is_one_of_its_kind() {
        let nodes = [node("1", "a"), node("2", "b"), node("3", "b")];
        assert_eq!(pick(&nodes, "a").unwrap().member, "1");
        assert_eq!(pick(&nodes, "peer2").unwrap().member, "2");
        assert_eq!(pick(&nodes, "c").unwrap_err().exit, Exit::NotFound);
        let several = pick(&nodes, "b").unwrap_err();
        assert!(several.hint.unwrap().ends_with("2, 3"));
    }
}
