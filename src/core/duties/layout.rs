//! The duty to make the layout follow the roster.
//!
//! Flow: the members that are to hold records differ from those that do -> the next layout is named ->
//! its holders copy and report -> when all have, and no lease from before the naming can still be
//! in use, it becomes the current one.
//!
//! Why it waits: a node with a lease from before may not know that there is a next layout, and read
//! from the current one alone. Once the next one is current, writes need no quorum of the old one any more, so
//! that read could miss them. A lease ends at most `LEASE_MS` after the round of a majority that it
//! rests on; whoever gets one later knows of every entry that was committed before.
//!
//! Invariants:
//! 1. One change is under way at a time.
//! 2. A member becomes a holder only while it answers; one that holds records loses them only with its
//!    membership.
//! 3. A leader commits only what it has known as the leader for longer than a lease.
//! 4. Where everybody holds everything, holders go before the layout grows beyond that: whoever gains
//!    partitions then copies from all of the current holders (`copier`), and all of them are still there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Duty, Look, Sight, Step, named};
use crate::core::consensus::Role;
use crate::core::control::{Holders, Member, is_whole};
use crate::core::standing::Standing;
use crate::messages::Command;
use crate::messages::command::{Holder, LayoutCommand};
use crate::types::limits::{HEARTBEAT_MS, HOLDER_WEIGHT_MAX, LEASE_MS};
use crate::types::{MemberId, Mono};

/// What people call it.
pub const NAME: &str = "layout";

/// How long a leader knows of a next layout before it commits it.
const SETTLED: Duration = Duration::from_millis(LEASE_MS + 4 * HEARTBEAT_MS);
/// How long a proposal is waited for before it is made again.
const AGAIN: Duration = Duration::from_secs(1);
/// A newcomer that is silent for this long while it should copy is left out again.
const GIVE_UP: Duration = Duration::from_secs(30);

/// What a leader keeps of the change under way.
#[derive(Debug, Default)]
pub struct Rebalance {
    /// Since when this node has led and known the layout that it knows now.
    since: Option<Mono>,
    leading: bool,
    term: u64,
    gained: BTreeSet<MemberId>,
    silent_since: BTreeMap<MemberId, Mono>,
    proposed_at: Option<Mono>,
    /// Version of the layout that it knows now.
    version: u64,
}

fn holder_of(member: &Member) -> Holder {
    let label = |name: &str| member.labels.get(name);
    let weight = label("weight").and_then(|text| text.parse::<u8>().ok());
    Holder {
        weight: weight.unwrap_or(1).clamp(1, HOLDER_WEIGHT_MAX),
        zone: label("zone").cloned().unwrap_or_default(),
    }
}

impl Rebalance {
    /// The layout changed: nothing is known of who has what of the new one.
    pub fn on_layout(&mut self, now: Mono) {
        self.gained.clear();
        self.proposed_at = None;
        self.since = self.leading.then_some(now);
    }

    /// This node leads, or does not.
    pub fn on_role(&mut self, now: Mono, role: &Role) {
        if (role.leading, role.term) != (self.leading, self.term) {
            (self.leading, self.term) = (role.leading, role.term);
            self.gained.clear();
            self.proposed_at = None;
            self.since = role.leading.then_some(now);
        }
    }

    /// A member has all that it gains.
    pub fn on_gained(&mut self, member: MemberId) {
        self.gained.insert(member);
    }

    /// The holders that there should be.
    fn wanted(&mut self, standing: &Standing, now: Mono) -> Holders {
        let layout = &standing.view.layout;
        let next = layout.next.as_ref();
        self.silent_since.retain(|member, _| !standing.answers(*member));
        let mut wanted = Holders::new();
        for (id, member) in standing.view.roster.members.iter() {
            let named = next.is_some_and(|next| next.contains_key(id));
            let answers = standing.answers(*id);
            let patient = named && !answers && {
                let since = *self.silent_since.entry(*id).or_insert(now);
                now.since(since) < GIVE_UP
            };
            if layout.current.contains_key(id) || answers || patient {
                wanted.insert(*id, holder_of(member));
            }
        }
        let remains = |id: &MemberId| wanted.contains_key(id);
        let grows = is_whole(&layout.current) && !is_whole(&wanted);
        if grows && !layout.current.keys().all(remains) {
            wanted.retain(|id, _| layout.current.contains_key(id));
        }
        wanted
    }

    /// The command that brings the layout one step closer to what it should be.
    pub fn next_step(&mut self, standing: &Standing, now: Mono) -> Option<Command> {
        let since = self.since.filter(|_| self.leading)?;
        // A leader that was removed hands over and begins nothing any more: another entry of the log
        // could keep the others from taking over.
        if !standing.view.roster.members.contains_key(&standing.own) {
            return None;
        }
        if self.proposed_at.is_some_and(|at| now.since(at) < AGAIN) {
            return None;
        }
        let wanted = self.wanted(standing, now);
        let layout = &standing.view.layout;
        let named = layout.next.as_ref().unwrap_or(&layout.current);
        let step = if layout.version == 0 || wanted.is_empty() {
            None
        } else if wanted != *named {
            Some(Command::Layout(LayoutCommand::Next { holders: wanted }))
        } else {
            let next = layout.next.as_ref()?;
            let complete = next.keys().all(|member| self.gained.contains(member));
            (complete && now.since(since) >= SETTLED)
                .then_some(Command::Layout(LayoutCommand::Commit { version: layout.version }))
        };
        if step.is_some() {
            self.proposed_at = Some(now);
        }
        step
    }

    /// When it is worth looking again, while a change is under way.
    pub fn wake_at(&self, standing: &Standing, now: Mono) -> Option<Mono> {
        let under_way = standing.view.layout.next.is_some() || self.proposed_at.is_some();
        let since = self.since.filter(|_| self.leading && under_way)?;
        Some((since + SETTLED).max(now + Duration::from_millis(100)))
    }
}

impl Duty for Rebalance {
    fn name(&self) -> &'static str {
        NAME
    }

    fn begin(&mut self, sight: &Sight<'_>) {
        self.on_role(sight.now, &sight.standing.role);
        self.version = sight.standing.view.layout.version;
    }

    fn look(&mut self, sight: &Sight<'_>) -> Look {
        let standing = sight.standing;
        let layout = &standing.view.layout;
        if self.version != layout.version {
            self.version = layout.version;
            self.on_layout(sight.now);
        }
        let step = self.next_step(standing, sight.now);
        let again = self.wake_at(standing, sight.now);
        let (plan, why) = match (&step, &layout.next) {
            (Some(Command::Layout(LayoutCommand::Next { holders })), _) => (
                format!("records go to {}", named(holders.keys())),
                "other members are there".to_owned(),
            ),
            (_, Some(next)) => {
                let missing = named(next.keys().filter(|member| !self.gained.contains(member)));
                let why = match missing.is_empty() {
                    true => "all have what they gain".to_owned(),
                    false => format!("waits for {missing} to have what they gain"),
                };
                (format!("records lie with {}", named(next.keys())), why)
            }
            _ => {
                ("nothing".to_owned(), format!("records lie with {}", named(layout.current.keys())))
            }
        };
        Look { step: step.map(|command| (Step::Propose(command), plan.clone())), plan, why, again }
    }

    fn ended(&mut self, _now: Mono, done: bool) {
        if !done {
            self.proposed_at = None;
        }
    }

    fn gained(&mut self, member: MemberId, layout: u64) {
        if layout == self.version {
            self.on_gained(member);
        }
    }
}

#[cfg(test)]
mod guards;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::control::{Layout, View};
    use crate::core::fixture;

    fn holders(ids: &[u64]) -> Holders {
        ids.iter().map(|id| (MemberId(*id), holder_of(&fixture::member(*id)))).collect()
    }

    fn standing(members: &[u64], answering: &[u64], layout: Layout) -> Standing {
        let mut standing = Standing::new(MemberId(1));
        let members = fixture::members(members.iter().copied());
        standing.view =
            Arc::new(View { roster: members, layout: layout.into(), ..View::default() });
        standing.answering = answering.iter().copied().map(MemberId).collect();
        standing
    }

    fn leading() -> Rebalance {
        let mut rebalance = Rebalance::default();
        let role = Role { leading: true, term: 3, ..Role::default() };
        rebalance.on_role(Mono(0), &role);
        rebalance
    }

    fn ms(ms: u64) -> Mono {
        Mono(ms * 1_000)
    }

    #[test]
    fn only_the_leader_names_only_members_that_answer() {
        let layout = Layout { version: 1, current: holders(&[1]), next: None, given_up: [].into() };
        let world = standing(&[1, 2, 3], &[3], layout);
        assert_eq!(Rebalance::default().next_step(&world, ms(0)), None);
        let mut leader = leading();
        let step = leader.next_step(&world, ms(0));
        assert_eq!(step, Some(Command::Layout(LayoutCommand::Next { holders: holders(&[1, 3]) })));
        assert_eq!(leader.next_step(&world, ms(900)), None, "it is under way");
        assert!(leader.next_step(&world, ms(1_100)).is_some(), "it may have got lost");
    }

    #[test]
    fn a_layout_is_committed_when_all_have_it_and_no_older_lease_lives() {
        let layout = Layout {
            version: 2,
            current: holders(&[1]),
            next: Some(holders(&[1, 2])),
            given_up: [].into(),
        };
        let world = standing(&[1, 2], &[2], layout);
        let mut leader = leading();
        leader.on_gained(MemberId(1));
        assert_eq!(leader.next_step(&world, ms(900)), None);
        leader.on_gained(MemberId(2));
        assert_eq!(leader.next_step(&world, ms(LEASE_MS)), None, "a lease may still be in use");
        let commit = Some(Command::Layout(LayoutCommand::Commit { version: 2 }));
        assert_eq!(leader.next_step(&world, ms(1_000)), commit);
        leader.on_layout(ms(1_100));
        assert_eq!(leader.next_step(&world, ms(2_000)), None, "of the new one nothing is known");
    }

    #[test]
    fn who_leaves_goes_before_records_have_few_holders() {
        let current = holders(&[1, 2, 3, 4, 5, 6, 7]);
        let layout = Layout { version: 5, current, next: None, given_up: [].into() };
        let world = standing(&[1, 2, 3, 4, 5, 6, 8, 9], &[8, 9], layout);
        let step = leading().next_step(&world, ms(0));
        let first = holders(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(step, Some(Command::Layout(LayoutCommand::Next { holders: first.clone() })));
        let layout = Layout { version: 7, current: first, next: None, given_up: [].into() };
        let world = standing(&[1, 2, 3, 4, 5, 6, 8, 9], &[8, 9], layout);
        let step = leading().next_step(&world, ms(0));
        let all = holders(&[1, 2, 3, 4, 5, 6, 8, 9]);
        assert_eq!(step, Some(Command::Layout(LayoutCommand::Next { holders: all })));
    }

    #[test]
    fn a_leader_that_was_removed_begins_nothing() {
        let layout =
            Layout { version: 5, current: holders(&[1, 2]), next: None, given_up: [].into() };
        assert_eq!(leading().next_step(&standing(&[2], &[2], layout), ms(0)), None);
    }

    #[test]
    fn who_leaves_goes_and_a_newcomer_that_stays_silent_is_left_out() {
        let layout =
            Layout { version: 5, current: holders(&[1, 2, 3]), next: None, given_up: [].into() };
        let mut leader = leading();
        let step = leader.next_step(&standing(&[1, 3], &[], layout), ms(0));
        assert_eq!(
            step,
            Some(Command::Layout(LayoutCommand::Next { holders: holders(&[1, 3]) })),
            "3 stays"
        );

        let layout = Layout {
            version: 2,
            current: holders(&[1]),
            next: Some(holders(&[1, 2])),
            given_up: [].into(),
        };
        let world = standing(&[1, 2], &[], layout);
        let mut leader = leading();
        assert_eq!(leader.next_step(&world, ms(0)), None);
        assert_eq!(leader.next_step(&world, ms(29_000)), None);
        let step = leader.next_step(&world, ms(31_000));
        assert_eq!(step, Some(Command::Layout(LayoutCommand::Next { holders: holders(&[1]) })));
    }
}
