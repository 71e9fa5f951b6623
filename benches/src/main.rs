//! Measures a cluster of three real nodes on this machine, and an etcd cluster of three beside it
//! where etcd is installed, in one run and in turns: both share the machine with this program, so
//! only what was measured in the same run can be compared.
//!
//! - *writes*: a value of 1 KiB, durable on a majority before it is acknowledged, over kept
//!   connections, each client waiting for its answer. Ours go over HTTP/1.1 as a conditional write
//!   of a configuration value, etcd's over gRPC as a put; clients are spread over all nodes.
//! - *handover*: from the request to the first write acknowledged under the next leader.
//! - *failover*: from SIGKILL of the leader to the first write acknowledged under the next leader.
#![allow(clippy::disallowed_methods, reason = "it measures real time, on a runtime of its own")]

mod connection;
mod etcd;
mod load;
mod ours;
mod process;
mod protobuf;
mod report;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use etcd::EtcdCluster;
use load::{Measured, load};
use ours::OurCluster;
use report::{Report, median};

/// What goes wrong ends the run, in words.
pub type Fallible<T> = Result<T, Box<dyn Error>>;

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
}

/// Loads, by the number of their clients.
const CLIENTS: [usize; 2] = [1, 64];

async fn writes(args: &Args, report: &mut Report, etcd: bool) -> Fallible<()> {
    let ours = OurCluster::start(&args.bzzz).await?;
    let theirs = if etcd { Some(EtcdCluster::start().await?) } else { None };
    let length = Duration::from_secs(u64::from(args.seconds));
    let mut figures = vec![(Vec::new(), Vec::new()); CLIENTS.len()];
    for round in 1..=args.rounds {
        for (clients, (own, peer)) in CLIENTS.into_iter().zip(&mut figures) {
            own.push(load(&ours, clients, length).await?);
            if let Some(theirs) = &theirs {
                peer.push(load(theirs, clients, length).await?);
            }
        }
        eprintln!("writes: round {round} of {} done", args.rounds);
    }
    for (clients, (own, peer)) in CLIENTS.into_iter().zip(&figures) {
        let name = if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
        let mut add = |what: &str, pick: fn(&Measured) -> f64| {
            let middle = |rounds: &[Measured]| median(rounds.iter().map(pick).collect());
            report.add(&format!("{name}: {what}"), middle(own), middle(peer));
        };
        add("writes a second", |measured| measured.per_second);
        add("p50, us", |measured| measured.p50_us);
        add("p99, us", |measured| measured.p99_us);
    }
    Ok(())
}

async fn handover(args: &Args, report: &mut Report, etcd: bool) -> Fallible<()> {
    let ours = OurCluster::start(&args.bzzz).await?;
    let theirs = if etcd { Some(EtcdCluster::start().await?) } else { None };
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        own.push(ours.handover().await?);
        if let Some(theirs) = &theirs {
            peer.push(theirs.handover().await?);
        }
    }
    report.add("handover, ms", median(own), median(peer));
    Ok(())
}

async fn failover(args: &Args, report: &mut Report, etcd: bool) -> Fallible<()> {
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        own.push(ours::failover(&args.bzzz)?);
        if etcd {
            peer.push(EtcdCluster::start().await?.failover().await?);
        }
        eprintln!("failover: round {round} of {} done", args.rounds);
    }
    report.add("failover, ms", median(own), median(peer));
    Ok(())
}

async fn run(args: &Args) -> Fallible<()> {
    if !args.bzzz.is_file() {
        let shown = args.bzzz.display();
        return Err(format!("there is no {shown}; build it with `cargo build --release`").into());
    }
    let version = etcd::version();
    match &version {
        Some(version) => eprintln!("beside {version}"),
        None => {
            eprintln!("etcd is not installed here (package etcd-server): nothing to compare with")
        }
    }
    let mut report = Report::new(version);
    let etcd = report.has_peer();
    writes(args, &mut report, etcd).await?;
    handover(args, &mut report, etcd).await?;
    failover(args, &mut report, etcd).await?;
    print!("{}", report.render());
    Ok(())
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(&args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
