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
