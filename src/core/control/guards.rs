//! What the control state goes by, one rule at a time: each of these fails where its rule is gone.

use crate::messages::command::{
    ClusterCommand, EvaluationCommand, HeadsCommand, LayoutCommand, RosterCommand, TokensCommand,
};
use std::collections::BTreeMap;

use super::fixture::{Log, TOKEN, admit, candidate, create, found};
use super::*;
use crate::core::fixture::peer;
use crate::messages::command::{Command, Expect, Holder, Outcome, Refused};
use crate::types::limits::{
    ADDRESSES_MAX, CLUSTER_TIME_SPREAD_MS, HEAD_KEY_MAX, HEAD_VALUE_MAX, HEADS_MAX,
    HOLDER_WEIGHT_MAX, JOIN_TOKEN_TTL_MAX, JOIN_TOKEN_USES_MAX, JOIN_TOKENS_MAX, LABEL_LEN_MAX,
    LABELS_MAX, MEMBERS_MAX, NODE_NAME_LEN_MAX, OUTCOMES_MAX, ROLES_MAX, UCXL_SEGMENT_MAX,
};
use crate::types::role::{Authority, RoleKey};
use crate::types::{
    Address, Bytes, ClusterId, LogId, MemberId, ProposalId, Recipient, TokenId, Wall,
};

const FAR: Wall = Wall(1_000_000);

fn open(log: &mut Log, token: TokenId, uses: u32) {
    assert_eq!(log.at(1_000, create(token, FAR, uses)), Outcome::Done);
}

fn set_head(key: &str, value: usize) -> Command {
    let value = Bytes(vec![1; value]);
    Command::Heads(HeadsCommand::Set {
        key: key.into(),
        expect: Expect::Absent,
        value,
        author: String::new(),
    })
}

fn label(member: u64, set: &[&str], unset: &[&str]) -> Command {
    let set = set.iter().map(|key| ((*key).to_owned(), "v".to_owned())).collect();
    let unset = unset.iter().map(|key| (*key).to_owned()).collect();
    Command::Roster(RosterCommand::Label { member: MemberId(member), set, unset })
}

fn is_limit(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(Refused::Limit { .. }))
}

// ---- What does not depend on the state ----------------------------------------------------------

#[test]
fn every_bound_lets_as_much_pass_as_it_says() {
    let limit = |command: &Command| match check(command) {
        Ok(()) => false,
        Err(Refused::Limit { .. }) => true,
        Err(other) => panic!("{other:?}"),
    };
    let name = |extra: usize| {
        let (cluster, roles) = (ClusterId([7; 16]), BTreeMap::new());
        let name = "c".repeat(NODE_NAME_LEN_MAX + extra);
        Command::Cluster(ClusterCommand::Found { cluster, name, founder: candidate(1), roles })
    };
    let roles = |count: usize, len: usize| {
        let key = RoleKey { authority: Authority::Master, recipient: Recipient([8; 32]) };
        let roles = (0..count).map(|n| (format!("{n:0>len$}"), key)).collect();
        let (cluster, name) = (ClusterId([7; 16]), "c".to_owned());
        Command::Cluster(ClusterCommand::Found { cluster, name, founder: candidate(1), roles })
    };
    let uses = |uses: u32| create(TOKEN, FAR, uses);
    let value = |len: usize| set_head("monitoring", len);
    let author = |len: usize| {
        let (key, expect, value) = ("monitoring".to_owned(), Expect::Absent, Bytes(vec![1]));
        Command::Heads(HeadsCommand::Set { key, expect, value, author: "a".repeat(len) })
    };
    let holders = |count: usize, zone: usize, weight: u8| {
        let holder = Holder { weight, zone: "z".repeat(zone) };
        let holders = (1..=count as u64).map(|id| (MemberId(id), holder.clone())).collect();
        Command::Layout(LayoutCommand::Next { holders })
    };
    let unset = |count: usize, len: usize| {
        let unset = vec!["u".repeat(len); count];
        Command::Roster(RosterCommand::Label { member: MemberId(1), set: BTreeMap::new(), unset })
    };
    let set = |key: usize, value: usize| {
        let set = [("k".repeat(key), "v".repeat(value))].into();
        Command::Roster(RosterCommand::Label { member: MemberId(1), set, unset: vec![] })
    };
    let address: Address = "10.0.0.1:1".parse().unwrap();
    let moved = |count: usize| {
        let addresses = vec![address.clone(); count];
        Command::Roster(RosterCommand::Moved { member: MemberId(1), addresses })
    };
    let pairs = [
        (name(0), name(1)),
        (roles(ROLES_MAX, 2), roles(ROLES_MAX + 1, 2)),
        (roles(1, UCXL_SEGMENT_MAX), roles(1, UCXL_SEGMENT_MAX + 1)),
        (uses(JOIN_TOKEN_USES_MAX), uses(JOIN_TOKEN_USES_MAX + 1)),
        (value(HEAD_VALUE_MAX), value(HEAD_VALUE_MAX + 1)),
        (author(NODE_NAME_LEN_MAX), author(NODE_NAME_LEN_MAX + 1)),
        (holders(MEMBERS_MAX, 1, 1), holders(MEMBERS_MAX + 1, 1, 1)),
        (holders(1, LABEL_LEN_MAX, 1), holders(1, LABEL_LEN_MAX + 1, 1)),
        (holders(1, 1, HOLDER_WEIGHT_MAX), holders(1, 1, HOLDER_WEIGHT_MAX + 1)),
        (unset(LABELS_MAX, 1), unset(LABELS_MAX + 1, 1)),
        (unset(1, LABEL_LEN_MAX), unset(1, LABEL_LEN_MAX + 1)),
        (set(LABEL_LEN_MAX, 1), set(LABEL_LEN_MAX + 1, 1)),
        (set(1, LABEL_LEN_MAX), set(1, LABEL_LEN_MAX + 1)),
        (moved(ADDRESSES_MAX), moved(ADDRESSES_MAX + 1)),
    ];
    for (most, more) in pairs {
        assert!(!limit(&most), "{most:?}");
        assert!(limit(&more), "{}", more.name());
    }
    for wrong in [label(1, &[""], &[]), set_head("", 1), set_head(&"k".repeat(HEAD_KEY_MAX + 1), 1)]
    {
        assert!(matches!(check(&wrong), Err(Refused::Invalid(_))), "{wrong:?}");
    }
}

#[test]
fn a_founder_is_checked_as_whoever_is_admitted() {
    let mut founder = candidate(1);
    founder.name = "n".repeat(NODE_NAME_LEN_MAX + 1);
    let (cluster, name, roles) = (ClusterId([7; 16]), "c".to_owned(), BTreeMap::new());
    let found = Command::Cluster(ClusterCommand::Found { cluster, name, founder, roles });
    assert!(matches!(check(&found), Err(Refused::Limit { .. })));
}

#[test]
fn the_log_checks_again_what_a_leader_should_have_checked() {
    let mut log = Log::founded();
    assert!(is_limit(&log.at(1_001, set_head("monitoring", HEAD_VALUE_MAX + 1))));
    assert!(log.state.view().heads.is_empty());
}

// ---- Order --------------------------------------------------------------------------------------

#[test]
#[should_panic(expected = "in log order")]
fn an_entry_is_applied_once() {
    let mut log = Log::founded();
    log.index = 0;
    log.at(1_000, Command::Evaluation(EvaluationCommand::Done));
}

#[test]
fn a_repeated_proposal_is_told_of_with_its_first_outcome_and_changes_nothing() {
    let mut log = Log::founded();
    let id = ProposalId([3; 16]);
    let first = log.propose(1_001, id, set_head("monitoring", 1));
    let again = log.propose(9_000, id, Command::Evaluation(EvaluationCommand::Done));
    assert_eq!(again, first);
    let log_id = LogId { term: 1, index: 3 };
    assert_eq!(log.changes, [Change::Decided { id, outcome: first, log_id }]);
    let view = log.state.view();
    assert_eq!((view.index(), view.stamp, view.evaluation.at), (3, Wall(1_001), Wall(1_000)));
}

#[test]
fn as_many_outcomes_are_remembered_as_said_and_the_oldest_is_forgotten_first() {
    let mut log = Log::founded();
    let id = ProposalId([3; 16]);
    log.propose(1_001, id, set_head("monitoring", 1));
    let evaluated = |log: &mut Log| log.at(1_002, Command::Evaluation(EvaluationCommand::Done));
    (0..OUTCOMES_MAX - 1).for_each(|_| drop(evaluated(&mut log)));
    let repeated = |log: &mut Log| log.propose(1_003, id, set_head("monitoring", 1));
    assert_eq!(repeated(&mut log), Outcome::HeadSet { version: 1 }, "still remembered");
    evaluated(&mut log);
    let mismatch = Outcome::Refused(Refused::VersionMismatch { current: 1 });
    assert_eq!(repeated(&mut log), mismatch, "forgotten, so it is decided anew");
}

// ---- Tokens -------------------------------------------------------------------------------------

#[test]
fn a_token_that_nobody_could_use_is_not_made() {
    let mut log = Log::founded();
    let invalid = |outcome: Outcome| matches!(outcome, Outcome::Refused(Refused::Invalid(_)));
    assert!(invalid(log.at(2_000, create(TOKEN, FAR, 0))));
    assert!(invalid(log.at(2_000, create(TOKEN, Wall(2_000), 1))));
    assert!(log.state.view().tokens.is_empty());
    assert_eq!(log.at(2_000, create(TOKEN, Wall(2_001), 1)), Outcome::Done);
}

#[test]
fn as_many_tokens_are_open_as_may_be_and_those_that_are_over_do_not_count() {
    let mut log = Log::founded();
    let token = |n: usize| TokenId((n as u64).to_le_bytes());
    for n in 0..JOIN_TOKENS_MAX {
        assert_eq!(log.at(1_000, create(token(n), Wall(5_000), 1)), Outcome::Done, "{n}");
    }
    let one_more = create(token(JOIN_TOKENS_MAX), FAR, 1);
    assert!(is_limit(&log.at(4_999, one_more.clone())));
    assert_eq!(log.at(5_000, one_more), Outcome::Done);
    assert_eq!(log.state.view().tokens.len(), 1);
}

#[test]
fn a_token_that_ends_later_than_any_may_is_over() {
    let mut log = Log::founded();
    let ttl_ms = u64::try_from(JOIN_TOKEN_TTL_MAX.as_millis()).unwrap();
    let latest = 2_000 + ttl_ms + CLUSTER_TIME_SPREAD_MS;
    let later = TokenId([8; 8]);
    log.at(2_000, create(TOKEN, Wall(latest), 1));
    // By a clock that is ahead, so that time falls afterwards.
    let ahead = 2_000 + CLUSTER_TIME_SPREAD_MS + 1;
    assert_eq!(log.at(ahead, create(later, Wall(latest + 1), 1)), Outcome::Done);
    assert_eq!(log.at(2_000, admit(TOKEN, 2)), Outcome::Admitted(MemberId(2)));
    assert_eq!(log.at(2_000, admit(later, 3)), Outcome::Refused(Refused::TokenExpired));
}

#[test]
fn a_token_admits_as_many_as_it_says_and_none_after_it_was_revoked() {
    let mut log = Log::founded();
    open(&mut log, TOKEN, 2);
    assert_eq!(log.at(1_001, admit(TOKEN, 2)), Outcome::Admitted(MemberId(2)));
    assert_eq!(log.at(1_001, admit(TOKEN, 3)), Outcome::Admitted(MemberId(3)));
    assert_eq!(log.at(1_001, admit(TOKEN, 4)), Outcome::Refused(Refused::TokenUsed));
    open(&mut log, TokenId([8; 8]), 2);
    let revoke = || Command::Tokens(TokensCommand::Revoke { token: TokenId([8; 8]) });
    assert_eq!(log.at(1_002, revoke()), Outcome::Done);
    assert_eq!(log.at(1_002, revoke()), Outcome::Refused(Refused::TokenUnknown));
    let refused = Outcome::Refused(Refused::TokenUnknown);
    assert_eq!(log.at(1_003, admit(TokenId([8; 8]), 4)), refused);
    assert_eq!(log.state.view().roster.members.len(), 3);
}

// ---- Members ------------------------------------------------------------------------------------

#[test]
fn a_cluster_is_made_once() {
    let mut log = Log::founded();
    assert_eq!(log.at(1_001, found(2)), Outcome::Refused(Refused::AlreadyFounded));
    assert_eq!(log.state.view().roster.members.len(), 1);
}

#[test]
fn a_cluster_has_as_many_members_as_may_be() {
    let mut log = Log::founded();
    let uses = u32::try_from(MEMBERS_MAX).unwrap();
    open(&mut log, TOKEN, uses);
    for number in 2..=MEMBERS_MAX as u64 {
        assert_eq!(log.at(1_001, admit(TOKEN, number)), Outcome::Admitted(MemberId(number)));
    }
    assert!(is_limit(&log.at(1_001, admit(TOKEN, MEMBERS_MAX as u64 + 1))));
    assert_eq!(log.state.view().roster.members.len(), MEMBERS_MAX);
}

#[test]
fn only_a_member_can_be_changed_or_removed() {
    let mut log = Log::founded();
    let nobody = Outcome::Refused(Refused::NoSuchMember(MemberId(7)));
    let addresses: Vec<Address> = vec!["10.0.0.1:1".parse().unwrap()];
    let moved = |id: u64| {
        Command::Roster(RosterCommand::Moved { member: MemberId(id), addresses: addresses.clone() })
    };
    assert_eq!(log.at(1_001, moved(7)), nobody);
    assert_eq!(log.at(1_001, label(7, &["a"], &[])), nobody);
    for lost in [false, true] {
        let remove = Command::Roster(RosterCommand::Remove { member: MemberId(7), lost });
        assert_eq!(log.at(1_001, remove), nobody);
        let last = Command::Roster(RosterCommand::Remove { member: MemberId(1), lost });
        assert_eq!(log.at(1_001, last), Outcome::Refused(Refused::LastMember));
    }
    assert_eq!(log.at(1_002, moved(1)), Outcome::Done);
    assert!(log.changes.contains(&Change::Roster(RosterChange::Changed(MemberId(1)))));
    assert_eq!(log.state.view().roster.members[&MemberId(1)].addresses, addresses);
}

#[test]
fn labels_are_removed_set_and_bounded_together() {
    let mut log = Log::founded();
    let keys = |log: &Log| {
        let member = log.state.view().roster.members[&MemberId(1)].clone();
        member.labels.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(log.at(1_001, label(1, &["a", "b"], &[])), Outcome::Done);
    assert_eq!(log.at(1_002, label(1, &["c", "b"], &["a", "b"])), Outcome::Done);
    assert_eq!(keys(&log), ["b", "c"], "what is removed and set is set");
    let many: Vec<String> = (0..LABELS_MAX - 1).map(|n| format!("l{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(is_limit(&log.at(1_003, label(1, &many, &[]))), "with those that it has");
    assert_eq!(keys(&log), ["b", "c"]);
    assert_eq!(log.at(1_004, label(1, &many, &["b"])), Outcome::Done);
    assert_eq!(keys(&log).len(), LABELS_MAX);
}

#[test]
fn a_member_that_comes_back_under_its_key_ends_its_old_membership() {
    let mut log = Log::founded();
    open(&mut log, TOKEN, 1);
    open(&mut log, TokenId([8; 8]), 1);
    log.at(1_001, admit(TOKEN, 2));
    assert_eq!(log.at(1_002, admit(TokenId([8; 8]), 2)), Outcome::Admitted(MemberId(3)));
    let ids: Vec<u64> = log.state.view().roster.members.keys().map(|id| id.0).collect();
    assert_eq!(ids, [1, 3]);
    let removed = Change::Roster(RosterChange::Removed(MemberId(2), peer(2)));
    assert!(
        log.changes.contains(&removed)
            && log.changes.contains(&Change::Roster(RosterChange::Joined(MemberId(3))))
    );
}

// ---- Values and layouts -------------------------------------------------------------------------

#[test]
fn there_are_as_many_values_as_may_be_and_those_that_are_can_be_written() {
    let mut log = Log::founded();
    for n in 0..HEADS_MAX {
        let outcome = log.at(1_001, set_head(&format!("monitoring/k{n}"), 1));
        assert_eq!(outcome, Outcome::HeadSet { version: 1 });
    }
    assert!(is_limit(&log.at(1_002, set_head("monitoring/one-more", 1))));
    let (key, expect) = ("monitoring/k0".to_owned(), Expect::Version(1));
    let write = Command::Heads(HeadsCommand::Set {
        key,
        expect,
        value: Bytes(vec![2]),
        author: "me".into(),
    });
    assert_eq!(log.at(1_003, write), Outcome::HeadSet { version: 2 });
    let head = log.state.view().heads.get("monitoring/k0").cloned().unwrap();
    assert_eq!((head.version, &head.value, head.at), (2, &Bytes(vec![2]), Wall(1_003)));
    assert_eq!(head.log_id, LogId { term: 1, index: log.index });
}

#[test]
fn a_layout_is_committed_by_its_version_and_its_members_only() {
    let mut log = Log::founded();
    open(&mut log, TOKEN, 5);
    log.at(1_001, admit(TOKEN, 2));
    let holders: Holders = [1, 2].map(|id| (MemberId(id), Holder::default())).into();
    let version = log.state.view().layout.version;
    log.at(1_002, Command::Layout(LayoutCommand::Commit { version }));
    assert_eq!(log.state.view().layout.version, version, "there is no next one");
    log.at(1_002, Command::Layout(LayoutCommand::Next { holders: holders.clone() }));
    let named = log.state.view().layout.version;
    assert_eq!(named, version + 1);
    for other in [named - 1, named + 1] {
        log.at(1_003, Command::Layout(LayoutCommand::Commit { version: other }));
        assert!(log.state.view().layout.next.is_some(), "{other}");
        assert!(!log.changes.contains(&Change::Layout(LayoutChange::Changed)));
    }
    log.at(1_004, Command::Layout(LayoutCommand::Commit { version: named }));
    let layout = log.state.view().layout.clone();
    assert_eq!(
        *layout,
        Layout { version: named + 1, current: holders, next: None, given_up: [].into() }
    );
    assert!(log.changes.contains(&Change::Layout(LayoutChange::Changed)));
}

#[test]
fn a_removal_is_at_risk_only_where_the_rest_is_too_few_to_tell() {
    // Holders, those that are left, who is to go, and whether that can be.
    for (holders, left, goes, is_safe) in [
        (5_u64, &[1, 2, 3, 4][..], 5, true),
        (5, &[1, 2, 3], 5, true),
        (5, &[1, 2], 5, false),
        // Whoever holds nothing takes nothing along.
        (5, &[], 6, true),
    ] {
        let current: Holders = (1..=holders).map(|id| (MemberId(id), Holder::default())).collect();
        let layout = Layout { version: 1, current, next: None, given_up: [].into() };
        let view = View { layout: layout.into(), ..View::default() };
        let is_left = |id: MemberId| left.contains(&id.0);
        let result = check_left(&view, MemberId(goes), is_left);
        assert_eq!(result.is_ok(), is_safe, "{left:?}");
    }
}
