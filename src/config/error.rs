//! Where a value came from, and what can be wrong with it.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Where the value of a key was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// Nowhere; it is the default.
    Default,
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// Line of the key, counted from 1.
        line: usize,
    },
    /// In an environment variable.
    Env {
        /// Its name.
        name: String,
    },
    /// In a flag of the command line.
    Flag {
        /// The flag as it is written, with its hyphens.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "file {}:{line}", path.display()),
            Self::Env { name } => write!(f, "environment {name}"),
            Self::Flag { name } => write!(f, "flag {name}"),
        }
    }
}

/// Why the configuration cannot be used, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A file that is there, or was asked for, cannot be read.
    #[error("cannot read {path}{purpose}: {reason}; correct the path or the file")]
    Read {
        /// The file.
        path: PathBuf,
        /// Who asked for it, with a leading space; empty for files that were searched for.
        purpose: String,
        /// What the system says.
        reason: String,
    },
    /// A file is no TOML.
    #[error("syntax error in {origin}: {reason}")]
    Syntax {
        /// File and line.
        origin: Origin,
        /// What the parser says.
        reason: String,
    },
    /// A key that does not exist.
    #[error("unknown key {key} ({origin}); {hint}")]
    UnknownKey {
        /// Dotted name as it was given.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// What to write instead.
        hint: String,
    },
    /// An environment variable that looks like a key and is none.
    #[error("unknown environment variable {name}; {hint}")]
    UnknownVariable {
        /// Its name.
        name: String,
        /// What to set instead.
        hint: String,
    },
    /// An environment variable that is not text.
    #[error("environment variable {name} is not valid UTF-8, set it again or unset it")]
    NotText {
        /// Its name.
        name: String,
    },
    /// A value of the wrong type or out of range.
    #[error("{key} ({origin}): {reason}")]
    Value {
        /// Dotted name.
        key: String,
        /// Where the value stands.
        origin: Origin,
        /// What was expected and what was found.
        reason: String,
    },
    /// Two environment variables that set one key.
    #[error("{first} and {second} both set {key}, unset one of them")]
    Twice {
        /// Dotted name.
        key: String,
        /// One variable.
        first: String,
        /// The other variable.
        second: String,
    },
    /// The weights of the election do not sum to 100.
    #[error(
        "the keys of election.weights must sum to 100, not {sum}: {parts}; change some of them"
    )]
    Weights {
        /// What they sum to.
        sum: u64,
        /// Each weight, its value and its origin.
        parts: String,
    },
    /// The table of keys and the typed configuration disagree.
    #[error("the configuration does not fit its own schema: {0}; please report this bug")]
    Schema(String),
}
