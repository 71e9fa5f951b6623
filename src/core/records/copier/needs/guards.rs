//! How many of whom a member has to have copied from: each of these fails where its rule is gone.

use super::*;
use crate::core::control::{Holders, Layout};

fn ids(ids: impl IntoIterator<Item = u64>) -> BTreeSet<MemberId> {
    ids.into_iter().map(MemberId).collect()
}

/// While holders 1 to `current` become 1 to `next`.
fn view(version: u64, current: u64, next: Option<u64>) -> View {
    let holders = |count: u64| -> Holders {
        (1..=count).map(|id| (MemberId(id), Default::default())).collect()
    };
    let layout =
        Layout { version, current: holders(current), next: next.map(holders), given_up: [].into() };
    View { layout: layout.into(), ..View::default() }
}

#[test]
fn all_are_copied_from_only_where_everybody_held_everything_and_few_will() {
    let wanted = |current, next| Needs::of(&view(4, current, Some(next)), MemberId(1)).to_gain;
    assert_eq!(wanted(3, 4), [(ids(1..=3), 2)].into());
    assert_eq!(wanted(3, 7), [(ids(1..=3), 2)].into(), "everybody holds everything still");
    assert_eq!(wanted(3, 8), [(ids(1..=3), 3)].into());
    assert_eq!(wanted(7, 8), [(ids(1..=7), 7)].into());
    for next in [3, 7, 9] {
        let wanted = wanted(8, next);
        assert!(wanted.len() > 1 && wanted.iter().all(|(set, of)| (set.len(), *of) == (3, 2)));
    }
    let not_named = Needs::of(&view(4, 3, Some(2)), MemberId(3));
    assert!(not_named.to_gain.is_empty(), "it gains nothing");
}

#[test]
fn what_was_lost_is_copied_from_a_read_quorum_of_the_others() {
    let wanted = |current, next| Needs::of(&view(4, current, next), MemberId(1)).to_restore;
    assert_eq!(wanted(2, None), [(ids(1..=2), 1)].into());
    assert_eq!(wanted(5, None), [(ids(1..=5), 3)].into());
    let both = [(ids(1..=5), 3), (ids(1..=4), 2)];
    assert_eq!(wanted(5, Some(4)), both.into(), "of each of the sets");
    assert!(wanted(1, None).iter().all(|(_, of)| *of == 0), "a sole holder has nobody to ask");
    assert!(Needs::of(&view(4, 3, None), MemberId(4)).to_restore.is_empty(), "it holds nothing");
}

#[test]
fn they_are_worked_out_anew_for_another_layout_and_when_somebody_is_given_up() {
    let first = view(4, 3, Some(4));
    let needs = Needs::of(&first, MemberId(1));
    assert!(needs.fits(&first));
    assert!(!needs.fits(&view(5, 3, Some(4))));
    let layout = Layout { given_up: ids([3]), ..(*first.layout).clone() };
    assert!(!needs.fits(&View { layout: layout.into(), ..first }));
}
