//! Decisions: what agents and people decided, and why.
//!
//! Problem: a decision is written once and read for years, by whoever has one of the roles that it
//! is for, on any node, and nobody else. Whoever holds it must be able to tell that it is whole,
//! without reading it.
//!
//! Flow (the publication flow of the technical report): a `Draft` is what a client sends; it is
//! checked and becomes a `Decision` with its address, its time and a salt; that is encoded, signed
//! by the node and encrypted to its roles and those above, and becomes a `Content` whose name is the
//! hash of the signed bytes. Reading goes the same way back, and checks every step.
//!
//! | stored | what it is | who can check it |
//! | --- | --- | --- |
//! | version at an address | time, writer, kind, hash of the content | everybody, it is in the clear |
//! | envelope | roles, age file, signature of the node | every holder, without a key |
//! | signed decision, in the age file | the decision, signer, signature | whoever can decrypt it |
//!
//! Invariants:
//! 1. What is published passed every check and has at most `CONTENT_LEN_MAX` bytes.
//! 2. The hash of a content confirms no guess of what is in it: the salt is random.
//! 3. What is given to a reader matches the hash that it was read by, is signed, and stands at the
//!    address that it was read at.

mod draft;
mod query;
mod seal;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use draft::{Draft, FieldProblem, Reference};
pub use query::{Cursor, Filter};
pub use seal::{Opened, ReadError, SealFailure, Trust, check_readers, open, seal};

use crate::types::codec::Durable;
use crate::types::record::DecisionKind;
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, ContentHash, Wall};

/// A decision, as it is signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Where it stands.
    pub address: DecisionAddress,
    /// When it was taken in, by the clock of the node.
    pub at: Wall,
    /// Random, so that its hash confirms no guess.
    pub salt: Bytes,
    /// What it says.
    pub body: Body,
}

impl Durable for Decision {
    const NAME: &'static str = "decision";
    const KIND: u8 = 22;
    const VERSION: u8 = 1;
}

impl Decision {
    /// True if both are the same decision, taken in twice: what they refer to as the latest may be
    /// another version by then.
    pub fn repeats(&self, other: &Self) -> bool {
        let Body { parents, supersedes, .. } = &self.body;
        let (parents, supersedes) = (parents.clone(), *supersedes);
        self.address == other.address
            && self.body == Body { parents, supersedes, ..other.body.clone() }
    }
}

/// What a decision says.
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// What was to be done.
    pub task: String,
    /// What was decided; plain text or Markdown.
    pub decision: String,
    /// Whether it worked out, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// Words to find it by, for whoever can read it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Contents that it follows from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "daemon", schema(value_type = Vec<String>))]
    pub parents: Vec<ContentHash>,
    /// The content that it takes the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<String>))]
    pub supersedes: Option<ContentHash>,
    /// What decisions of its type say besides.
    #[serde(flatten)]
    pub details: Details,
}

/// What only decisions of one type say.
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Details {
    /// A change of code.
    Code {
        /// Files that were changed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files_modified: Vec<String>,
        /// Lines that were changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lines_changed: Option<u64>,
        /// Language of the code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        language: Option<String>,
        /// What it depends on.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        dependencies: Vec<String>,
        /// Tests that were run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        test_results: Option<TestResults>,
    },
    /// The shape of a system.
    Architecture {
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rationale: Option<String>,
        /// What else was thought of.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        alternatives: Vec<String>,
        /// What follows from it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        implications: Vec<String>,
        /// What is to be done next.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        next_steps: Vec<String>,
    },
    /// Tests and their results.
    Test {
        /// How many passed and failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        test_results: Option<TestResults>,
        /// What failed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        failures: Vec<String>,
        /// Share of the code that they reach, in percent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        coverage_percent: Option<u8>,
    },
    /// The running of systems.
    System {
        /// Of which part.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        component: Option<String>,
        /// What was done to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<String>,
        /// Names and values.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        details: BTreeMap<String, String>,
    },
    /// Anything else.
    Generic {
        /// Any JSON value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<serde_json::Value>,
    },
}

impl Details {
    /// The type.
    pub fn kind(&self) -> DecisionKind {
        match self {
            Self::Code { .. } => DecisionKind::Code,
            Self::Architecture { .. } => DecisionKind::Architecture,
            Self::Test { .. } => DecisionKind::Test,
            Self::System { .. } => DecisionKind::System,
            Self::Generic { .. } => DecisionKind::Generic,
        }
    }
}

/// How tests went.
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestResults {
    /// That passed.
    pub passed: u64,
    /// That failed.
    pub failed: u64,
    /// That were not run.
    #[serde(default)]
    pub skipped: u64,
}

#[cfg(test)]
mod tests;
