//! The commands about decisions.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::types::record::DecisionKind;

/// What a decision is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DecisionType {
    /// A change of code.
    Code,
    /// The shape of a system.
    Architecture,
    /// Tests and their results.
    Test,
    /// The running of systems.
    System,
    /// Anything else.
    Generic,
}

impl From<DecisionType> for DecisionKind {
    fn from(kind: DecisionType) -> Self {
        match kind {
            DecisionType::Code => Self::Code,
            DecisionType::Architecture => Self::Architecture,
            DecisionType::Test => Self::Test,
            DecisionType::System => Self::System,
            DecisionType::Generic => Self::Generic,
        }
    }
}

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DraftFormat {
    /// A JSON object with the fields of a decision.
    Json,
    /// Text: all of it is the decision.
    Markdown,
}

/// Decisions of agents and people.
#[derive(Debug, Subcommand)]
pub enum DecisionCommand {
    /// Publish a decision: signed by the node, encrypted to its roles, kept by many nodes.
    Publish(PublishArgs),
    /// Read a decision by its address or by the hash of its content.
    Get {
        /// Address, such as ada/architect/shop/storage/node-1, with ~~1 or an instant behind it for
        /// another version; or the hash of a content.
        what: String,
        /// Read it as this role, instead of as any that can.
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
    },
    /// Look for decisions.
    Query(QueryArgs),
    /// List all decisions, or those that match a pattern.
    List {
        /// Pattern, such as ada/** or */architect/**.
        pattern: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Print decisions as they are published, until interrupted.
    Watch {
        /// Pattern, such as ada/** or */architect/**.
        pattern: Option<String>,
        /// Begin behind this event; 0 begins with the oldest one kept.
        #[arg(long, value_name = "SEQ")]
        since: Option<u64>,
    },
}

/// What to publish.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// What it is about.
    #[arg(value_name = "TYPE")]
    pub kind: DecisionType,
    /// Where it stands: agent/role/project/task/node, or ucxl://agent:role@project:task/node.
    pub address: String,
    /// JSON or Markdown; the standard input without it.
    pub file: Option<PathBuf>,
    /// How the file is read; told by its name or its first character if not given.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<DraftFormat>,
    /// What was to be done; the task in the address if not given.
    #[arg(long)]
    pub task: Option<String>,
    /// Whether it worked out.
    #[arg(long, value_name = "true|false")]
    pub success: Option<bool>,
    /// A word to find it by; may be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// A decision that it follows from, by address or by the hash of its content; may be repeated.
    #[arg(long = "parent", value_name = "DECISION")]
    pub parents: Vec<String>,
    /// A decision that it takes the place of.
    #[arg(long, value_name = "DECISION")]
    pub supersedes: Option<String>,
    /// A role that can read it besides the one in the address and those above; may be repeated.
    #[arg(long = "reader", value_name = "ROLE")]
    pub readers: Vec<String>,
    /// Key of your choice under which it is published once, however often that is repeated.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// What to look for.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// Pattern, such as ada/** or */architect/**; everything without it.
    pub pattern: Option<String>,
    /// By this agent.
    #[arg(long, value_name = "AGENT")]
    pub author: Option<String>,
    /// Of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<DecisionType>,
    /// Published at this time or later, such as 2026-11-26T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Published before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    #[command(flatten)]
    pub page: PageArgs,
}

/// How much of a listing to print.
#[derive(Debug, Default, Args)]
pub struct PageArgs {
    /// Rows of one page; without it all pages are printed (with -o json the first one).
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Where to go on, from `next_cursor` of the page before.
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

/// Roles, for whom decisions are.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// List the roles and the age recipients of their keys.
    List,
}
