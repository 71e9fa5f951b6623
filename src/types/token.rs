//! Join tokens: `bzzz1.<cluster id>.<token id>.<secret>.<peer id>,<peer id>,...`.
//!
//! Whoever holds the text can make a node a member once (or as often as the token allows) until it
//! expires. The peer ids are the issuer and the voters: a joiner speaks to nobody else, so the
//! text also protects the joiner from a stranger that answers at the right address.

use std::fmt;
use std::str::FromStr;

use crate::types::limits::JOIN_TOKEN_PEERS_MAX;
use crate::types::{ClusterId, PeerId, TokenId};

/// What stands at the beginning of every join token of this version.
const PREFIX: &str = "bzzz1";

/// A join token with its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinTokenText {
    /// Cluster that it is for.
    pub cluster: ClusterId,
    /// Public part.
    pub token: TokenId,
    /// Secret part.
    pub secret: [u8; 32],
    /// Peers that may be asked.
    pub peers: Vec<PeerId>,
}

/// Why a text is not a join token. Never repeats the text, which holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a join token: {reason}; copy the whole line that `bzzz join-token create` printed"
)]
pub struct TokenError {
    /// What is wrong.
    pub reason: &'static str,
}

impl JoinTokenText {
    /// BLAKE3 of the secret: all that the cluster knows of it.
    pub fn secret_hash(&self) -> [u8; 32] {
        *blake3::hash(&self.secret).as_bytes()
    }

    /// The token as text. The only way to get the secret out again.
    pub fn reveal(&self) -> String {
        let secret = data_encoding::BASE64URL_NOPAD.encode(&self.secret);
        let peers: Vec<String> = self.peers.iter().map(ToString::to_string).collect();
        format!("{PREFIX}.{}.{}.{secret}.{}", self.cluster, self.token, peers.join(","))
    }
}

impl fmt::Debug for JoinTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.token)
    }
}

impl FromStr for JoinTokenText {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let fail = |reason| TokenError { reason };
        let text = text.trim();
        if text.len() > 1_024 {
            return Err(fail("it is too long"));
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [prefix, cluster, token, secret, peers] = parts.as_slice() else {
            return Err(fail("it must have five parts separated by dots"));
        };
        if *prefix != PREFIX {
            return Err(fail("it does not begin with bzzz1"));
        }
        let secret = data_encoding::BASE64URL_NOPAD
            .decode(secret.as_bytes())
            .ok()
            .and_then(|secret| secret.try_into().ok())
            .ok_or(fail("its secret is damaged"))?;
        let peers: Vec<PeerId> = peers
            .split(',')
            .map(|peer| peer.parse().map_err(|_| fail("a peer id in it is damaged")))
            .collect::<Result<_, _>>()?;
        if peers.len() > JOIN_TOKEN_PEERS_MAX {
            return Err(fail("it names too many peers"));
        }
        Ok(Self {
            cluster: cluster.parse().map_err(|_| fail("its cluster id is damaged"))?,
            token: token.parse().map_err(|_| fail("its token id is damaged"))?,
            secret,
            peers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_their_text_and_hide_their_secret() {
        let token = JoinTokenText {
            cluster: ClusterId([1; 16]),
            token: TokenId([2; 8]),
            secret: [3; 32],
            peers: vec![PeerId([4; 32]), PeerId([5; 32])],
        };
        assert_eq!(token.reveal().parse(), Ok(token.clone()));
        assert_eq!(format!("{token:?}"), "JoinToken(0202020202020202)");
        assert_eq!(token.reveal().split('.').count(), 5);
    }

    #[test]
    fn damaged_tokens_say_which_part_without_repeating_it() {
        for (text, reason) in [
            ("", "five parts"),
            ("bzzz2.a.b.c.d", "begin with bzzz1"),
            ("bzzz1.a.b.c.d", "secret"),
            ("bzzz1.zz.0202020202020202.AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM.x", "peer id"),
        ] {
            let error = text.parse::<JoinTokenText>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains("AwMD"), "{error}");
        }
    }
}
