//! What a node counts and measures, as Prometheus reads it.
//!
//! Problem: several nodes may run in one process, as in tests, so none of them may use a registry of the process. What is
//! measured waits where it was measured until somebody takes it in; that must not grow.
//!
//! Flow: who measures holds a handle and puts durations there -> every second, or when a page is made, they go into the
//! buckets of their histogram. Counters that live elsewhere are read when a page is made.
//!
//! Invariants:
//! 1. A family is what its declaration says (`types::metrics`), and no other one is told.
//! 2. A page has families by name, and samples in one order.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{
    Counter, Histogram, Key, KeyName, Label, Level, Metadata, Recorder as _, SharedString,
};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tokio::runtime::Handle;

use crate::ports::Meter;
use crate::types::metrics::{Family, Kind, families};

/// Where the recorder wants to know that a metric comes from; the exporter does not look at it.
const METADATA: Metadata<'static> = Metadata::new("bzzz", Level::INFO, None);
/// How often what was measured is taken in.
const UPKEEP: Duration = Duration::from_secs(1);

/// The metrics of one node.
pub struct Registry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Default for Registry {
    fn default() -> Self {
        let mut builder = PrometheusBuilder::new();
        for family in families() {
            let Kind::Histogram(bounds) = family.kind else { continue };
            let bounds: Vec<f64> = bounds.iter().map(|us| *us as f64 / 1e6).collect();
            let matcher = Matcher::Full(family.name.to_owned());
            // Fails for an empty list only, which a test of the declarations rules out.
            builder = builder.set_buckets_for_metric(matcher, &bounds).expect("there are bounds");
        }
        let recorder = builder.build_recorder();
        for family in families() {
            let (name, help) =
                (KeyName::from_const_str(family.name), SharedString::const_str(family.help));
            match family.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram(_) => recorder.describe_histogram(name, None, help),
            }
        }
        let handle = recorder.handle();
        Self { recorder, handle }
    }
}

impl Registry {
    /// Metrics that are taken in until nobody holds them any more.
    pub fn start(runtime: &Handle) -> Arc<Self> {
        let registry = Arc::new(Self::default());
        let held = Arc::downgrade(&registry);
        runtime.spawn(async move {
            while let Some(registry) = held.upgrade() {
                registry.handle.run_upkeep();
                drop(registry);
                tokio::time::sleep(UPKEEP).await;
            }
        });
        registry
    }

    fn key(family: &'static Family, values: &[&str]) -> Key {
        debug_assert_eq!(family.labels.len(), values.len(), "{}", family.name);
        let labels = family.labels.iter().zip(values);
        let labels: Vec<Label> =
            labels.map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
        Key::from_parts(family.name, labels)
    }

    /// Where durations are put, with the values of the labels in the order of their declaration.
    pub fn histogram(&self, family: &'static Family, values: &[&str]) -> Histogram {
        debug_assert!(matches!(family.kind, Kind::Histogram(_)), "{}", family.name);
        self.recorder.register_histogram(&Self::key(family, values), &METADATA)
    }

    /// Where something is counted, with the values of the labels in the order of their declaration.
    pub fn counter(&self, family: &'static Family, values: &[&str]) -> Counter {
        debug_assert_eq!(family.kind, Kind::Counter, "{}", family.name);
        self.recorder.register_counter(&Self::key(family, values), &METADATA)
    }

    /// A counter stands there, as it was counted elsewhere.
    pub fn counted(&self, family: &'static Family, values: &[&str], count: u64) {
        self.counter(family, values).absolute(count);
    }

    /// A gauge stands there.
    pub fn gauge(&self, family: &'static Family, values: &[&str], value: f64) {
        debug_assert_eq!(family.kind, Kind::Gauge, "{}", family.name);
        self.recorder.register_gauge(&Self::key(family, values), &METADATA).set(value);
    }

    /// All that was told, in the text format.
    pub fn page(&self) -> String {
        sorted(&self.handle.render())
    }
}

impl Meter for Registry {
    fn took(&self, family: &'static Family, took: Duration) {
        self.histogram(family, &[]).record(took);
    }
}

/// Where durations of one kind go, once somebody wants them.
#[derive(Debug, Default)]
pub struct Timing(OnceLock<Histogram>);

impl Timing {
    /// From now on they go there.
    pub fn goes_to(&self, histogram: Histogram) {
        // It may have been said before, of the same one.
        let _ = self.0.set(histogram);
    }

    /// Takes in one.
    pub fn took(&self, took: Duration) {
        if let Some(histogram) = self.0.get() {
            histogram.record(took);
        }
    }
}

/// The exporter writes families in the order of a hash map, each followed by an empty line, and the
/// samples of counters and gauges too. No line of it is empty otherwise: newlines are escaped.
fn sorted(page: &str) -> String {
    let mut families = BTreeSet::new();
    for family in page.split_terminator("\n\n") {
        let (head, mut samples): (Vec<&str>, Vec<&str>) =
            family.lines().partition(|line| line.starts_with('#'));
        // Those of a histogram stand in the order of their bounds already.
        if !head.last().is_some_and(|line| line.ends_with(" histogram")) {
            samples.sort_unstable();
        }
        let lines = head.into_iter().chain(samples);
        families.insert(lines.fold(String::new(), |text, line| text + line + "\n"));
    }
    families.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::metrics;

    #[test]
    fn two_nodes_count_apart_and_pages_are_in_order() {
        let (node, other) = (Registry::default(), Registry::default());
        for registry in [&node, &other] {
            registry.counted(&metrics::EVENTS, &[], 0);
        }
        node.counter(&metrics::API_REFUSED, &["B"]).increment(1);
        node.counter(&metrics::API_REFUSED, &["A"]).increment(1);
        node.counter(&metrics::API_REFUSED, &["A"]).increment(1);
        node.gauge(&metrics::TERM, &[], 2.0);
        node.counted(&metrics::EVENTS, &[], 7);
        node.took(&metrics::PROPOSAL_SECONDS, Duration::from_micros(700));
        let page = node.page();
        let refused =
            "bzzz_api_refused_total{code=\"A\"} 2\nbzzz_api_refused_total{code=\"B\"} 1\n";
        for part in [
            refused,
            "\nbzzz_term 2\n",
            "\nbzzz_events_total 7\n",
            "\nbzzz_proposal_duration_seconds_bucket{le=\"0.0005\"} 0\n",
            "\nbzzz_proposal_duration_seconds_bucket{le=\"0.001\"} 1\n",
            "\nbzzz_proposal_duration_seconds_count 1\n",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
        for line in [metrics::TERM.help, "# TYPE bzzz_term gauge"] {
            assert!(page.contains(line), "{line}");
        }
        assert_eq!(page, node.page());
        let names: Vec<&str> = page.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert!(other.page().contains("\nbzzz_events_total 0\n"));
        assert!(!other.page().contains("bzzz_proposal"));
    }

    #[test]
    fn labels_are_escaped() {
        let node = Registry::default();
        node.counter(&metrics::API_REFUSED, &["1\"\n2"]).increment(1);
        let page = node.page();
        assert!(page.contains("{code=\"1\\\"\\n2\"} 1\n"), "{page}");
    }
}
