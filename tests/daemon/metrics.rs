//! What Prometheus says about the metrics of a node: its own program, and rules that this does not know.

use std::collections::BTreeSet;
use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::Daemon;

/// Prometheus' own tool: one that is installed, or the one that the setup has brought.
fn promtool() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let brought = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools");
    let mut places = env::split_paths(&path).chain([brought]).map(|dir| dir.join("promtool"));
    places.find(|place| place.is_file()).expect("promtool is not here: run scripts/setup")
}

/// What it says about a page, and whether it is content.
fn check(page: &str) -> (bool, String) {
    let mut tool = Command::new(promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn prometheus_has_nothing_to_say_about_the_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::found(dir.path(), "one");
    let page = node.get("/metrics").text;
    assert_eq!(check(&page), (true, String::new()), "{page}");
    // It has no eye for these.
    let mut series = BTreeSet::new();
    let mut families = BTreeSet::new();
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let histograms: BTreeSet<&str> =
        kinds.filter_map(|kind| kind.strip_suffix(" histogram")).collect();
    for part in ["api_request", "journal_fsync", "journal_write", "records_write", "proposal"] {
        let name = format!("bzzz_{part}_duration_seconds");
        assert!(histograms.contains(name.as_str()), "{name} is not there");
    }
    let mut last = "";
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (id, _) = line.rsplit_once(' ').unwrap();
        assert!(series.insert(id), "{id} is there twice");
        let name = id.split('{').next().unwrap();
        // The samples of a histogram have endings of their own.
        let ends = ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end));
        let name = ends.into_iter().find(|stem| histograms.contains(stem)).unwrap_or(name);
        assert!(name == last || families.insert(name), "samples of {name} stand apart");
        last = name;
    }
    let declared = page.lines().filter(|line| line.starts_with("# HELP ")).count();
    assert_eq!(families.len(), declared);
    // And it does notice something.
    let (content, said) = check("# TYPE bzzz_x counter\nbzzz_x 1\n");
    assert!(!content && said.contains("no help text") && said.contains("_total"), "{said}");
}
