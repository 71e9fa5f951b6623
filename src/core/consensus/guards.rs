//! What entries from the network have to keep: each of these fails where its rule is gone.

use super::*;

fn entries(from: u64, count: u64) -> Vec<Entry> {
    let blank = |index| Entry { id: LogId { term: 1, index }, payload: Payload::Blank };
    (0..count).map(|n| blank(from + n)).collect()
}

fn after(index: u64) -> Option<LogId> {
    Some(LogId { term: 1, index })
}

#[test]
fn entries_follow_on_what_is_there_without_a_gap() {
    assert!(entries_are_sound(None, &entries(0, 3)));
    assert!(entries_are_sound(after(4), &entries(5, 3)));
    assert!(entries_are_sound(after(4), &[]));
    for (prev, from) in [(None, 1), (after(4), 4), (after(4), 6)] {
        assert!(!entries_are_sound(prev, &entries(from, 3)), "{prev:?} {from}");
    }
    let mut gap = entries(0, 2);
    gap.extend(entries(3, 1));
    let mut twice = entries(0, 2);
    twice.extend(entries(1, 1));
    assert!(!entries_are_sound(None, &gap) && !entries_are_sound(None, &twice));
    assert!(!entries_are_sound(after(u64::MAX), &entries(0, 1)), "nothing follows on that");
    assert!(entries_are_sound(after(u64::MAX - 1), &entries(u64::MAX, 1)));
}

#[test]
fn a_message_has_as_many_entries_as_may_be() {
    assert!(entries_are_sound(None, &entries(0, APPEND_ENTRIES_MAX)));
    assert!(!entries_are_sound(None, &entries(0, APPEND_ENTRIES_MAX + 1)));
}

#[test]
fn every_voter_has_a_key() {
    let membership = |voter: u64| {
        let configs = vec![vec![MemberId(voter)]];
        let nodes = [(MemberId(1), PeerId([1; 32]))].into();
        let payload = Payload::Membership(VoterConfig { configs, nodes });
        entries_are_sound(None, &[Entry { id: LogId { term: 1, index: 0 }, payload }])
    };
    assert!(membership(1) && !membership(2));
}
