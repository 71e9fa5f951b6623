//! What answers at the doors: the process before it is a member, and the node once it is one.
//!
//! States: *setup* (starting, then perhaps joining a cluster) -> *running*, for good. A route says in which of them it
//! is answered.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, watch};
use warp::http::header;

use super::answer::{Answer, ok, unexpected};
use super::api::{Done, SCHEMA};
use super::counts::Counts;
use super::problem::ApiError;
use super::server::Connections;
use super::token::ApiToken;
use crate::adapters::clock::SystemClock;
use crate::adapters::journal::JournalStats;
use crate::adapters::lines::Lines;
use crate::adapters::meter::Registry;
use crate::adapters::network::NetworkStats;
use crate::adapters::records::RecordStats;
use crate::core::front;
use crate::messages::Command;
use crate::node::Node;
use crate::services::decisions::Decisions;
use crate::types::limits::{HTTP_LISTENERS_MAX, HTTP_LOCAL_LISTENERS_MAX};
use crate::types::{Lock, Mono, ProposalId, metrics};

/// What answers requests, from the moment at which the doors open.
pub struct Api {
    phase: Mutex<Phase>,
    /// The token of the API.
    pub token: ApiToken,
    /// What is counted of requests.
    pub(super) counts: Counts,
    /// The OpenAPI document, which is made once it is asked for. It is handed in, as the table is above what serves it.
    pub(super) document: fn() -> &'static [u8],
}

/// How far this process is.
#[derive(Clone)]
pub enum Phase {
    /// It is no member, or not yet.
    Setup(Setup),
    /// It is one.
    Running(Arc<App>),
}

/// A process that is no member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// It starts.
    Starting,
    /// It asks a cluster to let it in.
    Joining,
}

impl Setup {
    /// Why most of the API does not answer.
    pub fn not_yet(self) -> ApiError {
        let (code, detail) = match self {
            Self::Joining => (
                "JOINING",
                "this node is joining a cluster and serves nothing before it is a member",
            ),
            Self::Starting => ("STARTING", "this node is starting and serves nothing yet"),
        };
        ApiError::new(code, detail)
            .retryable()
            .header(header::RETRY_AFTER, "1")
            .hint("repeat the request in a moment; the log of the node says what it waits for")
    }
}

impl Api {
    /// The API of a process that has just started.
    pub fn new(token: ApiToken, meter: Arc<Registry>, document: fn() -> &'static [u8]) -> Self {
        let phase = Mutex::new(Phase::Setup(Setup::Starting));
        Self { phase, token, counts: Counts::new(meter), document }
    }

    /// How far this process is.
    pub fn phase(&self) -> Phase {
        self.phase.locked().clone()
    }

    /// From now on the answer is that the node joins a cluster.
    pub fn joins(&self) {
        self.enter(Phase::Setup(Setup::Joining));
    }

    /// From now on `app` answers.
    pub fn run(&self, app: App) {
        self.enter(Phase::Running(Arc::new(app)));
    }

    fn enter(&self, phase: Phase) {
        let mut current = self.phase.locked();
        debug_assert!(matches!(*current, Phase::Setup(_)), "a node that runs goes on running");
        *current = phase;
    }
}

/// Counters of adapters, for `/metrics`.
#[derive(Clone, Default)]
pub struct Sources {
    /// What goes there by itself.
    pub meter: Arc<Registry>,
    /// Of the network.
    pub network: Option<Arc<NetworkStats>>,
    /// Of the journals, by name.
    pub journals: Vec<(&'static str, Arc<JournalStats>)>,
    /// Of the record store.
    pub records: Option<Arc<RecordStats>>,
    /// The log's way out.
    pub log: Option<Lines>,
}

impl Sources {
    /// Has the adapters say from now on how long things take.
    pub fn measure(&self) {
        for (name, stats) in &self.journals {
            let timing = |family| self.meter.histogram(family, &[name]);
            stats.fsync_took.goes_to(timing(&metrics::JOURNAL_FSYNC_SECONDS));
            stats.write_took.goes_to(timing(&metrics::JOURNAL_WRITE_SECONDS));
        }
        if let Some(stats) = &self.records {
            let timing = |family| self.meter.histogram(family, &[]);
            stats.fsync_took.goes_to(timing(&metrics::RECORDS_FSYNC_SECONDS));
            stats.write_took.goes_to(timing(&metrics::RECORDS_WRITE_SECONDS));
        }
    }
}

/// What the routes of a running node share.
pub struct App {
    /// The node.
    pub node: Arc<Node>,
    /// Its display name until the cluster tells one.
    pub name: String,
    /// How often its data directory was started.
    pub boot_counter: u64,
    /// When it was started.
    pub started: Mono,
    /// Where the API listens.
    pub address: SocketAddr,
    /// The clock, which may be set wrong, on a node that lets faults be injected; else nothing.
    pub fault_injection: Option<Arc<SystemClock>>,
    /// Counters of the adapters.
    pub sources: Sources,
    /// Turns true when the server stops; streams end then.
    pub(super) stopping: watch::Sender<bool>,
    /// Decisions on the node.
    pub(super) decisions: Decisions,
    /// Places for clients that listen to events.
    pub(super) listeners: Arc<Semaphore>,
    /// Places for those of them that came through the socket.
    pub(super) local_listeners: Arc<Semaphore>,
    /// The connections that requests come on.
    pub(super) connections: Connections,
    /// What the node counts and measures.
    pub(super) meter: Arc<Registry>,
}

impl App {
    /// What the routes share on `node`.
    pub fn new(
        node: Arc<Node>,
        name: String,
        boot_counter: u64,
        address: SocketAddr,
        connections: Connections,
        sources: Sources,
    ) -> Self {
        let started = node.env().ports.clock.now();
        let decisions = Decisions::of(&node);
        Self {
            decisions,
            node,
            name,
            boot_counter,
            started,
            address,
            fault_injection: None,
            stopping: watch::Sender::new(false),
            listeners: Arc::new(Semaphore::new(HTTP_LISTENERS_MAX)),
            local_listeners: Arc::new(Semaphore::new(HTTP_LOCAL_LISTENERS_MAX)),
            connections,
            meter: sources.meter.clone(),
            sources,
        }
    }

    /// How the node stands.
    pub async fn status(&self) -> Result<Box<front::Status>, ApiError> {
        match self.ask(front::Request::Status).await? {
            front::Reply::Status(status) => Ok(status),
            _ => Err(unexpected()),
        }
    }

    /// Has a command decided.
    pub async fn write(
        &self,
        id: Option<ProposalId>,
        command: Command,
    ) -> Result<front::Written, ApiError> {
        match self.ask(front::Request::Write { id, command }).await? {
            front::Reply::Written(result) => Ok(result?),
            _ => Err(unexpected()),
        }
    }

    /// Has a command decided that has nothing more to say.
    pub async fn done(&self, command: impl Into<Command>) -> Answer {
        let written = self.write(None, command.into()).await?;
        ok(&Done { schema: SCHEMA, done: true, index: written.log_id.index })
    }

    /// Asks the front.
    pub async fn ask(&self, request: front::Request) -> Result<front::Reply, ApiError> {
        Ok(self.node.env().directory.front.ask(request).await?)
    }

    /// What faults are injected into, or why none are.
    pub fn breakable(&self, refusal: &str) -> Result<&SystemClock, ApiError> {
        self.fault_injection.as_deref().ok_or_else(|| {
            ApiError::new("FAULT_INJECTION_OFF", refusal)
                .hint("start the node with --enable-fault-injection")
        })
    }
}
