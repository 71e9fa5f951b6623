//! `bzzz status`: the cluster on one screen.

use super::Session;
use crate::cli::error::CliError;
use crate::cli::table::{duration, pairs, utc};
use crate::http::routes::status::{Status, StatusRecords, WrongClock};
use crate::types::record::PARTITIONS;

/// Shows the state of the cluster as one node sees it.
pub fn status(session: &Session<'_>) -> Result<(), CliError> {
    let answer = session.client()?.get("/api/v1/status")?;
    session.out.answer(&answer, render)
}

fn render(status: &Status) -> String {
    let (node, cluster, mode) = (&status.node, &status.cluster, &status.mode);
    let writes = match (mode.writable, &mode.reason) {
        (true, _) => "reads and writes".to_owned(),
        (false, Some(reason)) => format!("read-only ({reason})"),
        (false, None) => "read-only".to_owned(),
    };
    let founded = match cluster.founded_at.as_str() {
        "" => String::new(),
        time => format!(", founded {}", utc(time)),
    };
    let leader = match (&status.role.leader, status.role.leading) {
        (_, true) => format!("this node, in term {}", status.role.term),
        (Some(leader), false) => format!("member {leader}, in term {}", status.role.term),
        (None, false) => format!("none, in term {}", status.role.term),
    };
    let losses = match status.survives {
        0 => "writes stop with the loss of any voter".to_owned(),
        1 => "writes survive the loss of 1 voter".to_owned(),
        n => format!("writes survive the loss of {n} voters"),
    };
    let age = match status.age_ms {
        0 => String::new(),
        ms if ms < 10_000 => format!(", known to be current {ms} ms ago"),
        ms => format!(", known to be current {} s ago", ms / 1_000),
    };
    let mut rows = vec![
        ("Cluster", format!("{} ({}){founded}", cluster.name, cluster.id)),
        ("Node", format!("{}, member {}, {}", node.name, node.member, node.peer)),
        ("API", format!("http://{}", node.api)),
        ("Listens", node.addresses.join(", ")),
        ("Up", format!("{}, start number {}", duration(node.uptime_s as u64), node.boot_counter)),
        ("Leader", leader),
        ("Mode", format!("{writes}; {} voters answer, {} needed", mode.reachable, mode.needed)),
        (
            "Members",
            format!("{}, of them {} voters; {losses}", status.members, status.role.voters.len()),
        ),
        ("Values", format!("{} at index {}{age}", status.heads, status.index)),
    ];
    if !status.wrong_clocks.is_empty() {
        let clocks = status.wrong_clocks.iter().map(wrong_clock).collect::<Vec<_>>();
        rows.push(("Clocks", format!("{}; set the time there, best by NTP", clocks.join(", "))));
    }
    rows.extend(status.records.as_ref().and_then(records).map(|records| ("Records", records)));
    pairs(&rows)
}

/// What is missing of the records, if anything may be.
fn records(records: &StatusRecords) -> Option<String> {
    match records {
        StatusRecords { whole: true, .. } => None,
        StatusRecords { lost_partitions: 0, .. } => {
            Some("this node may lack some, and compares them with those of others".to_owned())
        }
        StatusRecords { lost_partitions, .. } => Some(format!(
            "lost in {lost_partitions} of {PARTITIONS} partitions, and no other member has them; \
             to go on without, start the node once with --accept-lost-records"
        )),
    }
}

fn wrong_clock(clock: &WrongClock) -> String {
    let by = duration(clock.ahead_s.unsigned_abs());
    let side = if clock.ahead_s < 0 { "behind" } else { "ahead" };
    format!("that of member {} is {by} {side}", clock.member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::routes::status::{StatusCluster, StatusMode, StatusNode, StatusRole};

    fn sample() -> Status {
        Status {
            schema: 1,
            version: "0.1.0".into(),
            node: StatusNode {
                member: "2".into(),
                peer: "12D3".into(),
                name: "node-2".into(),
                boot_counter: 3,
                uptime_s: 61.7,
                api: "127.0.0.1:8080".into(),
                addresses: vec!["/ip4/127.0.0.1/tcp/4001".into()],
            },
            cluster: StatusCluster {
                id: "c0ffee".into(),
                name: "bzzz".into(),
                founded_at: "2025-08-10T16:22:20.007Z".into(),
            },
            role: StatusRole {
                term: 4,
                leader: Some("1".into()),
                leading: false,
                voters: vec!["1".into(), "2".into(), "3".into()],
            },
            mode: StatusMode { writable: true, reason: None, reachable: 3, needed: 2 },
            index: 12,
            age_ms: 0,
            members: 3,
            heads: 5,
            survives: 1,
            on_duty_term: None,
            refused_writes: 0,
            wrong_clocks: Vec::new(),
            records: Some(StatusRecords { whole: true, lost_partitions: 0 }),
        }
    }

    #[test]
    fn a_healthy_cluster_on_one_screen() {
        let expected = "\
Cluster  bzzz (c0ffee), founded 2025-08-10 16:22:20 UTC
Node     node-2, member 2, 12D3
API      http://127.0.0.1:8080
Listens  /ip4/127.0.0.1/tcp/4001
Up       1m1s, start number 3
Leader   member 1, in term 4
Mode     reads and writes; 3 voters answer, 2 needed
Members  3, of them 3 voters; writes survive the loss of 1 voter
Values   5 at index 12
";
        assert_eq!(render(&sample()), expected);
    }

    #[test]
    fn a_clock_that_is_wrong_is_named() {
        let mut status = sample();
        let clock = |member: &str, ahead_s| WrongClock { member: member.into(), ahead_s };
        status.wrong_clocks = vec![clock("1", 3_600), clock("3", -61)];
        let text = render(&status);
        let clocks =
            "Clocks   that of member 1 is 1h0m ahead, that of member 3 is 1m1s behind; set";
        assert!(text.contains(clocks), "{text}");
    }

    #[test]
    fn records_that_are_lost_are_named() {
        let mut status = sample();
        let text = "lost in 4096 of 4096 partitions, and no other member has them";
        status.records = Some(StatusRecords { whole: false, lost_partitions: 4_096 });
        assert!(render(&status).contains(text));
        status.records = Some(StatusRecords { whole: false, lost_partitions: 0 });
        assert!(render(&status).contains("this node may lack some"));
    }

    #[test]
    fn a_minority_says_why_it_takes_no_writes() {
        let mut status = sample();
        let reason = Some("READ_ONLY_MINORITY".into());
        status.mode = StatusMode { writable: false, reason, reachable: 1, needed: 2 };
        (status.role.leader, status.age_ms) = (None, 800);
        let text = render(&status);
        assert!(text.contains("Leader   none, in term 4\n"), "{text}");
        let mode = "Mode     read-only (READ_ONLY_MINORITY); 1 voters answer, 2 needed\n";
        assert!(text.contains(mode), "{text}");
        assert!(text.ends_with("5 at index 12, known to be current 800 ms ago\n"), "{text}");
    }
}
