//! Measures a cluster of three real nodes on this machine, and an etcd cluster of three beside it
//! where etcd is installed, in one run and in turns: both share the machine with this program, so
//! only what was measured in the same run can be compared.
//!
//! - *loads*: 1 KiB, over kept connections, each client waiting for its answer; clients are spread
//!   over all nodes. Ours go over HTTP/1.1, etcd's over gRPC. Conditional writes of a configuration
//!   value, contents and decisions are compared with a put: all are durable on a majority before they
//!   are acknowledged. Reads of a decision are compared with a linearizable read.
//! - *handover*: from the request to the first write acknowledged under the next leader.
//! - *failover*: from SIGKILL of the leader to the first write acknowledged under the next leader.
//! - *crashes*: no figure, but a check under load: whether each decision that was acknowledged while
//!   nodes were killed and started again is read back.
//! - *clocks*: seconds until all works again after the clock of a node was wrong.
//! - *logs*: what becomes of writes and of a node that nobody listens to any more.
//! - *neighbours*: seconds to join and to come back, and milliseconds of `/health`, beside many
//!   connections that do nothing.
//! - *age*: files in memory, beside the library that ours builds on, as it comes.
#![allow(clippy::disallowed_methods, reason = "it measures real time, on a runtime of its own")]

mod age;
mod bulk;
mod clocks;
mod connection;
mod crashes;
mod etcd;
mod health;
mod load;
mod logs;
mod neighbours;
mod nodes;
mod ours;
mod process;
mod protobuf;
mod report;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use etcd::EtcdCluster;
use load::{Measured, Work, load};
use ours::OurCluster;
use report::{Table, median};

/// What goes wrong ends the run, in words.
pub type Fallible<T> = Result<T, Box<dyn Error>>;

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Writes and reads of many clients.
    Loads,
    /// Planned changes of leaders.
    Handover,
    /// Leaders that are killed.
    Failover,
    /// Encryption.
    Age,
    /// A gibibyte beside heartbeats.
    Bulk,
    /// Nodes that are killed one after another while clients publish; only if it is named.
    Crashes,
    /// Clocks that are wrong for a moment; only if it is named.
    Clocks,
    /// Logs that nobody reads any more; only if it is named.
    Logs,
    /// Connections that do nothing; only if it is named.
    Neighbours,
}

/// What takes part only if it is named: it is no comparison.
const NAMED_ONLY: [Part; 4] = [Part::Crashes, Part::Clocks, Part::Logs, Part::Neighbours];

#[derive(Parser)]
#[command(
    name = "bzzz-bench",
    about = "Measures a BZZZ cluster, beside etcd where it is installed"
)]
struct Args {
    /// The program to measure.
    #[arg(long, default_value = "target/release/bzzz")]
    bzzz: PathBuf,
    /// Rounds; each figure is the median of them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=99))]
    rounds: u8,
    /// Seconds for which each load is measured in each round.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=120))]
    seconds: u8,
    /// Measure only this; can be given more than once.
    #[arg(long)]
    only: Vec<Part>,
    /// Of the loads, measure only those of this name, such as "decision"; can be given more than
    /// once.
    #[arg(long)]
    load: Vec<String>,
    /// Seconds for which clients publish while nodes are killed.
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u16).range(20..=36_000))]
    crash_seconds: u16,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() && !NAMED_ONLY.contains(&part) || self.only.contains(&part)
    }
}

/// A load, by what its clients do and how many there are.
const LOADS: [(&str, Work, usize); 8] = [
    ("conditional write", Work::Head, 1),
    ("conditional write", Work::Head, 64),
    ("content", Work::Content, 1),
    ("content", Work::Content, 64),
    ("decision", Work::Decision, 1),
    ("decision", Work::Decision, 64),
    ("read", Work::Read, 1),
    ("read", Work::Read, 64),
];

async fn loads(args: &Args, table: &mut Table, etcd: bool) -> Fallible<()> {
    let ours = OurCluster::start(&args.bzzz).await?;
    let theirs = if etcd { Some(EtcdCluster::start().await?) } else { None };
    let length = Duration::from_secs(u64::from(args.seconds));
    let wanted = |(name, ..): &(&str, Work, usize)| {
        args.load.is_empty() || args.load.iter().any(|wanted| wanted == name)
    };
    let loads: Vec<_> = LOADS.into_iter().filter(wanted).collect();
    let mut figures = vec![(Vec::new(), Vec::new()); loads.len()];
    for round in 1..=args.rounds {
        for (&(_, work, clients), (own, peer)) in loads.iter().zip(&mut figures) {
            own.push(load(&ours, work, clients, length).await?);
            if let Some(theirs) = &theirs {
                peer.push(load(theirs, work, clients, length).await?);
            }
        }
        eprintln!("loads: round {round} of {} done", args.rounds);
    }
    for ((name, work, clients), (own, peer)) in loads.into_iter().zip(&figures) {
        let plural = if clients == 1 { "" } else { "s" };
        let mut add = |what: &str, pick: fn(&Measured) -> f64| {
            let middle = |rounds: &[Measured]| median(rounds.iter().map(pick).collect());
            let peer = etcd.then(|| middle(peer));
            table.add(&format!("{name}, {clients} client{plural}: {what}"), middle(own), peer);
        };
        add("a second", |measured| measured.per_second);
        add("p50, us", |measured| measured.p50_us);
        add("p99, us", |measured| measured.p99_us);
        add("processor, us", |measured| measured.processor_us);
        if work != Work::Read {
            add("fsyncs a node", |measured| measured.fsyncs);
        }
    }
    Ok(())
}

async fn handover(args: &Args, table: &mut Table, etcd: bool) -> Fallible<()> {
    let ours = OurCluster::start(&args.bzzz).await?;
    let theirs = if etcd { Some(EtcdCluster::start().await?) } else { None };
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        own.push(ours.handover().await?);
        if let Some(theirs) = &theirs {
            peer.push(theirs.handover().await?);
        }
    }
    table.add("handover, ms", median(own), etcd.then(|| median(peer)));
    Ok(())
}

async fn failover(args: &Args, table: &mut Table, etcd: bool) -> Fallible<()> {
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        own.push(ours::failover(&args.bzzz)?);
        if etcd {
            peer.push(EtcdCluster::start().await?.failover().await?);
        }
        eprintln!("failover: round {round} of {} done", args.rounds);
    }
    table.add("failover, ms", median(own), etcd.then(|| median(peer)));
    Ok(())
}

fn check_program(args: &Args) -> Fallible<()> {
    let shown = args.bzzz.display();
    let missing = || format!("there is no {shown}; build it with `cargo build --release`").into();
    if args.bzzz.is_file() { Ok(()) } else { Err(missing()) }
}

async fn clusters(args: &Args) -> Fallible<()> {
    check_program(args)?;
    let version = etcd::version();
    match &version {
        Some(version) => eprintln!("beside {version}"),
        None => {
            eprintln!("etcd is not installed here (package etcd-server): nothing to compare with")
        }
    }
    let etcd = version.is_some();
    let mut table = Table::new(version.as_deref().unwrap_or("-"));
    if args.wants(Part::Loads) {
        loads(args, &mut table, etcd).await?;
    }
    if args.wants(Part::Handover) {
        handover(args, &mut table, etcd).await?;
    }
    if args.wants(Part::Failover) {
        failover(args, &mut table, etcd).await?;
    }
    print!("{}", table.render());
    Ok(())
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let run = || -> Fallible<()> {
        let runtime = runtime?;
        if [Part::Loads, Part::Handover, Part::Failover].into_iter().any(|part| args.wants(part)) {
            runtime.block_on(clusters(&args))?;
        }
        if NAMED_ONLY.into_iter().any(|part| args.wants(part)) {
            check_program(&args)?;
        }
        if args.wants(Part::Clocks) {
            runtime.block_on(clocks::run(&args.bzzz))?;
        }
        if args.wants(Part::Logs) {
            runtime.block_on(logs::run(&args.bzzz))?;
        }
        if args.wants(Part::Neighbours) {
            runtime.block_on(neighbours::run(&args.bzzz))?;
        }
        if args.wants(Part::Crashes) {
            let length = Duration::from_secs(args.crash_seconds.into());
            runtime.block_on(crashes::run(&args.bzzz, length))?.judge()?;
        }
        if args.wants(Part::Bulk) {
            print!("{}", bulk::measure(args.rounds)?.render());
        }
        if args.wants(Part::Age) {
            print!("{}", age::measure(args.rounds)?.render());
        }
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
