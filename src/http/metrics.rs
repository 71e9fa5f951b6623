//! `/metrics`: what a node counts, in the text format of Prometheus.
//!
//! The counters live where they are counted; this page reads them and writes the format itself,
//! which is simpler than feeding them through a registry of their copies.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use warp::http::header;
use warp::reply::Response;

use super::router::{Answer, App, set};
use super::server::{Connections, REASONS};
use crate::adapters::journal::JournalStats;
use crate::adapters::network::NetworkStats;
use crate::adapters::records::RecordStats;
use crate::core::{election, front};
use crate::ports::Lane;

const LANES: [(&str, Lane); 4] = [
    ("consensus", Lane::Consensus),
    ("control", Lane::Control),
    ("bulk", Lane::Bulk),
    ("join", Lane::Join),
];

/// A page under construction. All samples of one name stand together, as the format wants.
#[derive(Default)]
struct Page {
    families: BTreeMap<String, (&'static str, String)>,
}

impl Page {
    fn sample(
        &mut self,
        kind: &'static str,
        name: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) {
        let name = format!("bzzz_{name}");
        let family = self.families.entry(name.clone()).or_insert((kind, String::new()));
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // Writing to a string cannot fail.
        let _ = writeln!(family.1, "{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, value: impl Display) {
        self.sample("gauge", name, &[], value);
    }

    fn counter(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.sample("counter", &format!("{name}_total"), labels, value);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, (kind, samples)) in &self.families {
            let _ = write!(text, "# TYPE {name} {kind}\n{samples}");
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
pub async fn page(app: &App) -> Answer {
    let mut page = Page::default();
    let env = app.node.env();
    let status = app.status().await?;
    cluster(&mut page, &status);
    let election = env.directory.election.ask(election::Request::Status).await?;
    let held = election.lease.map_or(0.0, |(_, left)| left.as_secs_f64());
    page.gauge("lease_remaining_seconds", held);
    let own = app.node.member().to_string();
    page.sample(
        "gauge",
        "build_info",
        &[("version", env!("CARGO_PKG_VERSION")), ("member", &own)],
        1,
    );
    page.gauge("uptime_seconds", env.ports.clock.now().since(app.started).as_secs_f64());
    page.gauge("boot_counter", app.boot_counter);
    page.counter("events", &[], env.events.told());
    for (name, value) in env.counters.all() {
        page.counter(name, &[], value);
    }
    for (code, count) in app.refused.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        page.counter("api_refused", &[("code", code)], *count);
    }
    connections(&mut page, &app.connections);
    for (path, row) in app.node.actors() {
        page.counter("actor_restarts", &[("actor", &path)], row.restarts);
        page.sample("gauge", "actor_mailbox", &[("actor", &path)], row.mailbox);
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
        page.counter("log_lines_dropped", &[], lines.dropped());
    }
    let mut response = Response::new(page.text().into());
    set(&mut response, header::CONTENT_TYPE, "text/plain; version=0.0.4");
    Ok(response)
}

/// A leader that reaches no majority is none: another one may lead by now, or soon.
fn is_leader(status: &front::Status) -> bool {
    status.role.leading && status.mode.reachable >= status.mode.needed
}

fn cluster(page: &mut Page, status: &front::Status) {
    let (view, role, mode) = (&status.view, &status.role, &status.mode);
    page.gauge("term", role.term);
    page.gauge("leader", role.leader.map_or(0, |leader| leader.0));
    page.gauge("is_leader", u8::from(is_leader(status)));
    page.gauge("index", view.index());
    page.gauge("members", view.roster.members.len());
    page.gauge("voters", role.voters.len());
    page.gauge("voters_reachable", mode.reachable);
    page.gauge("voters_needed", mode.needed);
    page.gauge("writable", u8::from(mode.writable));
    page.gauge("heads", view.heads.len());
    page.gauge("join_tokens", view.tokens.len());
    page.gauge("requests_open", status.open);
    page.gauge("age_seconds", status.age.as_secs_f64());
    page.counter("writes_refused_minority", &[], status.refused);
}

fn connections(page: &mut Page, connections: &Connections) {
    for (way, places) in [("port", &connections.port), ("socket", &connections.local)] {
        page.sample("gauge", "api_connections", &[("way", way)], places.taken());
    }
    for (reason, label, _) in REASONS {
        let count = connections.closings.count(reason);
        page.counter("api_connections_closed", &[("reason", label)], count);
    }
}

fn network(page: &mut Page, stats: &NetworkStats) {
    for (label, lane) in LANES {
        let labels = [("lane", label)];
        let lane = stats.lane(lane);
        page.counter("network_frames_in", &labels, read(&lane.frames_in));
        page.counter("network_frames_out", &labels, read(&lane.frames_out));
        page.counter("network_bytes_in", &labels, read(&lane.bytes_in));
        page.counter("network_bytes_out", &labels, read(&lane.bytes_out));
    }
    for (reason, counter) in [
        ("queue_full", &stats.dropped_queue_full),
        ("unsendable", &stats.dropped_unsendable),
        ("joins", &stats.joins_dropped),
    ] {
        page.counter("network_dropped", &[("reason", reason)], read(counter));
    }
    for (name, counter) in [
        ("network_refused_strangers", &stats.refused_stranger),
        ("network_gave_way", &stats.gave_way),
        ("network_unproven", &stats.unproven),
        ("network_dead", &stats.dead),
        ("network_oversize", &stats.oversize),
        ("network_slow", &stats.slow),
        ("network_stalled", &stats.stalled),
        ("network_rate_limited", &stats.rate_limited),
        ("network_dials", &stats.dials),
        ("network_dial_failures", &stats.dial_failures),
        ("network_wrong_peer", &stats.wrong_peer),
        ("network_found_locally", &stats.found_locally),
        ("network_asked_where", &stats.asked_where),
        ("network_unasked_dials", &stats.unasked_dials),
        ("network_places_reserved", &stats.places_reserved),
        ("network_circuits", &stats.circuits),
        ("network_circuits_relayed", &stats.circuits_relayed),
        ("network_holes_punched", &stats.holes_punched),
        ("network_holes_not_punched", &stats.holes_not_punched),
        ("network_probes", &stats.probes),
        ("network_gossip_in", &stats.gossip_in),
        ("network_gossip_out", &stats.gossip_out),
        ("network_gossip_dropped", &stats.gossip_dropped),
        ("network_gossip_rejected", &stats.gossip_rejected),
    ] {
        page.counter(name, &[], read(counter));
    }
    page.gauge("network_arrivals", read(&stats.arrivals));
    page.gauge("network_connections", read(&stats.connections));
    page.gauge("network_connections_relayed", read(&stats.connections_relayed));
    page.gauge("network_reachability", read(&stats.reachability));
}

fn journal(page: &mut Page, name: &str, stats: &JournalStats) {
    let labels = [("journal", name)];
    page.sample("gauge", "journal_queued", &labels, read(&stats.queued));
    for (name, counter) in [
        ("journal_batches", &stats.batches),
        ("journal_fsyncs", &stats.fsyncs),
        ("journal_bytes", &stats.bytes),
        ("journal_rewrites", &stats.rewrites),
        ("journal_full_retries", &stats.full_retries),
        ("journal_marks_missed", &stats.marks_missed),
    ] {
        page.counter(name, &labels, read(counter));
    }
}

fn records(page: &mut Page, stats: &RecordStats) {
    page.counter("records_groups", &[], read(&stats.groups));
    // Each commit is one fsync.
    page.counter("records_fsyncs", &[], read(&stats.commits));
    page.gauge("records_disk_full", u8::from(stats.full.load(Ordering::Relaxed)));
    page.gauge("records_failed", u8::from(stats.failed.load(Ordering::Relaxed)));
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
    fn samples_of_one_name_stand_together_under_one_type() {
        let mut page = Page::default();
        page.counter("a", &[("x", "1\"\\\n")], 1);
        page.gauge("b", 2);
        page.counter("a", &[("x", "2")], 3);
        let text = page.text();
        assert_eq!(
            text,
            "# TYPE bzzz_a_total counter\nbzzz_a_total{x=\"1\\\"\\\\\\n\"} 1\n\
             bzzz_a_total{x=\"2\"} 3\n# TYPE bzzz_b gauge\nbzzz_b 2\n"
        );
    }
}
