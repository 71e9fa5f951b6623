//! Bytes that serialise as bytes, not as a list of numbers.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An owned run of bytes; debug output shows its length only.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl<'de> Visitor<'de> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

/// For `#[serde(with = ...)]`: arrays of bytes as one run of bytes. serde takes an array for a tuple
/// of numbers, which costs up to two bytes and one call for each of them.
pub mod fixed {
    use std::fmt;

    use serde::de::{Error, SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};

    /// Writes the array.
    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    struct FixedVisitor<const N: usize>;

    impl<'de, const N: usize> Visitor<'de> for FixedVisitor<N> {
        type Value = [u8; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{N} bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
            bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; N], A::Error> {
            let mut bytes = [0; N];
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(at, &self))?;
            }
            match seq.next_element::<u8>()? {
                None => Ok(bytes),
                Some(_) => Err(A::Error::invalid_length(N + 1, &self)),
            }
        }
    }

    /// Reads an array of exactly `N` bytes.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        deserializer.deserialize_bytes(FixedVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use crate::types::codec::{decode_wire, encode_wire};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Key(#[serde(with = "super::fixed")] [u8; 4]);

    #[test]
    fn an_array_is_its_length_and_its_bytes_and_nothing_else_is_an_array() {
        let bytes = encode_wire(&Key([1, 2, 200, 4])).unwrap();
        assert_eq!(bytes, [1, 4, 1, 2, 200, 4], "version, length, bytes");
        assert_eq!(decode_wire::<Key>(&bytes), Ok(Key([1, 2, 200, 4])));
        assert!(decode_wire::<Key>(&[1, 3, 1, 2, 3]).is_err(), "too short");
        assert!(decode_wire::<Key>(&[1, 5, 1, 2, 3, 4, 5]).is_err(), "too long");

        let mut cbor = Vec::new();
        ciborium::into_writer(&Key([1, 2, 200, 4]), &mut cbor).unwrap();
        assert_eq!(cbor, [0x44, 1, 2, 200, 4], "a byte string of four");
        assert_eq!(ciborium::from_reader::<Key, _>(cbor.as_slice()).unwrap(), Key([1, 2, 200, 4]));
        assert_eq!(serde_json::from_str::<Key>("[1,2,200,4]").unwrap(), Key([1, 2, 200, 4]));
        assert!(serde_json::from_str::<Key>("[1,2,200,4,5]").is_err());
    }
}
