//! Commands about join tokens.

use serde::{Deserialize, Serialize};

use super::PartCommand;
use super::roster::Candidate;
use crate::types::{TokenId, Wall};

/// A change of the state of this part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokensCommand {
    /// Registers a join token. The secret itself is known to nobody but who holds the token.
    Create {
        /// Public part.
        token: TokenId,
        /// BLAKE3 of the secret.
        #[serde(with = "crate::types::bytes::fixed")]
        secret_hash: [u8; 32],
        /// From when on it is refused.
        expires_at: Wall,
        /// How many nodes may join with it.
        uses: u32,
    },
    /// Makes a token useless from now on.
    Revoke {
        /// Which.
        token: TokenId,
    },
    /// Makes a node a member.
    Admit {
        /// Token that it shows.
        token: TokenId,
        /// BLAKE3 of the secret that it showed.
        #[serde(with = "crate::types::bytes::fixed")]
        secret_hash: [u8; 32],
        /// Who.
        candidate: Candidate,
    },
}

impl PartCommand for TokensCommand {
    fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "tokens.create",
            Self::Revoke { .. } => "tokens.revoke",
            Self::Admit { .. } => "tokens.admit",
        }
    }
}
