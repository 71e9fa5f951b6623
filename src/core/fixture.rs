//! What the tests of machines share: members, and giving them what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::control::{Change, Cluster, Member, View, cluster, roster};
use crate::core::ctx::Ctx;
use crate::core::duties::Sight;
use crate::core::machine::Machine;
use crate::core::machines::with_machines;
use crate::core::news::{Applied, News};
use crate::core::standing::Standing;
use crate::types::{Level, MemberId, Mono, PeerId, Recipient, Wall};

/// The key of a member: another one for each of as many as a cluster may have.
pub(in crate::core) fn peer(id: u64) -> PeerId {
    let mut key = [id as u8; 32];
    if id > u64::from(u8::MAX) {
        key[..8].copy_from_slice(&id.to_le_bytes());
    }
    PeerId(key)
}

/// A member.
pub(in crate::core) fn member(id: u64) -> Member {
    Member {
        id: MemberId(id),
        peer: peer(id),
        name: String::new(),
        role: String::new(),
        addresses: Vec::new(),
        labels: BTreeMap::new(),
        content_key: Recipient([id as u8; 32]),
        joined_at: Wall(0),
        level: Level::FIRST,
    }
}

/// These members.
pub(in crate::core) fn members(ids: impl IntoIterator<Item = u64>) -> Arc<roster::State> {
    let members = ids.into_iter().map(|id| (MemberId(id), Arc::new(member(id)))).collect();
    Arc::new(roster::State { members, next: 0 })
}

/// A cluster that was made.
pub(in crate::core) fn made(cluster: Option<Cluster>) -> Arc<cluster::State> {
    Arc::new(cluster::State { made: cluster, ..cluster::State::default() })
}

/// What a test gives to a machine: a message, or news.
pub(in crate::core) trait Give<M: Machine> {
    /// Gives it.
    fn give(self, machine: &mut M, ctx: &mut Ctx<'_, M::Reply>);
}

impl<M: Machine> Give<M> for News {
    fn give(self, machine: &mut M, ctx: &mut Ctx<'_, M::Reply>) {
        machine.on_news(ctx, self);
    }
}

macro_rules! give {
    ($(
        $field:ident $variant:ident: $machine:ty,
        hears [$($heard:ident)*],
        tells [$($(#[doc = $doc:literal])+ $kind:ident($fact:ty))*];
    )*) => {$(
        impl Give<$machine> for <$machine as Machine>::Msg {
            fn give(self, machine: &mut $machine, ctx: &mut Ctx<'_, <$machine as Machine>::Reply>) {
                machine.on_msg(ctx, self);
            }
        }
    )*};
}
with_machines!(give);

/// Entries were applied, and this changed by them.
pub(in crate::core) fn applied(view: Arc<View>, changes: &[Change]) -> News {
    News::Applied(Applied { view, changes: changes.into() })
}

impl FromIterator<(MemberId, Arc<Member>)> for roster::State {
    fn from_iter<I: IntoIterator<Item = (MemberId, Arc<Member>)>>(members: I) -> Self {
        Self { members: members.into_iter().collect(), next: 0 }
    }
}

impl<const N: usize> From<[(MemberId, Arc<Member>); N]> for roster::State {
    fn from(members: [(MemberId, Arc<Member>); N]) -> Self {
        members.into_iter().collect()
    }
}

/// What a duty sees at the beginning of time.
pub(in crate::core) fn sight<'a>(
    standing: &'a Standing,
    linked: &'a BTreeSet<MemberId>,
) -> Sight<'a> {
    Sight { now: Mono(0), wall: Wall(0), standing, linked, quorum: None }
}
