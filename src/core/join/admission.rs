//! Nodes that ask to join, and those that do so with the key of a member.
//!
//! Problem: a node with the key of a member may be that member, with an empty disk, and has to become
//! another one. Or it is a copy of a machine that was cloned after its first start, beside the one
//! that runs: it must not take the place of that one.
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

use crate::core::control::{Change, RosterChange, View};
use crate::core::ctx::Ctx;
use crate::core::front::Written;
use crate::core::peers;
use crate::core::refusal::Refusal;
use crate::core::standing::Standing;
use crate::messages::Outcome;
use crate::messages::command::Candidate;
use crate::messages::wire::JoinMessage;
use crate::types::limits::JOIN_FRAME_LEN_MAX;
use crate::types::{Address, MemberId, Mono, PeerId, TokenId};

/// How long a member has to be silent before whoever has its key takes its place. A restart, or a machine that stands
/// still for a moment, takes less; whoever joins asks for longer.
pub const SILENT_FOR: Duration = Duration::from_secs(15);

/// What becomes of a node that asks with a certain key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nobody else has the key, as far as this node knows.
    Free,
    /// The member that has it answered a moment ago.
    Early,
    /// The member that has it answers.
    Taken,
}

/// What a member knows of when the others answered, and with that whether somebody else may have a key.
#[derive(Debug)]
pub struct Admission {
    /// Since when this node knows.
    since: Mono,
    /// Those that are connected and answer now.
    linked: BTreeSet<MemberId>,
    last: BTreeMap<MemberId, Mono>,
}

impl Admission {
    /// That of a member that starts now.
    pub fn new(now: Mono) -> Self {
        Self { since: now, linked: BTreeSet::new(), last: BTreeMap::new() }
    }

    fn answered_at(&self, member: MemberId) -> Mono {
        self.last.get(&member).copied().unwrap_or(self.since)
    }

    /// These members are connected and answer.
    pub fn on_linked(&mut self, now: Mono, linked: BTreeSet<MemberId>, view: &View) {
        let before = std::mem::replace(&mut self.linked, linked);
        for member in before.iter().chain(&self.linked) {
            self.last.insert(*member, now);
        }
        self.last.retain(|member, _| view.roster.members.contains_key(member));
    }

    /// Whoever has just become a member is about to answer.
    pub fn note_joined(&mut self, now: Mono, changes: &[Change]) {
        for change in changes {
            if let Change::Roster(RosterChange::Joined(member)) = change {
                self.last.insert(*member, now);
            }
        }
    }

    /// Whether a node may join with its key.
    pub fn claim<R>(
        &self,
        ctx: &mut Ctx<'_, R>,
        standing: &Standing,
        token: TokenId,
        candidate: &Candidate,
    ) -> Claim {
        let Some(member) = standing.view.member_of(candidate.peer).map(|member| member.id) else {
            return Claim::Free;
        };
        if member == standing.own || self.linked.contains(&member) {
            return Claim::Taken;
        }
        if has_made(&standing.view, token, candidate) {
            return Claim::Free;
        }
        if standing.answers(member) {
            // Nothing speaks against it, so see whether it is there.
            peers::want(ctx.out, candidate.peer);
            return Claim::Early;
        }
        let is_silent = ctx.now.since(self.answered_at(member)) >= SILENT_FOR;
        if is_silent { Claim::Free } else { Claim::Early }
    }
}

/// True if this very token has made the node the member that it is: it asks again.
pub fn has_made(view: &View, token: TokenId, candidate: &Candidate) -> bool {
    let used = view.tokens.get(&token).and_then(|token| token.used_by.get(&candidate.peer));
    used.is_some_and(|member| view.peer_of(*member) == Some(candidate.peer))
}

/// The answer of a member to a node that asked to join.
pub fn answer(view: &View, result: Result<Written, Refusal>) -> JoinMessage {
    match result {
        Ok(Written { outcome: Outcome::Admitted(member), .. }) => JoinMessage::Accepted {
            member,
            cluster_name: view
                .cluster
                .made
                .as_ref()
                .map_or_else(String::new, |cluster| cluster.name.clone()),
            roster: introduction(view, member),
        },
        Ok(_) => JoinMessage::Retry { reason: "the cluster gave an unexpected answer".into() },
        Err(Refusal::Refused(reason)) if !reason.is_retryable() => JoinMessage::Refused { reason },
        Err(refusal) => JoinMessage::Retry { reason: refusal.to_string() },
    }
}

/// The new member, and as many others as fit in a frame: enough to find the rest by.
fn introduction(view: &View, newcomer: MemberId) -> BTreeMap<MemberId, (PeerId, Vec<Address>)> {
    let mut room = JOIN_FRAME_LEN_MAX / 2;
    let first = view.roster.members.get(&newcomer).into_iter();
    let others = view.roster.members.values().filter(|member| member.id != newcomer);
    first
        .chain(others)
        .map_while(|member| {
            let text: usize = member.addresses.iter().map(|a| a.to_string().len() + 16).sum();
            room = room.checked_sub(text + 64)?;
            Some((member.id, (member.peer, member.addresses.clone())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::control::{Cluster, Member};
    use crate::core::fixture;
    use crate::messages::Refused;
    use crate::messages::wire::Message;
    use crate::types::limits::{ADDRESSES_MAX, MEMBERS_MAX};
    use crate::types::{ClusterId, Level, LogId, Wall};

    #[test]
    fn a_newcomer_of_the_largest_cluster_is_answered_in_one_frame() {
        for address in ["host-with-a-rather-long-name.example.org:40010", "10.0.0.1:1"] {
            newcomer_is_answered_in_one_frame(&address.parse().unwrap());
        }
    }

    fn newcomer_is_answered_in_one_frame(address: &Address) {
        let mut view = View::default();
        let members = &mut Arc::make_mut(&mut view.roster).members;
        for id in 1..=MEMBERS_MAX as u64 {
            let member = Member {
                name: format!("node-{id}"),
                role: "worker".into(),
                addresses: vec![address.clone(); ADDRESSES_MAX],
                ..fixture::member(id)
            };
            members.insert(member.id, Arc::new(member));
        }
        let newcomer = MemberId(MEMBERS_MAX as u64);
        let roster = introduction(&view, newcomer);
        assert!(roster.contains_key(&newcomer) && roster.len() > 4, "{}", roster.len());
        let answer = JoinMessage::Accepted { member: newcomer, cluster_name: "c".into(), roster };
        let frame = Message::Join(answer).encode(Level::NEWEST).unwrap();
        assert!(frame.len() < JOIN_FRAME_LEN_MAX, "{}", frame.len());
    }

    #[test]
    fn a_member_answers_by_what_came_of_it() {
        let cluster = Cluster { id: ClusterId([1; 16]), name: "c".into(), founded_at: Wall(0) };
        let members = fixture::members(1..=2);
        let view =
            View { cluster: fixture::made(Some(cluster)), roster: members, ..View::default() };
        let written = |outcome| Ok(Written { outcome, log_id: LogId::default(), lease_term: 1 });
        let admitted = answer(&view, written(Outcome::Admitted(MemberId(2))));
        let JoinMessage::Accepted { member, cluster_name, roster } = admitted else {
            panic!("{admitted:?}")
        };
        assert_eq!((member, cluster_name.as_str(), roster.len()), (MemberId(2), "c", 2));
        let retry = |answer: JoinMessage| matches!(answer, JoinMessage::Retry { .. });
        assert!(retry(answer(&view, written(Outcome::Done))));
        assert!(retry(answer(&view, Err(Refusal::NoLeader))));
        let at_risk =
            |moving| Refused::RecordsAtRisk { member: MemberId(2), partitions: 1, moving };
        assert!(retry(answer(&view, Err(Refusal::Refused(at_risk(true))))));
        let refused = answer(&view, Err(Refusal::Refused(at_risk(false))));
        assert!(matches!(refused, JoinMessage::Refused { .. }));
    }
}
