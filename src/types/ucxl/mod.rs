//! UCXL: the names of what a cluster keeps, in every spelling, and one canonical form of each.
//!
//! | what | canonical form | also written |
//! | --- | --- | --- |
//! | decision | `agent/role/project/task/node` | `ucxl://agent/role/project/task/node`, `ucxl://agent:role@project:task/node` |
//! | decisions | the same with `*` (one segment) or `**` (any number) | a trailing `/` means everything below |
//! | content | `/bzzz/ucxl/<64 hexadecimal digits>` | |
//! | configuration | `ucxl://bzzz.cluster.config/<key>` | |
//!
//! A decision or a pattern may end in one more segment that says which version is meant: `*^` the
//! latest, `*~` the first, `~~N` N before the latest, `^^N` N after the first, or an RFC 3339 instant.
//!
//! Invariants:
//! 1. Whatever parses prints as its canonical form, and that parses to the same value.
//! 2. Two spellings of one thing parse to equal values.
//! 3. Parsing and matching take time linear in the length of the text, which is bounded.

mod address;
mod config;
mod pattern;
mod temporal;

use std::fmt;
use std::str::FromStr;

pub use address::DecisionAddress;
pub use config::{CONFIG_CATEGORIES, CONFIG_PREFIX, check_config_key};
pub use pattern::Pattern;
pub use temporal::{Temporal, TemporalError};

use crate::types::ContentHash;
use crate::types::limits::UCXL_TEXT_MAX;

/// What stands before the hash of a content.
pub const CONTENT_PREFIX: &str = "/bzzz/ucxl/";
/// What the scheme of an address looks like.
const SCHEME: &str = "ucxl://";

/// Why a text names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a UCXL address: {reason}")]
pub struct UcxlError {
    /// What was found, cut to a printable length.
    pub text: String,
    /// What is wrong with it, and what to write instead.
    pub reason: String,
}

impl UcxlError {
    fn new(text: &str, reason: impl Into<String>) -> Self {
        Self { text: text.chars().take(80).collect(), reason: reason.into() }
    }
}

/// Anything that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ucxl {
    /// One decision, and which version of it.
    Decision(DecisionAddress, Option<Temporal>),
    /// All decisions that match, and which version of each.
    Pattern(Pattern, Option<Temporal>),
    /// One content.
    Content(ContentHash),
    /// One configuration value, by its key.
    Config(String),
}

impl FromStr for Ucxl {
    type Err = UcxlError;

    fn from_str(text: &str) -> Result<Self, UcxlError> {
        let fail = |reason: String| UcxlError::new(text, reason);
        if text.len() > UCXL_TEXT_MAX {
            return Err(fail(format!("it is longer than {UCXL_TEXT_MAX} bytes")));
        }
        if let Some(hash) = text.strip_prefix(CONTENT_PREFIX) {
            let hash = hash.parse::<ContentHash>();
            return hash.map(Self::Content).map_err(|error| fail(error.reason.to_owned()));
        }
        if let Some(key) = text.strip_prefix(CONFIG_PREFIX) {
            check_config_key(key).map_err(fail)?;
            return Ok(Self::Config(key.to_owned()));
        }
        let path = path_of(text).map_err(fail)?;
        let mut segments: Vec<&str> = path.split('/').collect();
        let temporal = segments.last().and_then(|last| Temporal::parse(last));
        let temporal = temporal.transpose().map_err(fail)?;
        if temporal.is_some() {
            segments.pop();
        }
        if segments.last() == Some(&"") && segments.len() > 1 {
            segments.pop();
            segments.push("**");
        }
        let pattern = Pattern::from_segments(&segments).map_err(fail)?;
        Ok(match pattern.as_address() {
            Some(address) => Self::Decision(address, temporal),
            None => Self::Pattern(pattern, temporal),
        })
    }
}

/// The path form of a text that may have a scheme, and colons and an at sign in place of slashes.
fn path_of(text: &str) -> Result<String, String> {
    let Some(rest) = text.strip_prefix(SCHEME) else {
        if text.is_empty() || text.starts_with('/') {
            return Err("write agent/role/project/task/node".into());
        }
        return Ok(text.to_owned());
    };
    let (authority, below) = match rest.split_once('/') {
        Some((authority, below)) => (authority, Some(below)),
        None => (rest, None),
    };
    if !authority.contains(['@', ':']) {
        return Ok(rest.to_owned());
    }
    let parts = authority.split_once('@').and_then(|(who, what)| {
        let (agent, role) = who.split_once(':')?;
        let (project, task) = what.split_once(':')?;
        Some([agent, role, project, task])
    });
    let Some(parts) = parts else {
        return Err("before the first slash it must read agent:role@project:task".into());
    };
    Ok([&parts.join("/"), below.unwrap_or("")].join("/"))
}

impl fmt::Display for Ucxl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self {
            Self::Decision(address, temporal) => {
                write!(f, "{address}")?;
                temporal
            }
            Self::Pattern(pattern, temporal) => {
                write!(f, "{pattern}")?;
                temporal
            }
            Self::Content(hash) => return write!(f, "{CONTENT_PREFIX}{hash}"),
            Self::Config(key) => return write!(f, "{CONFIG_PREFIX}{key}"),
        };
        match suffix {
            Some(temporal) => write!(f, "/{temporal}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
