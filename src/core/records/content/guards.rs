//! The bounds of a content, one at a time: each of these fails where its bound is gone.

use super::*;
use crate::crypto::keyed::KeyedVault;

const SIGNER: KeyedVault = KeyedVault(PeerId([1; 32]));

fn sealed(roles: Vec<String>, file: usize) -> Result<(), ContentError> {
    let envelope = Envelope {
        plain: [4; 32],
        place: PlaceHash([5; 32]),
        generation: FIRST_GENERATION,
        roles,
        signer: SIGNER.0,
        file: Bytes(vec![1; file]),
        signature: Bytes::default(),
    };
    let content = Content::Sealed(envelope.sign(&SIGNER));
    Content::check(&content.encode(), &content.hash(), &SIGNER).map(drop)
}

fn raw(len: usize) -> Result<(), ContentError> {
    let content = Content::Raw(Bytes(vec![1; len]));
    Content::check(&content.encode(), &content.hash(), &SIGNER).map(drop)
}

#[test]
fn a_content_is_as_long_as_may_be() {
    let admin = || vec!["admin".to_owned()];
    assert_eq!(raw(CONTENT_BODY_MAX), Ok(()));
    assert_eq!(raw(CONTENT_BODY_MAX + 1), Err(ContentError::Bounds));
    assert_eq!(sealed(admin(), CONTENT_BODY_MAX), Ok(()));
    assert_eq!(sealed(admin(), CONTENT_BODY_MAX + 1), Err(ContentError::Bounds));
}

#[test]
fn a_content_names_as_many_roles_as_may_be_by_names_that_can_be() {
    let many = |count: usize| (0..count).map(|n| format!("role-{n}")).collect::<Vec<_>>();
    assert_eq!(sealed(many(ROLES_PER_CONTENT_MAX), 1), Ok(()));
    assert_eq!(sealed(many(ROLES_PER_CONTENT_MAX + 1), 1), Err(ContentError::Bounds));
    for (name, fits) in [
        ("r".repeat(UCXL_SEGMENT_MAX), true),
        ("r".repeat(UCXL_SEGMENT_MAX + 1), false),
        (String::new(), false),
        ("A.b_c-9".to_owned(), true),
        ("a b".to_owned(), false),
        ("a/b".to_owned(), false),
    ] {
        assert_eq!(sealed(vec!["admin".to_owned(), name.clone()], 1).is_ok(), fits, "{name:?}");
    }
}
