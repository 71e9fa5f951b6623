//! The simulator's command line.
#![allow(clippy::disallowed_methods, reason = "it measures how long a run took")]

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use bzzz::types::fault::{Fault, plant};
use bzzz_sim::clocks::every_wrong_clock;
use bzzz_sim::nemesis::FaultKind;
use bzzz_sim::run::{Report, run};
use bzzz_sim::world::Settings;
use clap::{Args, Parser, Subcommand};

/// As the daemon's: a run makes and drops as many small messages as all of its nodes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "bzzz-sim", about = "Deterministic simulation of BZZZ clusters", version)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Args, Clone)]
struct Shape {
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=20))]
    nodes: u8,
    /// Virtual seconds under faults.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// No faults.
    #[arg(long)]
    calm: bool,
    /// One kind of fault only.
    #[arg(long, value_name = "KIND", value_parser = parse_kind, conflicts_with = "calm")]
    only: Option<&'static str>,
    /// Break a rule of the product, to see that it is noticed.
    #[arg(long, value_name = "FAULT", value_parser = parse_fault)]
    plant: Option<&'static str>,
}

#[derive(Subcommand)]
enum Sub {
    /// One run.
    Run {
        /// The seed.
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        shape: Shape,
        /// Write every step of the trace to a file.
        #[arg(long)]
        trace_file: Option<PathBuf>,
    },
    /// Many runs, one seed each; stops at the first violation.
    Swarm {
        /// First and last seed, `A..B`, B excluded.
        #[arg(long, value_parser = parse_range)]
        seeds: std::ops::Range<u64>,
        #[command(flatten)]
        shape: Shape,
    },
    /// Sets the clocks of minorities wrong in every way, and shows what works afterwards.
    Clocks {
        /// The seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Runs one seed in two processes and compares the traces line by line.
    Meta {
        /// The seed.
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        shape: Shape,
    },
}

fn parse_fault(name: &str) -> Result<&'static str, String> {
    Fault::ALL.iter().map(|(known, _)| *known).find(|known| *known == name).ok_or_else(|| {
        let names: Vec<&str> = Fault::ALL.iter().map(|(name, _)| *name).collect();
        format!("known faults: {}", names.join(", "))
    })
}

fn parse_kind(name: &str) -> Result<&'static str, String> {
    FaultKind::ALL.iter().map(|(known, _)| *known).find(|known| *known == name).ok_or_else(|| {
        let names: Vec<&str> = FaultKind::ALL.iter().map(|(name, _)| *name).collect();
        format!("known kinds: {}", names.join(", "))
    })
}

fn parse_range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("expected A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err("the range is empty".into()) } else { Ok(range) }
}

fn settings(seed: u64, shape: &Shape) -> Settings {
    let kind =
        |name| FaultKind::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    Settings {
        seed,
        nodes: usize::from(shape.nodes),
        seconds: shape.seconds,
        faults: !shape.calm,
        only: shape.only.and_then(kind),
    }
}

fn plant_fault(shape: &Shape) -> Result<(), String> {
    let Some(name) = shape.plant else { return Ok(()) };
    let fault = Fault::ALL.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault);
    match fault {
        Some(fault) if plant(fault) => Ok(()),
        _ => {
            Err("faults can be planted only in a build with debug assertions (profile sim or dev)"
                .into())
        }
    }
}

fn shape_flags(shape: &Shape) -> String {
    let mut flags = format!("--nodes {} --seconds {}", shape.nodes, shape.seconds);
    if shape.calm {
        flags.push_str(" --calm");
    }
    if let Some(kind) = shape.only {
        flags.push_str(&format!(" --only {kind}"));
    }
    if let Some(fault) = shape.plant {
        flags.push_str(&format!(" --plant {fault}"));
    }
    flags
}

fn show_violation(seed: u64, shape: &Shape, report: &Report) {
    let Some(violation) = &report.violation else { return };
    eprintln!("seed {seed}: violation of invariant {}: {}", violation.number, violation.statement);
    eprintln!("  {}", violation.how);
    eprintln!("last steps (virtual microseconds):");
    for line in &report.last {
        eprintln!("  {line}");
    }
    eprintln!("replay: bzzz-sim run --seed {seed} {}", shape_flags(shape));
}

fn run_one(seed: u64, shape: &Shape, trace_file: Option<PathBuf>) -> Result<ExitCode, String> {
    let file =
        trace_file.map(std::fs::File::create).transpose().map_err(|error| error.to_string())?;
    let begin = Instant::now();
    let report = run(settings(seed, shape), file);
    show_violation(seed, shape, &report);
    println!(
        "seed {seed}: {} steps, trace {}, {:.0} virtual s in {:.2} s, {} operations, {} acknowledged, {} unknown, {} reads",
        report.steps,
        report.hash,
        report.virtual_s,
        begin.elapsed().as_secs_f64(),
        report.operations,
        report.acknowledged,
        report.unknown,
        report.reads
    );
    Ok(if report.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn swarm(seeds: std::ops::Range<u64>, shape: &Shape) -> ExitCode {
    let begin = Instant::now();
    let count = seeds.end - seeds.start;
    let (mut virtual_s, mut operations, mut acknowledged) = (0.0, 0, 0);
    for seed in seeds {
        let report = run(settings(seed, shape), None);
        virtual_s += report.virtual_s;
        operations += report.operations;
        acknowledged += report.acknowledged;
        if report.violation.is_some() {
            show_violation(seed, shape, &report);
            println!("swarm: 1 violation, at seed {seed}");
            return ExitCode::FAILURE;
        }
    }
    let wall = begin.elapsed().as_secs_f64();
    println!(
        "swarm: {count} seeds, no violation, {operations} operations, {acknowledged} acknowledged, \
         {virtual_s:.0} virtual s in {wall:.1} s ({:.0} per second)",
        virtual_s / wall
    );
    ExitCode::SUCCESS
}

fn meta(seed: u64, shape: &Shape) -> Result<ExitCode, String> {
    let text = |error: std::io::Error| error.to_string();
    let exe = std::env::current_exe().map_err(text)?;
    let dir = std::env::temp_dir();
    let files: Vec<PathBuf> = (0..2)
        .map(|n| dir.join(format!("bzzz-sim-{}-{seed}-{n}.trace", std::process::id())))
        .collect();
    for file in &files {
        let mut command = Command::new(&exe);
        command.args(["run", "--seed", &seed.to_string()]).args(shape_flags(shape).split(' '));
        command.arg("--trace-file").arg(file).stdout(std::process::Stdio::null());
        let status = command.status().map_err(text)?;
        if status.code().is_none() {
            return Err(format!("the run ended with {status}"));
        }
    }
    let traces: Vec<String> =
        files.iter().map(std::fs::read_to_string).collect::<Result<_, _>>().map_err(text)?;
    for file in &files {
        std::fs::remove_file(file).map_err(text)?;
    }
    let (first, second) = (traces[0].lines(), traces[1].lines());
    let difference = first.zip(second).enumerate().find(|(_, (a, b))| a != b);
    if let Some((line, (a, b))) = difference {
        println!("seed {seed}: the traces differ at line {}:\n  {a}\n  {b}", line + 1);
        return Ok(ExitCode::FAILURE);
    }
    if traces[0].len() != traces[1].len() {
        println!("seed {seed}: one trace is longer than the other");
        return Ok(ExitCode::FAILURE);
    }
    println!("seed {seed}: two processes, {} equal lines", traces[0].lines().count());
    Ok(ExitCode::SUCCESS)
}

fn clocks(seed: u64) -> ExitCode {
    println!("WHOSE     RESTARTED    AHEAD_S  FOR_S  ACKNOWLEDGED  NOT  AFTERWARDS");
    let is_fine = every_wrong_clock(seed, |case, report| {
        let (whose, restarted) = (case.whose, if case.is_restarted { "yes" } else { "no" });
        let (ahead_s, seconds) = (case.error_ms / 1_000, case.length.as_secs());
        let (done, not) = report.meanwhile;
        let said = report.failed.as_deref().unwrap_or("all works");
        println!(
            "{whose:<8}  {restarted:<9} {ahead_s:>10} {seconds:>6} {done:>13} {not:>4}  {said}"
        );
    });
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Sub::Run { seed, shape, trace_file } => {
            plant_fault(&shape).and_then(|()| run_one(seed, &shape, trace_file))
        }
        Sub::Swarm { seeds, shape } => plant_fault(&shape).map(|()| swarm(seeds, &shape)),
        Sub::Meta { seed, shape } => meta(seed, &shape),
        Sub::Clocks { seed } => Ok(clocks(seed)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

#[cfg(test)]
mod tests {
    use bzzz::types::fault::Fault;

    #[test]
    fn every_fault_that_can_be_planted_has_to_be_found() {
        let lines = include_str!("../planted.txt").lines().filter(|line| !line.starts_with('#'));
        let named: Vec<&str> = lines.filter_map(|line| line.split(' ').next()).collect();
        let all: Vec<&str> = Fault::ALL.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, all);
    }
}
