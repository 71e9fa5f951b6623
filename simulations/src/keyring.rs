//! A keyring that encrypts nothing: a file says whom it is for, and is opened with no other key. What
//! a simulation needs of encryption.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use bzzz::crypto::{Keyring, OpenError, SealError};
use bzzz::types::{Lock, PeerId, Recipient};
use zeroize::Zeroizing;

use crate::rng::Stream;

const KEY_LEN: usize = 32;

type Secret = [u8; KEY_LEN];

fn public(secret: &Secret) -> Recipient {
    Recipient(blake3::derive_key("bzzz simulated recipient", secret))
}

/// The keyring of one start of a simulated node.
pub struct SimKeyring {
    own: Secret,
    held: Mutex<BTreeSet<(Recipient, Secret)>>,
    seeds: Stream,
}

impl SimKeyring {
    /// A keyring with nothing but the node's own key.
    pub fn new(peer: PeerId, seeds: Stream) -> Self {
        let own = blake3::derive_key("bzzz simulated content key", &peer.0);
        Self { own, held: Mutex::default(), seeds }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(Recipient, Secret)>> {
        self.held.locked()
    }

    fn find(&self, key: Recipient) -> Option<Secret> {
        if key == self.own() {
            return Some(self.own);
        }
        self.lock().iter().find(|(held, _)| *held == key).map(|(_, secret)| *secret)
    }
}

fn checksum(body: &[u8]) -> [u8; 32] {
    *blake3::hash(body).as_bytes()
}

impl Keyring for SimKeyring {
    fn own(&self) -> Recipient {
        public(&self.own)
    }

    fn make(&self) -> Recipient {
        let secret: Secret = self.seeds.bytes();
        self.lock().insert((public(&secret), secret));
        public(&secret)
    }

    fn holds(&self, key: Recipient) -> bool {
        self.find(key).is_some()
    }

    fn share(&self, keys: &[Recipient], to: Recipient) -> Option<Vec<u8>> {
        let secrets: Option<Vec<Secret>> = keys.iter().map(|key| self.find(*key)).collect();
        self.seal(&[to], &secrets?.concat()).ok()
    }

    fn accept(&self, file: &[u8], keys: &[Recipient]) -> Result<(), OpenError> {
        let plain = self.open(self.own(), file, KEY_LEN * keys.len())?;
        let (secrets, rest) = plain.as_chunks::<KEY_LEN>();
        let found: BTreeSet<(Recipient, Secret)> =
            secrets.iter().map(|secret| (public(secret), *secret)).collect();
        let expected: BTreeSet<Recipient> = keys.iter().copied().collect();
        if !rest.is_empty() || !found.iter().map(|(key, _)| key).eq(&expected) {
            return Err(OpenError::Damaged("other keys than expected".into()));
        }
        self.lock().extend(found);
        Ok(())
    }

    fn seal(&self, to: &[Recipient], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let count = u8::try_from(to.len()).map_err(|error| SealError(error.to_string()))?;
        let mut body = vec![count];
        body.extend(to.iter().flat_map(|key| key.0));
        body.extend_from_slice(plain);
        Ok([checksum(&body).as_slice(), &body].concat())
    }

    fn open(
        &self,
        key: Recipient,
        file: &[u8],
        limit: usize,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let damaged = || OpenError::Damaged("the checksum does not match".into());
        let (sum, body) = file.split_first_chunk::<32>().ok_or_else(damaged)?;
        let (count, rest) = body.split_first().ok_or_else(damaged)?;
        if checksum(body) != *sum {
            return Err(damaged());
        }
        let (keys, plain) =
            rest.split_at_checked(usize::from(*count) * KEY_LEN).ok_or_else(damaged)?;
        self.find(key).ok_or(OpenError::NotHeld(key))?;
        if !keys.chunks(KEY_LEN).any(|listed| listed == key.0) {
            return Err(OpenError::ForOthers);
        }
        if plain.len() > limit {
            return Err(OpenError::TooLong(limit));
        }
        Ok(Zeroizing::new(plain.to_vec()))
    }
}
