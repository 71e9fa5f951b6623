//! `bzzz actor`: the supervision tree of a node.

use super::Session;
use crate::cli::args::ActorCommand;
use crate::cli::error::CliError;
use crate::cli::table::table;
use crate::http::api::Accepted;
use crate::http::routes::actors::{ActorRow, Actors};

/// Runs a command about actors.
pub fn actor(session: &Session<'_>, command: ActorCommand) -> Result<(), CliError> {
    match command {
        ActorCommand::Tree => {
            let answer = session.client()?.get("/api/v1/actors")?;
            session.out.list(&answer, |actors: &Actors| &actors.items, |a| tree(&a.items))
        }
        ActorCommand::Kill { name } => {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
            if name.is_empty() || !name.bytes().all(fits) {
                return Err(CliError::usage(format!("{name:?} is not the name of an actor"))
                    .hint("take the last part of a path that `bzzz actor tree` shows"));
            }
            let client = session.client()?;
            session.confirm(&format!("killing the actor {name}"))?;
            let answer =
                client.send("POST", &format!("/api/v1/actors/{name}/kill"), &[], Some(&[]))?;
            session.out.answer(&answer, |_: &Accepted| format!("{name} is killed\n"))
        }
    }
}

/// The actors in the order of their first start, each below its supervisor.
fn tree(actors: &[ActorRow]) -> String {
    let depth = |actor: &ActorRow| actor.path.matches('/').count();
    let top = actors.iter().map(depth).min().unwrap_or(0);
    let row = |actor: &ActorRow| {
        let depth = depth(actor) - top;
        let name = actor.path.rsplit('/').next().unwrap_or_default();
        [
            format!("{}{name}", "  ".repeat(depth)),
            actor.state.clone(),
            actor.restarts.to_string(),
            actor.mailbox.to_string(),
            actor.last_failure.clone().unwrap_or_default(),
        ]
    };
    let mut sorted: Vec<&ActorRow> = Vec::new();
    // Whoever has no supervisor in the list stands at the left, such as those below the root,
    // which supervises and is no actor of the list itself.
    let listed = |path: &str| actors.iter().any(|actor| actor.path == path);
    for actor in actors {
        if !parent(actor).is_some_and(listed) {
            sorted.push(actor);
            place(actors, &actor.path, &mut sorted);
        }
    }
    let rows: Vec<_> = sorted.into_iter().map(row).collect();
    table(["ACTOR", "STATE", "RESTARTS", "WAITING", "LAST FAILURE"], &rows)
}

fn parent(actor: &ActorRow) -> Option<&str> {
    actor.path.rsplit_once('/').map(|(parent, _)| parent)
}

fn place<'a>(actors: &'a [ActorRow], above: &str, into: &mut Vec<&'a ActorRow>) {
    for actor in actors.iter().filter(|actor| parent(actor) == Some(above)) {
        into.push(actor);
        place(actors, &actor.path, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_stand_below_their_supervisors() {
        let row = |path: &str, restarts, failure: Option<&str>| ActorRow {
            path: path.into(),
            state: "running".into(),
            restarts,
            mailbox: 0,
            last_failure: failure.map(str::to_owned),
        };
        let actors = [
            row("root/store", 0, None),
            row("root/services", 0, None),
            row("root/network", 1, None),
            row("root/services/front", 2, Some("killed")),
        ];
        let expected = "\
ACTOR     STATE    RESTARTS  WAITING  LAST FAILURE
store     running  0         0
services  running  0         0
  front   running  2         0        killed
network   running  1         0
";
        assert_eq!(tree(&actors), expected);
    }
}
