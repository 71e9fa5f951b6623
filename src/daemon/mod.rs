//! `bzzz run`: the daemon.
//!
//! Flow: configuration -> data directory, lock, key -> sockets, where the API says from then on
//! that the node is starting -> records, which can take long -> who this node is -> join if it has
//! to -> the tree of actors -> the API is opened -> the ready file. Then it waits for a signal, or
//! for the node to end by itself.
//!
//! Invariants:
//! 1. Whatever can be wrong with the configuration, the directory or the ports is found before a
//!    join token is spent.
//! 2. No secret is printed, logged, or taken from the command line.
//! 3. A signal ends the process in order, also while it starts: streams, leadership, actors,
//!    connections.
//! 4. A process that ends without having been asked does not end with 0.
#![allow(clippy::disallowed_methods, reason = "the daemon's shell runs on real time")]

mod address;
mod args;
mod data_dir;
mod holdings;
mod log;
mod origin;
mod scope;
mod signals;
mod start;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{self, Either};

pub use args::RunArgs;

use crate::actors::env::Env;
use crate::config::{ConfigError, Loaded, load};
use crate::core::event::Event;
use crate::http::{ServeError, TokenFileError};
use crate::node::{Ended, StartError};
use crate::ports::Sink;
use crate::types::journal::JournalError;
use log::Log;
use signals::Signals;
use start::{Started, Starting};

/// Threads that run tasks. One would do for an idle node; the second keeps heartbeats going while
/// the first is busy.
const WORKERS: usize = 2;
/// Threads for calls that block: name resolution and probes of the machine.
const BLOCKING_THREADS: usize = 8;
/// How long tasks may take to end after everything was stopped.
const RUNTIME_WAIT: Duration = Duration::from_secs(1);

/// Exit code for wrong flags or configuration.
const EXIT_USAGE: u8 = 2;
/// Exit code for a node that failed: a bug, not a mistake of its user.
const EXIT_SOFTWARE: u8 = 70;

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The flags do not go together, or the environment is unsafe.
    #[error("{0}")]
    Usage(String),
    /// The membership cannot be had from what was given.
    #[error(transparent)]
    Origin(#[from] origin::OriginError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] data_dir::DataDirError),
    /// The journals cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The key cannot be had.
    #[error(transparent)]
    Vault(#[from] crate::adapters::vault::VaultError),
    /// The record store cannot be used.
    #[error(transparent)]
    Records(#[from] crate::adapters::records::RecordsError),
    /// The token of the API cannot be had.
    #[error(transparent)]
    Token(#[from] TokenFileError),
    /// The API cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The network does not start.
    #[error(transparent)]
    Network(#[from] crate::adapters::network::NetworkError),
    /// The node does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Something else of the system fails.
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
    /// The node had to stop.
    #[error("{0}")]
    Halted(crate::core::ctx::Halt),
    /// A second signal came before the first one had its effect.
    #[error("stopped at once by a second signal")]
    Interrupted,
    /// Its actors ended, and nobody had asked them to.
    #[error("the node ended without having been asked; the log above says what failed")]
    EndedByItself,
    /// A part of the node failed too often.
    #[error("the node gave up because a part of it failed again and again: {0}")]
    GaveUp(String),
}

impl RunError {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) | Self::Origin(_) => EXIT_USAGE,
            Self::GaveUp(_) | Self::EndedByItself => EXIT_SOFTWARE,
            _ => 1,
        }
    }
}

/// Runs a node until it is told to stop.
pub fn run(args: RunArgs) -> ExitCode {
    let Ok(log) = Log::open() else { return ExitCode::from(EXIT_SOFTWARE) };
    let code = match try_run(&args, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.say(&format!("bzzz: {error}"));
            ExitCode::from(error.exit_code())
        }
    };
    log.flush();
    code
}

fn try_run(args: &RunArgs, log: &Log) -> Result<(), RunError> {
    if std::env::var_os("SSLKEYLOGFILE").is_some_and(|path| !path.is_empty()) {
        let reason = "SSLKEYLOGFILE is set, so the secrets of all connections would be written to \
                      a file; unset it";
        return Err(RunError::Usage(reason.to_owned()));
    }
    let loaded = load(&args.sources()?)?;
    let text = log.start(&loaded.config.telemetry.log).map_err(RunError::Usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("bzzz")
        .enable_all()
        .build()
        .map_err(|error| RunError::System("start the runtime", error))?;
    let result = runtime.block_on(serve(args, &loaded, log, text));
    runtime.shutdown_timeout(RUNTIME_WAIT);
    result
}

async fn serve(args: &RunArgs, loaded: &Loaded, log: &Log, text: bool) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let reopen = || tracing::info!("a signal to reopen files came before the node had started");
    let prepared = {
        let prepare = std::pin::pin!(Starting::prepare(args, loaded, log.lines()));
        let signal = std::pin::pin!(signals.end(reopen));
        match future::select(prepare, signal).await {
            Either::Left((result, _)) => Some(result?),
            Either::Right(_) => None,
        }
    };
    let Some(starting) = prepared else {
        tracing::info!("stopped before the node had started");
        return Ok(());
    };
    let network = starting.network();
    let begun = {
        let start = std::pin::pin!(starting.start());
        let signal = std::pin::pin!(signals.end(reopen));
        match future::select(start, signal).await {
            Either::Left((result, _)) => Some(result),
            Either::Right(_) => None,
        }
    };
    let started = match begun {
        Some(Ok(started)) => started,
        Some(Err(error)) => {
            network.shutdown().await;
            return Err(error);
        }
        None => {
            tracing::info!("stopped before the node had started");
            network.shutdown().await;
            return Ok(());
        }
    };
    started.tell(args, text.then_some(log))?;
    let ended = attend(started, &mut signals).await;
    tracing::debug!("the actors have ended");
    network.shutdown().await;
    tracing::debug!("the connections are closed");
    ended
}

/// Waits for the end, and brings it about after a signal.
async fn attend(started: Started, signals: &mut Signals) -> Result<(), RunError> {
    let Started { node, server, token, .. } = started;
    let reopen = || match token.reload(node.env().ports.entropy.seed()) {
        Ok(()) => tracing::info!("the token of the API was read again"),
        Err(error) => tracing::warn!(%error, "the token of the API stays as it was"),
    };
    let sink: Sink<Event> = Arc::new(|event: Event| log::event(&event));
    let (_logging, missed, _) = node.env().events.listen(0, sink);
    missed.iter().for_each(log::event);
    let publishing = tokio::spawn(address::publish(node.clone()));
    let waiting = node.clone();
    let mut ended = tokio::spawn(async move { waiting.ended().await });
    let by_itself = {
        let signal = std::pin::pin!(signals.end(reopen));
        match future::select(&mut ended, signal).await {
            Either::Left((how, _)) => Some(how),
            Either::Right(_) => None,
        }
    };
    publishing.abort();
    let how = match by_itself {
        // Ended with 0, it would not be started again.
        Some(Ok(Ended::Stopped)) => return Err(RunError::EndedByItself),
        Some(how) => {
            server.shutdown().await;
            how
        }
        None => {
            tracing::info!("stopping");
            let orderly = std::pin::pin!(async {
                server.shutdown().await;
                tracing::debug!("the API is closed");
                node.stop("the node is stopping").await;
                ended.await
            });
            let again = std::pin::pin!(signals.end(reopen));
            match future::select(orderly, again).await {
                Either::Left((how, _)) => how,
                Either::Right(_) => return Err(RunError::Interrupted),
            }
        }
    };
    match how {
        Ok(Ended::Stopped) => Ok(()),
        Ok(Ended::Halted(why)) => Err(RunError::Halted(why)),
        Ok(Ended::GaveUp) => Err(RunError::GaveUp(last_failures(node.env()))),
        Err(error) => Err(RunError::GaveUp(error.to_string())),
    }
}

fn last_failures(env: &Env) -> String {
    let rows = env.board.rows().into_iter();
    let failed = rows.filter_map(|(path, row)| Some(format!("{path}: {}", row.last_failure?)));
    failed.collect::<Vec<_>>().join("; ")
}
