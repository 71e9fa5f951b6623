//! Signing and encrypting a decision, and the way back.

use serde::{Deserialize, Serialize};

use super::Decision;
use crate::core::records::content::FIRST_GENERATION;
use crate::core::records::{Content, Envelope};
use crate::crypto::{Keyring, OpenError, SealError, Signature, Vault};
use crate::types::codec::{Durable, decode_durable, encode_durable};
use crate::types::limits::CONTENT_LEN_MAX;
use crate::types::role::{Roles, audience};
use crate::types::ucxl::DecisionAddress;
use crate::types::{Bytes, PeerId, PlaceHash, RequestId};

/// What the signature of a decision covers besides its bytes.
const DECISION_DOMAIN: &str = "bzzz decision v1";

/// A decision with its signature. The hash of its encoding is the name of the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signed {
    /// The decision, encoded; the signature covers exactly these bytes.
    pub(super) body: Bytes,
    /// The node that took it in.
    pub(super) signer: PeerId,
    /// By the signer.
    pub(super) signature: Bytes,
}

impl Durable for Signed {
    const NAME: &'static str = "signed decision";
    const KIND: u8 = 23;
    const VERSION: u8 = 1;
}

/// Why a decision was not sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealFailure {
    /// It is for a role that does not exist.
    #[error("there is no role {role:?}; the roles are {}", known.join(", "))]
    UnknownRole {
        /// Which.
        role: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It is too long.
    #[error("the decision has {len} bytes as it is stored, {CONTENT_LEN_MAX} are allowed")]
    TooLarge {
        /// Bytes that it has.
        len: usize,
    },
    /// It could not be encrypted.
    #[error(transparent)]
    Seal(#[from] SealError),
}

fn unknown_role(readers: &[&str], roles: &Roles) -> SealFailure {
    let unknown = readers.iter().find(|role| !roles.contains_key(**role));
    let role = unknown.map_or_else(String::new, |role| role.chars().take(80).collect());
    SealFailure::UnknownRole { role, known: roles.keys().cloned().collect() }
}

/// An error if one of the roles does not exist.
pub fn check_readers(readers: &[&str], roles: &Roles) -> Result<(), SealFailure> {
    let known = readers.iter().all(|role| roles.contains_key(*role));
    if known { Ok(()) } else { Err(unknown_role(readers, roles)) }
}

/// Signs a decision, published as `request`, and encrypts it to `readers` and the roles above.
pub fn seal(
    (decision, request): (&Decision, &RequestId),
    readers: &[&str],
    roles: &Roles,
    signer: PeerId,
    vault: &dyn Vault,
    keyring: &dyn Keyring,
) -> Result<Envelope, SealFailure> {
    let audience = audience(roles, readers).ok_or_else(|| unknown_role(readers, roles))?;
    let body = encode_durable(decision);
    let signature = Bytes(vault.sign(DECISION_DOMAIN, &body).to_vec());
    let plain = encode_durable(&Signed { body: Bytes(body), signer, signature });
    if plain.len() > CONTENT_LEN_MAX {
        return Err(SealFailure::TooLarge { len: plain.len() });
    }
    let (names, recipients): (Vec<&str>, Vec<_>) = audience.into_iter().unzip();
    let envelope = Envelope {
        plain: *blake3::hash(&plain).as_bytes(),
        place: PlaceHash::of(&decision.address, request, decision.body.details.kind()),
        generation: FIRST_GENERATION,
        roles: names.into_iter().map(str::to_owned).collect(),
        signer,
        file: Bytes(keyring.seal(&recipients, &plain)?),
        signature: Bytes::default(),
    };
    Ok(envelope.sign(vault))
}

/// A decision that was read, and every check of it passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// The decision.
    pub decision: Decision,
    /// The node that took it in and signed it.
    pub signer: PeerId,
}

/// Why a decision can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It was not encrypted to the role that asks.
    #[error("the role {role} cannot decrypt it; these can: {}", roles.join(", "))]
    OtherRoles {
        /// The role that asked.
        role: String,
        /// Roles that can read it.
        roles: Vec<String>,
    },
    /// This node does not hold the keys of roles yet.
    #[error("this node does not hold the keys of the roles yet that can read it: {}", roles.join(", "))]
    KeysPending {
        /// Roles that can read it.
        roles: Vec<String>,
    },
    /// The content is no decision.
    #[error("the content is not a decision, but bytes that everybody can read")]
    NotADecision,
    /// Something about it is not what it should be.
    #[error("the content is damaged: {0}")]
    Damaged(String),
}

fn damaged(why: impl ToString) -> ReadError {
    ReadError::Damaged(why.to_string())
}

/// What is known of a content that is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It was read before, and every check passed.
    Proven,
    /// Nothing but that its envelope is sound.
    None,
}

/// Reads a content that was checked as one of this hash: with the key of `role`, or of any role that
/// can read it. At `address`, where that is how it was found.
pub fn open(
    (content, trust): (&Content, Trust),
    role: Option<&str>,
    address: Option<&DecisionAddress>,
    roles: &Roles,
    vault: &dyn Vault,
    keyring: &dyn Keyring,
) -> Result<Opened, ReadError> {
    let Content::Sealed(envelope) = content else { return Err(ReadError::NotADecision) };
    let may_try = |name: &&String| role.is_none_or(|role| role == name.as_str());
    // In the order of the file's recipients: the first one that is held is found soonest.
    let mut named = envelope.roles.iter().filter(may_try).peekable();
    if let (None, Some(role)) = (named.peek(), role) {
        let role = role.chars().take(80).collect();
        return Err(ReadError::OtherRoles { role, roles: envelope.roles.clone() });
    }
    let key = named.filter_map(|name| roles.get(name)).map(|role| role.recipient);
    let key = key.into_iter().find(|key| keyring.holds(*key));
    let key = key.ok_or_else(|| ReadError::KeysPending { roles: envelope.roles.clone() })?;
    let plain =
        keyring.open(key, &envelope.file.0, CONTENT_LEN_MAX).map_err(|error| match error {
            OpenError::ForOthers => damaged("it says that it is for a role that it is not for"),
            error => damaged(error),
        })?;
    if blake3::hash(&plain).as_bytes() != &envelope.plain {
        return Err(damaged("what is in it does not match its hash"));
    }
    let signed: Signed = decode_durable(&plain).map_err(damaged)?;
    let signature = Signature::try_from(signed.signature.0.as_slice()).map_err(damaged)?;
    // Verifying takes longer than all the rest, and what was proven does not change.
    let proven = trust == Trust::Proven;
    if !proven && !vault.verify(signed.signer, DECISION_DOMAIN, &signed.body.0, &signature) {
        return Err(damaged("its signature does not fit"));
    }
    let decision: Decision = decode_durable(&signed.body.0).map_err(damaged)?;
    if address.is_some_and(|address| *address != decision.address) {
        return Err(damaged("it was published at another address"));
    }
    Ok(Opened { decision, signer: signed.signer })
}
