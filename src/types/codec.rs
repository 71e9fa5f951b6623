//! The two codecs: one for the wire, one for whatever outlives a process.
//!
//! *Wire*: what says how to read it, then bincode with a byte limit. It has to be fast, and messages
//! are never stored. *Durable*: magic, kind, version, length, checksum and a CBOR
//! body (RFC 8949), so that a file explains itself and a flipped bit is noticed.
//!
//! Invariants:
//! 1. Decoding allocates no more than a small multiple of the bytes that it was given.
//! 2. A durable record that decodes is the record that was encoded: every byte of the frame is
//!    covered by the checksum or fixed. Of a record that has a hash for its name (`HAS_NAME`), the name takes the place
//!    of the checksum: it is that record once its name was compared.
//! 3. Bytes left over after a value are an error.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::limits::{FRAME_LEN_MAX, JOURNAL_RECORD_MAX};

/// Version of what has no version of its own: notes in the mesh, values in the index of records.
pub const WIRE_VERSION: u8 = 1;

/// What is wrong with bytes that should be a message or a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end before the value does.
    #[error("the bytes end too early")]
    Truncated,
    /// More bytes than any such value may have.
    #[error("{len} bytes are more than the {limit} allowed")]
    TooLong {
        /// Bytes found.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The other side speaks, or the file was written by, a version that this build can't read.
    #[error("version {found} is not readable by this build, which reads {ours}; upgrade this node")]
    Version {
        /// Version found.
        found: u8,
        /// Newest version this build reads.
        ours: u8,
    },
    /// There is no such component of the messages in this build.
    #[error("component {0} of the messages is not known to this build; upgrade this node")]
    Component(u8),
    /// What there is to say takes a higher level than that of the cluster.
    #[error("a cluster of level {0} can't say this; upgrade all members first")]
    Level(u8),
    /// The record is of another kind, or not a record at all.
    #[error("expected a {expected} record")]
    Kind {
        /// Kind that was asked for.
        expected: &'static str,
    },
    /// The checksum does not match: the bytes were damaged.
    #[error("the checksum does not match, the bytes are damaged")]
    Checksum,
    /// The bytes are no value of the type.
    #[error("malformed: {0}")]
    Malformed(String),
}

fn bincode_config() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_little_endian()
        .with_variable_int_encoding()
        .with_limit::<FRAME_LEN_MAX>()
}

/// Encodes a value behind a version byte.
pub fn encode_wire<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    encode_body(&[WIRE_VERSION], message)
}

/// Encodes a value behind whatever says how to read it.
pub fn encode_body<T: Serialize>(head: &[u8], message: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = head.to_vec();
    bincode::serde::encode_into_std_write(message, &mut bytes, bincode_config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if bytes.len() > FRAME_LEN_MAX {
        return Err(CodecError::TooLong { len: bytes.len(), limit: FRAME_LEN_MAX });
    }
    Ok(bytes)
}

/// Decodes a value and its version byte from exactly `bytes`.
pub fn decode_wire<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > FRAME_LEN_MAX {
        return Err(CodecError::TooLong { len: bytes.len(), limit: FRAME_LEN_MAX });
    }
    let (&version, body) = bytes.split_first().ok_or(CodecError::Truncated)?;
    if version != WIRE_VERSION {
        return Err(CodecError::Version { found: version, ours: WIRE_VERSION });
    }
    decode_body(body)
}

/// Decodes a value from exactly `body`.
pub fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    if body.len() > FRAME_LEN_MAX {
        return Err(CodecError::TooLong { len: body.len(), limit: FRAME_LEN_MAX });
    }
    let (value, read) = bincode::serde::decode_from_slice(body, bincode_config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if read != body.len() {
        return Err(CodecError::Malformed(format!("{} bytes left over", body.len() - read)));
    }
    Ok(value)
}

/// A type that is stored: its kind in words and numbers, and the version of its body.
pub trait Durable: Serialize + DeserializeOwned {
    /// Name in error messages.
    const NAME: &'static str;
    /// Kind byte; unique among all durable types.
    const KIND: u8;
    /// Version of the body that is written. Older ones are read where `decode` says so.
    const VERSION: u8;
    /// Which values have a hash for their name, with which whoever reads them compares: their checksum covers the head
    /// alone.
    const HAS_NAME: Option<fn(&Self) -> bool> = None;
}

const MAGIC: &[u8; 4] = b"BZZ\x01";
const HEADER: usize = 4 + 1 + 1 + 4;
const CHECKSUM: usize = 16;

/// Encodes a durable record.
pub fn encode_durable<T: Durable>(value: &T) -> Vec<u8> {
    let mut body = Vec::new();
    ciborium::into_writer(value, &mut body).expect("plain data always encodes into memory");
    let mut bytes = Vec::with_capacity(HEADER + CHECKSUM + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[T::KIND, T::VERSION]);
    bytes.extend_from_slice(&u32::try_from(body.len()).expect("records are bounded").to_le_bytes());
    let has_name = T::HAS_NAME.is_some_and(|has_name| has_name(value));
    let checksum = durable_checksum(&bytes, if has_name { &[] } else { &body });
    bytes.extend_from_slice(&checksum);
    bytes.extend_from_slice(&body);
    bytes
}

/// Decodes a durable record from exactly `bytes`.
pub fn decode_durable<T: Durable>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() < HEADER + CHECKSUM {
        return Err(CodecError::Truncated);
    }
    if bytes.len() > JOURNAL_RECORD_MAX {
        return Err(CodecError::TooLong { len: bytes.len(), limit: JOURNAL_RECORD_MAX });
    }
    let (header, rest) = bytes.split_at(HEADER);
    let (checksum, body) = rest.split_at(CHECKSUM);
    if &header[..4] != MAGIC || header[4] != T::KIND {
        return Err(CodecError::Kind { expected: T::NAME });
    }
    if header[5] != T::VERSION {
        return Err(CodecError::Version { found: header[5], ours: T::VERSION });
    }
    let len = u32::from_le_bytes([header[6], header[7], header[8], header[9]]) as usize;
    if len != body.len() {
        return Err(CodecError::Truncated);
    }
    let is_whole = |covered: &[u8]| checksum == durable_checksum(header, covered);
    if T::HAS_NAME.is_none() && !is_whole(body) {
        return Err(CodecError::Checksum);
    }
    let mut reader = body;
    let value = ciborium::from_reader(&mut reader)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if let Some(has_name) = T::HAS_NAME
        && !is_whole(if has_name(&value) { &[] } else { body })
    {
        return Err(CodecError::Checksum);
    }
    if reader.is_empty() { Ok(value) } else { Err(CodecError::Malformed("bytes left over".into())) }
}

fn durable_checksum(header: &[u8], body: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header).update(body);
    let mut checksum = [0; CHECKSUM];
    checksum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM]);
    checksum
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        name: String,
        count: u64,
    }

    impl Durable for Sample {
        const NAME: &'static str = "sample";
        const KIND: u8 = 250;
        const VERSION: u8 = 3;
    }

    fn sample() -> Sample {
        Sample { name: "node".into(), count: 7 }
    }

    #[test]
    fn golden_bytes() {
        let wire = data_encoding::HEXLOWER.encode(&encode_wire(&sample()).unwrap());
        assert_eq!(wire, "01046e6f646507");
        let durable = data_encoding::HEXLOWER.encode(&encode_durable(&sample()));
        assert_eq!(
            durable,
            "425a5a01fa0312000000\
             e27e20c2799286ef495d144b49e7f246\
             a2646e616d65646e6f646565636f756e7407"
        );
    }

    #[test]
    fn every_flipped_byte_of_a_durable_record_is_noticed() {
        let bytes = encode_durable(&sample());
        assert_eq!(decode_durable::<Sample>(&bytes), Ok(sample()));
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x40;
            assert!(decode_durable::<Sample>(&damaged).is_err(), "byte {position}");
        }
        for len in 0..bytes.len() {
            assert!(decode_durable::<Sample>(&bytes[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn hostile_wire_bytes_are_refused_without_allocating() {
        assert_eq!(decode_wire::<Sample>(&[]), Err(CodecError::Truncated));
        assert_eq!(decode_wire::<Sample>(&[9, 1]), Err(CodecError::Version { found: 9, ours: 1 }));
        // A string that claims to be 2^63 bytes long.
        let mut bytes = vec![WIRE_VERSION, 253];
        bytes.extend_from_slice(&(1u64 << 63).to_le_bytes());
        assert!(matches!(decode_wire::<Sample>(&bytes), Err(CodecError::Malformed(_))));
        let mut bytes = encode_wire(&sample()).unwrap();
        bytes.push(0);
        assert!(matches!(decode_wire::<Sample>(&bytes), Err(CodecError::Malformed(_))));
    }
}
