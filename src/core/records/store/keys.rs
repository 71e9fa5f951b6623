//! Keys and values of the table, both ways.

use serde::Serialize;

use super::TableError;
use crate::types::codec::{decode_wire, encode_wire};
use crate::types::record::{Hlc, Partition, RecordKey, Version};
use crate::types::ucxl::DecisionAddress;
use crate::types::{ContentHash, MemberId, RequestId};

/// What the keys of contents begin with: they go where large values are at home.
pub const CONTENT_KEYS: u8 = b'c';

/// The key that nearly every write reads and writes.
pub const HOT_KEY: &[u8] = CLOCK_KEY;

pub(super) fn content_key(hash: &ContentHash) -> Vec<u8> {
    [&[CONTENT_KEYS], hash.0.as_slice()].concat()
}

pub(super) fn generation_key(hash: &ContentHash) -> Vec<u8> {
    [b"g", hash.0.as_slice()].concat()
}

pub(super) fn version_prefix(address: &DecisionAddress) -> Vec<u8> {
    let partition = Partition::of_address(address).0.to_be_bytes();
    [b"v", partition.as_slice(), address.as_str().as_bytes(), &[0]].concat()
}

pub(super) fn version_key(address: &DecisionAddress, version: &Version) -> Vec<u8> {
    let mut key = version_prefix(address);
    key.extend_from_slice(&version.at.ms.to_be_bytes());
    key.extend_from_slice(&version.at.counter.to_be_bytes());
    key.extend_from_slice(&version.writer.0.to_be_bytes());
    key.extend_from_slice(&version.content.0);
    key.extend_from_slice(&version.request.0);
    key
}

pub(super) fn newest_key(address: &str) -> Vec<u8> {
    [b"a", address.as_bytes()].concat()
}

pub(super) fn request_key(address: &DecisionAddress, request: &RequestId) -> Vec<u8> {
    [b"r", address.as_str().as_bytes(), &[0], request.0.as_slice()].concat()
}

pub(super) const ALL_DIGESTS_KEY: &[u8] = b"d";

pub(super) fn changes_key(place: u16) -> Vec<u8> {
    [b"e", place.to_be_bytes().as_slice()].concat()
}

pub(super) const CLOCK_KEY: &[u8] = b"h";

/// The first key after all that begin with this. The last byte of a prefix is never 0xff here.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.wrapping_add(1);
    }
    end
}

pub(super) fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, TableError> {
    decode_wire(bytes).map_err(|error| TableError(format!("a value in it is damaged: {error}")))
}

pub(super) fn written<T: Serialize>(value: &T) -> Vec<u8> {
    encode_wire(value).expect("index values are small")
}

/// The version that a key of this prefix stands for.
pub(super) fn version_of(rest: &[u8], value: &[u8]) -> Result<Version, TableError> {
    let damaged = || TableError("a key in it is damaged".into());
    let (ms, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (counter, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let (writer, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (content, rest) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
    let request: &[u8; 16] = rest.try_into().map_err(|_| damaged())?;
    let (kind, body) = read(value)?;
    Ok(Version {
        at: Hlc { ms: u64::from_be_bytes(*ms), counter: u32::from_be_bytes(*counter) },
        writer: MemberId(u64::from_be_bytes(*writer)),
        content: ContentHash(*content),
        request: RequestId(*request),
        kind,
        body,
    })
}

pub(super) fn address_of(bytes: &[u8]) -> Result<DecisionAddress, TableError> {
    let text = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    text.ok_or_else(|| TableError("an address in it is damaged".into()))
}

/// What tells whether a record is there.
pub(super) fn index_key(key: &RecordKey) -> Vec<u8> {
    match key {
        RecordKey::Content(hash, _) => generation_key(hash),
        RecordKey::Version(address, version) => version_key(address, version),
    }
}
