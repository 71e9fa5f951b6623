//! The panel of the installation plan: "Network Leader Election Results", with real figures.

use crate::cli::table::{duration, milliseconds, printable, utc};
use crate::http::routes::election::{Election, ScoreInfo, WeightsInfo};
use crate::http::routes::nodes::NodeInfo;

/// Length of the line below the title.
const RULE_LEN: usize = 76;

/// Draws the panel.
pub fn panel(election: &Election, nodes: &[NodeInfo]) -> String {
    let mut text = format!("🏆 Network Leader Election Results\n{}\n", "━".repeat(RULE_LEN));
    text.push_str(&leader(election, nodes));
    text.push_str("\nNetwork Topology:\n");
    text.push_str(&branches(&topology(nodes)));
    text.push_str(&format!("\nNext Election: {}\n", utc(&election.next_evaluation)));
    if let Some(to) = &election.handover {
        text.push_str(&format!("Handing over to: {}\n", name_of(nodes, to)));
    }
    text
}

/// The display name of a member.
pub fn name_of(nodes: &[NodeInfo], member: &str) -> String {
    let node = nodes.iter().find(|node| node.member == member);
    printable(&node.map_or_else(|| format!("member {member}"), |node| node.name.clone()))
}

/// Position and geography together, by their weights: what the plan calls the network score.
pub fn network_score(scores: &ScoreInfo, weights: &WeightsInfo) -> f64 {
    let (position, geography) = (f64::from(weights.position), f64::from(weights.geography));
    let sum = position + geography;
    if sum == 0.0 {
        return scores.position;
    }
    (scores.position * position + scores.geography * geography) / sum
}

fn branches(lines: &[String]) -> String {
    let draw = |(index, line): (usize, &String)| {
        let branch = if index + 1 == lines.len() { "└─" } else { "├─" };
        format!("{branch} {}\n", printable(line))
    };
    lines.iter().enumerate().map(draw).collect()
}

fn leader(election: &Election, nodes: &[NodeInfo]) -> String {
    let Some(leader) = &election.leader else {
        return "Current Leader: none (an election is under way)\n".to_owned();
    };
    let title = format!("Current Leader: {}\n", name_of(nodes, leader));
    let Some(scores) = election.table.scores.get(leader) else {
        return title + &branches(&["Scores: not measured yet".to_owned()]);
    };
    let node = nodes.iter().find(|node| node.member == *leader);
    let lines = [
        format!("Hardware Score: {:.0}/100 ({})", scores.hardware, hardware(node)),
        format!(
            "Network Score: {:.0}/100 ({})",
            network_score(scores, &election.weights),
            network(election, leader, node)
        ),
        format!(
            "Stability Score: {:.0}/100 ({})",
            scores.stability,
            stability(election, leader, node)
        ),
        format!("Overall Score: {:.1}/100", scores.overall),
    ];
    title + &branches(&lines)
}

fn hardware(node: Option<&NodeInfo>) -> String {
    let Some(machine) = node.and_then(|node| node.capabilities.as_ref()) else {
        return "not announced yet".to_owned();
    };
    let gpus = machine.gpu_memory_mb.len();
    let gpu = match gpus {
        0 => "no GPU".to_owned(),
        _ => {
            let vram = machine.gpu_memory_total_mb() / 1_024;
            format!("{gpus}x {} with {vram}GB VRAM", machine.gpu_type)
        }
    };
    format!("{gpu}, {} cores, {}GB RAM", machine.cpu_cores, machine.memory_gb)
}

/// What the others measured of its links, or what this node did where only the leader knows.
fn network(election: &Election, leader: &str, node: Option<&NodeInfo>) -> String {
    match election.inputs.get(leader) {
        Some(inputs) if inputs.others == 0 => "the only voter".to_owned(),
        Some(inputs) => format!(
            "heard by {} of {} voters, {} round trip",
            inputs.heard_by,
            inputs.others,
            milliseconds(u64::from(inputs.rtt_us))
        ),
        None => match node.and_then(|node| node.rtt_us) {
            Some(us) => format!("{} round trip from here", milliseconds(us)),
            None => "as its voters measured".to_owned(),
        },
    }
}

fn stability(election: &Election, leader: &str, node: Option<&NodeInfo>) -> String {
    match election.inputs.get(leader) {
        Some(inputs) if inputs.others == 0 => "the only voter".to_owned(),
        Some(inputs) => format!(
            "{:.1}% uptime, {} without a gap",
            f64::from(inputs.availability_permille) / 10.0,
            duration(u64::from(inputs.up_s))
        ),
        None => match node.and_then(|node| node.up_s) {
            Some(s) => format!("answers without a gap for {}", duration(s)),
            None => "as its voters measured".to_owned(),
        },
    }
}

fn topology(nodes: &[NodeInfo]) -> [String; 5] {
    let machines = || nodes.iter().filter_map(|node| node.capabilities.as_ref());
    let running = |kind: &str| machines().filter(|machine| machine.ollama_type == kind).count();
    let gpus = machines().filter(|machine| !machine.gpu_memory_mb.is_empty()).count();
    let engines = match (running("parallama"), running("ollama")) {
        (0, 0) => "no Ollama found".to_owned(),
        (parallama, 0) => format!("{parallama} with Parallama"),
        (0, ollama) => format!("{ollama} with Ollama"),
        (parallama, ollama) => format!("{parallama} with Parallama, {ollama} with Ollama"),
    };
    let storage: u64 = machines().map(|machine| u64::from(machine.storage_gb)).sum();
    let holders = machines().filter(|machine| machine.storage_gb > 0).count();
    let vram: u64 = machines().map(|machine| machine.gpu_memory_total_mb()).sum();
    let trips: Vec<u64> = nodes.iter().filter_map(|node| node.rtt_us).collect();
    let latency = match trips.len() as u64 {
        0 => "not measured yet".to_owned(),
        count => format!("avg {}", milliseconds(trips.iter().sum::<u64>() / count)),
    };
    [
        format!("Total Nodes: {}", nodes.len()),
        format!("GPU Nodes: {gpus} ({engines})"),
        format!("Storage Nodes: {holders} ({storage}GB total)"),
        format!("Available VRAM: {}GB total", vram / 1_024),
        format!("Network Latency: {latency}"),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::node;
    use super::*;
    use crate::core::fitness::Inputs;
    use crate::http::routes::election::ScoreTableInfo;
    use crate::types::host::Load;

    /// An election for tests, as the leader tells it.
    pub fn election() -> Election {
        let scores = ScoreInfo {
            stability: 96.04,
            hardware: 95.0,
            position: 100.0,
            geography: 74.5,
            load: 88.0,
            overall: 93.24,
        };
        let inputs = Inputs {
            up_s: 90_000,
            availability_permille: 998,
            heard_by: 4,
            others: 4,
            rtt_us: 2_300,
            capabilities: node("1", "").capabilities.unwrap(),
            load: Load { cpu_permille: 120, memory_permille: 300, disk_free_mb: 1_024 },
        };
        let second = ScoreInfo { overall: 80.0, ..scores.clone() };
        Election {
            schema: 1,
            term: 3,
            leader: Some("1".into()),
            voters: vec!["1".into(), "2".into()],
            next_evaluation: "2025-08-11T16:22:20.000Z".into(),
            handover: None,
            lease: None,
            weights: WeightsInfo {
                stability: 30,
                resources: 25,
                position: 20,
                geography: 15,
                load: 10,
            },
            table: ScoreTableInfo {
                term: 3,
                version: 1,
                scores: [("1".into(), scores), ("2".into(), second)].into(),
            },
            inputs: [("1".into(), inputs)].into(),
        }
    }

    #[test]
    fn the_panel_looks_as_in_the_plan() {
        let nodes = [node("1", "node-192168001103-20250810"), node("2", "node-2")];
        let expected = "\
🏆 Network Leader Election Results
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
Current Leader: node-192168001103-20250810
├─ Hardware Score: 95/100 (4x nvidia with 96GB VRAM, 32 cores, 128GB RAM)
├─ Network Score: 89/100 (heard by 4 of 4 voters, 2.3ms round trip)
├─ Stability Score: 96/100 (99.8% uptime, 1d1h without a gap)
└─ Overall Score: 93.2/100

Network Topology:
├─ Total Nodes: 2
├─ GPU Nodes: 2 (2 with Parallama)
├─ Storage Nodes: 2 (4096GB total)
├─ Available VRAM: 192GB total
└─ Network Latency: avg 2.3ms

Next Election: 2025-08-11 16:22:20 UTC
";
        assert_eq!(panel(&election(), &nodes), expected);
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let mut bare = node("1", "node-1");
        (bare.capabilities, bare.rtt_us) = (None, None);
        let mut unknown = election();
        unknown.inputs.clear();
        let text = panel(&unknown, std::slice::from_ref(&bare));
        assert!(text.contains("Hardware Score: 95/100 (not announced yet)"), "{text}");
        assert!(text.contains("GPU Nodes: 0 (no Ollama found)"), "{text}");
        assert!(text.contains("Network Latency: not measured yet"), "{text}");
        unknown.table.scores.clear();
        assert!(panel(&unknown, &[]).contains("member 1\n└─ Scores: not measured yet\n"));
        unknown.leader = None;
        assert!(panel(&unknown, &[]).contains("Current Leader: none"));
    }
}
