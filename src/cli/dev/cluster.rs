//! A cluster of real processes on this machine.
//!
//! Flow: the first node founds the cluster and makes one join token for all others, which start at
//! once. The cluster is ready when every node sees all members, all voters and the same leader,
//! and a write was acknowledged.
//!
//! However a [`Cluster`] ends, its processes end with it.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::interrupt::{Interrupt, POLL};
use super::node::{DevNode, Origin};
use super::process::Children;
use super::workdir::{WorkDir, private_file};
use crate::cli::client::Client;
use crate::cli::error::{CliError, Exit};
use crate::http::routes::nodes::Nodes;
use crate::http::routes::status::Status;
use crate::http::routes::tokens::{NewToken, TokenRequest};
use crate::http::routes::values::UcxlWritten;
use crate::types::limits::VOTERS_MAX;

/// How long a node, or the cluster, may take to become ready.
pub const START_LIMIT: Duration = Duration::from_secs(60);
/// How long nodes may take to stop before they are killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// For how long the token is good with which nodes join.
const TOKEN_TTL_S: u64 = 600;

/// The cluster.
pub struct Cluster {
    /// Its nodes, by number.
    pub nodes: Vec<DevNode>,
    /// Where it lives.
    pub work: WorkDir,
    /// Ctrl-C.
    pub interrupt: Interrupt,
    /// Time from the start of the first process until all was ready.
    pub ready_after: Duration,
    children: Children,
    program: PathBuf,
}

impl Cluster {
    /// Starts a cluster of `size` nodes in `work` and waits until it is ready. The directory is
    /// kept if that fails.
    pub fn start(size: usize, work: WorkDir) -> Result<Self, CliError> {
        let program = std::env::current_exe()
            .map_err(|error| CliError::failure(format!("cannot find this program: {error}")))?;
        let children = Children::default();
        let interrupt = Interrupt::listen(children.clone())?;
        let nodes = Vec::with_capacity(size);
        let ready_after = Duration::ZERO;
        let mut cluster = Self { nodes, work, interrupt, ready_after, children, program };
        match cluster.launch(size) {
            Ok(()) => Ok(cluster),
            Err(error) => Err(cluster.failed(error)),
        }
    }

    fn launch(&mut self, size: usize) -> Result<(), CliError> {
        let began = Instant::now();
        self.nodes.push(DevNode::new(1, self.work.path(), Origin::Found)?);
        self.start_node(0)?;
        self.find_node(0)?;
        if size > 1 {
            let token_file = self.make_token(size)?;
            let address = self.nodes[0].running.as_ref().and_then(|r| r.ready.addresses.first());
            let address = address
                .cloned()
                .ok_or_else(|| CliError::failure("node-1 told no address to join at"))?;
            for number in 2..=size {
                let origin =
                    Origin::Join { address: address.clone(), token_file: token_file.clone() };
                self.nodes.push(DevNode::new(number, self.work.path(), origin)?);
                self.start_node(number - 1)?;
            }
            (1..size).try_for_each(|index| self.find_node(index))?;
        }
        self.wait_formed("the cluster forming")?;
        self.wait_first_write()?;
        self.ready_after = began.elapsed();
        Ok(())
    }

    /// What to tell when the cluster failed: keeps the directory and says where the logs are.
    pub fn failed(&mut self, error: CliError) -> CliError {
        // Nobody reads on, or nobody waits any more: nothing has failed.
        if matches!(error.exit, Exit::Interrupted | Exit::Ok) {
            return error;
        }
        self.work.keep();
        let logs = format!("logs and data are kept in {}", self.work.path().display());
        let hint = match &error.hint {
            Some(hint) => format!("{hint}; {logs}"),
            None => logs,
        };
        error.hint(hint)
    }

    /// Starts the process of a node.
    pub fn start_node(&mut self, index: usize) -> Result<u32, CliError> {
        self.nodes[index].start(&self.program, &self.children)
    }

    /// Waits until a node serves its API.
    pub fn find_node(&mut self, index: usize) -> Result<(), CliError> {
        let (node, children) = (&mut self.nodes[index], &self.children);
        let what = format!("the start of {}", node.name());
        self.interrupt.until(&what, START_LIMIT, || {
            node.check(children)?;
            Ok(node.find()?.then_some(()))
        })
    }

    /// Sends a signal to the process of a node.
    pub fn signal(&self, index: usize, signal: Signal) -> Result<(), CliError> {
        self.children.signal(self.nodes[index].number, signal)
    }

    /// Waits until the process of a node has ended.
    pub fn wait_ended(&self, index: usize) -> Result<(), CliError> {
        let number = self.nodes[index].number;
        self.interrupt
            .until("the end of a process", STOP_LIMIT, || Ok(self.children.ended(number).map(drop)))
    }

    /// How the process of a node has ended, if it has; said once.
    pub fn ended(&self, index: usize) -> Option<ExitStatus> {
        self.children.ended(self.nodes[index].number)
    }

    /// An error if one of these nodes has ended by itself.
    pub fn check(&self, indices: &[usize]) -> Result<(), CliError> {
        indices.iter().try_for_each(|index| self.nodes[*index].check(&self.children))
    }

    /// All nodes.
    pub fn all(&self) -> Vec<usize> {
        (0..self.nodes.len()).collect()
    }

    /// Voters that a cluster of this size has.
    pub fn voters(&self) -> usize {
        self.nodes.len().min(VOTERS_MAX)
    }

    /// Makes the token with which all other nodes join.
    fn make_token(&self, size: usize) -> Result<PathBuf, CliError> {
        let uses = u32::try_from(size - 1).unwrap_or(u32::MAX);
        let request = TokenRequest { ttl_s: TOKEN_TTL_S, uses };
        let client = self.nodes[0].client()?;
        let token: NewToken = self.interrupt.until("making a join token", START_LIMIT, || {
            self.check(&[0])?;
            match client.post("/api/v1/join-tokens", &request) {
                Ok(answer) => Ok(Some(answer.parse()?)),
                Err(error) if is_passing(&error) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        let path = self.work.path().join("join.token");
        private_file(&path, &format!("{}\n", token.token))?;
        Ok(path)
    }

    /// Waits until all nodes see the whole cluster and the same leader, and can write.
    pub fn wait_formed(&self, what: &str) -> Result<(), CliError> {
        let mut missing = String::new();
        let formed = self.interrupt.until(what, START_LIMIT, || {
            self.check(&self.all())?;
            match self.what_is_missing()? {
                None => Ok(Some(())),
                Some(text) => {
                    missing = text;
                    Ok(None)
                }
            }
        });
        formed.map_err(|error| match (error.exit, missing.as_str()) {
            (Exit::Interrupted, _) | (_, "") => error,
            _ => CliError { message: format!("{}: {missing}", error.message), ..error },
        })
    }

    /// What some node does not see yet, or nothing if all is well.
    fn what_is_missing(&self) -> Result<Option<String>, CliError> {
        let (size, wanted) = (self.nodes.len(), self.voters());
        let mut first = None;
        for node in &self.nodes {
            let name = node.name();
            let probe = node.probe()?;
            let status = passing(probe.read::<Status>("/api/v1/status"))?;
            let ready = passing(probe.ready())?;
            let (Some(status), Some(ready)) = (status, ready) else {
                return Ok(Some(format!("{name} does not answer")));
            };
            let (members, voters) = (status.members, status.role.voters.len());
            if members != size || voters != wanted {
                return Ok(Some(format!(
                    "{name} sees {members} of {size} members and {voters} of {wanted} voters"
                )));
            }
            let Some(leader) = status.role.leader else {
                return Ok(Some(format!("{name} knows no leader")));
            };
            if !ready.ready || !ready.writable {
                let reason = ready.reason.unwrap_or_else(|| "not ready".to_owned());
                return Ok(Some(format!("{name} takes no writes ({reason})")));
            }
            let now = (status.role.term, leader);
            if *first.get_or_insert_with(|| now.clone()) != now {
                return Ok(Some(format!("{name} sees another leader than node-1")));
            }
        }
        Ok(None)
    }

    fn wait_first_write(&self) -> Result<(), CliError> {
        let client = self.nodes[0].client()?;
        self.interrupt.until("the first write", START_LIMIT, || {
            self.check(&self.all())?;
            match write_new(client, "monitoring/dev/ready", b"ready") {
                Ok(_) => Ok(Some(())),
                // An attempt whose answer was lost may have been the first one.
                Err(error) if error.code() == Some("VERSION_MISMATCH") => Ok(Some(())),
                Err(error) if is_passing(&error) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// The status as one node tells it.
    pub fn status(&self, index: usize) -> Result<Status, CliError> {
        self.nodes[index].probe()?.read("/api/v1/status")
    }

    /// The members as one node sees them.
    pub fn members(&self, index: usize) -> Result<Nodes, CliError> {
        self.nodes[index].probe()?.read("/api/v1/nodes")
    }

    /// The index of the node with a member id.
    pub fn index_of(&self, member: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.member().is_ok_and(|id| id == member))
    }

    /// Ends all nodes: politely at first, then not.
    pub fn stop(&self) {
        self.children.signal_all(Signal::TERM);
        // A stopped process does not notice that it is to end.
        self.children.signal_all(Signal::CONT);
        let deadline = Instant::now() + STOP_LIMIT;
        // Not ended by Ctrl-C, which has led here; a second one kills the children.
        while !self.children.all_ended() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        self.children.kill_all();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes a value that must be new.
pub fn write_new(client: &Client, key: &str, value: &[u8]) -> Result<UcxlWritten, CliError> {
    let headers = [("if-none-match", "*"), ("content-type", "application/octet-stream")];
    client.send("PUT", &format!("/api/v1/ucxl/{key}"), &headers, Some(value))?.parse()
}

/// True for errors that pass by themselves: nobody there yet, no leader yet.
pub fn is_passing(error: &CliError) -> bool {
    match &error.problem {
        Some(problem) => problem.retryable,
        None => error.exit == Exit::Unreachable,
    }
}

/// The answer, or nothing if it may come later.
pub fn passing<T>(answer: Result<T, CliError>) -> Result<Option<T>, CliError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_passing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
