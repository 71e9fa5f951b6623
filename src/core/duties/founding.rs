//! The duty to make the cluster, of the node that was told to.

use super::{Duty, Look, Sight, Step};
use crate::messages::Command;

/// What people call it.
pub const NAME: &str = "founding";

/// The command that makes the cluster, on the node that is to make it.
pub struct Founding(Option<Command>);

impl Founding {
    /// With the command of the founder; none on any other node.
    pub fn new(command: Option<Command>) -> Self {
        Self(command)
    }
}

impl Duty for Founding {
    fn name(&self) -> &'static str {
        NAME
    }

    fn begin(&mut self, _sight: &Sight<'_>) {}

    fn look(&mut self, sight: &Sight<'_>) -> Look {
        if let Some(cluster) = &sight.standing.view.cluster.made {
            return Look::rest(format!("{} was made at {}", cluster.name, cluster.founded_at));
        }
        match &self.0 {
            Some(command) => {
                Look::act(Step::Propose(command.clone()), "make the cluster", "there is none yet")
            }
            None => Look::rest("another node is to make the cluster"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::control::{Cluster, View};
    use crate::core::fixture::{self, sight};
    use crate::core::standing::Standing;
    use crate::messages::command::EvaluationCommand;
    use crate::types::{ClusterId, MemberId, Wall};

    #[test]
    fn the_founder_makes_the_cluster_until_it_is_made() {
        let mut standing = Standing::new(MemberId(1));
        let linked = [].into();
        let command = Command::Evaluation(EvaluationCommand::Done);
        let mut founder = Founding::new(Some(command.clone()));
        let due = founder.look(&sight(&standing, &linked)).step.map(|(step, _)| step);
        assert_eq!(due, Some(Step::Propose(command)));
        assert_eq!(Founding::new(None).look(&sight(&standing, &linked)).step, None);
        let cluster = Cluster { id: ClusterId([1; 16]), name: "c".into(), founded_at: Wall(0) };
        let cluster = fixture::made(Some(cluster));
        standing.view = std::sync::Arc::new(View { cluster, ..View::default() });
        assert_eq!(founder.look(&sight(&standing, &linked)).step, None);
    }
}
