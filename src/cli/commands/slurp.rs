//! `bzzz slurp`: the duties of the leader.

use super::Session;
use crate::cli::args::SlurpCommand;
use crate::cli::error::CliError;
use crate::cli::table::{pairs, printable};
use crate::http::api::Done;
use crate::http::routes::slurp::{DutyInfo, Slurp};

const PATH: &str = "/api/v1/slurp";

/// Runs a command about the duties of the leader.
pub fn slurp(session: &Session<'_>, command: SlurpCommand) -> Result<(), CliError> {
    let (duty, change) = match command {
        SlurpCommand::Status => {
            let answer = session.client()?.get(PATH)?;
            return session.out.list(&answer, |slurp: &Slurp| &slurp.duties, page);
        }
        SlurpCommand::Pause { duty } => (duty, "pause"),
        SlurpCommand::Resume { duty } => (duty, "resume"),
    };
    let fits = |b: u8| b.is_ascii_lowercase() || b == b'-';
    if duty.is_empty() || !duty.bytes().all(fits) {
        return Err(CliError::usage(format!("{duty:?} is not the name of a duty"))
            .hint("`bzzz slurp status` shows the duties"));
    }
    let client = session.client()?;
    let answer = client.send("POST", &format!("{PATH}/{duty}/{change}"), &[], Some(&[]))?;
    let done = if change == "pause" { "is paused" } else { "is seen to again" };
    session.out.answer(&answer, |_: &Done| format!("{duty} {done}\n"))
}

fn page(slurp: &Slurp) -> String {
    if slurp.duties.is_empty() {
        return "no leader has told of its duties yet\n".to_owned();
    }
    let mut text = String::new();
    for duty in &slurp.duties {
        let paused = if duty.paused { " (paused)" } else { "" };
        text.push_str(&format!("{}{paused}\n", printable(&duty.name)));
        for line in pairs(&rows(duty)).lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}

fn rows(duty: &DutyInfo) -> Vec<(&'static str, String)> {
    let last = duty.last.as_ref().map_or_else(
        || "nothing yet".to_owned(),
        |last| format!("{}, {} (term {}): {}", last.at, last.what, last.term, last.outcome),
    );
    let mut rows = vec![("last", last), ("plan", duty.plan.clone()), ("why", duty.why.clone())];
    rows.extend(duty.again_at.clone().map(|at| ("looks again", at)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::SCHEMA;
    use crate::http::routes::slurp::DutyStepInfo;

    #[test]
    fn a_page_says_what_each_duty_did_and_plans() {
        let last = DutyStepInfo {
            what: "member 3 gets a vote".into(),
            term: 4,
            at: "2026-01-02T03:04:05.000Z".into(),
            outcome: "done".into(),
        };
        let voters = DutyInfo {
            name: "voters".into(),
            paused: false,
            last: Some(last),
            plan: "nothing".into(),
            why: "3 vote, and all answer".into(),
            again_at: None,
        };
        let layout = DutyInfo {
            name: "layout".into(),
            paused: true,
            last: None,
            plan: "nothing".into(),
            why: "it is paused".into(),
            again_at: Some("2026-01-02T03:04:06.000Z".into()),
        };
        let duties = vec![voters, layout];
        let slurp = Slurp { schema: SCHEMA, term: 4, version: 9, on_duty: true, duties };
        let expected = "\
voters
  last  2026-01-02T03:04:05.000Z, member 3 gets a vote (term 4): done
  plan  nothing
  why   3 vote, and all answer
layout (paused)
  last         nothing yet
  plan         nothing
  why          it is paused
  looks again  2026-01-02T03:04:06.000Z
";
        assert_eq!(page(&slurp), expected);
        assert!(page(&Slurp { duties: vec![], ..slurp }).starts_with("no leader"));
    }
}
