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
    if at == Proposal::NO_TIME {
        return last;
    }
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
mod tests;
