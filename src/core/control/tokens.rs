//! The part of the control state that knows the join tokens, and with whose commands nodes become
//! members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bounds::bounded;
use super::{Change, Decided, Moment, PartChange, View, layout, roster};
use crate::messages::command::{Candidate, Outcome, Refused, TokensCommand};
use crate::types::limits::{
    CLUSTER_TIME_SPREAD_MS, JOIN_TOKEN_TTL_MAX, JOIN_TOKEN_USES_MAX, JOIN_TOKENS_MAX,
};
use crate::types::{MemberId, PeerId, TokenId, Wall};

/// A join token as the cluster knows it: without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// BLAKE3 of the secret.
    #[serde(with = "crate::types::bytes::fixed")]
    pub secret_hash: [u8; 32],
    /// From when on it is refused.
    pub expires_at: Wall,
    /// How many nodes may join with it.
    pub uses: u32,
    /// Who did, and as which member.
    pub used_by: BTreeMap<PeerId, MemberId>,
}

/// Join tokens.
pub type State = BTreeMap<TokenId, JoinToken>;

/// Nobody but who asked is told of a token; who joins with one is told of as a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokensChange {}

impl PartChange for TokensChange {}

pub(super) fn check(command: &TokensCommand) -> Result<(), Refused> {
    match command {
        TokensCommand::Create { uses, .. } => {
            bounded("uses of a join token", *uses as usize, JOIN_TOKEN_USES_MAX as usize)
        }
        TokensCommand::Revoke { .. } => Ok(()),
        TokensCommand::Admit { candidate, .. } => roster::check_candidate(candidate),
    }
}

pub(super) fn apply(
    view: &mut View,
    Moment { at, .. }: Moment,
    command: &TokensCommand,
    changes: &mut Vec<Change>,
) -> Decided {
    match command {
        TokensCommand::Create { token, secret_hash, expires_at, uses } => {
            create(view, at, *token, *secret_hash, *expires_at, *uses)
        }
        TokensCommand::Revoke { token } => {
            let known = Arc::make_mut(&mut view.tokens).remove(token);
            known.map(|_| Outcome::Done).ok_or(Refused::TokenUnknown)
        }
        TokensCommand::Admit { token, secret_hash, candidate } => {
            admit(view, at, *token, secret_hash, candidate, changes)
        }
    }
}

/// True for a token that nobody may join with any more. One that ends later than any may was made
/// by a clock that was wrong.
fn is_over(token: &JoinToken, at: Wall) -> bool {
    let spread = Duration::from_millis(CLUSTER_TIME_SPREAD_MS);
    token.expires_at <= at || token.expires_at > at.plus(JOIN_TOKEN_TTL_MAX + spread)
}

fn create(
    view: &mut View,
    at: Wall,
    token: TokenId,
    secret_hash: [u8; 32],
    expires_at: Wall,
    uses: u32,
) -> Decided {
    let tokens = Arc::make_mut(&mut view.tokens);
    tokens.retain(|_, token| !is_over(token, at));
    bounded("open join tokens", tokens.len() + 1, JOIN_TOKENS_MAX)?;
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
    tokens.insert(token, fresh);
    Ok(Outcome::Done)
}

fn admit(
    view: &mut View,
    at: Wall,
    token: TokenId,
    secret_hash: &[u8; 32],
    candidate: &Candidate,
    changes: &mut Vec<Change>,
) -> Decided {
    let known = view.tokens.get(&token).filter(|known| known.secret_hash == *secret_hash);
    let known = known.ok_or(Refused::TokenUnknown)?;
    if let Some(member) = known.used_by.get(&candidate.peer) {
        // The answer got lost; the same node asks again.
        return match view.roster.members.contains_key(member) {
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
    roster::check_level(view, candidate.level)?;
    // The holder of a key that is a member already has lost its disk: its old history ends here.
    let old = view.member_of(candidate.peer).map(|member| member.id);
    if let Some(old) = old {
        layout::check_leaving(view, old)?;
        roster::drop_member(view, old, changes);
    }
    let id = roster::add(view, at, candidate, changes)?;
    if let Some(token) = Arc::make_mut(&mut view.tokens).get_mut(&token) {
        token.used_by.insert(candidate.peer, id);
    }
    Ok(Outcome::Admitted(id))
}
