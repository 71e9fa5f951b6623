//! The duty to raise the level of the cluster, once every member's build understands more.

use super::{Duty, Look, Sight, Step, named};
use crate::messages::command::LevelCommand;
use crate::types::Level;
use crate::types::fault::{Fault, planted};

/// What people call it.
pub const NAME: &str = "level";

/// Raises the level.
pub struct Raising;

impl Duty for Raising {
    fn name(&self) -> &'static str {
        NAME
    }

    fn begin(&mut self, _sight: &Sight<'_>) {}

    fn look(&mut self, sight: &Sight<'_>) -> Look {
        let view = &sight.standing.view;
        let (members, level) = (&view.roster.members, view.level.level);
        let levels = || members.values().map(|member| member.level);
        let (Some(lowest), Some(highest)) = (levels().min(), levels().max()) else {
            return Look::rest("there are no members yet");
        };
        let voters = &sight.standing.role.voters;
        let gone = voters.iter().filter(|voter| !members.contains_key(voter)).collect::<Vec<_>>();
        if !gone.is_empty() {
            // What nobody knows the build of has to acknowledge the step.
            let why = format!("waits until {} that were removed vote no more", named(gone));
            return Look::rest(why);
        }
        let lowest = if planted(Fault::LevelBeforeAll) { highest } else { lowest };
        if lowest > level {
            let why = format!("all members understand level {lowest}");
            let raise = LevelCommand::Raise { to: lowest };
            return Look::act(Step::Propose(raise.into()), format!("speak level {lowest}"), why);
        }
        if highest == level {
            return Look::rest(format!("all members speak level {level}"));
        }
        let behind = |of: Level| {
            let behind = members.values().filter(|member| member.level < of);
            named(behind.map(|member| &member.id).collect::<Vec<_>>())
        };
        Look {
            plan: format!("speak level {highest}"),
            why: format!("waits for members of an older build: {}", behind(highest)),
            ..Look::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::control::{Member, View, level, roster};
    use crate::core::fixture::{member, sight};
    use crate::core::standing::Standing;
    use crate::types::MemberId;

    #[test]
    fn nothing_is_raised_while_one_votes_that_is_no_member() {
        let mut standing = Standing::new(MemberId(1));
        let newer = Arc::new(Member { level: Level(2), ..member(1) });
        let members: roster::State = [(MemberId(1), newer)].into();
        standing.view = Arc::new(View { roster: Arc::new(members), ..View::default() });
        standing.role.voters = [MemberId(1), MemberId(2)].into();
        let linked = [].into();
        let look = Raising.look(&sight(&standing, &linked));
        assert_eq!((look.step, look.why.contains('2')), (None, true));
        standing.role.voters = [MemberId(1)].into();
        assert!(Raising.look(&sight(&standing, &linked)).step.is_some());
    }

    #[test]
    fn the_level_follows_the_oldest_build() {
        let mut standing = Standing::new(MemberId(1));
        let linked = [].into();
        for (builds, spoken, raised) in [
            (&[2, 2, 2][..], 1, Some(2)),
            (&[2, 1, 2], 1, None),
            (&[2, 2], 2, None),
            (&[], 1, None),
        ] {
            let of = |(id, build): (u64, &u8)| {
                (MemberId(id), Arc::new(Member { level: Level(*build), ..member(id) }))
            };
            let members: roster::State = (1..).zip(builds).map(of).collect();
            let level = Arc::new(level::State { level: Level(spoken) });
            standing.view = Arc::new(View { roster: Arc::new(members), level, ..View::default() });
            let look = Raising.look(&sight(&standing, &linked));
            let step = look.step.map(|(step, _)| step);
            let raise = |to| Step::Propose(LevelCommand::Raise { to: Level(to) }.into());
            assert_eq!(step, raised.map(raise), "{builds:?} at {spoken}");
        }
    }
}
