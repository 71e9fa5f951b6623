//! Where a node's membership is to come from, as flags and configuration say.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::cli::config::Config;
use crate::node::Origin;
use crate::types::JoinTokenText;
use crate::types::token::TokenError;

/// Bytes of a token file; a token takes at most 1,024.
const TOKEN_LEN_MAX: u64 = 4 * 1024;

/// Why there is no telling.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// Addresses without a token.
    #[error(
        "joining needs a join token: make one on a member with `bzzz join-token create` and pass \
         the file that holds it with --token-file (`-` reads standard input)"
    )]
    NoToken,
    /// A token without addresses, on a node that does not look for peers.
    #[error(
        "a join token needs the address of a member, because this node does not look for one in the \
         local network (p2p.mdns, p2p.listen): pass it with --join"
    )]
    NoAddress,
    /// The token cannot be read.
    #[error("cannot read the join token from {path}: {error}")]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// What was read is no token.
    #[error("{path}: {error}")]
    Token {
        /// Where it was read.
        path: PathBuf,
        /// What is wrong.
        error: TokenError,
    },
}

/// What the node is to become if its data directory holds no membership.
pub fn origin(config: &Config, token_file: Option<&Path>) -> Result<Origin, OriginError> {
    let cluster = &config.cluster;
    if cluster.bootstrap || !cluster.mode {
        return Ok(Origin::Found { name: cluster.name.clone() });
    }
    let addresses = config.p2p.bootstrap_peers.clone();
    match (addresses.is_empty(), token_file) {
        (true, None) => Ok(Origin::Resume),
        (true, Some(_)) if !config.p2p.looks_around() => Err(OriginError::NoAddress),
        (false, None) => Err(OriginError::NoToken),
        (_, Some(path)) => Ok(Origin::Join { token: read_token(path)?, addresses }),
    }
}

fn read_token(path: &Path) -> Result<JoinTokenText, OriginError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(TOKEN_LEN_MAX).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(TOKEN_LEN_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| OriginError::Read { path: path.to_owned(), error })?;
    text.parse().map_err(|error| OriginError::Token { path: path.to_owned(), error })
}
