//! Nodes that ask to join with the key of a member.
//!
//! Problem: such a node may be that member, with an empty disk, and has to become another one. Or
//! it is a copy of a machine that was cloned after its first start, beside the one that runs: it
//! must not take the place of that one.
//!
//! Flow: whoever is asked, and the leader, look whether the member answers. If it does, the
//! newcomer hears so at once. If it has answered a moment ago it may be on its way back, and in a
//! large cluster it may only not be connected: it is looked for, and the newcomer is to ask again.
//! Only a member that has been silent for `SILENT_FOR` gives way.
//!
//! Invariants:
//! 1. A member that answers whoever is asked, or the leader, is not ended by a node that joins with
//!    its key.
//! 2. Asking again with the token that gave the membership is harmless, and allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::refusal::Refusal;
use super::super::write::{Asker, Pending};
use super::{Gateway, Reply};
use crate::core::control::Change;
use crate::core::ctx::Ctx;
use crate::core::peers;
use crate::messages::Command;
use crate::messages::command::{Candidate, Refused};
use crate::messages::wire::v1::{GatewayMessage, Message};
use crate::types::{MemberId, Mono, PeerId, ProposalId, TokenId};

/// How long a member has to be silent before whoever has its key takes its place. A restart, or a machine that stands
/// still for a moment, takes less; whoever joins asks for longer.
pub(super) const SILENT_FOR: Duration = Duration::from_secs(15);

/// What becomes of a node that asks with a certain key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nobody else has the key, as far as this node knows.
    Free,
    /// The member that has it answered a moment ago.
    Early,
    /// The member that has it answers.
    Taken,
}

/// When the members answered last.
#[derive(Debug)]
pub(super) struct Answered {
    /// Since when this node knows.
    since: Mono,
    /// Those that do now.
    linked: BTreeSet<MemberId>,
    last: BTreeMap<MemberId, Mono>,
}

impl Answered {
    pub(super) fn new(now: Mono) -> Self {
        Self { since: now, linked: BTreeSet::new(), last: BTreeMap::new() }
    }

    fn at(&self, member: MemberId) -> Mono {
        self.last.get(&member).copied().unwrap_or(self.since)
    }
}

impl Gateway {
    /// These members are connected and answer.
    pub(super) fn on_linked(&mut self, now: Mono, linked: BTreeSet<MemberId>) {
        let before = std::mem::replace(&mut self.answered.linked, linked);
        for member in before.iter().chain(&self.answered.linked) {
            self.answered.last.insert(*member, now);
        }
        let members = &self.standing.view.members;
        self.answered.last.retain(|member, _| members.contains_key(member));
    }

    /// Whoever has just become a member is about to answer.
    pub(super) fn note_joined(&mut self, now: Mono, changes: &[Change]) {
        for change in changes {
            if let Change::Joined(member) = change {
                self.answered.last.insert(*member, now);
            }
        }
    }

    /// Whether a node may join with its key.
    pub(super) fn claim(
        &self,
        ctx: &mut Ctx<'_, Reply>,
        token: TokenId,
        candidate: &Candidate,
    ) -> Claim {
        let view = &self.standing.view;
        let Some(member) = view.member_of(candidate.peer).map(|member| member.id) else {
            return Claim::Free;
        };
        if member == self.standing.own || self.answered.linked.contains(&member) {
            return Claim::Taken;
        }
        if self.has_made(token, candidate) {
            return Claim::Free;
        }
        if self.standing.answers(member) {
            // Nothing speaks against it, so see whether it is there.
            ctx.out.cast(peers::Msg::Wanted(candidate.peer));
            return Claim::Early;
        }
        let is_silent = ctx.now.since(self.answered.at(member)) >= SILENT_FOR;
        if is_silent { Claim::Free } else { Claim::Early }
    }

    /// Tells a member no that asks this leader to admit a node with a key that is in use; true if
    /// so. One that was handed to consensus before is not asked about any more.
    pub(super) fn is_declined(
        &self,
        ctx: &mut Ctx<'_, Reply>,
        from: PeerId,
        id: ProposalId,
        command: &Command,
    ) -> bool {
        let Command::Admit { token, candidate, .. } = command else { return false };
        if self.forwarded.contains_key(&id) || self.has_made(*token, candidate) {
            return false;
        }
        let answer = match self.claim(ctx, *token, candidate) {
            Claim::Free => return false,
            Claim::Early => GatewayMessage::NotProposed { id, leader: self.standing.role.leader },
            Claim::Taken => GatewayMessage::Declined { id, reason: Refused::DuplicateIdentity },
        };
        ctx.out.send(from, Message::Gateway(answer));
        true
    }

    /// The leader has told this node no.
    pub(super) fn declined(&mut self, ctx: &mut Ctx<'_, Reply>, id: ProposalId, reason: Refused) {
        let is_join = |pending: &Pending| {
            matches!(pending.asker, Asker::Joiner(_)) && pending.decided.is_none()
        };
        if self.writes.get(&id).is_some_and(is_join) {
            self.finish(ctx, id, Err(Refusal::Refused(reason)));
        }
    }

    /// True if this very token has made the node the member that it is: it asks again.
    pub(super) fn has_made(&self, token: TokenId, candidate: &Candidate) -> bool {
        let view = &self.standing.view;
        let used = view.tokens.get(&token).and_then(|token| token.used_by.get(&candidate.peer));
        used.is_some_and(|member| view.peer_of(*member) == Some(candidate.peer))
    }
}
