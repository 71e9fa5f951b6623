//! The log of a running node, on standard error.
//!
//! 1. Nothing here waits for whoever reads it, or fails because of them: all of it goes through
//!    [`Lines`].
//! 2. A panic is a line of the log like any other.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::adapters::lines::Lines;
use crate::config::LogFormat;
use crate::core::event::Event;

/// How long the end of the process waits for a reader.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Where all that a node has to say goes.
#[derive(Clone)]
pub struct Log {
    lines: Lines,
}

impl Log {
    /// Takes over the standard error.
    pub fn open() -> io::Result<Self> {
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        Ok(Self { lines: Lines::start(stderr, missing) })
    }

    /// Begins to write the log. Returns true if it is text for people.
    pub fn start(&self, config: &crate::config::Log) -> Result<bool, String> {
        let terminal = io::stderr().is_terminal();
        let text = match config.format {
            LogFormat::Auto => terminal,
            LogFormat::Text => true,
            LogFormat::Json => false,
        };
        let filter = EnvFilter::try_new(directives(&config.level))
            .map_err(|error| format!("telemetry.log.level: {error}"))?;
        let lines = self.lines.clone();
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            // It would be told of on standard error, which panics where that is closed.
            .log_internal_errors(false)
            .with_writer(move || lines.line());
        let started = if text {
            builder.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none()).try_init()
        } else {
            builder.json().try_init()
        };
        started.map_err(|error| format!("cannot start the log: {error}"))?;
        std::panic::set_hook(Box::new(panicked));
        Ok(text)
    }

    /// Says something to people.
    pub fn say(&self, text: &str) {
        self.lines.push(format!("{text}\n").into_bytes());
    }

    /// Waits a little until everything was written, before the process ends.
    pub fn flush(&self) {
        self.lines.flush(LAST_WAIT);
    }

    /// Lines that nobody will see.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }
}

/// What stands where lines are missing. It cannot go through the log, as it is about it.
fn missing(count: u64) -> String {
    format!("bzzz: {count} lines of the log are missing here: nobody took them in time\n")
}

fn panicked(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let text = info.payload_as_str().unwrap_or("no words");
    tracing::error!(
        target: "bzzz::panic", thread = thread.name(), place, "a part of this node failed: {text}"
    );
}

/// A plain level is meant for this program; what the libraries below it say at that level would
/// drown it, so of them only warnings are kept. openraft warns of every heartbeat to a peer that is
/// away, and Kademlia where there is nobody else, so of them not even those.
fn directives(level: &str) -> String {
    match level {
        "warn" | "info" | "debug" | "trace" => {
            format!("warn,openraft=error,libp2p_kad=error,bzzz={level}")
        }
        other => other.to_owned(),
    }
}

/// Writes an event to the log: what happens to the cluster always, what clients write only for debugging, as a line for
/// each write costs as much as a part of the write itself.
pub fn event(event: &Event) {
    let is_traffic = event.body.is_traffic();
    if is_traffic && !tracing::enabled!(target: "bzzz::event", tracing::Level::DEBUG) {
        return;
    }
    match serde_json::to_string(&event.body) {
        Ok(body) if is_traffic => tracing::debug!(target: "bzzz::event", seq = event.seq, "{body}"),
        Ok(body) => tracing::info!(target: "bzzz::event", seq = event.seq, "{body}"),
        Err(error) => tracing::warn!(%error, "an event has no JSON"),
    }
}
