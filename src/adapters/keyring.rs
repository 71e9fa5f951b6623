//! Keys for contents in memory, and age files made and read with them.
//!
//! The node's own key is derived from the key in its key file, so there is no second file to lose.
//!
//! Invariants:
//! 1. A private half leaves this module only inside a file that was encrypted to a member's key.
//! 2. Private halves are wiped when they are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use zeroize::Zeroizing;

use super::age::{AgeError, Opener, Pool, Sealer, generate};
use crate::crypto::Identity;
use crate::ports::Keyring;
use crate::ports::vault::{OpenError, SealError};
use crate::types::Recipient;
use crate::types::limits::ROLES_MAX;

const KEY_LEN: usize = 32;

struct Held {
    identity: Identity,
    opener: Opener,
}

impl Held {
    fn new(identity: Identity) -> (Recipient, Arc<Self>) {
        let opener = Opener::new([&identity]);
        let recipient = opener.recipients().pop().expect("one identity has one recipient");
        (recipient, Arc::new(Self { identity, opener }))
    }
}

/// The keyring of a node.
pub struct AgeKeyring {
    own: (Recipient, Arc<Held>),
    held: RwLock<BTreeMap<Recipient, Arc<Held>>>,
    pool: Arc<Pool>,
    sealer: Sealer,
}

impl fmt::Debug for AgeKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgeKeyring({})", self.own.0)
    }
}

impl AgeKeyring {
    /// A keyring with nothing but the node's own key.
    pub fn new(own: Identity) -> std::io::Result<Self> {
        let pool = Arc::new(Pool::start()?);
        let sealer = Sealer::new(pool.clone());
        Ok(Self { own: Held::new(own), held: RwLock::default(), pool, sealer })
    }

    fn find(&self, key: Recipient) -> Option<Arc<Held>> {
        if key == self.own.0 {
            return Some(self.own.1.clone());
        }
        self.held.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    fn hold(&self, keys: impl IntoIterator<Item = (Recipient, Arc<Held>)>) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.extend(keys);
        // Whatever is encrypted here is encrypted to roles.
        self.pool.keep(held.keys().copied());
    }
}

fn open(opener: &Opener, file: &[u8], limit: usize) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    opener.open(file, limit).map(Zeroizing::new).map_err(|error| match error {
        AgeError::NoMatchingIdentity(_) | AgeError::OtherKinds(_) => OpenError::ForOthers,
        AgeError::TooLong(limit) => OpenError::TooLong(limit),
        error => OpenError::Damaged(error.to_string()),
    })
}

impl Keyring for AgeKeyring {
    fn own(&self) -> Recipient {
        self.own.0
    }

    fn make(&self) -> Recipient {
        let (recipient, held) = Held::new(generate());
        self.hold([(recipient, held)]);
        recipient
    }

    fn holds(&self, key: Recipient) -> bool {
        self.find(key).is_some()
    }

    fn share(&self, keys: &[Recipient], to: Recipient) -> Option<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(keys.len() * KEY_LEN));
        for key in keys {
            plain.extend_from_slice(self.find(*key)?.identity.expose());
        }
        self.sealer.seal(&[to], &plain).ok()
    }

    fn accept(&self, file: &[u8], keys: &[Recipient]) -> Result<(), OpenError> {
        let plain = open(&self.own.1.opener, file, ROLES_MAX * KEY_LEN)?;
        let (chunks, rest) = plain.as_chunks::<KEY_LEN>();
        let found: BTreeMap<Recipient, Arc<Held>> =
            chunks.iter().map(|key| Held::new(Identity::new(Zeroizing::new(*key)))).collect();
        if !rest.is_empty() || !found.keys().eq(&keys.iter().copied().collect::<BTreeSet<_>>()) {
            return Err(OpenError::Damaged("it does not hold the keys that were expected".into()));
        }
        self.hold(found);
        Ok(())
    }

    fn seal(&self, to: &[Recipient], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.sealer.seal(to, plain).map_err(|error| SealError(error.to_string()))
    }

    fn open(
        &self,
        key: Recipient,
        file: &[u8],
        limit: usize,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let held = self.find(key).ok_or(OpenError::NotHeld(key))?;
        open(&held.opener, file, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> AgeKeyring {
        AgeKeyring::new(generate()).unwrap()
    }

    #[test]
    fn keys_are_shared_with_one_member_and_with_nobody_else() {
        let (founder, member, other) = (keyring(), keyring(), keyring());
        let mut keys = [founder.make(), founder.make()];
        let file = founder.share(&keys, member.own()).unwrap();
        assert_eq!(other.accept(&file, &keys), Err(OpenError::ForOthers));
        let stranger = other.make();
        for wrong in [vec![keys[0]], vec![keys[0], stranger], vec![keys[0], keys[1], stranger]] {
            assert!(matches!(member.accept(&file, &wrong), Err(OpenError::Damaged(_))));
        }
        assert!(!member.holds(keys[0]), "all or nothing");
        keys.sort_unstable();
        for order in [keys, [keys[1], keys[0]]] {
            assert_eq!(member.accept(&file, &order), Ok(()));
        }
        assert!(member.holds(keys[0]) && member.holds(keys[1]));
        assert_eq!(member.share(&[keys[0], stranger], founder.own()), None);
        assert!(matches!(member.accept(&file[1..], &keys), Err(OpenError::Damaged(_))));
    }

    #[test]
    fn what_is_sealed_is_opened_with_the_keys_it_was_sealed_to() {
        let keyring = keyring();
        let (one, two, three) = (keyring.make(), keyring.make(), keyring.make());
        let file = keyring.seal(&[one, two], b"decided").unwrap();
        assert_eq!(keyring.open(one, &file, 100).unwrap().as_slice(), b"decided");
        assert_eq!(keyring.open(two, &file, 100).unwrap().as_slice(), b"decided");
        assert_eq!(keyring.open(three, &file, 100), Err(OpenError::ForOthers));
        assert_eq!(keyring.open(one, &file, 3), Err(OpenError::TooLong(3)));
        let stranger = Recipient([9; 32]);
        assert_eq!(keyring.open(stranger, &file, 100), Err(OpenError::NotHeld(stranger)));
        assert!(keyring.seal(&[Recipient([0; 32])], b"decided").is_err());
        assert_eq!(format!("{keyring:?}"), format!("AgeKeyring({})", keyring.own()));
    }
}
