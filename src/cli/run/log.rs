//! The log of a running node, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::config::{Log, LogFormat};
use crate::core::event::Event;

/// Begins to write the log. Returns true if it is text for people.
pub fn start(config: &Log) -> Result<bool, String> {
    let terminal = std::io::stderr().is_terminal();
    let text = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let filter = EnvFilter::try_new(directives(&config.level))
        .map_err(|error| format!("telemetry.log.level: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if text {
        builder.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none()).try_init()
    } else {
        builder.json().try_init()
    };
    started.map_err(|error| format!("cannot start the log: {error}"))?;
    Ok(text)
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

/// Writes an event to the log.
pub fn event(event: &Event) {
    match serde_json::to_string(&event.body) {
        Ok(body) => tracing::info!(target: "bzzz::event", seq = event.seq, "{body}"),
        Err(error) => tracing::warn!(%error, "an event has no JSON"),
    }
}
