//! The faults of the tour: the leader is killed and comes back, the majority stops and wakes up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::item::Item;
use super::report::Step;
use super::writer::{Attempt, Outcome, WRITE_TIMEOUT, Writer};
use super::{Tour, Written};
use crate::cli::dev::cluster::{START_LIMIT, passing};
use crate::cli::dev::millis;
use crate::cli::error::CliError;
use crate::http::routes::nodes::NodeInfo;

/// Acknowledged writes before something is broken.
const STEADY_WRITES: usize = 10;
/// How long a new leader, or a healed cluster, is waited for.
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);
/// How long writes go on after the first one under a new leader.
const AFTER_FAILOVER: Duration = Duration::from_millis(1_500);
/// How long a minority may take to refuse writes and to mark reads.
const MINORITY_LIMIT: Duration = Duration::from_secs(3);
/// The answer of a minority to writes.
const MINORITY_CODE: &str = "READ_ONLY_MINORITY";

/// A cluster that is cut to a minority.
pub struct Minority {
    /// Nodes that are stopped.
    stopped: Vec<usize>,
    /// Writers through the nodes that run, with the time of the first refusal of each.
    writers: Vec<(Writer, Instant)>,
}

impl Tour {
    fn writer(&self, through: usize) -> Result<Writer, CliError> {
        let client = self.cluster.nodes[through].client_within(WRITE_TIMEOUT)?;
        Writer::start(through, &self.name(through), client, &self.numbers)
    }

    fn wait_steady(&self, writer: &Writer) -> Result<(), CliError> {
        self.cluster.interrupt.until("a steady stream of writes", RECOVERY_LIMIT, || {
            Ok((writer.acknowledged() >= STEADY_WRITES).then_some(()))
        })
    }

    /// Kills the leader under a stream of writes.
    pub(super) fn failover(&mut self) -> Result<(), CliError> {
        let leader = self.leader(&self.cluster.all())?;
        let rest: Vec<usize> =
            self.cluster.all().into_iter().filter(|index| *index != leader).collect();
        let Some(through) = rest.first().copied() else { return Ok(()) };
        let writer = self.writer(through)?;
        self.wait_steady(&writer)?;
        let term = writer.highest_term();
        let killed_at = Instant::now();
        self.cluster.signal(leader, Signal::KILL)?;
        self.killed = Some(leader);
        let first =
            self.cluster.interrupt.until("a write under a new leader", RECOVERY_LIMIT, || {
                self.cluster.check(&rest)?;
                Ok(writer.look(|attempts| first_above(attempts, term)))
            })?;
        self.cluster.wait_ended(leader)?;
        self.cluster.interrupt.pause(AFTER_FAILOVER.saturating_sub(first.elapsed()))?;
        let new_term = writer.highest_term();
        let attempts = writer.stop();
        self.keep_acknowledged(&attempts, through);
        let failover = first.saturating_duration_since(killed_at);
        let gap = longest_gap(&attempts, killed_at);
        self.summary.failover_ms = Some(millis(failover));
        self.summary.write_gap_ms = Some(millis(gap));
        let next = self.leader(&rest)?;
        let count = Count::of(&attempts);
        let text = format!(
            "{} killed, {} leads in term {new_term}; {}",
            self.name(leader),
            self.name(next),
            count.text()
        );
        let step = Step::new("failover", failover, text)
            .field("failover_ms", millis(failover))
            .field("write_gap_ms", millis(gap))
            .field("killed", self.name(leader))
            .field("leader", self.name(next))
            .field("term", new_term);
        self.report.step(&count.fields(step))
    }

    /// Starts the killed node again, as it was.
    pub(super) fn restart(&mut self) -> Result<(), CliError> {
        let Some(index) = self.killed else { return Ok(()) };
        let began = Instant::now();
        self.cluster.start_node(index)?;
        self.cluster.find_node(index)?;
        let witness = self.other_than(index);
        let member = self.cluster.nodes[index].member()?.to_owned();
        self.cluster.interrupt.until("the return of the killed node", START_LIMIT, || {
            self.cluster.check(&self.cluster.all())?;
            let Some(members) = passing(self.cluster.members(witness))? else { return Ok(None) };
            let back = |node: &NodeInfo| node.member == member && node.voter && node.answers;
            Ok(members.items.iter().any(back).then_some(()))
        })?;
        self.cluster.wait_formed("the return of the killed node")?;
        let time = began.elapsed();
        self.summary.restart_ms = Some(millis(time));
        let text = format!("{} is back with its data and votes", self.name(index));
        let step = Step::new("restart", time, text)
            .field("restart_ms", millis(time))
            .field("node", self.name(index));
        self.report.step(&step)
    }

    /// Stops so many nodes that the rest is a minority, and looks what it still does.
    pub(super) fn minority(&mut self) -> Result<Minority, CliError> {
        let (stopped, running) = self.sides()?;
        let writers: Vec<Writer> =
            running.iter().map(|index| self.writer(*index)).collect::<Result<_, _>>()?;
        writers.iter().try_for_each(|writer| self.wait_steady(writer))?;
        let stopped_at = Instant::now();
        for index in &stopped {
            self.cluster.signal(*index, Signal::STOP)?;
        }
        let mut refusing = Vec::new();
        for writer in writers {
            let name = self.name(writer.through);
            let what = format!("the refusal of writes by {name}");
            let refused = self.cluster.interrupt.until(&what, MINORITY_LIMIT, || {
                self.cluster.check(&running)?;
                Ok(writer.look(|attempts| first_refusal(attempts, stopped_at)))
            });
            let refused = refused.map_err(|error| {
                let seen = Count::of_answers_after(&writer, stopped_at);
                CliError { message: format!("{}; {seen}", error.message), ..error }
            })?;
            refusing.push((writer, refused));
        }
        let last = refusing.iter().map(|(_, refused)| *refused).max().unwrap_or(stopped_at);
        let time = last.saturating_duration_since(stopped_at);
        self.summary.minority_write_code = Some(MINORITY_CODE.to_owned());
        self.summary.minority_ms = Some(millis(time));
        self.summary.minority_read_ok = Some(false);
        running.iter().try_for_each(|index| self.reads_stale(*index))?;
        self.summary.minority_read_ok = Some(true);
        let text = format!(
            "{} stopped; still there: {}, refusing writes, serving reads marked as stale",
            self.names(&stopped),
            self.names(&running)
        );
        let step = Step::new("minority", time, text)
            .field("minority_ms", millis(time))
            .field("minority_write_code", MINORITY_CODE)
            .field("minority_read_ok", true)
            .field("stopped", stopped.len())
            .field("running", running.len());
        self.report.step(&step)?;
        Ok(Minority { stopped, writers: refusing })
    }

    /// Which nodes to stop and which to leave running: followers go first, so that the minority
    /// keeps the old leader, which is the harder case.
    fn sides(&self) -> Result<(Vec<usize>, Vec<usize>), CliError> {
        let all = self.cluster.all();
        let leader = self.leader(&all)?;
        let status = self.cluster.status(leader)?;
        let voters: BTreeSet<usize> =
            status.role.voters.iter().filter_map(|member| self.cluster.index_of(member)).collect();
        let majority = voters.len() / 2 + 1;
        let stop = voters.len() - (majority - 1);
        let mut stopped: Vec<usize> =
            voters.iter().rev().copied().filter(|index| *index != leader).take(stop).collect();
        stopped.sort_unstable();
        let running = all.into_iter().filter(|index| !stopped.contains(index)).collect();
        Ok((stopped, running))
    }

    /// Waits until a node serves a value and a decision that it has, marked as stale.
    fn reads_stale(&self, index: usize) -> Result<(), CliError> {
        let is_value = |written: &&Written| matches!(written.what, Item::Value { .. });
        let value = self.written.iter().find(is_value);
        let decision = self.written.iter().find(|written| !is_value(written));
        let client = self.cluster.nodes[index].client()?;
        for Written { what: item, .. } in value.into_iter().chain(decision) {
            let what = format!("a read through {} marked as stale", self.name(index));
            self.cluster.interrupt.until(&what, MINORITY_LIMIT, || {
                let Some(read) = passing(item.read(client))? else { return Ok(None) };
                if !read.holds {
                    let (name, item) = (self.name(index), item.name());
                    let reason = format!("{name} serves something else for {item}");
                    return Err(CliError::failure(reason));
                }
                Ok(read.stale.then_some(()))
            })?;
        }
        Ok(())
    }

    /// Wakes the stopped nodes up and waits until all is well again.
    pub(super) fn heal(&mut self, minority: Minority) -> Result<(), CliError> {
        let woken_at = Instant::now();
        for index in &minority.stopped {
            self.cluster.signal(*index, Signal::CONT)?;
        }
        let writers = &minority.writers;
        let first =
            self.cluster.interrupt.until("a write after the healing", RECOVERY_LIMIT, || {
                self.cluster.check(&self.cluster.all())?;
                let first = |(writer, _): &(Writer, Instant)| {
                    writer.look(|attempts| first_acknowledged(attempts, woken_at))
                };
                Ok(writers.iter().filter_map(first).min())
            })?;
        self.cluster.wait_formed("the return of all nodes")?;
        let mut all = Vec::new();
        for (writer, refused_at) in minority.writers {
            let through = writer.through;
            let attempts = writer.stop();
            self.keep_acknowledged(&attempts, through);
            let split = |attempt: &&Attempt| {
                attempt.term().is_some()
                    && attempt.answered > refused_at
                    && attempt.answered < woken_at
            };
            if let Some(attempt) = attempts.iter().find(split) {
                let (name, key) = (self.name(through), attempt.what.name());
                return Err(CliError::failure(format!(
                    "{name} acknowledged the write {key} while it was in a minority"
                )));
            }
            all.extend(attempts);
        }
        let time = first.saturating_duration_since(woken_at);
        self.summary.heal_ms = Some(millis(time));
        let count = Count::of(&all);
        let text = format!("{} woke up; {}", self.names(&minority.stopped), count.text());
        let step = Step::new("heal", time, text).field("heal_ms", millis(time));
        self.report.step(&count.fields(step))
    }
}

/// When the first write was acknowledged under a term above `term`.
fn first_above(attempts: &[Attempt], term: u64) -> Option<Instant> {
    let above = attempts.iter().filter(|attempt| attempt.term().is_some_and(|t| t > term));
    above.map(|attempt| attempt.answered).min()
}

/// When the first write was acknowledged after `from`.
fn first_acknowledged(attempts: &[Attempt], from: Instant) -> Option<Instant> {
    let after = |attempt: &&Attempt| attempt.term().is_some() && attempt.answered > from;
    attempts.iter().filter(after).map(|attempt| attempt.answered).min()
}

/// When the first write was refused after `from` because of the minority.
fn first_refusal(attempts: &[Attempt], from: Instant) -> Option<Instant> {
    let refused = |attempt: &&Attempt| attempt.is_refused(MINORITY_CODE) && attempt.answered > from;
    attempts.iter().filter(refused).map(|attempt| attempt.answered).min()
}

/// Longest time between two acknowledgements of which the later one came after `event`.
fn longest_gap(attempts: &[Attempt], event: Instant) -> Duration {
    let acknowledged = attempts.iter().filter(|attempt| attempt.term().is_some());
    let mut times: Vec<Instant> = acknowledged.map(|attempt| attempt.answered).collect();
    times.sort_unstable();
    let gaps = times.windows(2).filter(|pair| pair[1] > event).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

/// How many writes came out which way.
struct Count {
    acknowledged: usize,
    refused: usize,
    unknown: usize,
}

impl Count {
    fn of(attempts: &[Attempt]) -> Self {
        let count = |wanted: fn(&Outcome) -> bool| {
            attempts.iter().filter(|attempt| wanted(&attempt.outcome)).count()
        };
        Self {
            acknowledged: count(|outcome| matches!(outcome, Outcome::Acknowledged { .. })),
            refused: count(|outcome| matches!(outcome, Outcome::Refused { .. })),
            unknown: count(|outcome| matches!(outcome, Outcome::Unknown)),
        }
    }

    /// What a writer got for answers since `from`, for a message.
    fn of_answers_after(writer: &Writer, from: Instant) -> String {
        let text = |attempt: &Attempt| match &attempt.outcome {
            Outcome::Acknowledged { .. } => "acknowledged".to_owned(),
            Outcome::Refused { code } => code.clone(),
            Outcome::Unknown => "no answer".to_owned(),
        };
        let seen: BTreeSet<String> = writer.look(|attempts| {
            attempts.iter().filter(|attempt| attempt.answered > from).map(text).collect()
        });
        let seen: Vec<String> = seen.into_iter().collect();
        if seen.is_empty() {
            "no answers".to_owned()
        } else {
            format!("answers: {}", seen.join(", "))
        }
    }

    fn text(&self) -> String {
        let Self { acknowledged, refused, unknown } = self;
        format!("{acknowledged} writes acknowledged, {refused} refused, {unknown} unknown")
    }

    fn fields(&self, step: Step) -> Step {
        step.field("acknowledged", self.acknowledged)
            .field("refused", self.refused)
            .field("unknown", self.unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_from_the_answers() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let attempt = |ms, outcome| Attempt {
            what: Item::Value { key: String::new(), value: Vec::new() },
            answered: at(ms),
            outcome,
        };
        let ok = |ms, term| attempt(ms, Outcome::Acknowledged { term });
        let no = |ms, code: &str| attempt(ms, Outcome::Refused { code: code.into() });
        // Answers come in any order.
        let attempts = [
            ok(0, 1),
            ok(20, 1),
            ok(300, 2),
            ok(280, 2),
            no(290, "NO_LEADER"),
            no(295, MINORITY_CODE),
            attempt(299, Outcome::Unknown),
        ];
        assert_eq!(first_above(&attempts, 1), Some(at(280)));
        assert_eq!(first_above(&attempts, 2), None);
        assert_eq!(first_acknowledged(&attempts, at(280)), Some(at(300)));
        assert_eq!(first_refusal(&attempts, at(10)), Some(at(295)));
        assert_eq!(first_refusal(&attempts, at(295)), None);
        assert_eq!(longest_gap(&attempts, at(100)), Duration::from_millis(260));
        assert_eq!(longest_gap(&attempts, at(290)), Duration::from_millis(20));
        let text = Count::of(&attempts).text();
        assert_eq!(text, "4 writes acknowledged, 2 refused, 1 unknown");
    }
}
