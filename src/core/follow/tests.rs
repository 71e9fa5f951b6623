//! What a follower takes, and what it passes on.

use std::sync::Arc;

use super::*;
use crate::messages::Proposal;
use crate::messages::command::HeadsCommand;
use crate::messages::command::{Command, Expect};
use crate::messages::wire::{Entry, Payload, VoterConfig};
use crate::types::codec::encode_durable;
use crate::types::limits::{SNAPSHOT_LEN_MAX, SNAPSHOT_PART};
use crate::types::{Bytes, Mono, ProposalId, Wall};

const AT: Mono = Mono(9_000_000);

fn follower() -> Following {
    Following::new(MemberId(9), BTreeMap::new(), None, 1_000, Shape::default())
}

fn role() -> Role {
    Role { term: 1, voters: [MemberId(1)].into(), ..Role::default() }
}

fn told(role: Role) -> Told {
    Told { role, majority_at: AT, upto: None }
}

fn entries(indexes: std::ops::Range<u64>) -> Vec<Entry> {
    let entry = |index: u64| Entry {
        id: LogId { term: 1, index },
        payload: Payload::Proposal(Proposal {
            id: ProposalId(u128::from(index).to_le_bytes()),
            at: Wall(1),
            command: Command::Heads(HeadsCommand::Set {
                key: format!("monitoring/{index}"),
                expect: Expect::Absent,
                value: Bytes(vec![1]),
                author: String::new(),
            }),
        }),
    };
    indexes.map(entry).collect()
}

fn index(follower: &Following) -> Option<u64> {
    follower.state.last.map(|last| last.index)
}

#[test]
fn entries_are_applied_only_where_they_follow_on() {
    let mut follower = follower();
    assert!(!follower.take(told(role()), FollowBody::Entries(entries(1..3))), "0 is missing");
    assert!(follower.take(told(role()), FollowBody::Entries(entries(0..3))));
    assert!(!follower.take(told(role()), FollowBody::Entries(entries(2..4))), "2 once more");
    assert!(!follower.take(told(role()), FollowBody::Entries(entries(4..5))), "3 is missing");
    assert_eq!(index(&follower), Some(2));
    assert!(follower.take(told(role()), FollowBody::Entries(Vec::new())), "nothing new");
    assert_eq!(follower.state.control.view().heads.len(), 3);
}

fn snapshot(upto: u64) -> Vec<u8> {
    let mut source = follower();
    source.take(told(role()), FollowBody::Entries(entries(0..upto + 1)));
    let state = &source.state;
    encode_durable(&StoredSnapshot {
        last: state.last,
        voters_at: None,
        voters: VoterConfig::default(),
        state: Bytes(state.control.encode()),
    })
}

#[test]
fn those_below_get_what_follows_or_a_snapshot() {
    let mut source = follower();
    source.take(told(role()), FollowBody::Entries(entries(0..5)));
    let at = |index| Some(LogId { term: 1, index });
    let state = &mut source.state;
    let all = FollowBody::Entries(entries(0..5));
    assert_eq!(state.what_follows(None, 0), Some(all));
    assert_eq!(state.what_follows(at(2), 0), Some(FollowBody::Entries(entries(3..5))));
    assert_eq!(state.what_follows(at(4), 0), Some(FollowBody::Entries(Vec::new())));
    assert_eq!(state.what_follows(at(5), 0), None, "it knows less itself");
    // What came with a snapshot is not kept entry by entry.
    let mut below = follower();
    let bytes = state.snapshot();
    let total = bytes.len() as u64;
    let whole = FollowBody::Snapshot { last: at(4), total, offset: 0, part: Bytes(bytes) };
    assert!(below.take(told(role()), whole.clone()));
    let state = &mut below.state;
    assert_eq!(state.what_follows(at(1), 0), Some(whole));
    assert!(below.take(told(role()), FollowBody::Entries(entries(5..7))));
    let state = &mut below.state;
    assert_eq!(state.what_follows(at(5), 0), Some(FollowBody::Entries(entries(6..7))));
    let Some(FollowBody::Snapshot { last, .. }) = state.what_follows(at(1), 10) else { panic!() };
    assert_eq!(last, at(4), "one that was begun goes on, as what follows it is kept");
}

#[test]
fn what_is_known_of_a_majority_only_gets_older() {
    let mut state = State::default();
    let at = |ms: u64| Mono(ms * 1_000);
    let ms = Duration::from_millis;
    assert_eq!(state.majority_age(at(0)), None);
    state.hear(at(200));
    assert_eq!(state.majority_age(at(1_500)), Some(ms(1_300)));
    // It knows better.
    state.hear(at(150));
    assert_eq!(state.majority_age(at(1_500)), Some(ms(1_300)));
    state.hear(at(1_490));
    assert_eq!(state.majority_age(at(1_600)), Some(ms(110)));
}

#[test]
fn a_source_that_was_cut_off_does_not_bring_an_old_leader_back() {
    let mut follower = follower();
    let of = |term, leader| Role { term, leader: Some(MemberId(leader)), ..role() };
    let nothing = || FollowBody::Entries(Vec::new());
    assert!(follower.take(told(of(4, 2)), nothing()));
    assert!(follower.take(told(of(3, 1)), nothing()));
    assert_eq!(follower.state.role.leader, Some(MemberId(2)));
    let candidacy = Role { leader: None, ..of(9, 0) };
    assert!(follower.take(told(candidacy), nothing()));
    assert_eq!(follower.known_term(), 4, "nobody has won it");
    assert!(follower.take(told(of(5, 3)), nothing()));
    assert_eq!(follower.state.role.leader, Some(MemberId(3)));
}

#[test]
fn whoever_has_not_got_everything_yet_knows_it() {
    let mut follower = follower();
    let upto = |index| Told { upto: Some(LogId { term: 1, index }), ..told(role()) };
    assert!(follower.take(upto(4), FollowBody::Entries(entries(0..3))));
    assert!(follower.state.behind, "the answer was cut");
    assert!(follower.take(upto(4), FollowBody::Entries(entries(3..5))));
    assert!(!follower.state.behind);
}

#[test]
fn a_snapshot_in_parts_is_taken_whole_or_not_at_all() {
    let bytes = snapshot(5);
    let last = Some(LogId { term: 1, index: 5 });
    let total = bytes.len() as u64;
    let part = |from: usize, to: usize| FollowBody::Snapshot {
        last,
        total,
        offset: from as u64,
        part: Bytes(bytes[from..to].to_vec()),
    };
    let mut follower = follower();
    assert!(!follower.take(told(role()), part(10, 20)), "it begins at its beginning");
    assert!(follower.take(told(role()), part(0, 10)));
    assert!(!follower.take(told(role()), part(20, 30)), "a part is missing");
    assert!(follower.take(told(role()), part(0, 10)), "begun again");
    assert!(follower.take(told(role()), part(10, bytes.len())));
    assert_eq!(index(&follower), Some(5));
    assert!(follower.take(told(role()), FollowBody::Entries(entries(6..8))), "and on from there");
    assert!(!follower.take(told(role()), part(0, bytes.len())), "never back");
    assert_eq!(index(&follower), Some(7));
}

#[test]
fn a_damaged_or_oversize_snapshot_changes_nothing() {
    let mut bytes = snapshot(5);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let last = Some(LogId { term: 1, index: 5 });
    let total = bytes.len() as u64;
    let mut follower = follower();
    let damaged = FollowBody::Snapshot { last, total, offset: 0, part: Bytes(bytes) };
    assert!(!follower.take(told(role()), damaged));
    let total = SNAPSHOT_LEN_MAX as u64 + 1;
    let oversize = FollowBody::Snapshot { last, total, offset: 0, part: Bytes(vec![1]) };
    assert!(!follower.take(told(role()), oversize));
    let empty = FollowBody::Snapshot { last, total: 9, offset: 0, part: Bytes::default() };
    assert!(!follower.take(told(role()), empty));
    assert_eq!(index(&follower), None);
}

#[test]
fn a_voter_goes_on_with_its_snapshot_where_the_follower_is_and_begins_again_with_a_new_one() {
    let bytes = Arc::new(vec![7; SNAPSHOT_PART + 10]);
    let part = |offset| match body(None, Some((None, bytes.clone())), offset) {
        Some(FollowBody::Snapshot { offset, part, .. }) => (offset as usize, part.0.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(part(0), (0, SNAPSHOT_PART));
    assert_eq!(part(SNAPSHOT_PART as u64), (SNAPSHOT_PART, 10));
    assert_eq!(part(bytes.len() as u64), (0, SNAPSHOT_PART), "it had more than there is");
    assert_eq!(body(None, None, 0), None, "neither log nor snapshot");
}
