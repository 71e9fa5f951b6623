//! The commands and their arguments.
//!
//! Nouns first, then verbs. What concerns every command stands in [`Global`] and may be given
//! before or after the command. No argument takes a secret: tokens come from files or from the
//! environment.

pub mod decision;
pub mod fault;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub use decision::{DecisionCommand, DraftFormat, PageArgs, PublishArgs, QueryArgs, RoleCommand};
pub use fault::FaultCommand;

use super::commands::ClientCommand;
use super::dev::DevArgs;
use super::output::Format;
use crate::config::parse_duration;
use crate::daemon::RunArgs;

const EXAMPLES: &str = "\
Examples:
  bzzz dev --nodes 5                        try a cluster of five nodes on this machine
  bzzz dev --nodes 5 --tour README.md       watch it lose its leader and lose nothing
  bzzz run --bootstrap-mode                 found a cluster with this node
  bzzz join-token create > token            let another node join it
  bzzz status                               ask the node on this machine

Exit codes: 0 ok, 1 failure, 2 wrong usage, 3 not found, 4 not authorised, 5 conflict,
6 unreachable or too late, 7 no quorum (read-only), 130 interrupted.";

/// A cluster runtime for machines that run AI models and agents, without a central server.
#[derive(Debug, Parser)]
#[command(name = "bzzz", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct Global {
    /// Node to ask [default: the one in the data directory, by its socket, else
    /// http://127.0.0.1:8080].
    #[arg(long, global = true, value_name = "URL", env = "BZZZ_ADDR")]
    pub addr: Option<String>,
    // The environment is read by hand: `run` has a flag of the same name for its join token, and
    // clap would hand the value of the variable to that one too.
    /// File with the token of the API [env: BZZZ_TOKEN_FILE] [default: api.token in the data
    /// directory]; for `run`, file with the join token.
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Form of the output.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORM",
        env = "BZZZ_OUTPUT",
        default_value = "table"
    )]
    pub output: Format,
    /// Print data only, no talk.
    #[arg(long, global = true)]
    pub quiet: bool,
    /// Print without colours; so does a variable NO_COLOR.
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Answer questions with yes.
    #[arg(long, global = true)]
    pub yes: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node.
    Run(Box<RunArgs>),
    /// Run a whole cluster on this machine, for trying things out.
    Dev(DevArgs),
    /// Show the state of the cluster as one node sees it.
    Status,
    /// Something that a node is asked.
    #[command(flatten)]
    Client(ClientCommand),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Print the version.
    Version,
}

/// Members of the cluster.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Run a node; the same as `bzzz run`.
    Run(Box<RunArgs>),
    /// List the members.
    List {
        /// Only members with this label, set or computed, such as gpu=nvidia; may be repeated.
        #[arg(long = "label", value_name = "NAME=VALUE")]
        labels: Vec<String>,
    },
    /// Show what the machines are, and how far they are from each other.
    Capabilities {
        /// Member id or name; all members if it is left out.
        node: Option<String>,
        /// Show the round-trip times between the members instead.
        #[arg(long, conflicts_with = "node")]
        rtt: bool,
    },
    /// Show a member.
    Show {
        /// Member id or name.
        node: String,
    },
    /// End a membership for good; the node can come back as a new member only.
    Remove {
        /// Member id or name.
        node: String,
        /// Give up the records that too few others have; only for a machine that is gone for good.
        #[arg(long)]
        lost: bool,
    },
    /// Set labels (`zone=rack-a`) and remove labels (`zone-`).
    Label {
        /// Member id or name.
        node: String,
        /// Changes, such as `zone=rack-a` or `zone-`.
        #[arg(required = true, value_name = "CHANGE")]
        changes: Vec<String>,
    },
}

/// Tokens with which further nodes join.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token. It is a secret and is shown this one time.
    Create {
        /// For how long it is good, such as 30m or 24h.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
        ttl: Duration,
        /// How many nodes may join with it.
        #[arg(long, value_name = "N", default_value_t = 1)]
        uses: u32,
    },
    /// List the tokens, without their secrets.
    List,
    /// Make a token useless.
    Revoke {
        /// Its id, as `list` shows it.
        token_id: String,
    },
}

/// Who leads, and why.
#[derive(Debug, Subcommand)]
pub enum ElectionCommand {
    /// Show the leader and its scores.
    Status,
    /// Show the scores of all voters.
    Scores,
    /// Show how the score of a node comes about.
    Explain {
        /// Member id or name; the leader if nobody is named.
        node: Option<String>,
    },
    /// Hand leadership over, to the fittest other voter if nobody is named.
    Transfer {
        /// Member id or name.
        node: Option<String>,
    },
}

/// Duties of the leader.
#[derive(Debug, Subcommand)]
pub enum SlurpCommand {
    /// Show what each duty did last, what it plans, why, and when it looks again.
    Status,
    /// Let no leader take a step of a duty until it is resumed.
    Pause {
        /// Name of the duty.
        duty: String,
    },
    /// See to a duty again.
    Resume {
        /// Name of the duty.
        duty: String,
    },
}

/// Addresses: configuration values, decisions and contents.
#[derive(Debug, Subcommand)]
pub enum UcxlCommand {
    /// Print a configuration value as it was stored, or a decision.
    Get {
        /// Address, such as ucxl://bzzz.cluster.config/ai_models/llama, agent/role/project/task/node
        /// or /bzzz/ucxl/HASH.
        address: String,
        /// Answer at once from what the node has, even if it may have missed a write.
        #[arg(long)]
        stale: bool,
    },
    /// Store a value. Say with --create or --if-match what you expect to be there.
    Put {
        /// Address, such as ucxl://bzzz.cluster.config/ai_models/llama.
        address: String,
        /// The value, or @FILE, or - for the standard input (also if left out).
        value: Option<String>,
        /// Write only if the value stands at this version; 0 if it must not exist.
        #[arg(long, value_name = "VERSION", conflicts_with = "create")]
        if_match: Option<u64>,
        /// Write only if there is no value yet.
        #[arg(long)]
        create: bool,
        /// Key of your choice under which the write happens once, however often it is repeated.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Say what an address or a pattern means, and print its canonical form; asks no node.
    Parse {
        /// Address or pattern, such as ucxl://agent:role@project:task/node/~~1.
        text: String,
    },
    /// List all versions of a decision, oldest first.
    History {
        /// Its address.
        address: String,
    },
    /// List configuration values, or the decisions that match a pattern.
    Ls {
        /// What the keys of values begin with, such as ai_models/, or a pattern over decisions, such
        /// as ada/ or */architect/**.
        prefix: Option<String>,
        /// Rows of one page; without it all pages are printed.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Where to go on, from `next_cursor` of the page before.
        #[arg(long, value_name = "KEY")]
        cursor: Option<String>,
    },
}

/// Encrypt and decrypt age files on this machine, without a node.
#[derive(Debug, Subcommand)]
pub enum CryptoCommand {
    /// Make a key pair: the private key goes to a file, or to the standard output.
    Keygen {
        /// File for the private key; it must not exist yet.
        file: Option<PathBuf>,
    },
    /// Encrypt a file, or the standard input, so that each recipient can read it.
    Encrypt {
        /// File to encrypt; the standard input without it.
        input: Option<PathBuf>,
        /// File to write, which must not exist yet; the standard output without it.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Public key of somebody who can read it, age1...; may be given many times.
        #[arg(short, long = "recipient", value_name = "KEY")]
        recipients: Vec<String>,
        /// File with public keys, one a line; may be given many times.
        #[arg(short = 'R', long, value_name = "FILE")]
        recipients_file: Vec<PathBuf>,
        /// Write text instead of bytes; so it does for a terminal.
        #[arg(short, long)]
        armor: bool,
    },
    /// Decrypt a file, or the standard input.
    Decrypt {
        /// File to decrypt; the standard input without it.
        input: Option<PathBuf>,
        /// File to write, which must not exist yet; the standard output without it.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// File with private keys, one a line; may be given many times.
        #[arg(short, long, required = true, value_name = "FILE")]
        identity: Vec<PathBuf>,
    },
}

/// Contents that many nodes keep, by their hash.
#[derive(Debug, Subcommand)]
pub enum DhtCommand {
    /// Show who holds records, and how many copies there are.
    Status,
    /// Keep a file, or the standard input, and print its hash. Everybody with access to a node can
    /// read it.
    Put {
        /// File of up to 1 MiB; the standard input without it.
        file: Option<PathBuf>,
    },
    /// Print a content.
    Get {
        /// Its hash, or its address.
        hash: String,
    },
}

/// Actors inside a node.
#[derive(Debug, Subcommand)]
pub enum ActorCommand {
    /// Show the supervision tree.
    Tree,
    /// Kill an actor, to see it restarted; the node must allow fault injection.
    Kill {
        /// Its name, the last part of its path.
        name: String,
    },
}

/// What happens in the cluster.
#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// Tell all nodes of something, such as `bzzz event publish deploy.finished '{"version": 4}'`.
    Publish {
        /// Name of the event: letters, digits, and . _ - : /
        name: String,
        /// What it says, as JSON; @FILE reads a file, - standard input.
        #[arg(value_name = "JSON", default_value = "null")]
        data: String,
    },
    /// Print events as they happen, until Ctrl-C.
    Watch {
        /// Topic (application, election, cluster, member, peer, head, records, decision, actor,
        /// orchestrator); may be repeated.
        #[arg(long = "topic", value_name = "TOPIC")]
        topics: Vec<String>,
        /// Only events of applications with this name; a * at its end stands for anything.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Begin behind this event; 0 begins with the oldest one kept.
        #[arg(long, value_name = "SEQ")]
        since: Option<u64>,
    },
}

/// Configuration of this machine.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show the configuration that a node on this machine would start with.
    Show {
        /// Show where each value comes from.
        #[arg(long)]
        origin: bool,
        /// Configuration file.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the reference of all keys, in Markdown.
    Reference,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn common_options_stand_anywhere() {
        for line in ["bzzz --addr x:1 -o json status", "bzzz status -o json --addr x:1"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let addr = cli.global.addr.as_deref();
            assert_eq!((addr, cli.global.output), (Some("x:1"), Format::Json));
        }
    }

    #[test]
    fn the_token_file_of_run_is_its_own() {
        let cli = Cli::try_parse_from(["bzzz", "run", "--token-file", "join"]).unwrap();
        let Command::Run(args) = cli.command else { panic!("not run") };
        assert_eq!(args.token_file, Some(PathBuf::from("join")));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "bzzz nodes",
            "bzzz node show",
            "bzzz node label 1",
            "bzzz status -o yaml",
            "bzzz ucxl put a b --create --if-match 1",
            "bzzz dev --nodes 0",
            "bzzz dev --nodes 16",
            "bzzz join-token create --ttl soon",
            "bzzz fault clock",
            "bzzz fault clock --ahead 1",
            "bzzz fault clock --ahead --1h",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
