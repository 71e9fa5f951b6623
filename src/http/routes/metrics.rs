//! `/metrics`: what a node counts, in the text format of Prometheus.
//!
//! The counters live where they are counted; this page reads them and writes the format itself,
//! which is simpler than feeding them through a registry of their copies.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use warp::http::header;
use warp::reply::Response;

use crate::adapters::journal::JournalStats;
use crate::adapters::network::NetworkStats;
use crate::adapters::process::Process;
use crate::adapters::records::RecordStats;
use crate::core::{election, front};
use crate::http::answer::{Answer, set};
use crate::http::app::App;
use crate::http::call::Call;
use crate::http::media;
use crate::http::route::{Permission, Reply, Route, running};
use crate::http::schema;
use crate::http::server::{Connections, REASONS};
use crate::ports::Lane;
use crate::types::Lock;
use crate::types::metrics::{self, Family};

/// The routes.
pub const ROUTES: &[Route] =
    &[Route::get("/metrics", "metrics", "What the node counts", running!(page))
        .permission(Permission::MetricsRead)
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

/// A page under construction. All samples of one name stand together, as the format wants.
#[derive(Default)]
struct Page {
    families: BTreeMap<&'static str, (&'static Family, String)>,
}

impl Page {
    /// One sample, with the values of the labels in the order of their declaration.
    fn sample(&mut self, family: &'static Family, labels: &[&str], value: impl Display) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let (_, samples) =
            self.families.entry(family.name).or_insert_with(|| (family, String::new()));
        let labels: Vec<String> = family
            .labels
            .iter()
            .zip(labels)
            .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
            .collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // Writing to a string cannot fail.
        let _ = writeln!(samples, "{}{labels} {value}", family.name);
    }

    /// The sample of a family without labels.
    fn set(&mut self, family: &'static Family, value: impl Display) {
        self.sample(family, &[], value);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, (family, samples)) in &self.families {
            let (kind, help) = (family.kind.as_str(), family.help);
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
        }
        text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The page.
async fn page(app: &App, _: &mut Call) -> Answer {
    let mut page = Page::default();
    let env = app.node.env();
    let status = app.status().await?;
    cluster(&mut page, &status);
    let election = env.directory.election.ask(election::Request::Status).await?;
    let held = election.lease.map_or(0.0, |(_, left)| left.as_secs_f64());
    page.set(&metrics::LEASE_REMAINING_SECONDS, held);
    let own = app.node.member().to_string();
    page.sample(&metrics::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), &own], 1);
    page.set(&metrics::UPTIME_SECONDS, env.ports.clock.now().since(app.started).as_secs_f64());
    page.set(&metrics::BOOTS, app.boot_counter);
    page.set(&metrics::EVENTS, env.events.told());
    for metric in metrics::COUNTED {
        page.set(metric, env.counters.get(metric));
    }
    for (code, count) in app.refused.locked().iter() {
        page.sample(&metrics::API_REFUSED, &[code], *count);
    }
    connections(&mut page, &app.connections);
    for (path, row) in app.node.actors() {
        page.sample(&metrics::ACTOR_RESTARTS, &[&path], row.restarts);
        page.sample(&metrics::ACTOR_MAILBOX, &[&path], row.mailbox);
    }
    if let Some(stats) = &app.sources.network {
        network(&mut page, stats);
    }
    for (name, stats) in &app.sources.journals {
        journal(&mut page, name, stats);
    }
    if let Some(stats) = &app.sources.records {
        records(&mut page, stats);
    }
    if let Some(lines) = &app.sources.log {
        page.set(&metrics::LOG_LINES_DROPPED, lines.dropped());
    }
    process(&mut page, &Process::read());
    let mut response = Response::new(page.text().into());
    set(&mut response, header::CONTENT_TYPE, media::METRICS);
    Ok(response)
}

/// A leader that reaches no majority is none: another one may lead by now, or soon.
fn is_leader(status: &front::Status) -> bool {
    status.role.leading && status.mode.reachable >= status.mode.needed
}

fn cluster(page: &mut Page, status: &front::Status) {
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

fn connections(page: &mut Page, connections: &Connections) {
    for (way, places) in [("port", &connections.port), ("socket", &connections.local)] {
        page.sample(&metrics::API_CONNECTIONS, &[way], places.taken());
    }
    for (reason, label, _) in REASONS {
        let count = connections.closings.count(reason);
        page.sample(&metrics::API_CONNECTIONS_CLOSED, &[label], count);
    }
}

fn network(page: &mut Page, stats: &NetworkStats) {
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
    page.set(&metrics::NETWORK_ARRIVALS, read(&stats.arrivals));
    page.set(&metrics::NETWORK_CONNECTIONS, read(&stats.connections));
    page.set(&metrics::NETWORK_CONNECTIONS_RELAYED, read(&stats.connections_relayed));
    page.set(&metrics::NETWORK_REACHABILITY, read(&stats.reachability));
}

fn journal(page: &mut Page, name: &str, stats: &JournalStats) {
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

fn records(page: &mut Page, stats: &RecordStats) {
    page.set(&metrics::RECORDS_GROUPS, read(&stats.groups));
    // Each commit is one fsync.
    page.set(&metrics::RECORDS_FSYNCS, read(&stats.commits));
    page.set(&metrics::RECORDS_DISK_FULL, u8::from(stats.full.load(Ordering::Relaxed)));
    page.set(&metrics::RECORDS_FAILED, u8::from(stats.failed.load(Ordering::Relaxed)));
}

/// What the kernel does not say is left out.
fn process(page: &mut Page, process: &Process) {
    page.set(&metrics::PROCESS_CPU_SECONDS, process.cpu_seconds);
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
        let mut page = Page::default();
        cluster(&mut page, &status(true, 1));
        assert!(page.text().contains("\nbzzz_is_leader 0\n"));
    }

    #[test]
    fn samples_of_one_name_stand_together_under_one_head() {
        let mut page = Page::default();
        page.sample(&metrics::API_REFUSED, &["1\"\\\n"], 1);
        page.set(&metrics::TERM, 2);
        page.sample(&metrics::API_REFUSED, &["2"], 3);
        let refused = metrics::API_REFUSED.help;
        let term = metrics::TERM.help;
        assert_eq!(
            page.text(),
            format!(
                "# HELP bzzz_api_refused_total {refused}\n\
                 # TYPE bzzz_api_refused_total counter\n\
                 bzzz_api_refused_total{{code=\"1\\\"\\\\\\n\"}} 1\n\
                 bzzz_api_refused_total{{code=\"2\"}} 3\n\
                 # HELP bzzz_term {term}\n# TYPE bzzz_term gauge\nbzzz_term 2\n"
            )
        );
    }
}
