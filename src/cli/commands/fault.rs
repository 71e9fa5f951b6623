//! `bzzz fault`: breaks something on purpose, on a node that lets it.

use super::Session;
use crate::cli::args::FaultCommand;
use crate::cli::error::CliError;
use crate::http::routes::faults::{ClockFault, ClockSet};

/// Runs a command about faults.
pub fn fault(session: &Session<'_>, command: FaultCommand) -> Result<(), CliError> {
    match command {
        FaultCommand::Clock { ahead } => {
            let client = session.client()?;
            let answer = client.post("/api/v1/faults/clock", &ClockFault { ahead_s: ahead })?;
            session.out.answer(&answer, shown)
        }
    }
}

fn shown(set: &ClockSet) -> String {
    let now = &set.now;
    match set.ahead_s {
        0 => format!("the clock of the node is right again: {now}\n"),
        ahead if ahead > 0 => format!("the clock of the node is {ahead} s ahead: {now}\n"),
        behind => format!("the clock of the node is {} s behind: {now}\n", behind.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_which_way_a_clock_is_wrong() {
        let says = |ahead_s| shown(&ClockSet { schema: 1, ahead_s, now: "now".into() });
        assert_eq!(says(3_600), "the clock of the node is 3600 s ahead: now\n");
        assert_eq!(says(-60), "the clock of the node is 60 s behind: now\n");
        assert_eq!(says(0), "the clock of the node is right again: now\n");
    }
}
