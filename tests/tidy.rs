//! Rules of the source tree that the compiler does not check.
//!
//! The tests here run every rule over the tree; those in `selftest` run them over small sources
//! that break them, because a rule that finds nothing wrong anywhere would be no rule. To change
//! what is allowed, change a table.
//!
//! Rules see code with comments, strings and characters blanked out (`lexer::blank`), and paths
//! with groups spelled out (`lexer::paths`), so `use std::{fs, net}` is seen as `std::fs` and
//! `std::net`. A module under a `#[cfg(test)]` at the start of a line is tests, and so is the rest
//! of its file.

#[path = "tidy/lexer.rs"]
mod lexer;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/selftest.rs"]
mod selftest;
#[path = "tidy/tables.rs"]
mod tables;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rules::{RULES, Source, forbidden_words, is_outside};
use tables::RUST_DIRS;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files under `dir`, from the root of the tree, in order.
fn walk(dir: &Path, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(root().join(dir)) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = dir.join(entry.file_name());
        let hidden =
            matches!(path.file_name().and_then(|name| name.to_str()), Some("target" | ".git"));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !hidden => walk(&path, found),
            Ok(kind) if kind.is_file() => found.push(path.to_string_lossy().into_owned()),
            _ => {}
        }
    }
}

/// All files that are in the repository or could be added to it.
fn project_files() -> Vec<String> {
    let git = ["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"];
    let listed =
        Command::new("git").args(git).arg("--exclude-standard").current_dir(root()).output();
    if let Ok(listed) = listed
        && listed.status.success()
    {
        let names = String::from_utf8_lossy(&listed.stdout).into_owned();
        return names.split_terminator('\0').map(str::to_owned).collect();
    }
    let mut found = vec![];
    walk(Path::new(""), &mut found);
    found
}

/// What all rules find in one Rust file, a line each.
fn check(source: &Source) -> String {
    let mut report = String::new();
    for (rule, find) in RULES {
        for (line, found) in find(source) {
            let _ = writeln!(report, "{}:{line}: {rule}: {found}", source.path);
        }
    }
    report
}

#[test]
fn rust_sources_keep_the_rules() {
    let mut files = vec![];
    RUST_DIRS.iter().for_each(|dir| walk(Path::new(dir), &mut files));
    files.retain(|file| file.ends_with(".rs"));
    assert!(files.iter().any(|file| file == "src/lib.rs"), "the sources are not where they were");
    let mut report = String::new();
    for file in files {
        let text = std::fs::read_to_string(root().join(&file)).expect("a source is text");
        report += &check(&Source::new(&file, &text));
    }
    assert!(report.is_empty(), "the source tree breaks its rules:\n{report}");
}

#[test]
fn every_durable_type_has_golden_bytes() {
    let text = |path: &String| std::fs::read_to_string(root().join(path)).unwrap_or_default();
    let files = project_files();
    let sources = files.iter().filter(|path| path.starts_with("src/") && path.ends_with(".rs"));
    let all: String = sources.map(text).collect();
    let impls = all.lines().filter_map(|line| line.strip_prefix("impl Durable for "));
    let names: Vec<&str> = impls.filter_map(|rest| rest.split(' ').next()).collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(all.contains(&format!("golden::durable::<{name}>(")), "{name} has none");
    }
}

#[test]
fn every_metric_is_counted_somewhere() {
    let declarations = "src/types/metrics.rs";
    let text = |path: &String| std::fs::read_to_string(root().join(path)).unwrap_or_default();
    let files = project_files();
    let is_other = |path: &&String| {
        path.starts_with("src/") && path.ends_with(".rs") && path.as_str() != declarations
    };
    let all: String = files.iter().filter(is_other).map(text).collect();
    let declared = text(&declarations.to_owned());
    let rows =
        declared.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(" \"bzzz_"));
    let names: Vec<&str> = rows.filter_map(|(head, _)| head.split(' ').next()).collect();
    assert!(names.len() > 90, "{names:?}");
    let is_word = |next: char| next.is_ascii_alphanumeric() || next == '_';
    for name in names {
        let use_of = format!("metrics::{name}");
        let mut rests = all.split(&use_of).skip(1);
        assert!(
            rests.any(|rest| !rest.starts_with(is_word)),
            "{name} is declared, and nobody counts it"
        );
    }
}

#[test]
fn no_file_names_a_place_on_one_machine() {
    let mut report = String::new();
    for file in project_files() {
        // What is deleted but not yet committed, and what is no text, is left out.
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        for (line, found) in forbidden_words(&file, &text) {
            let _ = writeln!(report, "{file}:{line}: forbidden-words: {found}");
        }
    }
    assert!(report.is_empty(), "the tree names what only one machine knows:\n{report}");
}

#[test]
fn the_simulator_cannot_reach_the_real_world() {
    let manifest = std::fs::read_to_string(root().join("simulations/Cargo.toml"))
        .expect("the simulator has a manifest");
    let dependency = manifest.lines().find(|line| line.starts_with("bzzz = ")).unwrap_or_default();
    assert!(
        dependency.contains("default-features = false") && !dependency.contains("daemon"),
        "simulations/Cargo.toml must take bzzz with default-features = false, has: {dependency}"
    );
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = ["tree", "-p", "bzzz-sim", "--edges", "normal", "--offline", "--locked"];
    let tree = Command::new(cargo)
        .args(tree)
        .args(["--prefix", "none", "--format", "{p}", "--color", "never"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let listing = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(listing.lines().any(|line| line.starts_with("openraft v")), "no tree:\n{listing}");
    let outside = listing.lines().filter(|line| is_outside(line)).collect::<Vec<_>>();
    assert!(outside.is_empty(), "make these optional, under the feature `daemon`: {outside:?}");
}
