//! Nodes that end while the cluster runs, and come back.
//!
//! Problem: whoever tries a cluster out wants to kill a node, the leader above all, and watch what
//! the others make of it. The node has to come back then, as it would under a service manager, and
//! a node that can't start must not be started for ever.
//!
//! States of a node: it runs -> it has ended, and waits -> it starts -> it runs. After
//! [`FAILURES_MAX`] ends within [`FAILURES_WITHIN`], each soon after a start, it is given up.
//!
//! 1. Every end of a node is told before the node is started again, and so is that it is back.
//! 2. A node comes back with the data, the ports and the log that it had.
//! 3. The others go on, whatever becomes of one; only when all are given up is that an error.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cluster::{Cluster, passing};
use super::node::DevNode;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Format, Output};

/// How long a node stays away.
const PAUSE: Duration = Duration::from_secs(5);
/// A node that ends earlier after its start has failed at once.
const AT_ONCE: Duration = Duration::from_secs(10);
/// How often a node may fail at once, and within which time, until it is given up.
const FAILURES_MAX: usize = 5;
const FAILURES_WITHIN: Duration = Duration::from_secs(60);

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has told that its API serves.
    Runs,
    /// It has ended, and is started again at this time.
    Waits(Instant),
    /// It has been started and has not told anything yet.
    Starts,
    /// It is not started any more.
    GivenUp,
}

/// What is known of a node.
#[derive(Debug)]
struct Watched {
    state: State,
    /// Its process, the last one where there is none.
    pid: u32,
    /// When that was started, at the latest.
    started: Instant,
    /// When it failed at once, as far as that still counts.
    failures: Vec<Instant>,
}

impl Watched {
    fn new(pid: u32, now: Instant) -> Self {
        Self { state: State::Runs, pid, started: now, failures: Vec::new() }
    }

    /// Takes note that it has ended, and decides what is next.
    fn end(&mut self, now: Instant) {
        if now.duration_since(self.started) < AT_ONCE {
            self.failures.retain(|failure| now.duration_since(*failure) < FAILURES_WITHIN);
            self.failures.push(now);
        } else {
            self.failures.clear();
        }
        let too_often = self.failures.len() >= FAILURES_MAX;
        self.state = if too_often { State::GivenUp } else { State::Waits(now + PAUSE) };
    }
}

/// What is told of a node, as `-o ndjson` prints it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    /// It has ended, or could not be started.
    Ended { node: String, pid: Option<u32>, how: String, again_in_s: u64 },
    /// It is back.
    Restarted { node: String, member: String, pid: u32, api: String, log: PathBuf },
    /// It has ended too often.
    GivenUp { node: String, pid: Option<u32>, how: String, log: PathBuf },
}

/// What has ended and how, in words.
fn end(node: &str, pid: Option<u32>, how: &str) -> String {
    match pid {
        Some(pid) => format!("{node} (pid {pid}) ended with {how}"),
        None => format!("{node} could not be started: {how}"),
    }
}

impl Event {
    fn text(&self) -> String {
        match self {
            Self::Ended { node, pid, how, again_in_s } => {
                format!("{}; it is started again in {again_in_s} s", end(node, *pid, how))
            }
            Self::Restarted { node, pid, .. } => format!("{node} is back (pid {pid})"),
            Self::GivenUp { node, pid, how, log } => format!(
                "{}; that was {FAILURES_MAX} times in a row, so it is given up; its log is {}",
                end(node, *pid, how),
                log.display()
            ),
        }
    }

    fn tell(&self, out: &Output) -> Result<(), CliError> {
        // Also with --quiet: whoever wants data only must know, too, that a node is gone.
        out.warn(&self.text());
        if out.format == Format::Ndjson { out.line(self) } else { Ok(()) }
    }
}

/// Watches over the nodes of a cluster.
pub struct Watch(Vec<Watched>);

impl Watch {
    /// Begins with nodes that all run.
    pub fn begin(cluster: &Cluster) -> Self {
        let now = Instant::now();
        let pid = |node: &DevNode| node.running.as_ref().map_or(0, |running| running.ready.pid);
        Self(cluster.nodes.iter().map(|node| Watched::new(pid(node), now)).collect())
    }

    /// Looks at all nodes once, tells what has become of them, and starts those that have waited.
    pub fn look(&mut self, cluster: &mut Cluster, out: &Output) -> Result<(), CliError> {
        for (index, watched) in self.0.iter_mut().enumerate() {
            look_at(watched, index, cluster, out)?;
        }
        if self.0.iter().all(|watched| watched.state == State::GivenUp) {
            return Err(CliError::failure("every node has failed again and again")
                .hint("read the end of a log that was named above"));
        }
        Ok(())
    }
}

fn look_at(
    watched: &mut Watched,
    index: usize,
    cluster: &mut Cluster,
    out: &Output,
) -> Result<(), CliError> {
    match watched.state {
        State::GivenUp => Ok(()),
        State::Waits(until) if Instant::now() < until => Ok(()),
        State::Waits(_) => {
            watched.started = Instant::now();
            match cluster.start_node(index) {
                Ok(pid) => {
                    (watched.pid, watched.state) = (pid, State::Starts);
                    Ok(())
                }
                Err(error) if error.exit == Exit::Interrupted => Err(error),
                Err(error) => ended(watched, &cluster.nodes[index], None, error.message, out),
            }
        }
        State::Runs | State::Starts => {
            if let Some(status) = cluster.ended(index) {
                let pid = Some(watched.pid);
                return ended(watched, &cluster.nodes[index], pid, status.to_string(), out);
            }
            if watched.state == State::Starts && serves(&mut cluster.nodes[index]) {
                watched.state = State::Runs;
                return restarted(watched.pid, &cluster.nodes[index]).tell(out);
            }
            Ok(())
        }
    }
}

fn ended(
    watched: &mut Watched,
    node: &DevNode,
    pid: Option<u32>,
    how: String,
    out: &Output,
) -> Result<(), CliError> {
    watched.end(Instant::now());
    let name = node.name();
    let event = match watched.state {
        State::GivenUp => Event::GivenUp { node: name, pid, how, log: node.log() },
        _ => Event::Ended { node: name, pid, how, again_in_s: PAUSE.as_secs() },
    };
    event.tell(out)
}

/// True once a node that was started answers reads.
fn serves(node: &mut DevNode) -> bool {
    // What can't be read yet may be there at the next look, and whether the process is still there
    // is looked at, too.
    if !node.find().unwrap_or(false) {
        return false;
    }
    let ready = node.probe().and_then(|probe| passing(probe.ready()));
    ready.is_ok_and(|ready| ready.is_some_and(|ready| ready.ready))
}

fn restarted(pid: u32, node: &DevNode) -> Event {
    let ready = node.running.as_ref().map(|running| &running.ready);
    let text = |field: Option<&str>| field.unwrap_or_default().to_owned();
    Event::Restarted {
        node: node.name(),
        member: text(ready.map(|ready| ready.member.as_str())),
        pid,
        api: format!("http://{}", text(ready.map(|ready| ready.api.as_str()))),
        log: node.log(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LITTLE: Duration = Duration::from_secs(1);

    /// Ends a node that often, each time so long after its start.
    fn end_often(watched: &mut Watched, times: usize, after: Duration) {
        for _ in 0..times {
            let now = watched.started + after;
            watched.end(now);
            if watched.state == State::Waits(now + PAUSE) {
                (watched.started, watched.state) = (now + PAUSE, State::Starts);
            }
        }
    }

    #[test]
    fn a_node_that_fails_at_once_again_and_again_is_given_up() {
        let mut watched = Watched::new(7, Instant::now());
        end_often(&mut watched, FAILURES_MAX - 1, LITTLE);
        assert_eq!(watched.state, State::Starts);
        end_often(&mut watched, 1, LITTLE);
        assert_eq!(watched.state, State::GivenUp);
    }

    #[test]
    fn a_node_that_is_killed_now_and_then_always_comes_back() {
        let mut watched = Watched::new(7, Instant::now());
        end_often(&mut watched, 3 * FAILURES_MAX, AT_ONCE);
        assert_eq!(watched.state, State::Starts);
        // One that has run for a while starts with a clean slate.
        end_often(&mut watched, FAILURES_MAX - 1, LITTLE);
        end_often(&mut watched, 1, AT_ONCE);
        end_often(&mut watched, FAILURES_MAX - 1, LITTLE);
        assert_eq!(watched.state, State::Starts);
    }

    #[test]
    fn failures_that_are_long_ago_do_not_count() {
        let mut watched = Watched::new(7, Instant::now());
        end_often(&mut watched, FAILURES_MAX - 1, LITTLE);
        // It took that long to start it, as when the machine slept.
        watched.started += FAILURES_WITHIN;
        end_often(&mut watched, FAILURES_MAX - 1, LITTLE);
        assert_eq!(watched.state, State::Starts);
    }

    #[test]
    fn each_event_is_one_line_for_people_and_one_object_for_programs() {
        let (node, how) = ("node-2".to_owned(), "signal: 9 (SIGKILL)".to_owned());
        let event = Event::Ended { node: node.clone(), pid: Some(7), how, again_in_s: 5 };
        let text = "node-2 (pid 7) ended with signal: 9 (SIGKILL); it is started again in 5 s";
        assert_eq!(event.text(), text);
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!((&json["event"], &json["pid"]), (&"ended".into(), &7.into()));
        let log = PathBuf::from("/t/log");
        let event = Event::GivenUp { node, pid: None, how: "no room".into(), log };
        let text = "node-2 could not be started: no room; that was 5 times in a row, so it is \
                    given up; its log is /t/log";
        assert_eq!(event.text(), text);
        assert_eq!(serde_json::to_value(&event).unwrap()["event"], "given_up");
    }
}
