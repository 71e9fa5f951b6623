//! What the tour tells: a line for each step, and a summary.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::millis;
use crate::cli::error::CliError;
use crate::cli::output::{Format, Output};
use crate::cli::table::pairs;

/// Width of the names of steps.
const NAME_WIDTH: usize = 9;

/// The last line of a tour.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// `ok` or `failed`.
    pub tour: &'static str,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// From the start of the first process to the first acknowledged write of a whole cluster.
    pub ready_ms: Option<f64>,
    /// From the kill of the leader to the first write acknowledged under a higher term.
    pub failover_ms: Option<f64>,
    /// Longest time without an acknowledgement around the kill.
    pub write_gap_ms: Option<f64>,
    /// From the start of the killed node's process until it took part again.
    pub restart_ms: Option<f64>,
    /// What a minority answers to writes.
    pub minority_write_code: Option<String>,
    /// From the stop of the majority until every node of the minority answered so.
    pub minority_ms: Option<f64>,
    /// True if every node of the minority served reads, marked as stale.
    pub minority_read_ok: Option<bool>,
    /// From the wake-up of the majority to the first acknowledged write.
    pub heal_ms: Option<f64>,
    /// Acknowledged writes that could not be read back.
    pub lost: Option<usize>,
    /// Acknowledged writes.
    pub acknowledged: usize,
    /// Those of them that were decisions.
    pub decisions: usize,
    /// The age recipients that files were encrypted to.
    pub recipients: Vec<String>,
    /// Leaders that followed the first one.
    pub leader_changes: Option<usize>,
    /// Why the tour failed.
    pub reason: Option<String>,
}

/// A step that was done.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// What it took, by its own measure.
    pub time: Duration,
    /// What happened, for people.
    pub text: String,
    /// What happened, for programs.
    pub fields: Map<String, Value>,
}

/// A step, as `-o ndjson` prints it.
#[derive(Serialize)]
struct Line<'a> {
    step: &'a str,
    ms: f64,
    #[serde(flatten)]
    fields: &'a Map<String, Value>,
    text: &'a str,
}

impl Step {
    /// A step with nothing but its text.
    pub fn new(name: &'static str, time: Duration, text: impl Into<String>) -> Self {
        Self { name, time, text: text.into(), fields: Map::new() }
    }

    /// The same step with one more field.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }
}

/// Prints the steps of a tour.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    out: Output,
}

impl Report {
    /// A report to `out`.
    pub fn new(out: Output) -> Self {
        Self { out }
    }

    /// Says what the tour is about to do.
    pub fn begin(&self, text: &str) -> Result<(), CliError> {
        match self.out.format {
            Format::Table if !self.out.quiet => self.out.text(&format!("{text}\n\n")),
            _ => Ok(()),
        }
    }

    /// Prints a step that was done.
    pub fn step(&self, step: &Step) -> Result<(), CliError> {
        let ms = millis(step.time);
        match self.out.format {
            Format::Json => Ok(()),
            Format::Ndjson => {
                let Step { name, fields, text, .. } = step;
                self.out.line(&Line { step: name, ms, fields, text })
            }
            Format::Table => {
                let mark = self.mark("32", "✓");
                self.out.text(&format!(
                    "{mark} {:NAME_WIDTH$} {ms:>8.1} ms  {}\n",
                    step.name, step.text
                ))
            }
        }
    }

    /// Prints a step that was left out.
    pub fn skip(&self, name: &str, reason: &str) -> Result<(), CliError> {
        match self.out.format {
            Format::Json => Ok(()),
            Format::Ndjson => self.out.line(&json!({ "step": name, "skipped": reason })),
            Format::Table => {
                self.out.text(&format!("- {name:NAME_WIDTH$} {:>11}  skipped: {reason}\n", ""))
            }
        }
    }

    /// Prints the step that failed.
    pub fn failed(&self, name: &str, reason: &str) -> Result<(), CliError> {
        match self.out.format {
            Format::Json => Ok(()),
            Format::Ndjson => self.out.line(&json!({ "step": name, "failed": reason })),
            Format::Table => {
                let mark = self.mark("31", "✗");
                self.out.text(&format!("{mark} {name:NAME_WIDTH$} {:>11}  {reason}\n", ""))
            }
        }
    }

    /// Prints the end of a tour.
    pub fn end(&self, summary: &Summary) -> Result<(), CliError> {
        match self.out.format {
            Format::Table => self.out.text(&format!("\n{}", render(summary))),
            _ => self.out.line(summary),
        }
    }

    fn mark(&self, color: &str, mark: &str) -> String {
        if self.out.colors_stdout() {
            format!("\x1b[{color}m{mark}\x1b[0m")
        } else {
            mark.to_owned()
        }
    }
}

fn render(summary: &Summary) -> String {
    let ms = |ms: Option<f64>| ms.map(|ms| format!("{ms:.1} ms"));
    let mut rows = vec![("Tour", summary.tour.to_owned()), ("Nodes", summary.nodes.to_string())];
    let mut add = |name, value: Option<String>| rows.extend(value.map(|value| (name, value)));
    add("Ready after", ms(summary.ready_ms));
    add("Failover", ms(summary.failover_ms));
    add("Longest gap between writes", ms(summary.write_gap_ms));
    add("Restart", ms(summary.restart_ms));
    add("Minority refuses writes after", ms(summary.minority_ms));
    add("Minority serves reads", summary.minority_read_ok.map(|ok| yes(ok).to_owned()));
    add("Healed after", ms(summary.heal_ms));
    add("Leader changes", summary.leader_changes.map(|count| count.to_string()));
    add("Acknowledged writes", Some(summary.acknowledged.to_string()));
    add("Acknowledged decisions", Some(summary.decisions.to_string()));
    add("Lost writes", summary.lost.map(|count| count.to_string()));
    add("Reason", summary.reason.clone());
    pairs(&rows)
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Summary {
        Summary {
            tour: "ok",
            nodes: 3,
            ready_ms: Some(512.34),
            failover_ms: Some(210.0),
            write_gap_ms: Some(190.5),
            restart_ms: None,
            minority_write_code: Some("READ_ONLY_MINORITY".into()),
            minority_ms: Some(640.0),
            minority_read_ok: Some(true),
            heal_ms: Some(12.0),
            lost: Some(0),
            acknowledged: 240,
            decisions: 120,
            recipients: vec!["age1x".into()],
            leader_changes: Some(1),
            reason: None,
        }
    }

    #[test]
    fn a_step_for_programs_begins_with_its_name() {
        let step = Step::new("heal", Duration::from_millis(3), "done").field("heal_ms", 3);
        let Step { name, fields, text, .. } = &step;
        let text = serde_json::to_string(&Line { step: name, ms: 3.0, fields, text }).unwrap();
        assert_eq!(text, r#"{"step":"heal","ms":3.0,"heal_ms":3,"text":"done"}"#);
    }

    #[test]
    fn a_summary_for_people() {
        let expected = "\
Tour                           ok
Nodes                          3
Ready after                    512.3 ms
Failover                       210.0 ms
Longest gap between writes     190.5 ms
Minority refuses writes after  640.0 ms
Minority serves reads          yes
Healed after                   12.0 ms
Leader changes                 1
Acknowledged writes            240
Acknowledged decisions         120
Lost writes                    0
";
        assert_eq!(render(&sample()), expected);
    }

    #[test]
    fn a_summary_for_programs() {
        let text = serde_json::to_string(&sample()).unwrap();
        assert!(text.starts_with(r#"{"tour":"ok","nodes":3,"ready_ms":512.34,"#), "{text}");
        assert!(text.ends_with(r#""leader_changes":1,"reason":null}"#), "{text}");
    }
}
