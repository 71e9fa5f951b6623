//! Fitness: who should lead, in numbers that anybody can recompute.
//!
//! Five criteria from 0 to 100, weighted 30/25/20/15/10 unless configured otherwise. What a
//! criterion says of a node is what the *others* measured of it (the median of their reports), so
//! that a node can't praise itself; only what nobody else can see (hardware, load) is the node's
//! own claim, and its weight is capped. `docs/election.md` gives each formula with its inputs.
//!
//! Fitness decides who runs first. Safety never depends on it.
//!
//! Invariants:
//! 1. Every score lies in 0..=100 (0..=10,000 hundredths), whatever the reports claim.
//! 2. The table depends on the reports alone, not on who computes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::messages::wire::{LinkReport, Report, Scores};
use crate::types::MemberId;
use crate::types::host::{Capabilities, Load};

/// Hundredths in a full score.
pub const FULL: u16 = 10_000;

/// Uptime from which on the uptime part of stability is full, in seconds.
const UPTIME_FULL_S: u32 = 24 * 3_600;
/// Round-trip times at which the latency score is full, and zero, in microseconds.
const RTT_FULL_US: f64 = 1_000.0;
const RTT_ZERO_US: f64 = 200_000.0;
/// Hardware beyond this earns nothing more: a claim can't win an election by itself.
const GPU_FULL_MB: f64 = 96.0 * 1_024.0;
const CORES_FULL: f64 = 32.0;
const MEMORY_FULL_GB: f64 = 128.0;
const STORAGE_FULL_GB: f64 = 2_048.0;

/// Weights of the criteria, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// Network stability.
    pub stability: u8,
    /// Hardware resources.
    pub resources: u8,
    /// Network position.
    pub position: u8,
    /// Geographic latency.
    pub geography: u8,
    /// Load capacity.
    pub load: u8,
}

impl Default for Weights {
    fn default() -> Self {
        Self { stability: 30, resources: 25, position: 20, geography: 15, load: 10 }
    }
}

/// What went into one member's score, as `election explain` shows it.
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// Median over the others: for how long it has answered them without a gap, in seconds.
    pub up_s: u32,
    /// Median over the others: share of pings answered in the last window, parts of a thousand.
    pub availability_permille: u16,
    /// Voters that hear it, itself left out.
    pub heard_by: u32,
    /// Voters that could hear it.
    pub others: u32,
    /// Median of the round-trip times that the others measured, in microseconds.
    pub rtt_us: u32,
    /// Its own claim.
    pub capabilities: Capabilities,
    /// Its own claim.
    pub load: Load,
}

fn hundredths(share: f64) -> u16 {
    // The cast turns a NaN into 0.
    (share.clamp(0.0, 1.0) * f64::from(FULL)).round() as u16
}

/// Share of `full` on a logarithmic scale: the first gigabytes count more than the last.
fn log_share(value: f64, full: f64) -> f64 {
    ((1.0 + value.max(0.0)).ln() / (1.0 + full).ln()).min(1.0)
}

/// A fifth uptime, the rest answered pings.
fn stability(inputs: &Inputs) -> u16 {
    if inputs.others == 0 {
        return FULL;
    }
    let uptime = f64::from(inputs.up_s.min(UPTIME_FULL_S)) / f64::from(UPTIME_FULL_S);
    let availability = f64::from(inputs.availability_permille.min(1_000)) / 1_000.0;
    hundredths(0.2 * uptime + 0.8 * availability)
}

/// GPU memory 40 %, processors 20 %, memory 25 %, storage 15 %.
fn hardware(capabilities: &Capabilities) -> u16 {
    let gpu = log_share(capabilities.gpu_memory_total_mb() as f64, GPU_FULL_MB);
    let cores = log_share(f64::from(capabilities.cpu_cores), CORES_FULL);
    let memory = log_share(f64::from(capabilities.memory_gb), MEMORY_FULL_GB);
    let storage = log_share(f64::from(capabilities.storage_gb), STORAGE_FULL_GB);
    hundredths(0.40 * gpu + 0.20 * cores + 0.25 * memory + 0.15 * storage)
}

/// Share of the other voters that hear it.
fn position(inputs: &Inputs) -> u16 {
    if inputs.others == 0 {
        FULL
    } else {
        hundredths(f64::from(inputs.heard_by) / f64::from(inputs.others))
    }
}

/// Full up to 1 ms, zero from 200 ms on, logarithmic between.
fn geography(inputs: &Inputs) -> u16 {
    if inputs.others == 0 {
        return FULL;
    }
    if inputs.heard_by == 0 {
        return 0;
    }
    let rtt = f64::from(inputs.rtt_us).clamp(RTT_FULL_US, RTT_ZERO_US);
    hundredths(1.0 - (rtt / RTT_FULL_US).ln() / (RTT_ZERO_US / RTT_FULL_US).ln())
}

/// Idle processors 70 %, free memory 30 %; nothing when the disk has no room.
fn load(load: &Load) -> u16 {
    if load.disk_free_mb == 0 {
        return 0;
    }
    let idle = 1.0 - f64::from(load.cpu_permille.min(1_000)) / 1_000.0;
    let free = 1.0 - f64::from(load.memory_permille.min(1_000)) / 1_000.0;
    hundredths(0.7 * idle + 0.3 * free)
}

/// Scores one member.
pub fn score(inputs: &Inputs, weights: &Weights) -> Scores {
    let mut scores = Scores {
        stability: stability(inputs),
        hardware: hardware(&inputs.capabilities),
        position: position(inputs),
        geography: geography(inputs),
        load: load(&inputs.load),
        overall: 0,
    };
    let weighted = u32::from(scores.stability) * u32::from(weights.stability)
        + u32::from(scores.hardware) * u32::from(weights.resources)
        + u32::from(scores.position) * u32::from(weights.position)
        + u32::from(scores.geography) * u32::from(weights.geography)
        + u32::from(scores.load) * u32::from(weights.load);
    scores.overall = u16::try_from(weighted / 100).unwrap_or(FULL).min(FULL);
    scores
}

/// Puts the reports together: for each member, the medians of what the others say of it.
pub fn inputs(
    reports: &BTreeMap<MemberId, Report>,
    members: &[MemberId],
) -> BTreeMap<MemberId, Inputs> {
    members
        .iter()
        .map(|member| {
            let links: Vec<LinkReport> = reports
                .iter()
                .filter(|(reporter, _)| *reporter != member && members.contains(reporter))
                .filter_map(|(_, report)| report.links.get(member).copied())
                .collect();
            let own = reports.get(member);
            let inputs = Inputs {
                up_s: median(links.iter().map(|link| link.up_s)),
                availability_permille: median(links.iter().map(|link| link.availability_permille)),
                heard_by: u32::try_from(links.len()).unwrap_or(u32::MAX),
                others: u32::try_from(members.len() - 1).unwrap_or(u32::MAX),
                rtt_us: median(links.iter().map(|link| link.rtt_us)),
                capabilities: own.map(|report| report.capabilities.clone()).unwrap_or_default(),
                load: own.map(|report| report.load).unwrap_or_default(),
            };
            (*member, inputs)
        })
        .collect()
}

/// The lower median; zero of nothing.
fn median<T: Ord + Default + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// Members from the fittest to the least fit; equal scores in the order of their ids. Members
/// without a score come last.
pub fn ranking(
    scores: &BTreeMap<MemberId, Scores>,
    members: impl Iterator<Item = MemberId>,
) -> Vec<MemberId> {
    let mut ranked: Vec<MemberId> = members.collect();
    ranked.sort_by_key(|member| {
        let overall = scores.get(member).map_or(0, |scores| scores.overall);
        (std::cmp::Reverse(overall), *member)
    });
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of docs/election.md.
    fn gpu_box() -> Inputs {
        Inputs {
            up_s: 86_400,
            availability_permille: 998,
            heard_by: 4,
            others: 4,
            rtt_us: 2_300,
            capabilities: Capabilities {
                gpu_type: "nvidia".into(),
                gpu_model: "NVIDIA RTX A5000".into(),
                gpu_memory_mb: vec![24_576; 4],
                cpu_cores: 32,
                memory_gb: 128,
                storage_gb: 2_048,
                ollama_type: "parallama".into(),
            },
            load: Load { cpu_permille: 120, memory_permille: 300, disk_free_mb: 900_000 },
        }
    }

    fn small_box() -> Inputs {
        Inputs {
            up_s: 3_600,
            availability_permille: 900,
            heard_by: 3,
            others: 4,
            rtt_us: 20_000,
            capabilities: Capabilities {
                cpu_cores: 4,
                memory_gb: 8,
                storage_gb: 100,
                ..Default::default()
            },
            load: Load { cpu_permille: 800, memory_permille: 700, disk_free_mb: 10 },
        }
    }

    #[test]
    fn golden_scores() {
        let scores = score(&gpu_box(), &Weights::default());
        let expected = Scores {
            stability: 9_984,
            hardware: 10_000,
            position: 10_000,
            geography: 8_428,
            load: 8_260,
            overall: 9_585,
        };
        assert_eq!(scores, expected);
        let scores = score(&small_box(), &Weights::default());
        let expected = Scores {
            stability: 7_283,
            hardware: 2_959,
            position: 7_500,
            geography: 4_346,
            load: 2_300,
            overall: 5_306,
        };
        assert_eq!(scores, expected);
    }

    #[test]
    fn a_node_alone_is_judged_by_its_hardware_and_load() {
        let alone = Inputs {
            others: 0,
            load: Load { disk_free_mb: 1, ..Default::default() },
            ..Default::default()
        };
        let scores = score(&alone, &Weights::default());
        assert_eq!((scores.stability, scores.position, scores.geography), (FULL, FULL, FULL));
        assert_eq!(scores.overall, 7_500);
    }

    #[test]
    fn absurd_claims_stay_within_the_scale() {
        let mut inputs = gpu_box();
        inputs.up_s = u32::MAX;
        inputs.availability_permille = u16::MAX;
        inputs.heard_by = u32::MAX;
        inputs.capabilities.gpu_memory_mb = vec![u32::MAX; 64];
        inputs.load.cpu_permille = u16::MAX;
        let scores = score(&inputs, &Weights::default());
        for part in [
            scores.stability,
            scores.hardware,
            scores.position,
            scores.geography,
            scores.load,
            scores.overall,
        ] {
            assert!(part <= FULL, "{scores:?}");
        }
    }

    #[test]
    fn a_liar_among_the_reporters_is_outvoted() {
        let members = [1, 2, 3, 4].map(MemberId);
        let honest = LinkReport { rtt_us: 500, up_s: 100, availability_permille: 1_000 };
        let lie = LinkReport { rtt_us: 900_000, up_s: 0, availability_permille: 0 };
        let report = |link: LinkReport| Report {
            load: Load::default(),
            capabilities: Capabilities::default(),
            links: members.iter().map(|member| (*member, link)).collect(),
        };
        let reports = members
            .iter()
            .map(|m| (*m, report(if m.0 == 4 { lie } else { honest })))
            .collect::<BTreeMap<_, _>>();
        let inputs = inputs(&reports, &members);
        assert_eq!(inputs[&MemberId(1)].rtt_us, 500);
        assert_eq!(inputs[&MemberId(1)].heard_by, 3);
    }

    #[test]
    fn ranking_breaks_ties_by_id_and_puts_unknown_members_last() {
        let scores = [(MemberId(1), 10), (MemberId(2), 30), (MemberId(3), 30)]
            .map(|(member, overall)| (member, Scores { overall, ..Default::default() }))
            .into();
        let ranked = ranking(&scores, [4, 3, 2, 1].map(MemberId).into_iter());
        assert_eq!(ranked, [2, 3, 1, 4].map(MemberId));
    }
}
