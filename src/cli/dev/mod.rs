//! `bzzz dev`: a whole cluster of real processes on this machine, and a tour through it.
//!
//! Nothing is simulated: the nodes are processes of this same program that speak over loopback,
//! each with its own directory. `--tour` kills and stops some of them and shows that no
//! acknowledged write is lost. Without it a node that ends, most often because somebody has killed
//! it to see what happens, is told of and started again.
//!
//! 1. No process and, unless it was asked for or something failed, no file stays behind.
//! 2. A step of the tour is reported as done only after its effect was observed over the API.

mod cluster;
mod interrupt;
mod node;
mod process;
mod tour;
mod watch;
mod workdir;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::error::{CliError, Exit};
use super::output::{Format, Output};
use super::table::table;
use cluster::Cluster;
pub use process::die_with_parent;
use watch::Watch;
use workdir::WorkDir;

/// Arguments of `bzzz dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// How many nodes to start.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 5,
        value_parser = clap::value_parser!(u8).range(1..=15)
    )]
    pub nodes: u8,
    /// Keep the data in this directory, which must be new or empty.
    #[arg(long, value_name = "DIR", conflicts_with = "base_dir")]
    pub keep: Option<PathBuf>,
    /// Make the temporary directory in here.
    #[arg(long, value_name = "DIR")]
    pub base_dir: Option<PathBuf>,
    /// Store these files, kill the leader, stop a majority, check that nothing was lost, and end.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub tour: Option<Vec<PathBuf>>,
}

/// Runs a cluster until Ctrl-C, or a tour through it.
pub fn dev(args: &DevArgs, out: &Output) -> Result<(), CliError> {
    let files = args.tour.as_deref().map(tour::read_files).transpose()?;
    let work = WorkDir::make(args.keep.as_deref(), args.base_dir.as_deref())?;
    let size = usize::from(args.nodes);
    if let Some(files) = files {
        return tour::tour(size, work, &files, out);
    }
    out.say(&format!("starting {size} nodes in {}", work.path().display()));
    let mut cluster = Cluster::start(size, work)?;
    show(&cluster, out)?;
    // A signal is how this command is meant to end.
    let ended = serve(&mut cluster, out).map_err(|error| cluster.failed(error));
    out.say("stopping the nodes");
    cluster.stop();
    if cluster.work.is_kept() {
        out.say(&format!("the data is kept in {}", cluster.work.path().display()));
    }
    ended
}

/// Waits for Ctrl-C, and starts nodes again that end before it.
fn serve(cluster: &mut Cluster, out: &Output) -> Result<(), CliError> {
    let mut watch = Watch::begin(cluster);
    loop {
        let looked = watch.look(cluster, out);
        match looked.and_then(|()| cluster.interrupt.pause(interrupt::POLL * 10)) {
            Err(error) if error.exit == Exit::Interrupted => return Ok(()),
            other => other?,
        }
    }
}

/// A node, as `-o json` and `-o ndjson` print it.
#[derive(Debug, Serialize)]
struct Row {
    node: String,
    member: String,
    leader: bool,
    api: String,
    pid: u32,
    data_dir: PathBuf,
    token_file: PathBuf,
    log: PathBuf,
}

fn rows(cluster: &Cluster) -> Result<Vec<Row>, CliError> {
    let leader = cluster.status(0)?.role.leader;
    let row = |node: &node::DevNode| {
        let running = node.running.as_ref()?;
        Some(Row {
            node: node.name(),
            member: running.ready.member.clone(),
            leader: leader.as_deref() == Some(running.ready.member.as_str()),
            api: format!("http://{}", running.ready.api),
            pid: running.ready.pid,
            data_dir: node.data_dir(),
            token_file: node.token_file(),
            log: node.log(),
        })
    };
    Ok(cluster.nodes.iter().filter_map(row).collect())
}

/// Prints where the nodes are.
fn show(cluster: &Cluster, out: &Output) -> Result<(), CliError> {
    let rows = rows(cluster)?;
    let ready_ms = millis(cluster.ready_after);
    match out.format {
        Format::Json => {
            out.line(&serde_json::json!({ "schema": 1, "ready_ms": ready_ms, "items": rows }))
        }
        Format::Ndjson => rows.iter().try_for_each(|row| out.line(row)),
        Format::Table => {
            out.text(&render(&rows))?;
            out.say(&format!("\nready after {ready_ms:.0} ms; ask a node with"));
            if let Some(row) = rows.first() {
                let token = row.token_file.display();
                out.say(&format!("  bzzz status --addr {} --token-file {token}", row.api));
            }
            out.say("kill a node to watch the others go on; it is started again 5 s later");
            out.say("Ctrl-C ends all of them");
            Ok(())
        }
    }
}

fn render(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        [
            row.node.clone(),
            row.member.clone(),
            if row.leader { "leader" } else { "" }.to_owned(),
            row.api.clone(),
            row.pid.to_string(),
            row.data_dir.display().to_string(),
        ]
    };
    let cells: Vec<_> = rows.iter().map(cells).collect();
    table(["NODE", "MEMBER", "", "API", "PID", "DATA (TOKEN IN api.token)"], &cells)
}

/// A time in milliseconds with one decimal.
fn millis(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_listed_with_their_leader() {
        let row = |node: &str, leader| Row {
            node: node.into(),
            member: "1".into(),
            leader,
            api: "http://127.0.0.1:1".into(),
            pid: 7,
            data_dir: "/t/d".into(),
            token_file: "/t/d/api.token".into(),
            log: "/t/log".into(),
        };
        let expected = "\
NODE    MEMBER          API                 PID  DATA (TOKEN IN api.token)
node-1  1       leader  http://127.0.0.1:1  7    /t/d
node-2  1               http://127.0.0.1:1  7    /t/d
";
        assert_eq!(render(&[row("node-1", true), row("node-2", false)]), expected);
        assert!((millis(std::time::Duration::from_micros(1_234)) - 1.2).abs() < 1e-9);
    }
}
