//! The tour: a cluster forms, stores files, loses its leader, gets it back, is cut to a minority,
//! heals, and is asked for everything that it ever acknowledged.
//!
//! 1. A write counts as acknowledged only if its answer came back, and then must be readable
//!    through another node at the end.
//! 2. Times are read from the monotonic clock at the event itself, not when a poll notices it.
//! 3. A step that the size of the cluster does not allow is skipped aloud.

mod faults;
mod files;
mod item;
mod report;
mod verify;
mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::cluster::{Cluster, START_LIMIT, passing, write_new};
use super::millis;
use super::workdir::WorkDir;
use crate::cli::client::encode;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::Output;
use crate::http::routes::contents::Dht;
use crate::http::routes::decisions::{DecisionPage, DecisionRead, RolePage};
pub use files::{TourFile, read_files};
use item::{Item, publish};
use report::{Report, Step, Summary};
use writer::Attempt;

/// How long a read that is current is waited for.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// Nodes from which on a failure leaves a majority.
const FAULTS_FROM: usize = 3;

/// A write that was acknowledged, and the node through which.
#[derive(Clone, Debug)]
struct Written {
    what: Item,
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
        let mut recipients = BTreeSet::new();
        for file in files {
            recipients.extend(self.publish_file(file, writer, reader)?);
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
            let what = Item::Value { key: file.key.clone(), value: file.value.clone() };
            let written = Written { what, through: writer };
            if !self.reads_back(&written, reader)? {
                let (key, name) = (&file.key, self.name(reader));
                return Err(CliError::failure(format!("{name} does not have what {key} holds")));
            }
            self.written.push(written);
        }
        self.wait_settled()?;
        self.count_acknowledged();
        self.summary.recipients = recipients.into_iter().collect();
        let text = format!(
            "{} stored as values and as decisions through {}, read back through {} by address, by hash and by query; encrypted to {}",
            files.len(),
            self.name(writer),
            self.name(reader),
            self.summary.recipients.join(" ")
        );
        let step = Step::new("files", began.elapsed(), text)
            .field("files", files.len())
            .field("recipients", self.summary.recipients.clone());
        self.report.step(&step)
    }

    /// Publishes a file as a decision and finds it through another node, by all of its names.
    /// Returns the recipients that it is encrypted to.
    fn publish_file(
        &mut self,
        file: &TourFile,
        writer: usize,
        reader: usize,
    ) -> Result<Vec<String>, CliError> {
        let client = self.cluster.nodes[writer].client()?;
        let item = Item::Decision { address: file.address.clone(), text: file.text.clone() };
        let published =
            self.cluster.interrupt.until("publishing a decision", START_LIMIT, || {
                passing(publish(client, &file.address, &file.text))
            })?;
        let written = Written { what: item, through: writer };
        let missing = |how: &str| {
            let name = self.name(reader);
            CliError::failure(format!("{name} does not find {} {how}", file.address))
        };
        if !self.reads_back(&written, reader)? {
            return Err(missing("by its address"));
        }
        let client = self.cluster.nodes[reader].client()?;
        let by_hash: DecisionRead =
            client.read(&format!("/api/v1/decisions/{}", published.version.content))?;
        if by_hash.body.decision != file.text {
            return Err(missing("by its hash"));
        }
        let query = format!("/api/v1/decisions?author=tour&pattern={}", encode(&file.address));
        let found = self.cluster.interrupt.until("a fresh query", READ_LIMIT, || {
            let page: Option<DecisionPage> = passing(client.read(&query))?;
            let Some(page) = page.filter(|page| !page.stale) else { return Ok(None) };
            Ok(Some(page.items.iter().any(|item| item.content == published.version.content)))
        })?;
        if !found {
            return Err(missing("by a query"));
        }
        let roles: RolePage = client.read("/api/v1/roles")?;
        let readers = roles.items.iter().filter(|role| published.roles.contains(&role.name));
        let recipients = readers.map(|role| role.recipient.clone()).collect();
        self.written.push(written);
        Ok(recipients)
    }

    /// Waits until every node holds records and the keys of roles: before that, the loss of one may
    /// be the loss of a majority of the holders.
    fn wait_settled(&self) -> Result<(), CliError> {
        let size = self.cluster.nodes.len();
        self.cluster.interrupt.until("every node to hold records", START_LIMIT, || {
            for index in self.cluster.all() {
                let client = self.cluster.nodes[index].client()?;
                let Some(dht) = passing(client.read::<Dht>("/api/v1/dht"))? else {
                    return Ok(None);
                };
                let Some(roles) = passing(client.read::<RolePage>("/api/v1/roles"))? else {
                    return Ok(None);
                };
                let settled = dht.next_holders.is_none() && dht.holders.len() == size;
                if !settled || !roles.keys_held {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
    }

    fn count_acknowledged(&mut self) {
        let is_decision = |written: &&Written| matches!(written.what, Item::Decision { .. });
        self.summary.acknowledged = self.written.len();
        self.summary.decisions = self.written.iter().filter(is_decision).count();
    }

    /// The node after `index`, which is the same one in a cluster of one.
    fn other_than(&self, index: usize) -> usize {
        (index + 1) % self.cluster.nodes.len()
    }

    /// Keeps what was acknowledged of the writes of one node.
    fn keep_acknowledged(&mut self, attempts: &[Attempt], through: usize) {
        let acknowledged = attempts.iter().filter(|attempt| attempt.term().is_some());
        self.written
            .extend(acknowledged.map(|attempt| Written { what: attempt.what.clone(), through }));
        self.count_acknowledged();
    }

    /// True if a fresh read through `reader` gives what was written.
    fn reads_back(&self, written: &Written, reader: usize) -> Result<bool, CliError> {
        let client = self.cluster.nodes[reader].client()?;
        self.cluster.interrupt.until("a fresh read", READ_LIMIT, || {
            match written.what.read(client) {
                // What may be old proves nothing, neither way.
                Ok(read) if read.stale => Ok(None),
                Ok(read) => Ok(Some(read.holds)),
                Err(error) if error.exit == Exit::NotFound => Ok(Some(false)),
                Err(error) => passing(Err(error)),
            }
        })
    }
}
