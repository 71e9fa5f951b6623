//! How a member comes by the keys of roles.

use crate::core::control::{cluster, roster};
use std::collections::BTreeSet;
use std::sync::Mutex;

use zeroize::Zeroizing;

use super::*;
use crate::core::ctx::{Effect, Outbox, Rng};
use crate::core::fixture;
use crate::crypto::{OpenError, SealError};
use crate::types::role::Authority;
use crate::types::{Wall, golden};

/// Every key is its own public half. A file names for whom it is, then the keys.
struct TestKeyring {
    own: Recipient,
    held: Mutex<BTreeSet<Recipient>>,
}

impl Keyring for TestKeyring {
    fn own(&self) -> Recipient {
        self.own
    }

    fn make(&self) -> Recipient {
        let mut held = self.held.lock().unwrap();
        let key = Recipient([100 + held.len() as u8; 32]);
        held.insert(key);
        key
    }

    fn holds(&self, key: Recipient) -> bool {
        self.held.lock().unwrap().contains(&key)
    }

    fn share(&self, keys: &[Recipient], to: Recipient) -> Option<Vec<u8>> {
        let held = keys.iter().all(|key| self.holds(*key));
        held.then(|| std::iter::once(&to).chain(keys).flat_map(|key| key.0).collect())
    }

    fn accept(&self, file: &[u8], keys: &[Recipient]) -> Result<(), OpenError> {
        let wanted: Vec<u8> = std::iter::once(&self.own).chain(keys).flat_map(|k| k.0).collect();
        if file != wanted {
            return Err(OpenError::ForOthers);
        }
        self.held.lock().unwrap().extend(keys);
        Ok(())
    }

    fn seal(&self, _: &[Recipient], _: &[u8]) -> Result<Vec<u8>, SealError> {
        Err(SealError(String::new()))
    }

    fn open(&self, _: Recipient, _: &[u8], _: usize) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        Err(OpenError::ForOthers)
    }
}

fn keyring(own: u8, held: &[Recipient]) -> Arc<TestKeyring> {
    let held = Mutex::new(held.iter().copied().collect());
    Arc::new(TestKeyring { own: Recipient([own; 32]), held })
}

const ROLE: Recipient = Recipient([50; 32]);

fn view() -> Arc<View> {
    let role = RoleKey { authority: Authority::Master, recipient: ROLE };
    Arc::new(View {
        roster: Arc::new(roster::State { next: 4, ..(*fixture::members(1..=3)).clone() }),
        cluster: Arc::new(cluster::State {
            roles: Arc::new([("admin".to_owned(), role)].into()),
            ..cluster::State::default()
        }),
        ..View::default()
    })
}

/// Whatever a machine wants done.
type Wants = (Vec<(PeerId, KeysMessage)>, Vec<Vec<u8>>);

fn at(keys: &mut Keys, ms: u64, act: impl FnOnce(&mut Keys, &mut Ctx<'_, Reply>)) -> Wants {
    let (mut rng, mut out) = (Rng::from_seed([0; 32]), Outbox::default());
    act(keys, &mut Ctx { now: Mono(ms * 1_000), wall: Wall(0), rng: &mut rng, out: &mut out });
    let sent = out.effects.into_iter().filter_map(|effect| match effect {
        Effect::Send(peer, Message::Keys(message)) => Some((peer, message)),
        _ => None,
    });
    (sent.collect(), out.writes.into_iter().filter_map(|write| write.value).collect())
}

fn tell(keys: &mut Keys, ms: u64, from: u8, message: KeysMessage) -> Wants {
    let from = PeerId([from; 32]);
    at(keys, ms, |keys, ctx| keys.on_msg(ctx, Msg::Message { from, message }))
}

fn keeper(own: u8, keyring: Arc<TestKeyring>) -> Keys {
    Keys::new(MemberId(u64::from(own)), PeerId([own; 32]), keyring, None)
}

#[test]
fn a_member_asks_the_others_in_turn_until_one_has_the_keys() {
    let ring = keyring(1, &[]);
    let mut keys = keeper(1, ring.clone());
    let (asks, _) = at(&mut keys, 0, |keys, ctx| keys.on_news(ctx, News::View(view())));
    assert!(matches!(asks[..], [(PeerId([2, ..]), KeysMessage::Ask { .. })]), "{asks:?}");
    let (asks, _) = at(&mut keys, 499, |keys, ctx| keys.on_wake(ctx));
    assert!(asks.is_empty());
    let (asks, _) = at(&mut keys, 500, |keys, ctx| keys.on_wake(ctx));
    let [(PeerId([3, ..]), KeysMessage::Ask { nonce })] = asks[..] else { panic!("{asks:?}") };
    let file = |to: u8| Bytes(keyring(9, &[ROLE]).share(&[ROLE], Recipient([to; 32])).unwrap());
    for (nonce, to) in [(nonce ^ 1, 1), (nonce, 2)] {
        let message = KeysMessage::Shared { nonce, file: file(to) };
        assert!(tell(&mut keys, 510, 3, message).1.is_empty(), "not asked for, not for this node");
    }
    assert!(!ring.holds(ROLE));
    let (asks, _) = at(&mut keys, 1_000, |keys, ctx| keys.on_wake(ctx));
    let [(PeerId([2, ..]), KeysMessage::Ask { nonce })] = asks[..] else { panic!("{asks:?}") };
    let stranger = tell(&mut keys, 1_001, 9, KeysMessage::Shared { nonce, file: file(1) });
    assert!(stranger.1.is_empty() && !ring.holds(ROLE));
    let other = tell(&mut keys, 1_001, 3, KeysMessage::Shared { nonce, file: file(1) });
    assert!(other.1.is_empty() && !ring.holds(ROLE), "2 was asked");
    let (_, writes) = tell(&mut keys, 1_002, 2, KeysMessage::Shared { nonce, file: file(1) });
    assert!(ring.holds(ROLE) && writes.len() == 1, "kept, and on disk");
    let (asks, _) = at(&mut keys, 9_000, |keys, ctx| keys.on_wake(ctx));
    assert!(asks.is_empty());
}

#[test]
fn keys_are_given_to_members_only_and_not_too_often() {
    let mut keys = keeper(1, keyring(1, &[ROLE]));
    at(&mut keys, 0, |keys, ctx| keys.on_news(ctx, News::View(view())));
    let ask = || KeysMessage::Ask { nonce: 7 };
    assert!(tell(&mut keys, 0, 9, ask()).0.is_empty(), "a stranger");
    let (shared, _) = tell(&mut keys, 0, 2, ask());
    let [(PeerId([2, ..]), KeysMessage::Shared { nonce: 7, file })] = &shared[..] else {
        panic!("{shared:?}")
    };
    assert_eq!(file.0[0], 2, "for the key that the cluster knows of the member");
    assert!(tell(&mut keys, 10, 2, ask()).0.is_empty());
    assert_eq!(tell(&mut keys, 10, 3, ask()).0.len(), 1);
    assert_eq!(tell(&mut keys, 500, 2, ask()).0.len(), 1);
    let mut lacking = keeper(1, keyring(1, &[]));
    at(&mut lacking, 0, |keys, ctx| keys.on_news(ctx, News::View(view())));
    assert!(tell(&mut lacking, 0, 2, ask()).0.is_empty(), "nobody gives what he has not");
}

#[test]
fn what_was_stored_is_held_after_a_start() {
    let founder = keyring(1, &[]);
    let stored = StoredKeys::make(founder.as_ref());
    assert_eq!(stored.roles.len(), BUILT_IN_ROLES.len());
    let again = keyring(1, &[]);
    Keys::new(MemberId(1), PeerId([1; 32]), again.clone(), Some(stored.clone()));
    assert!(stored.roles.values().all(|role| again.holds(role.recipient)));
    let other = keyring(2, &[]);
    Keys::new(MemberId(2), PeerId([2; 32]), other.clone(), Some(stored.clone()));
    assert!(!stored.roles.values().any(|role| other.holds(role.recipient)));
    golden::durable::<StoredKeys>(include_str!("../../types/golden/role-keys"), &[stored]);
}
