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

fn holders(ids: &[u64]) -> Holders {
    ids.iter().map(|id| (MemberId(*id), Default::default())).collect()
}

#[test]
fn a_holder_whose_store_lost_something_is_no_source_of_its_own() {
    let mut copier = Copier::new(MemberId(1), PeerId([1; 32]), Arc::new(NoKeys));
    let current = holders(&[1, 2, 3, 4, 5]);
    let layout = Layout { version: 4, current, next: Some(holders(&[1, 2, 3, 4])) };
    copier.view = Arc::new(View { layout, ..View::default() });
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
    copier.view = Arc::new(View { layout, ..View::default() });
    copier.copied_from = [MemberId(2)].into();
    copier.note_gained();
    assert!(!copier.gained, "3 may be the only one that has a version and its content");
    copier.copied_from.insert(MemberId(3));
    copier.note_gained();
    assert!(copier.gained);
}
