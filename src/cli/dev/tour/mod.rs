//! The tour: a cluster forms, stores files, loses its leader, gets it back, is cut to a minority,
//! heals, and is asked for everything that it ever acknowledged.
//!
//! 1. A write counts as acknowledged only if its answer came back, and then must be readable
//!    through another node at the end.
//! 2. Times are read from the monotonic clock at the event itself, not when a poll notices it.
//! 3. A step that the size of the cluster does not allow is skipped aloud.

mod faults;
mod files;
mod report;
mod verify;
mod writer;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use data_encoding::BASE64;

use super::cluster::{Cluster, START_LIMIT, passing, write_new};
use super::millis;
use super::workdir::WorkDir;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::Output;
use crate::http::api::UcxlEntry;
pub use files::{TourFile, read_files};
use report::{Report, Step, Summary};
use writer::Attempt;

/// Nodes from which on a failure leaves a majority.
const FAULTS_FROM: usize = 3;

/// A write that was acknowledged, and the node through which.
#[derive(Clone, Debug)]
struct Written {
    key: String,
    value: Vec<u8>,
    through: usize,
}

/// A tour under way.
struct Tour {
    cluster: Cluster,
    report: Report,
    summary: Summary,
    written: Vec<Written>,
    /// Counts the writes of all writers, so that each has a key of its own.
    numbers: Arc<AtomicU64>,
    /// The step that is under way.
    step: &'static str,
    /// The node that was killed.
    killed: Option<usize>,
}

/// Walks the tour through a cluster of `size` nodes.
pub fn tour(size: usize, work: WorkDir, files: &[TourFile], out: &Output) -> Result<(), CliError> {
    let report = Report::new(*out);
    let place = work.path().display().to_string();
    report.begin(&format!("A tour through {size} nodes on this machine, in {place}"))?;
    let mut summary = Summary { tour: "failed", nodes: size, ..Summary::default() };
    let cluster = match Cluster::start(size, work) {
        Ok(cluster) => cluster,
        Err(error) => return Err(failed(&report, &mut summary, "ready", error)),
    };
    let numbers = Arc::new(AtomicU64::new(1));
    let (written, killed) = (Vec::new(), None);
    let mut tour = Tour { cluster, report, summary, written, numbers, step: "ready", killed };
    match tour.walk(files) {
        Ok(()) => {
            tour.summary.tour = "ok";
            report.end(&tour.summary)?;
            tour.cluster.stop();
            if tour.cluster.work.is_kept() {
                out.say(&format!("logs and data are kept in {place}"));
            }
            Ok(())
        }
        Err(error) => {
            let error = tour.cluster.failed(error);
            Err(failed(&report, &mut tour.summary, tour.step, error))
        }
    }
}

/// Prints the end of a tour that failed. What went wrong goes before what cannot be printed.
fn failed(report: &Report, summary: &mut Summary, step: &str, error: CliError) -> CliError {
    if error.exit == Exit::Ok {
        // Whoever read the report is gone, and a tour that was not finished is no success.
        return CliError::failure("nobody reads the report of the tour");
    }
    summary.reason = Some(error.message.clone());
    let _ = report.failed(step, &error.message).and_then(|()| report.end(summary));
    match error.exit {
        Exit::Interrupted => error,
        _ => CliError {
            exit: Exit::Failure,
            message: format!("the tour failed at the step {step}: {}", error.message),
            ..error
        },
    }
}

impl Tour {
    fn walk(&mut self, files: &[TourFile]) -> Result<(), CliError> {
        self.tell_ready()?;
        self.step = "files";
        self.store_files(files)?;
        if self.cluster.nodes.len() >= FAULTS_FROM {
            self.step = "failover";
            self.failover()?;
            self.step = "restart";
            self.restart()?;
            self.step = "minority";
            let minority = self.minority()?;
            self.step = "heal";
            self.heal(minority)?;
        } else {
            let reason = match self.cluster.nodes.len() {
                1 => "one node has no other to take over; needs 3 nodes",
                _ => "of two nodes both are needed for a majority; needs 3 nodes",
            };
            for step in ["failover", "restart", "minority", "heal"] {
                self.report.skip(step, reason)?;
            }
        }
        self.step = "verify";
        self.verify()
    }

    fn name(&self, index: usize) -> String {
        self.cluster.nodes[index].name()
    }

    fn names(&self, indices: &[usize]) -> String {
        let names: Vec<String> = indices.iter().map(|index| self.name(*index)).collect();
        names.join(", ")
    }

    /// The index of the node that leads, as soon as one node knows it.
    fn leader(&self, ask: &[usize]) -> Result<usize, CliError> {
        self.cluster.interrupt.until("the election of a leader", START_LIMIT, || {
            for index in ask {
                let Some(status) = passing(self.cluster.status(*index))? else { continue };
                let leader = status.role.leader.and_then(|member| self.cluster.index_of(&member));
                if leader.is_some() {
                    return Ok(leader);
                }
            }
            Ok(None)
        })
    }

    fn tell_ready(&mut self) -> Result<(), CliError> {
        let leader = self.leader(&self.cluster.all())?;
        let (members, voters) = (self.cluster.nodes.len(), self.cluster.voters());
        let text = format!("{members} members, {voters} voters, {} leads", self.name(leader));
        let time = self.cluster.ready_after;
        self.summary.ready_ms = Some(millis(time));
        let step = Step::new("ready", time, text)
            .field("ready_ms", millis(time))
            .field("members", members)
            .field("voters", voters)
            .field("leader", self.name(leader));
        self.report.step(&step)
    }

    /// Stores each file through one node and reads it through another.
    fn store_files(&mut self, files: &[TourFile]) -> Result<(), CliError> {
        let (writer, reader) = (0, self.other_than(0));
        let began = Instant::now();
        for file in files {
            let client = self.cluster.nodes[writer].client()?;
            self.cluster.interrupt.until("storing a file", START_LIMIT, || {
                match write_new(client, &file.key, &file.value) {
                    Ok(_) => Ok(Some(())),
                    // An attempt whose answer was lost may have been the first one. The reading
                    // below shows whether it was ours.
                    Err(error) if error.code() == Some("VERSION_MISMATCH") => Ok(Some(())),
                    other => Ok(passing(other)?.map(drop)),
                }
            })?;
            let written =
                Written { key: file.key.clone(), value: file.value.clone(), through: writer };
            if !self.reads_back(&written, reader)? {
                let (key, name) = (&file.key, self.name(reader));
                return Err(CliError::failure(format!("{name} does not have what {key} holds")));
            }
            self.written.push(written);
        }
        self.summary.acknowledged = self.written.len();
        let text = format!(
            "{} stored as values through {}, read back through {}",
            files.len(),
            self.name(writer),
            self.name(reader)
        );
        let step = Step::new("files", began.elapsed(), text).field("files", files.len());
        self.report.step(&step)
    }

    /// The node after `index`, which is the same one in a cluster of one.
    fn other_than(&self, index: usize) -> usize {
        (index + 1) % self.cluster.nodes.len()
    }

    /// Keeps what was acknowledged of the writes of one node.
    fn keep_acknowledged(&mut self, attempts: &[Attempt], through: usize) {
        let acknowledged = attempts.iter().filter(|attempt| attempt.term().is_some());
        self.written.extend(acknowledged.map(|attempt| Written {
            key: attempt.key.clone(),
            value: attempt.value.clone(),
            through,
        }));
        self.summary.acknowledged = self.written.len();
    }

    /// True if a fresh read through `reader` gives what was written.
    fn reads_back(&self, written: &Written, reader: usize) -> Result<bool, CliError> {
        let client = self.cluster.nodes[reader].client()?;
        let path = format!("/api/v1/ucxl/{}", written.key);
        self.cluster.interrupt.until("a fresh read", Duration::from_secs(10), || {
            match client.read::<UcxlEntry>(&path) {
                // What may be old proves nothing, neither way.
                Ok(entry) if entry.stale => Ok(None),
                Ok(entry) => Ok(Some(holds(&entry, &written.value))),
                Err(error) if error.exit == Exit::NotFound => Ok(Some(false)),
                Err(error) => passing(Err(error)),
            }
        })
    }
}

/// True if an entry holds that value.
fn holds(entry: &UcxlEntry, value: &[u8]) -> bool {
    entry.head.value_base64 == BASE64.encode(value)
}
