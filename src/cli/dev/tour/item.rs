//! What the tour writes: values and decisions.

use data_encoding::BASE64;

use crate::cli::client::Client;
use crate::cli::dev::cluster::write_new;
use crate::cli::error::CliError;
use crate::core::decision::Draft;
use crate::http::routes::decisions::{DecisionPublished, DecisionRead};
use crate::http::routes::values::UcxlEntry;

/// Something that is written once and read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A configuration value.
    Value {
        /// Its key.
        key: String,
        /// It.
        value: Vec<u8>,
    },
    /// A decision.
    Decision {
        /// Its address.
        address: String,
        /// What it says.
        text: String,
    },
}

/// What a read gave.
pub struct Read {
    /// True if it is what was written.
    pub holds: bool,
    /// True if it may be old.
    pub stale: bool,
}

/// Publishes a decision, once.
pub fn publish(client: &Client, address: &str, text: &str) -> Result<DecisionPublished, CliError> {
    let draft =
        Draft { address: Some(address.to_owned()), decision: text.to_owned(), ..Draft::default() };
    client.post("/api/v1/decisions", &draft)?.parse()
}

impl Item {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Value { key, .. } => key,
            Self::Decision { address, .. } => address,
        }
    }

    /// Writes it, once. Returns the term under which it was acknowledged.
    pub fn write(&self, client: &Client) -> Result<u64, CliError> {
        match self {
            Self::Value { key, value } => write_new(client, key, value).map(|done| done.term),
            Self::Decision { address, text } => {
                publish(client, address, text).map(|done| done.term)
            }
        }
    }

    /// Reads it.
    pub fn read(&self, client: &Client) -> Result<Read, CliError> {
        match self {
            Self::Value { key, value } => {
                let entry: UcxlEntry = client.read(&format!("/api/v1/ucxl/{key}"))?;
                let holds = entry.head.value_base64 == BASE64.encode(value);
                Ok(Read { holds, stale: entry.stale })
            }
            Self::Decision { address, text } => {
                let read: DecisionRead = client.read(&format!("/api/v1/decisions/{address}"))?;
                Ok(Read { holds: read.body.decision == *text, stale: read.stale })
            }
        }
    }
}
