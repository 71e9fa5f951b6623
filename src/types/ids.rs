//! Identities.
//!
//! A *peer id* names a key pair and lasts as long as the data directory. A *member id* names one
//! history of acknowledged promises: it is handed out by the cluster, counted up and never used
//! again, so a node that lost its disk comes back as somebody else. A *boot id* names one run of
//! one process.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A term of the consensus protocol; at most one leader exists in each.
pub type Term = u64;

/// Bytes that stand before an Ed25519 public key in a libp2p peer id: an identity multihash
/// (0x00) of 36 bytes (0x24) that hold a protobuf with key type 1 and a 32-byte key.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// Why a text is not the id that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {reason}")]
pub struct IdError {
    /// What was expected, in words.
    pub kind: &'static str,
    /// What was found, cut to a printable length.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

fn id_error(kind: &'static str, text: &str, reason: &'static str) -> IdError {
    IdError { kind, text: text.chars().take(80).collect(), reason }
}

/// A node's long-lived identity: its Ed25519 public key, written as a libp2p peer id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(#[serde(with = "crate::types::bytes::fixed")] pub [u8; 32]);

impl PeerId {
    /// The bytes of the libp2p peer id.
    pub fn to_multihash(self) -> Vec<u8> {
        [PEER_ID_PREFIX.as_slice(), &self.0].concat()
    }

    /// Reads the bytes of a libp2p peer id; only Ed25519 keys are accepted.
    pub fn from_multihash(bytes: &[u8]) -> Result<Self, IdError> {
        let key = bytes
            .strip_prefix(&PEER_ID_PREFIX)
            .and_then(|key| <[u8; 32]>::try_from(key).ok())
            .ok_or_else(|| id_error("peer id", "bytes", "it does not hold an ed25519 key"))?;
        Ok(Self(key))
    }

    /// The last eight characters, enough to tell peers apart in a log line.
    pub fn short(self) -> String {
        let text = self.to_string();
        text[text.len().saturating_sub(8)..].to_owned()
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.to_multihash()).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId(..{})", self.short())
    }
}

impl FromStr for PeerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() > 64 {
            return Err(id_error("peer id", text, "it is longer than 64 characters"));
        }
        let bytes = bs58::decode(text)
            .into_vec()
            .map_err(|_| id_error("peer id", text, "it is not base58"))?;
        Self::from_multihash(&bytes)
            .map_err(|_| id_error("peer id", text, "it does not hold an ed25519 key"))
    }
}

/// A member of a cluster: a counter that the control state hands out and never reuses.
/// A number on disk and on the wire; a text in JSON, like every other id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl Serialize for MemberId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map(Self).map_err(serde::de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One run of one node process, drawn at random at each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub u64);

/// One position of the replicated log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogId {
    /// Term of the leader that proposed the entry.
    pub term: Term,
    /// Position, counted from 0.
    pub index: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

/// Bytes on disk and on the wire, hexadecimal in JSON.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    crate::types::bytes::fixed::serialize(&self.0, serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    crate::types::bytes::fixed::deserialize(deserializer).map(Self)
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = data_encoding::HEXLOWER_PERMISSIVE
                    .decode(text.as_bytes())
                    .map_err(|_| id_error($kind, text, "it is not hexadecimal"))?;
                let bytes = bytes
                    .try_into()
                    .map_err(|_| id_error($kind, text, "it has the wrong length"))?;
                Ok(Self(bytes))
            }
        }
    };
}

hex_id!(
    /// A cluster, drawn at random when it is made.
    ClusterId, 16, "cluster id"
);
hex_id!(
    /// A join token; the secret part is never in here.
    TokenId, 8, "token id"
);
hex_id!(
    /// A proposal to the replicated log; a repeated one is answered with the first outcome. Its first 12 bytes are
    /// drawn, or say the key under which a client may repeat it; the others say then what is proposed, so that another
    /// proposal under the same key is told apart.
    ProposalId, 16, "proposal id"
);

impl ProposalId {
    /// Bytes of the key.
    const KEY_LEN: usize = 12;

    /// Of a key and what is proposed under it, both given by a hash.
    pub fn keyed(key: &[u8; 32], proposed: &[u8; 32]) -> Self {
        let mut id = [0; 16];
        let (key_part, proposed_part) = id.split_at_mut(Self::KEY_LEN);
        key_part.copy_from_slice(&key[..Self::KEY_LEN]);
        proposed_part.copy_from_slice(&proposed[..16 - Self::KEY_LEN]);
        Self(id)
    }

    /// All ids that have the key of this one.
    pub fn of_key(self) -> RangeInclusive<Self> {
        let (mut first, mut last) = (self, self);
        first.0[Self::KEY_LEN..].fill(0);
        last.0[Self::KEY_LEN..].fill(u8::MAX);
        first..=last
    }
}
hex_id!(
    /// A publication; a repeated one is the same.
    RequestId, 16, "request id"
);
hex_id!(
    /// Names the content of a record: BLAKE3 over its bytes, if everybody may read them, else over what it is and
    /// where it was published, see `types::record`.
    ContentHash, 32, "content hash"
);
hex_id!(
    /// What an encrypted content is, wherever it is published: BLAKE3 over its plain bytes and its signer.
    BodyHash, 32, "body hash"
);
hex_id!(
    /// Where and as what a content is published: BLAKE3 over address, request and kind.
    PlaceHash, 32, "place hash"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_ids_are_written_as_libp2p_writes_them() {
        let text = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        let peer: PeerId = text.parse().unwrap();
        assert_eq!(peer.to_string(), text);
        assert_eq!(PeerId::from_multihash(&peer.to_multihash()), Ok(peer));
    }

    #[test]
    fn wrong_ids_say_what_is_wrong() {
        let error = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse::<PeerId>().unwrap_err();
        assert!(error.to_string().ends_with("it does not hold an ed25519 key"), "{error}");
        let error = "0OIl".parse::<PeerId>().unwrap_err();
        assert!(error.to_string().ends_with("it is not base58"), "{error}");
        assert!("ab".parse::<ClusterId>().unwrap_err().to_string().contains("wrong length"));
    }

    #[test]
    fn log_ids_order_by_term_first() {
        assert!(LogId { term: 2, index: 1 } > LogId { term: 1, index: 9 });
    }
}
