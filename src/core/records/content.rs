//! Contents: immutable bytes with a name that anybody can check.

use serde::{Deserialize, Serialize};

use crate::crypto::{Signature, Vault};
use crate::types::codec::{CodecError, Durable, decode_durable, encode_durable};
use crate::types::limits::{CONTENT_BODY_MAX, ROLES_PER_CONTENT_MAX, UCXL_SEGMENT_MAX};
use crate::types::{BodyHash, Bytes, ContentHash, PeerId, PlaceHash};

/// What the signature of an envelope covers besides its bytes.
const ENVELOPE_DOMAIN: &str = "bzzz envelope v2";

/// The generation of what was never encrypted anew.
pub const FIRST_GENERATION: u32 = 1;

/// What is wrong with a content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The bytes are no content.
    #[error("the content cannot be read: {0}")]
    Codec(#[from] CodecError),
    /// The hash of the bytes is another one.
    #[error("the content does not match its hash")]
    WrongHash,
    /// The signature is not the signer's.
    #[error("the signature on the content does not fit")]
    WrongSignature,
    /// It is longer than a content may be, names more roles, or is of a generation that there is not.
    #[error("the content exceeds its bounds")]
    Bounds,
}

/// A content, as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Bytes that everybody may read. Their hash is their name.
    Raw(Bytes),
    /// Bytes for some roles only. Their name is made of what is inside, its signer and its place.
    Sealed(Envelope),
}

/// What can be checked of an encrypted content without a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// BLAKE3 of what is inside.
    #[serde(with = "crate::types::bytes::fixed")]
    pub plain: [u8; 32],
    /// Where and as what it was published.
    pub place: PlaceHash,
    /// Counts encryptions of the same content. Nothing is encrypted anew in this version, so there is only the first.
    pub generation: u32,
    /// The roles that can decrypt it, in the order of the file's recipients.
    pub roles: Vec<String>,
    /// The node that encrypted it.
    pub signer: PeerId,
    /// The age file.
    pub file: Bytes,
    /// By the signer, over all of the above.
    pub signature: Bytes,
}

impl Durable for Content {
    const NAME: &'static str = "content";
    const KIND: u8 = 20;
    const VERSION: u8 = 3;
    const HAS_NAME: Option<fn(&Self) -> bool> = Some(|content| matches!(content, Self::Raw(_)));
}

impl Envelope {
    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&self.plain);
        bytes.extend_from_slice(&self.place.0);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.signer.0);
        for role in &self.roles {
            bytes.extend_from_slice(role.as_bytes());
            // No role's name holds it, so no two lists give the same bytes.
            bytes.push(0);
        }
        bytes.extend_from_slice(blake3::hash(&self.file.0).as_bytes());
        bytes
    }

    /// What it is, wherever it was published.
    pub fn body(&self) -> BodyHash {
        BodyHash::of(self.signer, &self.plain)
    }

    /// Its name.
    pub fn hash(&self) -> ContentHash {
        ContentHash::of_publication(&self.body(), &self.place)
    }

    /// An envelope with its signature.
    pub fn sign(mut self, vault: &dyn Vault) -> Self {
        self.signature = Bytes(vault.sign(ENVELOPE_DOMAIN, &self.signed_bytes()).to_vec());
        self
    }

    fn check(&self, vault: &dyn Vault) -> Result<(), ContentError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let names_fit =
            |role: &String| (1..=UCXL_SEGMENT_MAX).contains(&role.len()) && role.bytes().all(fits);
        if self.file.0.len() > CONTENT_BODY_MAX
            || self.generation != FIRST_GENERATION
            || !(1..=ROLES_PER_CONTENT_MAX).contains(&self.roles.len())
            || !self.roles.iter().all(names_fit)
        {
            return Err(ContentError::Bounds);
        }
        let signature = Signature::try_from(self.signature.0.as_slice());
        let signature = signature.map_err(|_| ContentError::WrongSignature)?;
        let fits = vault.verify(self.signer, ENVELOPE_DOMAIN, &self.signed_bytes(), &signature);
        if fits { Ok(()) } else { Err(ContentError::WrongSignature) }
    }
}

impl Content {
    /// The hash that is its name.
    pub fn hash(&self) -> ContentHash {
        match self {
            Self::Raw(bytes) => ContentHash(*blake3::hash(&bytes.0).as_bytes()),
            Self::Sealed(envelope) => envelope.hash(),
        }
    }

    /// Counts encryptions of it; 0 for one that is not encrypted.
    pub fn generation(&self) -> u32 {
        match self {
            Self::Raw(_) => 0,
            Self::Sealed(envelope) => envelope.generation,
        }
    }

    /// As it is stored and sent.
    pub fn encode(&self) -> Bytes {
        Bytes(encode_durable(self))
    }

    /// Reads what this node has made, or checked, itself: plain bytes are taken to have the name that they are said to
    /// have, and what is encrypted that which it says.
    pub fn read(stored: &Bytes) -> Result<Self, ContentError> {
        Ok(decode_durable(&stored.0)?)
    }

    /// As `read`, where its name is known.
    pub fn named(stored: &Bytes, hash: &ContentHash) -> Result<Self, ContentError> {
        let content = Self::read(stored)?;
        match &content {
            Self::Sealed(envelope) if envelope.hash() != *hash => Err(ContentError::WrongHash),
            _ => Ok(content),
        }
    }

    /// Reads what somebody else says has this name, and believes none of it.
    pub fn check(
        stored: &Bytes,
        hash: &ContentHash,
        vault: &dyn Vault,
    ) -> Result<Self, ContentError> {
        let content = Self::read(stored)?;
        match &content {
            _ if content.hash() != *hash => Err(ContentError::WrongHash),
            Self::Raw(bytes) if bytes.0.len() > CONTENT_BODY_MAX => Err(ContentError::Bounds),
            Self::Raw(_) => Ok(content),
            Self::Sealed(envelope) => envelope.check(vault).map(|()| content),
        }
    }
}

#[cfg(test)]
mod guards;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keyed::KeyedVault;
    use crate::types::golden;

    fn sealed(vault: &KeyedVault) -> Content {
        let envelope = Envelope {
            plain: [4; 32],
            place: PlaceHash([5; 32]),
            generation: 1,
            roles: vec!["admin".into(), "observer".into()],
            signer: vault.0,
            file: Bytes(vec![1, 2, 3]),
            signature: Bytes::default(),
        };
        Content::Sealed(envelope.sign(vault))
    }

    #[test]
    fn golden_bytes() {
        let raw = Content::Raw(Bytes(vec![9, 8]));
        let vault = KeyedVault(PeerId([1; 32]));
        golden::durable::<Content>(
            include_str!("../../types/golden/content"),
            &[raw, sealed(&vault)],
        );
    }

    #[test]
    fn nobody_but_the_signer_makes_something_else_of_the_same_name() {
        let good = sealed(&KeyedVault(PeerId([1; 32])));
        let Content::Sealed(mut forged) = good.clone() else { unreachable!() };
        let other = KeyedVault(PeerId([2; 32]));
        (forged.signer, forged.file) = (other.0, Bytes(vec![6]));
        let forged = Content::Sealed(forged.sign(&other));
        assert_eq!(Content::check(&forged.encode(), &forged.hash(), &other), Ok(forged.clone()));
        let claimed = Content::check(&forged.encode(), &good.hash(), &other);
        assert_eq!(claimed, Err(ContentError::WrongHash));
    }

    #[test]
    fn what_is_altered_does_not_check() {
        let vault = KeyedVault(PeerId([1; 32]));
        let raw = Content::Raw(Bytes(vec![9, 8]));
        assert_eq!(Content::check(&raw.encode(), &raw.hash(), &vault), Ok(raw.clone()));
        let other = ContentHash([0; 32]);
        assert_eq!(Content::check(&raw.encode(), &other, &vault), Err(ContentError::WrongHash));

        for bit in 0..raw.encode().0.len() * 8 {
            let mut altered = raw.encode();
            altered.0[bit / 8] ^= 1 << (bit % 8);
            let read = Content::check(&altered, &raw.hash(), &vault);
            assert!(read.is_err() || read == Ok(raw.clone()), "bit {bit}");
        }

        let good = sealed(&vault);
        assert_eq!(Content::check(&good.encode(), &good.hash(), &vault), Ok(good.clone()));
        for bit in 0..good.encode().0.len() * 8 {
            let mut altered = good.encode();
            altered.0[bit / 8] ^= 1 << (bit % 8);
            assert!(Content::read(&altered).is_err(), "bit {bit}");
        }
        assert_eq!(Content::named(&good.encode(), &other), Err(ContentError::WrongHash));
        assert_eq!((good.generation(), raw.generation()), (1, 0));
        let alter = |change: fn(&mut Envelope)| {
            let Content::Sealed(mut envelope) = good.clone() else { unreachable!() };
            change(&mut envelope);
            let content = Content::Sealed(envelope);
            Content::check(&content.encode(), &content.hash(), &vault).unwrap_err()
        };
        assert_eq!(alter(|e| e.plain[0] ^= 1), ContentError::WrongSignature);
        assert_eq!(alter(|e| e.place.0[0] ^= 1), ContentError::WrongSignature);
        assert_eq!(alter(|e| e.generation += 1), ContentError::Bounds);
        assert_eq!(alter(|e| e.roles[0].push('x')), ContentError::WrongSignature);
        assert_eq!(alter(|e| e.file.0[0] ^= 1), ContentError::WrongSignature);
        assert_eq!(
            alter(|e| e.signer.0[0] ^= 1),
            ContentError::WrongSignature,
            "also of that name"
        );
        assert_eq!(alter(|e| e.signature.0.truncate(63)), ContentError::WrongSignature);
        assert_eq!(alter(|e| e.roles = vec!["r".into(); 65]), ContentError::Bounds);
        assert_eq!(alter(|e| e.roles.clear()), ContentError::Bounds);
        assert_eq!(alter(|e| e.roles[0] = "\u{1b}]0;x".into()), ContentError::Bounds);
        assert!(matches!(
            Content::check(&Bytes(vec![1, 2]), &other, &vault),
            Err(ContentError::Codec(_))
        ));
    }
}
