//! What a holder may take for a source.

use super::*;
use crate::core::control::{Holders, Layout};
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

fn view(layout: Layout, given_up: &[u64]) -> Arc<View> {
    let given_up = given_up.iter().copied().map(MemberId).collect();
    Arc::new(View { layout, given_up, ..View::default() })
}

fn holders(ids: &[u64]) -> Holders {
    ids.iter().map(|id| (MemberId(*id), Default::default())).collect()
}

#[test]
fn a_holder_whose_store_lost_something_is_no_source_of_its_own() {
    let mut copier = Copier::new(MemberId(1), PeerId([1; 32]), Arc::new(NoKeys));
    let current = holders(&[1, 2, 3, 4, 5]);
    let layout = Layout { version: 4, current, next: Some(holders(&[1, 2, 3, 4])) };
    copier.view = view(layout, &[]);
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
    copier.view = view(layout, &[]);
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
    copier.view = view(layout(), &[]);
    copier.note_gained();
    assert!(!copier.gained, "one of 2 and 3 is missing");
    copier.view = view(layout(), &[3]);
    copier.note_gained();
    assert!(!copier.gained, "2 is still asked for");
    copier.view = view(layout(), &[2, 3]);
    copier.note_gained();
    assert!(copier.gained);

    copier.restoring = true;
    copier.view = view(layout(), &[]);
    copier.copied_from = [MemberId(3)].into();
    copier.note_gained();
    assert!(!copier.restored, "2 may be the only one that has what this one lost");
    copier.view = view(layout(), &[2]);
    copier.note_gained();
    assert!(copier.restored);
}
