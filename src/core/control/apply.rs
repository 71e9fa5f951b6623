//! `apply`: the only code that changes replicated state.
//!
//! Everything in here depends on the state and the proposal alone. What a command claims is
//! checked again here, although an honest leader has checked it before: a log outlives its bugs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::bounds::{bounded, check, check_labels};
use super::layout;
use super::state::{Change, Cluster, ControlState, Head, JoinToken, Member, View};
use crate::messages::command::{Candidate, Command, Expect, Outcome, Proposal, Refused};
use crate::types::limits::{
    CLUSTER_TIME_SPREAD_MS, HEADS_MAX, JOIN_TOKEN_TTL_MAX, JOIN_TOKENS_MAX, MEMBERS_MAX,
    OUTCOMES_MAX,
};
use crate::types::{Bytes, LogId, MemberId, ProposalId, TokenId, Wall};

impl ControlState {
    /// Passes over an entry that changes nothing here.
    pub fn skip(&mut self, log_id: LogId) {
        Arc::make_mut(&mut self.view).applied = Some(log_id);
    }

    /// Decides a proposal. Entries must come in log order.
    pub fn apply(
        &mut self,
        log_id: LogId,
        proposal: &Proposal,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        assert!(
            self.view.applied.is_none_or(|applied| applied.index < log_id.index),
            "entries are applied in log order, each once"
        );
        if let Some(first) = self.outcomes.by_id.get(&proposal.id) {
            let outcome = first.clone();
            self.skip(log_id);
            changes.push(Change::Decided { id: proposal.id, outcome: outcome.clone(), log_id });
            return outcome;
        }
        let view = Arc::make_mut(&mut self.view);
        view.applied = Some(log_id);
        let at = stamp(view.stamp, proposal.at);
        view.stamp = at;
        let outcome =
            decide(view, log_id, at, &proposal.command, changes).unwrap_or_else(Outcome::Refused);
        self.remember(proposal.id, outcome.clone());
        changes.push(Change::Decided { id: proposal.id, outcome: outcome.clone(), log_id });
        outcome
    }

    fn remember(&mut self, id: ProposalId, outcome: Outcome) {
        self.outcomes.order.push_back(id);
        self.outcomes.by_id.insert(id, outcome);
        if self.outcomes.order.len() > OUTCOMES_MAX
            && let Some(oldest) = self.outcomes.order.pop_front()
        {
            self.outcomes.by_id.remove(&oldest);
        }
    }
}

/// The time at which a command is decided. Leaders differ a little, and none of them turns time back
/// by that. What is further ahead than they can differ comes of a clock that was wrong: it is over.
fn stamp(last: Wall, at: Wall) -> Wall {
    if last.0 > at.0.saturating_add(CLUSTER_TIME_SPREAD_MS) { at } else { last.max(at) }
}

/// True for a token that nobody may join with any more. One that ends later than any may was made
/// by a clock that was wrong.
fn is_over(token: &JoinToken, at: Wall) -> bool {
    let spread = Duration::from_millis(CLUSTER_TIME_SPREAD_MS);
    token.expires_at <= at || token.expires_at > at.plus(JOIN_TOKEN_TTL_MAX + spread)
}

fn decide(
    view: &mut View,
    log_id: LogId,
    at: Wall,
    command: &Command,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refused> {
    check(command)?;
    match command {
        Command::Found { cluster, name, founder, roles } => {
            if view.cluster.is_some() {
                return Err(Refused::AlreadyFounded);
            }
            view.cluster = Some(Cluster { id: *cluster, name: name.clone(), founded_at: at });
            view.next_member = 1;
            view.evaluated_at = at;
            view.roles = Arc::new(roles.clone());
            let founder = add_member(view, at, founder, changes)?;
            layout::found(view, founder, changes);
            Ok(Outcome::Admitted(founder))
        }
        Command::CreateToken { token, secret_hash, expires_at, uses } => {
            create_token(view, at, *token, *secret_hash, *expires_at, *uses)
        }
        Command::RevokeToken { token } => {
            view.tokens.remove(token).map(|_| Outcome::Done).ok_or(Refused::TokenUnknown)
        }
        Command::Admit { token, secret_hash, candidate } => {
            admit(view, at, *token, secret_hash, candidate, changes)
        }
        Command::Remove { member, lost } => remove(view, *member, *lost, changes),
        Command::Label { member, set, unset } => label(view, *member, set, unset, changes),
        Command::Moved { member, addresses } => {
            change_member(view, *member, changes, |member| member.addresses = addresses.clone())
        }
        Command::SetHead { key, expect, value, author } => {
            set_head(view, log_id, at, key, *expect, value, author, changes)
        }
        Command::Evaluated => {
            view.evaluated_at = at;
            changes.push(Change::Evaluated);
            Ok(Outcome::Done)
        }
        Command::NextLayout { holders } => layout::name_next(view, holders, changes),
        Command::CommitLayout { version } => layout::commit(view, *version, changes),
    }
}

fn add_member(
    view: &mut View,
    at: Wall,
    candidate: &Candidate,
    changes: &mut Vec<Change>,
) -> Result<MemberId, Refused> {
    bounded("members", view.members.len() + 1, MEMBERS_MAX)?;
    let id = MemberId(view.next_member);
    view.next_member += 1;
    let member = Member {
        id,
        peer: candidate.peer,
        name: candidate.name.clone(),
        role: candidate.role.clone(),
        addresses: candidate.addresses.clone(),
        labels: candidate.labels.clone(),
        content_key: candidate.content_key,
        joined_at: at,
    };
    Arc::make_mut(&mut view.members).insert(id, Arc::new(member));
    changes.push(Change::Joined(id));
    changes.push(Change::Roster);
    Ok(id)
}

fn create_token(
    view: &mut View,
    at: Wall,
    token: TokenId,
    secret_hash: [u8; 32],
    expires_at: Wall,
    uses: u32,
) -> Result<Outcome, Refused> {
    view.tokens.retain(|_, token| !is_over(token, at));
    bounded("open join tokens", view.tokens.len() + 1, JOIN_TOKENS_MAX)?;
    if uses == 0 || expires_at <= at {
        return Err(Refused::Invalid(
            "a join token needs at least one use and a time to live".into(),
        ));
    }
    let fresh = JoinToken { secret_hash, expires_at, uses, used_by: BTreeMap::new() };
    if is_over(&fresh, at) {
        let reason = "a join token may not hold for longer than seven days".to_owned();
        return Err(Refused::Invalid(reason));
    }
    view.tokens.insert(token, fresh);
    Ok(Outcome::Done)
}

fn admit(
    view: &mut View,
    at: Wall,
    token: TokenId,
    secret_hash: &[u8; 32],
    candidate: &Candidate,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refused> {
    let known = view.tokens.get(&token).filter(|known| known.secret_hash == *secret_hash);
    let known = known.ok_or(Refused::TokenUnknown)?;
    if let Some(member) = known.used_by.get(&candidate.peer) {
        // The answer got lost; the same node asks again.
        return match view.members.contains_key(member) {
            true => Ok(Outcome::Admitted(*member)),
            false => Err(Refused::TokenUsed),
        };
    }
    if known.used_by.len() >= known.uses as usize {
        return Err(Refused::TokenUsed);
    }
    if is_over(known, at) {
        return Err(Refused::TokenExpired);
    }
    // The holder of a key that is a member already has lost its disk: its old history ends here.
    let old = view.member_of(candidate.peer).map(|member| member.id);
    if let Some(old) = old {
        layout::check_leaving(view, old)?;
        drop_member(view, old, changes);
    }
    let id = add_member(view, at, candidate, changes)?;
    if let Some(token) = view.tokens.get_mut(&token) {
        token.used_by.insert(candidate.peer, id);
    }
    Ok(Outcome::Admitted(id))
}

fn drop_member(view: &mut View, id: MemberId, changes: &mut Vec<Change>) {
    if let Some(member) = Arc::make_mut(&mut view.members).remove(&id) {
        changes.push(Change::Removed(id, member.peer));
        changes.push(Change::Roster);
    }
}

fn remove(
    view: &mut View,
    member: MemberId,
    lost: bool,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refused> {
    if !view.members.contains_key(&member) {
        return Err(Refused::NoSuchMember(member));
    }
    if view.members.len() == 1 {
        return Err(Refused::LastMember);
    }
    if !lost {
        layout::check_leaving(view, member)?;
    }
    drop_member(view, member, changes);
    if lost {
        layout::give_up(view);
    }
    Ok(Outcome::Done)
}

fn change_member(
    view: &mut View,
    id: MemberId,
    changes: &mut Vec<Change>,
    change: impl FnOnce(&mut Member),
) -> Result<Outcome, Refused> {
    let members = Arc::make_mut(&mut view.members);
    let member = members.get_mut(&id).ok_or(Refused::NoSuchMember(id))?;
    change(Arc::make_mut(member));
    changes.push(Change::Roster);
    Ok(Outcome::Done)
}

fn label(
    view: &mut View,
    id: MemberId,
    set: &BTreeMap<String, String>,
    unset: &[String],
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refused> {
    let member = view.members.get(&id).ok_or(Refused::NoSuchMember(id))?;
    let mut labels = member.labels.clone();
    labels.retain(|key, _| !unset.contains(key));
    labels.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
    check_labels(&labels)?;
    change_member(view, id, changes, |member| member.labels = labels)
}

#[expect(clippy::too_many_arguments, reason = "the parts of one command, taken apart by `decide`")]
fn set_head(
    view: &mut View,
    log_id: LogId,
    at: Wall,
    key: &str,
    expect: Expect,
    value: &Bytes,
    author: &str,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refused> {
    let current = view.heads.get(key).map_or(0, |head| head.version);
    let expected = match expect {
        Expect::Absent => 0,
        Expect::Version(version) => version,
    };
    if expected != current {
        return Err(Refused::VersionMismatch { current });
    }
    if current == 0 {
        bounded("configuration values", view.heads.len() + 1, HEADS_MAX)?;
    }
    let version = current + 1;
    let head = Head { version, value: value.clone(), author: author.to_owned(), at, log_id };
    let key: Arc<str> = Arc::from(key);
    view.heads.insert(key.clone(), Arc::new(head));
    changes.push(Change::HeadSet(key, version));
    Ok(Outcome::HeadSet { version })
}

#[cfg(test)]
mod tests {
    use super::super::layout::{Holders, Layout};
    use super::*;
    use crate::messages::command::Holder;
    use crate::types::limits::HEAD_VALUE_MAX;
    use crate::types::record::PARTITIONS;
    use crate::types::role::{Authority, RoleKey, Roles};
    use crate::types::{Bytes, ClusterId, PeerId, Recipient, TokenId, golden};

    fn candidate(key: u8) -> Candidate {
        Candidate {
            peer: PeerId([key; 32]),
            name: format!("node-{key}"),
            role: "worker".into(),
            addresses: vec![],
            labels: BTreeMap::new(),
            content_key: Recipient([key; 32]),
        }
    }

    fn roles() -> Roles {
        let key = RoleKey { authority: Authority::Master, recipient: Recipient([8; 32]) };
        [("admin".to_owned(), key)].into()
    }

    #[test]
    fn golden_bytes() {
        let mut log = Log::founded();
        let labels = [("rack".to_owned(), "a".to_owned())].into();
        log.at(1_001, Command::Label { member: MemberId(1), set: labels, unset: vec![] });
        let (token, secret_hash) = (TokenId([3; 8]), [4; 32]);
        let expires_at = Wall(600_000);
        log.at(1_002, Command::CreateToken { token, secret_hash, expires_at, uses: 2 });
        log.at(1_003, Command::Admit { token, secret_hash, candidate: candidate(2) });
        log.at(1_004, Command::RevokeToken { token: TokenId([9; 8]) });
        let head = Command::SetHead {
            key: "ai_models/llama".into(),
            expect: Expect::Absent,
            value: Bytes(vec![1, 2, 3]),
            author: "someone".into(),
        };
        log.at(1_005, head);
        log.at(1_006, Command::Evaluated);
        let file = include_str!("../../types/golden/control-state");
        golden::durable::<ControlState>(file, &[log.state]);
    }

    struct Log {
        state: ControlState,
        index: u64,
        changes: Vec<Change>,
    }

    impl Log {
        fn founded() -> Self {
            let mut log = Self { state: ControlState::default(), index: 0, changes: vec![] };
            let founder = candidate(1);
            let found = Command::Found {
                cluster: ClusterId([7; 16]),
                name: "c".into(),
                founder,
                roles: roles(),
            };
            assert_eq!(log.at(1_000, found), Outcome::Admitted(MemberId(1)));
            log
        }

        fn at(&mut self, ms: u64, command: Command) -> Outcome {
            self.propose(Wall(ms), ProposalId([0; 16]), command)
        }

        fn propose(&mut self, at: Wall, id: ProposalId, command: Command) -> Outcome {
            self.index += 1;
            // An all-zero id means "a fresh one".
            let id =
                if id.0 == [0; 16] { ProposalId(u128::from(self.index).to_le_bytes()) } else { id };
            let log_id = LogId { term: 1, index: self.index };
            self.changes.clear();
            self.state.apply(log_id, &Proposal { id, at, command }, &mut self.changes)
        }

        fn token(&mut self, ms: u64, expires: u64, uses: u32) -> TokenId {
            let token = TokenId([9; 8]);
            let create = Command::CreateToken {
                token,
                secret_hash: [5; 32],
                expires_at: Wall(expires),
                uses,
            };
            assert_eq!(self.at(ms, create), Outcome::Done);
            token
        }
    }

    fn admit(token: TokenId, key: u8) -> Command {
        Command::Admit { token, secret_hash: [5; 32], candidate: candidate(key) }
    }

    fn holders(ids: &[u64]) -> Holders {
        ids.iter().map(|id| (MemberId(*id), Holder::default())).collect()
    }

    fn next(ids: &[u64]) -> Command {
        Command::NextLayout { holders: holders(ids) }
    }

    fn remove(id: u64, lost: bool) -> Command {
        Command::Remove { member: MemberId(id), lost }
    }

    /// A cluster of so many members that all hold records.
    fn settled(members: u64) -> Log {
        let mut log = Log::founded();
        let token = log.token(1_000, 5_000, 40);
        let keys = (2..=u8::try_from(members).unwrap()).collect::<Vec<_>>();
        keys.iter().for_each(|key| drop(log.at(1_001, admit(token, *key))));
        log.at(1_002, next(&(1..=members).collect::<Vec<_>>()));
        let version = log.state.view().layout.version;
        log.at(1_003, Command::CommitLayout { version });
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
        let before = log.state.view().members.len();
        assert_eq!(
            log.at(1_005, remove(3, false)),
            at_risk(3, true),
            "1 may lack what 2 and 3 had"
        );
        let rejoins = TokenId([8; 8]);
        let (secret_hash, expires_at) = ([5; 32], Wall(5_000));
        log.at(1_006, Command::CreateToken { token: rejoins, secret_hash, expires_at, uses: 2 });
        assert_eq!(log.at(1_006, admit(rejoins, 3)), at_risk(3, true), "with an empty disk");
        assert_eq!(log.state.view().members.len(), before);
        log.at(1_007, next(&[1, 3]));
        let version = log.state.view().layout.version;
        log.at(1_008, Command::CommitLayout { version });
        assert_eq!(log.at(1_009, admit(rejoins, 3)), Outcome::Admitted(MemberId(4)));
        assert_eq!(log.at(1_010, remove(1, false)), at_risk(1, true));
        assert_eq!(log.at(1_011, remove(1, true)), Outcome::Done, "an operator gives them up");
    }

    #[test]
    fn what_was_given_up_is_forgotten_with_the_layout_and_no_layout_names_who_is_gone() {
        let mut log = settled(3);
        let given_up =
            |log: &Log| log.state.view().given_up.iter().map(|id| id.0).collect::<Vec<_>>();
        log.at(1_004, remove(2, false));
        assert!(given_up(&log).is_empty(), "the others can tell what it had");
        log.at(1_005, next(&[1, 3]));
        let named = log.state.view().layout.version;
        log.at(1_006, remove(3, true));
        assert_eq!(given_up(&log), [2, 3]);
        log.at(1_007, Command::CommitLayout { version: named });
        assert_eq!(log.state.view().layout.current, holders(&[1, 2, 3]), "3 is not there any more");
        log.at(1_008, next(&[1]));
        let version = log.state.view().layout.version;
        log.at(1_009, Command::CommitLayout { version });
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
        assert_eq!(
            log.at(9_001, admit(token, 2)),
            Outcome::Admitted(MemberId(2)),
            "answer was lost"
        );
        assert_eq!(log.at(1_002, admit(token, 3)), Outcome::Refused(Refused::TokenUsed));
        let wrong = Command::Admit { token, secret_hash: [6; 32], candidate: candidate(3) };
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
        assert_eq!(log.at(30 * DAY, Command::Evaluated), Outcome::Done);
        assert_eq!(log.state.view.stamp, Wall(30 * DAY));
        assert_eq!(log.at(2_000, admit(kept, 2)), Outcome::Admitted(MemberId(2)));
        assert_eq!(log.state.view.stamp, Wall(2_000));
        // Of two leaders whose clocks are right, the later one does not turn time back.
        log.at(2_000 + CLUSTER_TIME_SPREAD_MS, Command::Evaluated);
        log.at(2_000, Command::Evaluated);
        assert_eq!(log.state.view.stamp, Wall(2_000 + CLUSTER_TIME_SPREAD_MS));
    }

    #[test]
    fn a_token_of_a_clock_that_was_wrong_does_not_last() {
        const DAY: u64 = 86_400_000;
        let mut log = Log::founded();
        let token = log.token(30 * DAY, 30 * DAY + 5_000, 2);
        assert_eq!(log.at(2_000, admit(token, 2)), Outcome::Refused(Refused::TokenExpired));
        let create = Command::CreateToken {
            token: TokenId([8; 8]),
            secret_hash: [5; 32],
            expires_at: Wall(30 * DAY),
            uses: 1,
        };
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
        let create = Command::CreateToken {
            token: other,
            secret_hash: [5; 32],
            expires_at: Wall(5_000),
            uses: 2,
        };
        log.at(1_004, create);
        assert_eq!(log.at(1_005, admit(other, 2)), Outcome::Admitted(MemberId(3)));
        assert_eq!(log.at(1_006, admit(token, 2)), Outcome::Refused(Refused::TokenUsed));
        let first = remove(1, false);
        let at_risk =
            Refused::RecordsAtRisk { member: MemberId(1), partitions: PARTITIONS, moving: false };
        assert_eq!(log.at(1_006, first.clone()), Outcome::Refused(at_risk), "nobody else has them");
        log.at(1_006, next(&[1, 3]));
        let version = log.state.view().layout.version;
        log.at(1_006, Command::CommitLayout { version });
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
        let create = Command::CreateToken {
            token: second,
            secret_hash: [5; 32],
            expires_at: Wall(5_000),
            uses: 1,
        };
        log.at(1_002, create);
        assert_eq!(log.at(1_003, admit(second, 2)), Outcome::Admitted(MemberId(3)));
        assert!(log.changes.contains(&Change::Removed(MemberId(2), PeerId([2; 32]))));
        assert_eq!(log.state.view().members.len(), 2);
    }

    #[test]
    fn heads_are_compared_and_set() {
        let mut log = Log::founded();
        let set = |expect, value: &[u8]| Command::SetHead {
            key: "monitoring/alerts".into(),
            expect,
            value: Bytes(value.to_vec()),
            author: "me".into(),
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
        let set = Command::SetHead {
            key: "monitoring".into(),
            expect: Expect::Absent,
            value: Bytes(vec![1]),
            author: String::new(),
        };
        assert_eq!(log.propose(Wall(1), id, set.clone()), Outcome::HeadSet { version: 1 });
        assert_eq!(log.propose(Wall(2), id, set), Outcome::HeadSet { version: 1 });
        assert_eq!(log.state.view().heads.len(), 1);
    }

    #[test]
    fn a_layout_changes_in_two_steps_and_only_to_members() {
        let mut log = Log::founded();
        let token = log.token(1_000, 5_000, 5);
        log.at(1_001, admit(token, 2));
        let layout = |log: &Log| log.state.view().layout.clone();
        assert_eq!(layout(&log), Layout { version: 1, current: holders(&[1]), next: None });
        let stranger = Outcome::Refused(Refused::NoSuchMember(MemberId(7)));
        assert_eq!(log.at(1_002, next(&[1, 7])), stranger);
        assert!(matches!(log.at(1_003, next(&[])), Outcome::Refused(Refused::Invalid(_))));
        log.at(1_004, next(&[1, 2]));
        log.at(1_005, next(&[1, 2]));
        let named = Layout { version: 2, current: holders(&[1]), next: Some(holders(&[1, 2])) };
        assert_eq!(layout(&log), named, "named once, however often it is said");
        log.at(1_006, Command::CommitLayout { version: 1 });
        assert_eq!(layout(&log), named, "another one was meant");
        log.at(1_007, next(&[1]));
        assert_eq!(layout(&log), Layout { version: 3, current: holders(&[1]), next: None });
        log.at(1_008, next(&[1, 2]));
        log.at(1_009, Command::CommitLayout { version: 4 });
        assert_eq!(layout(&log), Layout { version: 5, current: holders(&[1, 2]), next: None });
    }

    #[test]
    fn a_state_survives_its_encoding() {
        let mut log = Log::founded();
        log.token(1_000, 5_000, 1);
        let copy = ControlState::decode(&log.state.encode()).unwrap();
        assert_eq!(copy, log.state);
        assert_eq!(copy.digest(), log.state.digest());
    }
}
