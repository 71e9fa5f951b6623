//! Where a node's membership is to come from, as flags and configuration say.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::Loaded;
use crate::node::Origin;
use crate::types::JoinTokenText;
use crate::types::token::TokenError;

/// Bytes of a token file; a token takes at most 1,024.
const TOKEN_LEN_MAX: u64 = 4 * 1024;

/// The variable that names the file with the join token, as the flag does.
const TOKEN_FILE_VARIABLE: &str = "BZZZ_JOIN_TOKEN_FILE";

/// Why there is no telling.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// Settings that say both.
    #[error(
        "this node has no membership yet: {founding} says to make a new cluster, {joining} to \
         join one; take one or the other away"
    )]
    Contradiction {
        /// What says that it is to found a cluster, and where that stands.
        founding: String,
        /// What says that it is to join one, and where that stands.
        joining: String,
    },
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
pub fn origin(loaded: &Loaded, token_file: Option<&Path>) -> Result<Origin, OriginError> {
    let config = &loaded.config;
    let cluster = &config.cluster;
    if cluster.bootstrap || !cluster.mode {
        check_founding(loaded, token_file)?;
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

/// Whoever founds a cluster joins none.
fn check_founding(loaded: &Loaded, token_file: Option<&Path>) -> Result<(), OriginError> {
    let config = &loaded.config;
    let place = |key: &str| loaded.origins.get(key).map_or_else(String::new, ToString::to_string);
    let mut joining = Vec::new();
    if !config.p2p.bootstrap_peers.is_empty() {
        joining.push(format!("p2p.bootstrap_peers ({})", place("p2p.bootstrap_peers")));
    }
    if let Some(path) = token_file {
        let is_variable =
            std::env::var_os(TOKEN_FILE_VARIABLE).is_some_and(|value| value == path.as_os_str());
        let flag = "flag --token-file".to_owned();
        let place = if is_variable { format!("environment {TOKEN_FILE_VARIABLE}") } else { flag };
        joining.push(format!("the join token ({place})"));
    }
    if joining.is_empty() {
        return Ok(());
    }
    let (key, value) = match config.cluster.bootstrap {
        true => ("cluster.bootstrap", true),
        false => ("cluster.mode", false),
    };
    let founding = format!("{key} = {value} ({})", place(key));
    Err(OriginError::Contradiction { founding, joining: joining.join(" and ") })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn wanted(env: &[(&str, &str)], flags: &[(&str, &str)], token: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let sources = Sources {
            env: owned(env),
            flags: owned(flags),
            cwd: dir.path().into(),
            etc: dir.path().into(),
            ..Sources::default()
        };
        match origin(&load(&sources).unwrap(), token.map(Path::new)) {
            Ok(origin) => format!("{origin:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn nobody_founds_a_cluster_and_joins_one() {
        let bootstrap = ("BZZZ_CLUSTER__BOOTSTRAP", "true");
        let peers = ("p2p.bootstrap_peers", "10.0.0.7:4001");
        assert!(wanted(&[bootstrap], &[], None).starts_with("Found"));
        let both = wanted(&[bootstrap], &[peers], Some("token"));
        for named in [
            "cluster.bootstrap = true (environment BZZZ_CLUSTER__BOOTSTRAP)",
            "p2p.bootstrap_peers (flag --set p2p.bootstrap_peers)",
            "the join token (flag --token-file)",
        ] {
            assert!(both.contains(named), "{both}");
        }
        assert!(wanted(&[bootstrap], &[], Some("token")).contains("the join token"));
        let alone = wanted(&[("BZZZ_CLUSTER_MODE", "false")], &[peers], None);
        assert!(alone.contains("cluster.mode = false (environment BZZZ_CLUSTER_MODE)"), "{alone}");
    }
}
