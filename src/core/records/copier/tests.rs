//! What a holder may take for a source.

use super::*;
use crate::core::control::{Holders, Layout, Member};
use crate::crypto::Signature;

struct NoKeys;

impl Vault for NoKeys {
    fn sign(&self, _: &'static str, _: &[u8]) -> Signature {
        [0; 64]
    }

    fn verify(&self, _: PeerId, _: &'static str, _: &[u8], _: &Signature) -> bool {
        false
    }
}

/// A view in which these are members.
fn view(members: &[u64], layout: Layout) -> Arc<View> {
    let member = |id: u64| Member {
        id: MemberId(id),
        peer: PeerId([id as u8; 32]),
        name: String::new(),
        role: String::new(),
        addresses: vec![],
        labels: BTreeMap::new(),
        content_key: Default::default(),
        joined_at: Wall(0),
    };
    let members = members.iter().map(|id| (MemberId(*id), Arc::new(member(*id)))).collect();
    Arc::new(View { members: Arc::new(members), layout, ..View::default() })
}

fn holders(ids: &[u64]) -> Holders {
    ids.iter().map(|id| (MemberId(*id), Default::default())).collect()
}

#[test]
fn a_holder_whose_store_lost_something_is_no_source_of_its_own() {
    let mut copier = Copier::new(MemberId(1), PeerId([1; 32]), Arc::new(NoKeys));
    let current = holders(&[1, 2, 3, 4, 5]);
    let layout = Layout { version: 4, current, next: Some(holders(&[1, 2, 3, 4])) };
    copier.view = view(&[1, 2, 3, 4], layout);
    copier.copied_from = [MemberId(2), MemberId(3)].into();
    copier.note_gained();
    assert!(copier.gained && !copier.restored, "with its own that makes three of five");
    copier.restoring = true;
    copier.note_gained();
    assert!(!copier.gained, "of three that have a record it may be the one that lost it");
    copier.copied_from.insert(MemberId(4));
    copier.note_gained();
    assert!(copier.gained && copier.restored);
}

#[test]
fn before_records_have_few_holders_everybody_is_copied_from() {
    let mut copier = Copier::new(MemberId(1), PeerId([1; 32]), Arc::new(NoKeys));
    let (current, next) = (holders(&[1, 2, 3]), holders(&[1, 2, 3, 4, 5, 6, 7, 8]));
    let layout = Layout { version: 4, current, next: Some(next) };
    copier.view = view(&[1, 2, 3, 4, 5, 6, 7, 8], layout);
    copier.copied_from = [MemberId(2)].into();
    copier.note_gained();
    assert!(!copier.gained, "3 may be the only one that has a version and its content");
    copier.copied_from.insert(MemberId(3));
    copier.note_gained();
    assert!(copier.gained);
}

#[test]
fn what_an_operator_has_given_up_nobody_waits_for() {
    let mut copier = Copier::new(MemberId(1), PeerId([1; 32]), Arc::new(NoKeys));
    let layout =
        || Layout { version: 4, current: holders(&[1, 2, 3]), next: Some(holders(&[1, 2])) };
    copier.view = view(&[1, 2, 3], layout());
    copier.note_gained();
    assert!(!copier.gained, "one of 2 and 3 is missing");
    copier.view = view(&[1, 2], layout());
    copier.note_gained();
    assert!(!copier.gained, "2 is still there");
    copier.view = view(&[1], layout());
    copier.note_gained();
    assert!(copier.gained);
}
