//! `/metrics`: what a node counts, in the text format of Prometheus.
//!
//! Durations, and what the API counts, go to the registry by themselves. The other counters live where they are counted,
//! and are read into it when a page is made.

use std::sync::atomic::{AtomicU64, Ordering};

use warp::http::header;
use warp::reply::Response;

use crate::adapters::journal::JournalStats;
use crate::adapters::meter::Registry;
use crate::adapters::network::{BulkStats, NetworkStats};
use crate::adapters::process::Process;
use crate::adapters::records::RecordStats;
use crate::core::{election, front};
use crate::http::answer::{Answer, set};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::media;
use crate::http::route::{Reply, Route, running};
use crate::http::schema;
use crate::http::server::{Connections, REASONS};
use crate::ports::Lane;
use crate::types::metrics::{self, Family, Kind};

/// The routes.
pub const ROUTES: &[Route] =
    &[Route::get("/metrics", "metrics", "What the node counts", running!(page))
        .permission("metrics:read")
        .replies(&[Reply::other(
            200,
            media::METRICS,
            schema::text,
            "In the text format of Prometheus",
        )])];

const LANES: [(&str, Lane); 4] = [
    ("consensus", Lane::Consensus),
    ("control", Lane::Control),
    ("bulk", Lane::Bulk),
    ("join", Lane::Join),
];

/// Takes in what is counted elsewhere.
struct Page<'a>(&'a Registry);

impl Page<'_> {
    /// One sample, with the values of the labels in the order of their declaration.
    fn sample(&self, family: &'static Family, labels: &[&str], value: impl Into<Number>) {
        match (family.kind, value.into()) {
            (Kind::Counter, Number::Whole(count)) => self.0.counted(family, labels, count),
            (Kind::Gauge, Number::Whole(value)) => self.0.gauge(family, labels, value as f64),
            (Kind::Gauge, Number::Real(value)) => self.0.gauge(family, labels, value),
            (Kind::Counter, Number::Real(_)) | (Kind::Histogram(_), _) => {
                debug_assert!(false, "{} takes no such number", family.name);
            }
        }
    }

    /// The sample of a family without labels.
    fn set(&self, family: &'static Family, value: impl Into<Number>) {
        self.sample(family, &[], value);
    }
}

/// What a sample says.
enum Number {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::Whole(number as u64)
    }
}

impl From<u8> for Number {
    fn from(number: u8) -> Self {
        Self::Whole(number.into())
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The page.
async fn page(app: &App, _: &mut Call) -> Answer {
    let page = Page(&app.meter);
    let env = app.node.env();
    let status = app.status().await?;
    cluster(&page, &status);
    let election = env.directory.election.ask(election::Request::Status).await?;
    let held = election.lease.map_or(0.0, |(_, left)| left.as_secs_f64());
    page.set(&metrics::LEASE_REMAINING_SECONDS, held);
    let own = app.node.member().to_string();
    page.sample(&metrics::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), &own], 1_u8);
    page.set(&metrics::UPTIME_SECONDS, env.ports.clock.now().since(app.started).as_secs_f64());
    page.set(&metrics::BOOTS, app.boot_counter);
    page.set(&metrics::EVENTS, env.events.told());
    for metric in metrics::COUNTED {
        page.set(metric, env.counters.get(metric));
    }
    connections(&page, &app.connections);
    for (path, row) in app.node.actors() {
        page.sample(&metrics::ACTOR_RESTARTS, &[&path], row.restarts);
        page.sample(&metrics::ACTOR_MAILBOX, &[&path], row.mailbox);
    }
    if let Some(stats) = &app.sources.network {
        network(&page, stats);
    }
    for (name, stats) in &app.sources.journals {
        journal(&page, name, stats);
    }
    if let Some(stats) = &app.sources.records {
        records(&page, stats);
    }
    if let Some(lines) = &app.sources.log {
        page.set(&metrics::LOG_LINES_DROPPED, lines.dropped());
    }
    let process = Process::read();
    self::process(&page, &process);
    let text = format!("{}{}", app.meter.page(), cpu(&process));
    let mut response = Response::new(text.into());
    set(&mut response, header::CONTENT_TYPE, media::METRICS);
    Ok(response)
}

/// A leader that reaches no majority is none: another one may lead by now, or soon.
fn is_leader(status: &front::Status) -> bool {
    status.role.leading && status.mode.reachable >= status.mode.needed
}

fn cluster(page: &Page<'_>, status: &front::Status) {
    let (view, role, mode) = (&status.view, &status.role, &status.mode);
    page.set(&metrics::TERM, role.term);
    page.set(&metrics::LEADER, role.leader.map_or(0, |leader| leader.0));
    page.set(&metrics::IS_LEADER, u8::from(is_leader(status)));
    page.set(&metrics::INDEX, view.index());
    page.set(&metrics::MEMBERS, view.roster.members.len());
    page.set(&metrics::VOTERS, role.voters.len());
    page.set(&metrics::VOTERS_REACHABLE, mode.reachable);
    page.set(&metrics::VOTERS_NEEDED, mode.needed);
    page.set(&metrics::WRITABLE, u8::from(mode.writable));
    page.set(&metrics::HEADS, view.heads.len());
    page.set(&metrics::JOIN_TOKENS, view.tokens.len());
    page.set(&metrics::REQUESTS_OPEN, status.open);
    page.set(&metrics::AGE_SECONDS, status.age.as_secs_f64());
    page.set(&metrics::WRITES_REFUSED_MINORITY, status.refused);
}

fn connections(page: &Page<'_>, connections: &Connections) {
    for (way, places) in [("port", &connections.port), ("socket", &connections.local)] {
        page.sample(&metrics::API_CONNECTIONS, &[way], places.taken());
    }
    for (reason, label, _) in REASONS {
        let count = connections.closings.count(reason);
        page.sample(&metrics::API_CONNECTIONS_CLOSED, &[label], count);
    }
}

fn network(page: &Page<'_>, stats: &NetworkStats) {
    for (label, lane) in LANES {
        let labels = [label];
        let lane = stats.lane(lane);
        page.sample(&metrics::NETWORK_FRAMES_IN, &labels, read(&lane.frames_in));
        page.sample(&metrics::NETWORK_FRAMES_OUT, &labels, read(&lane.frames_out));
        page.sample(&metrics::NETWORK_BYTES_IN, &labels, read(&lane.bytes_in));
        page.sample(&metrics::NETWORK_BYTES_OUT, &labels, read(&lane.bytes_out));
    }
    for (reason, counter) in [
        ("queue_full", &stats.dropped_queue_full),
        ("unsendable", &stats.dropped_unsendable),
        ("joins", &stats.joins_dropped),
    ] {
        page.sample(&metrics::NETWORK_DROPPED, &[reason], read(counter));
    }
    for (metric, counter) in [
        (&metrics::NETWORK_REFUSED_STRANGERS, &stats.refused_stranger),
        (&metrics::NETWORK_GAVE_WAY, &stats.gave_way),
        (&metrics::NETWORK_UNPROVEN, &stats.unproven),
        (&metrics::NETWORK_DEAD, &stats.dead),
        (&metrics::NETWORK_OVERSIZE, &stats.oversize),
        (&metrics::NETWORK_SLOW, &stats.slow),
        (&metrics::NETWORK_STALLED, &stats.stalled),
        (&metrics::NETWORK_RATE_LIMITED, &stats.rate_limited),
        (&metrics::NETWORK_DIALS, &stats.dials),
        (&metrics::NETWORK_DIAL_FAILURES, &stats.dial_failures),
        (&metrics::NETWORK_WRONG_PEER, &stats.wrong_peer),
        (&metrics::NETWORK_FOUND_LOCALLY, &stats.found_locally),
        (&metrics::NETWORK_ASKED_WHERE, &stats.asked_where),
        (&metrics::NETWORK_UNASKED_DIALS, &stats.unasked_dials),
        (&metrics::NETWORK_PLACES_RESERVED, &stats.places_reserved),
        (&metrics::NETWORK_CIRCUITS, &stats.circuits),
        (&metrics::NETWORK_CIRCUITS_RELAYED, &stats.circuits_relayed),
        (&metrics::NETWORK_HOLES_PUNCHED, &stats.holes_punched),
        (&metrics::NETWORK_HOLES_NOT_PUNCHED, &stats.holes_not_punched),
        (&metrics::NETWORK_PROBES, &stats.probes),
        (&metrics::NETWORK_GOSSIP_IN, &stats.gossip_in),
        (&metrics::NETWORK_GOSSIP_OUT, &stats.gossip_out),
        (&metrics::NETWORK_GOSSIP_DROPPED, &stats.gossip_dropped),
        (&metrics::NETWORK_GOSSIP_REJECTED, &stats.gossip_rejected),
    ] {
        page.set(metric, read(counter));
    }
    bulk(page, &stats.bulk);
    page.set(&metrics::NETWORK_ARRIVALS, read(&stats.arrivals));
    page.set(&metrics::NETWORK_CONNECTIONS, read(&stats.connections));
    page.set(&metrics::NETWORK_CONNECTIONS_RELAYED, read(&stats.connections_relayed));
    page.set(&metrics::NETWORK_REACHABILITY, read(&stats.reachability));
}

fn bulk(page: &Page<'_>, stats: &BulkStats) {
    for (direction, streams) in [("out", &stats.streams_out), ("in", &stats.streams_in)] {
        page.sample(&metrics::BULK_STREAMS, &[direction], read(streams));
    }
    for (metric, value) in [
        (&metrics::BULK_CONNECTIONS, &stats.connections),
        (&metrics::BULK_HELD_BYTES, &stats.held),
        (&metrics::BULK_BYTES_IN, &stats.bytes_in),
        (&metrics::BULK_BYTES_OUT, &stats.bytes_out),
        (&metrics::BULK_REFUSED, &stats.refused),
        (&metrics::BULK_DIAL_FAILURES, &stats.dial_failures),
        (&metrics::BULK_STALLED_STREAMS, &stats.stalled),
    ] {
        page.set(metric, read(value));
    }
}

fn journal(page: &Page<'_>, name: &str, stats: &JournalStats) {
    let labels = [name];
    page.sample(&metrics::JOURNAL_QUEUED, &labels, read(&stats.queued));
    for (metric, flag) in
        [(&metrics::JOURNAL_DISK_FULL, &stats.full), (&metrics::JOURNAL_FAILED, &stats.failed)]
    {
        page.sample(metric, &labels, u8::from(flag.load(Ordering::Relaxed)));
    }
    for (metric, counter) in [
        (&metrics::JOURNAL_BATCHES, &stats.batches),
        (&metrics::JOURNAL_FSYNCS, &stats.fsyncs),
        (&metrics::JOURNAL_BYTES, &stats.bytes),
        (&metrics::JOURNAL_REWRITES, &stats.rewrites),
        (&metrics::JOURNAL_FULL_RETRIES, &stats.full_retries),
        (&metrics::JOURNAL_MARKS_MISSED, &stats.marks_missed),
    ] {
        page.sample(metric, &labels, read(counter));
    }
}

fn records(page: &Page<'_>, stats: &RecordStats) {
    page.set(&metrics::RECORDS_GROUPS, read(&stats.groups));
    // Each commit is one fsync.
    page.set(&metrics::RECORDS_FSYNCS, read(&stats.commits));
    page.set(&metrics::RECORDS_DISK_FULL, u8::from(stats.full.load(Ordering::Relaxed)));
    page.set(&metrics::RECORDS_FAILED, u8::from(stats.failed.load(Ordering::Relaxed)));
}

/// Processor time in parts of a second, which the recorder has no counters for.
fn cpu(process: &Process) -> String {
    let Family { name, kind, help, .. } = metrics::PROCESS_CPU_SECONDS;
    let (kind, seconds) = (kind.as_str(), process.cpu_seconds);
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {seconds}\n")
}

/// What the kernel does not say is left out.
fn process(page: &Page<'_>, process: &Process) {
    if let Some(start) = process.start_seconds {
        page.set(&metrics::PROCESS_START_TIME_SECONDS, start);
    }
    if let Some(open) = process.open_fds {
        page.set(&metrics::PROCESS_OPEN_FDS, open);
    }
    for (metric, value) in [
        (&metrics::PROCESS_RESIDENT_MEMORY_BYTES, process.resident_bytes),
        (&metrics::PROCESS_VIRTUAL_MEMORY_BYTES, process.virtual_bytes),
        (&metrics::PROCESS_MAX_FDS, process.max_fds),
        (&metrics::PROCESS_THREADS, process.threads),
    ] {
        if let Some(value) = value {
            page.set(metric, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::core::consensus::Role;

    #[test]
    fn who_leads_without_a_majority_is_not_called_the_leader() {
        let status = |leading, reachable| front::Status {
            mode: front::Mode { writable: false, reason: None, reachable, needed: 2 },
            view: Arc::default(),
            role: Role { leading, ..Role::default() },
            age: Duration::ZERO,
            open: 0,
            refused: 0,
            wrong_clocks: BTreeMap::new(),
        };
        assert!(is_leader(&status(true, 2)), "a full disk does not make it another one");
        assert!(!is_leader(&status(true, 1)));
        assert!(!is_leader(&status(false, 3)));
        let registry = Registry::default();
        cluster(&Page(&registry), &status(true, 1));
        assert!(registry.page().contains("\nbzzz_is_leader 0\n"));
    }
}
