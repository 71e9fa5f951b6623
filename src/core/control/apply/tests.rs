//! What each command changes, and what is refused.

use super::super::fixture::{Log, admit, candidate};
use super::super::layout::{Holders, Layout};
use super::*;
use crate::core::control::RosterChange;
use crate::core::fixture::peer;
use crate::messages::Command;
use crate::messages::command::Expect;
use crate::messages::command::Holder;
use crate::messages::command::{
    EvaluationCommand, HeadsCommand, LayoutCommand, RosterCommand, TokensCommand,
};
use crate::types::MemberId;
use crate::types::limits::HEAD_VALUE_MAX;
use crate::types::limits::JOIN_TOKEN_TTL_MAX;
use crate::types::record::PARTITIONS;
use crate::types::{Bytes, TokenId, golden};

#[test]
fn golden_bytes() {
    let mut log = Log::founded();
    let labels = [("rack".to_owned(), "a".to_owned())].into();
    log.at(
        1_001,
        Command::Roster(RosterCommand::Label { member: MemberId(1), set: labels, unset: vec![] }),
    );
    let (token, secret_hash) = (TokenId([3; 8]), [4; 32]);
    let expires_at = Wall(600_000);
    log.at(
        1_002,
        Command::Tokens(TokensCommand::Create { token, secret_hash, expires_at, uses: 2 }),
    );
    log.at(
        1_003,
        Command::Tokens(TokensCommand::Admit { token, secret_hash, candidate: candidate(2) }),
    );
    log.at(1_004, Command::Tokens(TokensCommand::Revoke { token: TokenId([9; 8]) }));
    let head = Command::Heads(HeadsCommand::Set {
        key: "ai_models/llama".into(),
        expect: Expect::Absent,
        value: Bytes(vec![1, 2, 3]),
        author: "someone".into(),
    });
    log.at(1_005, head);
    log.at(1_006, Command::Evaluation(EvaluationCommand::Done));
    let file = include_str!("../../../types/golden/control-state");
    golden::durable::<ControlState>(file, &[log.state]);
}

fn holders(ids: &[u64]) -> Holders {
    ids.iter().map(|id| (MemberId(*id), Holder::default())).collect()
}

fn next(ids: &[u64]) -> Command {
    Command::Layout(LayoutCommand::Next { holders: holders(ids) })
}

fn remove(id: u64, lost: bool) -> Command {
    Command::Roster(RosterCommand::Remove { member: MemberId(id), lost })
}

/// A cluster of so many members that all hold records.
fn settled(members: u64) -> Log {
    let mut log = Log::founded();
    let token = log.token(1_000, 5_000, 40);
    (2..=members).for_each(|number| drop(log.at(1_001, admit(token, number))));
    log.at(1_002, next(&(1..=members).collect::<Vec<_>>()));
    let version = log.state.view().layout.version;
    log.at(1_003, Command::Layout(LayoutCommand::Commit { version }));
    log
}

#[test]
fn nobody_goes_while_too_few_could_tell_the_records_without_it() {
    let mut log = settled(3);
    let at_risk = |id, moving| {
        let member = MemberId(id);
        Outcome::Refused(Refused::RecordsAtRisk { member, partitions: PARTITIONS, moving })
    };
    assert_eq!(log.at(1_004, remove(2, false)), Outcome::Done);
    let before = log.state.view().roster.members.len();
    assert_eq!(log.at(1_005, remove(3, false)), at_risk(3, true), "1 may lack what 2 and 3 had");
    let rejoins = TokenId([8; 8]);
    let (secret_hash, expires_at) = ([5; 32], Wall(5_000));
    log.at(
        1_006,
        Command::Tokens(TokensCommand::Create { token: rejoins, secret_hash, expires_at, uses: 2 }),
    );
    assert_eq!(log.at(1_006, admit(rejoins, 3)), at_risk(3, true), "with an empty disk");
    assert_eq!(log.state.view().roster.members.len(), before);
    log.at(1_007, next(&[1, 3]));
    let version = log.state.view().layout.version;
    log.at(1_008, Command::Layout(LayoutCommand::Commit { version }));
    assert_eq!(log.at(1_009, admit(rejoins, 3)), Outcome::Admitted(MemberId(4)));
    assert_eq!(log.at(1_010, remove(1, false)), at_risk(1, true));
    assert_eq!(log.at(1_011, remove(1, true)), Outcome::Done, "an operator gives them up");
}

#[test]
fn what_was_given_up_is_forgotten_with_the_layout_and_no_layout_names_who_is_gone() {
    let mut log = settled(3);
    let given_up =
        |log: &Log| log.state.view().layout.given_up.iter().map(|id| id.0).collect::<Vec<_>>();
    log.at(1_004, remove(2, false));
    assert!(given_up(&log).is_empty(), "the others can tell what it had");
    log.at(1_005, next(&[1, 3]));
    let named = log.state.view().layout.version;
    log.at(1_006, remove(3, true));
    assert_eq!(given_up(&log), [2, 3]);
    log.at(1_007, Command::Layout(LayoutCommand::Commit { version: named }));
    assert_eq!(log.state.view().layout.current, holders(&[1, 2, 3]), "3 is not there any more");
    log.at(1_008, next(&[1]));
    let version = log.state.view().layout.version;
    log.at(1_009, Command::Layout(LayoutCommand::Commit { version }));
    assert_eq!(log.state.view().layout.current, holders(&[1]));
    assert!(given_up(&log).is_empty());
}

#[test]
fn with_few_holders_of_each_record_any_two_may_be_too_many() {
    let mut log = settled(9);
    assert_eq!(log.at(1_004, remove(2, false)), Outcome::Done);
    let Outcome::Refused(refused) = log.at(1_005, remove(3, false)) else { panic!() };
    let Refused::RecordsAtRisk { partitions, moving: true, .. } = refused else { panic!() };
    // Three of nine hold a partition: a twelfth is held by both of two.
    assert!((200..600).contains(&partitions), "{partitions} of {PARTITIONS}");
    assert_eq!(log.at(1_006, remove(3, true)), Outcome::Done);
}

#[test]
fn a_token_is_used_once_and_the_same_node_gets_the_same_answer() {
    let mut log = Log::founded();
    let token = log.token(1_000, 5_000, 1);
    assert_eq!(log.at(1_001, admit(token, 2)), Outcome::Admitted(MemberId(2)));
    assert_eq!(log.at(9_001, admit(token, 2)), Outcome::Admitted(MemberId(2)), "answer was lost");
    assert_eq!(log.at(1_002, admit(token, 3)), Outcome::Refused(Refused::TokenUsed));
    let wrong = Command::Tokens(TokensCommand::Admit {
        token,
        secret_hash: [6; 32],
        candidate: candidate(3),
    });
    assert_eq!(log.at(1_003, wrong), Outcome::Refused(Refused::TokenUnknown));
}

#[test]
fn a_token_expires_by_the_stamp_of_the_proposal() {
    let mut log = Log::founded();
    let token = log.token(1_000, 5_000, 2);
    assert_eq!(log.at(4_999, admit(token, 2)), Outcome::Admitted(MemberId(2)));
    assert_eq!(log.at(5_000, admit(token, 3)), Outcome::Refused(Refused::TokenExpired));
    // A leader whose clock is behind does not turn time back.
    assert_eq!(log.at(1_000, admit(token, 3)), Outcome::Refused(Refused::TokenExpired));
}

#[test]
fn a_stamp_of_a_clock_that_was_wrong_does_not_last() {
    const DAY: u64 = 86_400_000;
    let mut log = Log::founded();
    let kept = log.token(1_000, 5_000, 2);
    assert_eq!(log.at(30 * DAY, Command::Evaluation(EvaluationCommand::Done)), Outcome::Done);
    assert_eq!(log.state.view.stamp, Wall(30 * DAY));
    assert_eq!(log.at(2_000, admit(kept, 2)), Outcome::Admitted(MemberId(2)));
    assert_eq!(log.state.view.stamp, Wall(2_000));
    // Of two leaders whose clocks are right, the later one does not turn time back.
    log.at(2_000 + CLUSTER_TIME_SPREAD_MS, Command::Evaluation(EvaluationCommand::Done));
    log.at(2_000, Command::Evaluation(EvaluationCommand::Done));
    assert_eq!(log.state.view.stamp, Wall(2_000 + CLUSTER_TIME_SPREAD_MS));
}

#[test]
fn the_stamp_of_a_leader_that_does_not_know_the_time_is_the_last_one() {
    let mut log = Log::founded();
    log.at(10 * CLUSTER_TIME_SPREAD_MS, Command::Evaluation(EvaluationCommand::Done));
    log.at(Proposal::NO_TIME.0, Command::Evaluation(EvaluationCommand::Done));
    assert_eq!(log.state.view.stamp, Wall(10 * CLUSTER_TIME_SPREAD_MS));
}

#[test]
fn a_token_of_a_clock_that_was_wrong_does_not_last() {
    const DAY: u64 = 86_400_000;
    let mut log = Log::founded();
    let token = log.token(30 * DAY, 30 * DAY + 5_000, 2);
    assert_eq!(log.at(2_000, admit(token, 2)), Outcome::Refused(Refused::TokenExpired));
    let create = Command::Tokens(TokensCommand::Create {
        token: TokenId([8; 8]),
        secret_hash: [5; 32],
        expires_at: Wall(30 * DAY),
        uses: 1,
    });
    assert!(matches!(log.at(2_000, create), Outcome::Refused(Refused::Invalid(_))));
    let longest = 2_000 + u64::try_from(JOIN_TOKEN_TTL_MAX.as_millis()).unwrap();
    let token = log.token(2_000, longest, 2);
    assert_eq!(log.at(2_000, admit(token, 2)), Outcome::Admitted(MemberId(2)));
    assert_eq!(log.state.view.tokens.len(), 1, "the other one is gone");
}

#[test]
fn member_ids_are_never_used_again() {
    let mut log = Log::founded();
    let token = log.token(1_000, 5_000, 5);
    log.at(1_001, admit(token, 2));
    assert_eq!(log.at(1_002, remove(2, false)), Outcome::Done);
    assert_eq!(log.at(1_003, admit(token, 2)), Outcome::Refused(Refused::TokenUsed));
    let other = TokenId([8; 8]);
    let create = Command::Tokens(TokensCommand::Create {
        token: other,
        secret_hash: [5; 32],
        expires_at: Wall(5_000),
        uses: 2,
    });
    log.at(1_004, create);
    assert_eq!(log.at(1_005, admit(other, 2)), Outcome::Admitted(MemberId(3)));
    assert_eq!(log.at(1_006, admit(token, 2)), Outcome::Refused(Refused::TokenUsed));
    let first = remove(1, false);
    let at_risk =
        Refused::RecordsAtRisk { member: MemberId(1), partitions: PARTITIONS, moving: false };
    assert_eq!(log.at(1_006, first.clone()), Outcome::Refused(at_risk), "nobody else has them");
    log.at(1_006, next(&[1, 3]));
    let version = log.state.view().layout.version;
    log.at(1_006, Command::Layout(LayoutCommand::Commit { version }));
    assert_eq!(log.at(1_007, first), Outcome::Done, "any member but the last can go");
    let last = remove(3, false);
    assert_eq!(log.at(1_008, last), Outcome::Refused(Refused::LastMember));
}

#[test]
fn a_node_that_lost_its_disk_comes_back_as_another_member() {
    let mut log = Log::founded();
    let token = log.token(1_000, 5_000, 1);
    log.at(1_001, admit(token, 2));
    let second = TokenId([8; 8]);
    let create = Command::Tokens(TokensCommand::Create {
        token: second,
        secret_hash: [5; 32],
        expires_at: Wall(5_000),
        uses: 1,
    });
    log.at(1_002, create);
    assert_eq!(log.at(1_003, admit(second, 2)), Outcome::Admitted(MemberId(3)));
    assert!(log.changes.contains(&Change::Roster(RosterChange::Removed(MemberId(2), peer(2)))));
    assert_eq!(log.state.view().roster.members.len(), 2);
}

#[test]
fn heads_are_compared_and_set() {
    let mut log = Log::founded();
    let set = |expect, value: &[u8]| {
        Command::Heads(HeadsCommand::Set {
            key: "monitoring/alerts".into(),
            expect,
            value: Bytes(value.to_vec()),
            author: "me".into(),
        })
    };
    assert_eq!(log.at(1, set(Expect::Absent, b"a")), Outcome::HeadSet { version: 1 });
    let mismatch = Outcome::Refused(Refused::VersionMismatch { current: 1 });
    assert_eq!(log.at(2, set(Expect::Absent, b"b")), mismatch);
    assert_eq!(log.at(3, set(Expect::Version(4), b"b")), mismatch);
    assert_eq!(log.at(4, set(Expect::Version(1), b"b")), Outcome::HeadSet { version: 2 });
    let large = vec![0; HEAD_VALUE_MAX + 1];
    assert!(matches!(
        log.at(5, set(Expect::Version(2), &large)),
        Outcome::Refused(Refused::Limit { .. })
    ));
}

#[test]
fn a_repeated_proposal_is_decided_once() {
    let mut log = Log::founded();
    let id = ProposalId([3; 16]);
    let set = Command::Heads(HeadsCommand::Set {
        key: "monitoring".into(),
        expect: Expect::Absent,
        value: Bytes(vec![1]),
        author: String::new(),
    });
    assert_eq!(log.propose(1, id, set.clone()), Outcome::HeadSet { version: 1 });
    assert_eq!(log.propose(2, id, set), Outcome::HeadSet { version: 1 });
    assert_eq!(log.state.view().heads.len(), 1);
}

#[test]
fn a_key_stands_for_one_command_as_long_as_it_is_remembered() {
    let mut log = Log::founded();
    let set = |value: u8| HeadsCommand::Set {
        key: format!("monitoring/{value}"),
        expect: Expect::Absent,
        value: Bytes(vec![value]),
        author: String::new(),
    };
    let id = |proposed: u8| ProposalId::keyed(&[7; 32], &[proposed; 32]);
    assert_eq!(log.propose(1, id(5), set(5).into()), Outcome::HeadSet { version: 1 });
    for other in [4, 6] {
        let refused = Outcome::Refused(Refused::KeyReused);
        assert_eq!(log.propose(2, id(other), set(other).into()), refused);
    }
    assert_eq!(log.propose(3, id(5), set(5).into()), Outcome::HeadSet { version: 1 });
    assert_eq!(log.state.view().heads.len(), 1);
    for at in 0..OUTCOMES_MAX as u64 {
        log.at(
            4 + at,
            HeadsCommand::Set {
                key: "?".into(),
                expect: Expect::Absent,
                value: Bytes(vec![]),
                author: String::new(),
            }
            .into(),
        );
    }
    let later = 10_000_000;
    assert_eq!(log.propose(later, id(6), set(6).into()), Outcome::HeadSet { version: 1 });
}

#[test]
fn a_layout_changes_in_two_steps_and_only_to_members() {
    let mut log = Log::founded();
    let token = log.token(1_000, 5_000, 5);
    log.at(1_001, admit(token, 2));
    let layout = |log: &Log| log.state.view().layout.clone();
    assert_eq!(
        *layout(&log),
        Layout { version: 1, current: holders(&[1]), next: None, given_up: [].into() }
    );
    let stranger = Outcome::Refused(Refused::NoSuchMember(MemberId(7)));
    assert_eq!(log.at(1_002, next(&[1, 7])), stranger);
    assert!(matches!(log.at(1_003, next(&[])), Outcome::Refused(Refused::Invalid(_))));
    log.at(1_004, next(&[1, 2]));
    log.at(1_005, next(&[1, 2]));
    let named = Layout {
        version: 2,
        current: holders(&[1]),
        next: Some(holders(&[1, 2])),
        given_up: [].into(),
    };
    assert_eq!(*layout(&log), named, "named once, however often it is said");
    log.at(1_006, Command::Layout(LayoutCommand::Commit { version: 1 }));
    assert_eq!(*layout(&log), named, "another one was meant");
    log.at(1_007, next(&[1]));
    assert_eq!(
        *layout(&log),
        Layout { version: 3, current: holders(&[1]), next: None, given_up: [].into() }
    );
    log.at(1_008, next(&[1, 2]));
    log.at(1_009, Command::Layout(LayoutCommand::Commit { version: 4 }));
    assert_eq!(
        *layout(&log),
        Layout { version: 5, current: holders(&[1, 2]), next: None, given_up: [].into() }
    );
}

#[test]
fn a_state_survives_its_encoding() {
    let mut log = Log::founded();
    log.token(1_000, 5_000, 1);
    let copy = ControlState::decode(&log.state.encode()).unwrap();
    assert_eq!(copy, log.state);
    assert_eq!(copy.digest(), log.state.digest());
}

#[test]
fn a_digest_tells_states_apart_and_the_roster_is_who_may_be_spoken_to() {
    let (mut one, mut other) = (Log::founded(), Log::founded());
    assert_eq!(one.state.digest(), other.state.digest());
    let token = one.token(1_000, 5_000, 1);
    one.at(1_001, admit(token, 2));
    other.at(1_000, Command::Evaluation(EvaluationCommand::Done));
    other.at(1_001, Command::Evaluation(EvaluationCommand::Done));
    assert_ne!(one.state.digest(), other.state.digest());
    assert_eq!(one.state.view().roster.peers(), [peer(1), peer(2)].into());
}
