//! Every file of a data directory and each kind of damage to it: what a node says when it is
//! started again, and what is read through every node then.
//!
//! `docs/damage.md` has one row for each, and is compared with what comes out here. A row that
//! differs is printed as it should be.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bzzz::types::journal::HEADER_LEN;

use super::files::{address, publish_at, three};
use super::process::{Daemon, Starting, command, wait};

/// A kind of damage to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gone,
    Empty,
    Half,
    Bit,
    Other,
}

const KINDS: [Kind; 5] = [Kind::Gone, Kind::Empty, Kind::Half, Kind::Bit, Kind::Other];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Empty => "empty",
            Self::Half => "cut in half",
            Self::Bit => "one bit flipped",
            Self::Other => "other content",
        }
    }

    /// Returns what the file was, unless that was nothing to read.
    fn befall(self, path: &Path) -> Vec<u8> {
        // A socket has no content; it is replaced by a file.
        let whole = fs::read(path).unwrap_or_default();
        let mut bytes = whole.clone();
        fs::remove_file(path).unwrap();
        match self {
            Self::Gone => return whole,
            Self::Empty => bytes.clear(),
            Self::Half => bytes.truncate(whole.len() / 2),
            Self::Bit => {
                // In a journal it is within the first record, if it has one.
                let is_journal = path.extension().is_some_and(|ending| ending == "journal");
                let first = HEADER_LEN as usize + 10;
                let at = if is_journal { first } else { whole.len() / 2 };
                let at = if at < whole.len() { at } else { 0 };
                if let Some(byte) = bytes.get_mut(at) {
                    // No text has this one set, so it is always noticed there.
                    *byte ^= 0x80;
                }
            }
            Self::Other => bytes = "something else\n".repeat(20).into_bytes(),
        }
        let has_content = !whole.is_empty();
        assert!(bytes != whole || !has_content, "{} is as it was", path.display());
        put_back(path, &bytes);
        whole
    }
}

/// Only its owner may read what a node keeps.
fn put_back(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).unwrap().write_all(bytes).unwrap();
}

/// Files that a start does without: all are damaged for the same one.
const SMALL: [&str; 6] = ["VERSION", "api.sock", "api.token", FOLLOWER_STATE, "lock", "node.json"];
const FOLLOWER_STATE: &str = "follower-state.journal";
/// Files of which each has its own starts.
const LARGE: [&str; 4] =
    ["consensus-log.journal", "consensus-snapshot.journal", "node.key", "store.journal"];
/// Of the record store, in which each file has a damage of its own here. All others meet all of
/// them where that takes no process.
const RECORDS: [(&str, Kind); 5] = [
    ("records/keyspaces/*/current", Kind::Bit),
    ("records/keyspaces/*/v*", Kind::Half),
    ("records/*.jnl", Kind::Empty),
    ("records/*.jnl", Kind::Bit),
    ("records.mark", Kind::Gone),
];

/// Decisions that are published in each cluster.
const DECISIONS: usize = 5;

fn text(number: usize) -> String {
    format!("kept {number}")
}

/// A node whose files are damaged, and the other members.
struct Place<'a> {
    dir: &'a Path,
    name: &'a str,
    node: Option<Daemon>,
    others: Vec<Daemon>,
}

/// What was said, and what was read back then.
type Cell = (String, String);

impl Place<'_> {
    fn data(&self) -> PathBuf {
        self.dir.join(self.name)
    }

    fn kill(&mut self) {
        if let Some(node) = self.node.take() {
            node.kill();
        }
    }

    fn publish(&self) {
        let node = self.node.as_ref().unwrap();
        (0..DECISIONS).for_each(|number| publish_at(node, &address(number), &text(number)));
    }

    /// Starts the node, and returns what it says of its files.
    fn start(&mut self) -> Vec<String> {
        let said = self.dir.join("said");
        let mut command = command(self.dir, self.name, &[]);
        command.stderr(File::create(&said).unwrap());
        let started = Starting::spawn(command, &self.dir.join(self.name), self.data()).settle();
        self.node = started.ok();
        let text = fs::read_to_string(said).unwrap();
        let mut sentences: Vec<String> = Vec::new();
        for sentence in text.lines().filter_map(|line| self.sentence(line)) {
            // What is tried again is said again.
            if !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
        match &self.node {
            Some(_) => sentences,
            // It ends with what the others have led to.
            None => sentences.pop().into_iter().collect(),
        }
    }

    /// The words of a line of the log that concerns a file here or says why the node ends.
    fn sentence(&self, line: &str) -> Option<String> {
        let data = format!("{}/", self.data().display());
        if let Some(error) = line.strip_prefix("bzzz: ") {
            return Some(error.replace(&data, ""));
        }
        let json: serde_json::Value = serde_json::from_str(line).ok()?;
        let concerns = |text: &str| text.contains(&data) || text.contains("journal ");
        if !concerns(line) || !["WARN", "ERROR"].contains(&json["level"].as_str()?) {
            return None;
        }
        let fields = json["fields"].as_object()?;
        let texts = fields.iter().filter(|(name, _)| *name != "message");
        let texts = texts.filter_map(|(_, value)| value.as_str().filter(|text| concerns(text)));
        let message = fields["message"].as_str()?.to_owned();
        let all = texts.fold(message, |all, text| format!("{all}: {text}"));
        Some(all.replace(&data, ""))
    }

    /// Reads everything that was acknowledged through every node that is there.
    fn read_back(&self) -> String {
        // The one that was damaged first: it has not had time to be helped.
        let nodes: Vec<&Daemon> = self.node.iter().chain(&self.others).collect();
        for node in &nodes {
            for number in 0..DECISIONS {
                let path = format!("/api/v1/decisions/{}", address(number));
                wait("a decision is read", || {
                    let answer = node.get(&path);
                    let status = answer.status;
                    assert!(![404, 410].contains(&status), "never none: {}", answer.text);
                    status == 200 && answer.json["decision"] == *text(number)
                });
            }
        }
        match (&self.node, nodes.len()) {
            (Some(_), _) => "all".to_owned(),
            (None, 0) => "all, once the file is put back".to_owned(),
            (None, _) => "all, through the others".to_owned(),
        }
    }

    /// Damages files, starts the node, and has it go on with the files as they were if it does
    /// not; one cell for each.
    fn damage(&mut self, names: &[&str], kind: Kind) -> Vec<Cell> {
        self.kill();
        let paths: Vec<PathBuf> = names.iter().map(|name| find(&self.data(), name)).collect();
        let whole: Vec<Vec<u8>> = paths.iter().map(|path| kind.befall(path)).collect();
        let said = self.start();
        let read = self.read_back();
        for (path, whole) in paths.iter().zip(&whole) {
            // Nor is this one made anew as long as something is in its place.
            if self.node.is_none() || kind != Kind::Gone && path.ends_with(FOLLOWER_STATE) {
                put_back(path, whole);
            }
        }
        let cell = |(name, path): (&&str, &PathBuf)| {
            let found = path.strip_prefix(self.data()).unwrap().to_str().unwrap().to_owned();
            let (stem, is_alone) = (found.trim_end_matches(".journal"), names.len() == 1);
            let of_it = said.iter().filter(|said| is_alone || said.contains(stem));
            let words: Vec<String> = of_it.map(|said| short(&said.replace(&found, name))).collect();
            (words.join("; "), read.clone())
        };
        names.iter().zip(&paths).map(cell).collect()
    }

    fn small(&mut self) -> Vec<Cell> {
        let mut cells = vec![Vec::new(); SMALL.len()];
        for kind in KINDS {
            let made = self.damage(&SMALL, kind);
            assert!(self.node.is_some(), "{made:?}");
            let is_file = fs::metadata(self.data().join("api.sock")).unwrap().is_file();
            assert_eq!(is_file, kind != Kind::Gone, "a file in the place of the socket is left");
            cells.iter_mut().zip(made).for_each(|(cells, cell)| cells.push(cell));
        }
        fs::remove_file(self.data().join("api.sock")).unwrap();
        cells.concat()
    }

    fn large(&mut self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for name in LARGE {
            KINDS.iter().for_each(|kind| cells.extend(self.damage(&[name], *kind)));
            if self.node.is_none() {
                self.start();
            }
            assert_eq!(self.read_back(), "all");
        }
        cells
    }

    fn records(&mut self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (name, kind) in RECORDS {
            let data = self.data();
            cells.extend(self.damage(&[name], kind));
            if self.node.is_none() {
                self.start();
                assert_eq!(self.read_back(), "all");
            }
            if !self.others.is_empty() {
                wait("it has everything again", || !data.join("records.incomplete").exists());
            }
            forget_set_aside(&data);
        }
        cells
    }
}

/// Removes the record stores that were found damaged: only so many of them are kept.
fn forget_set_aside(data: &Path) {
    for entry in fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("records.damaged-") {
            fs::remove_dir_all(path).unwrap();
        }
    }
}

/// The last file with this name, in which `*` stands for anything within a part.
fn try_find(dir: &Path, name: &str) -> Option<PathBuf> {
    let (part, rest) = name.split_once('/').map_or((name, None), |(part, rest)| (part, Some(rest)));
    let (head, tail) = part.split_once('*').unwrap_or((part, ""));
    let fits = |found: &str| match part.contains('*') {
        true => found.starts_with(head) && found.ends_with(tail),
        false => found == part,
    };
    let entries = fs::read_dir(dir).ok()?.map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| fits(path.file_name().unwrap().to_str().unwrap())).collect();
    found.sort();
    match rest {
        None => found.pop(),
        Some(rest) => found.iter().rev().find_map(|path| try_find(path, rest)),
    }
}

fn find(dir: &Path, name: &str) -> PathBuf {
    try_find(dir, name).unwrap_or_else(|| panic!("there is no {name} in {}", dir.display()))
}

/// What a sentence says, without what to do, and without numbers that differ from run to run.
fn short(said: &str) -> String {
    let what = said.split("; ").next().unwrap_or_default();
    let is_number = |word: &str| word.parse::<u64>().is_ok();
    let words = what.split(' ').map(|word| if is_number(word) { "N" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// The section of the page has to be of these rows; what it should be if it is not.
fn compare(section: &str, files: &[(&str, Kind)], single: &[Cell], member: &[Cell]) -> String {
    let page = include_str!("../../docs/damage.md");
    let part = page.split("\n## ").find(|part| part.starts_with(section)).unwrap_or_default();
    let rows: Vec<&str> = part.lines().filter(|line| line.starts_with("| `")).collect();
    let or_nothing = |said: &str| if said.is_empty() { "nothing" } else { said }.to_owned();
    let made: Vec<String> = files
        .iter()
        .zip(single.iter().zip(member))
        .map(|((name, kind), (single, member))| {
            let (kind, single_said, member_said) =
                (kind.name(), or_nothing(&single.0), or_nothing(&member.0));
            let (single, member) = (&single.1, &member.1);
            format!("| `{name}` | {kind} | {single_said} | {single} | {member_said} | {member} |")
        })
        .collect();
    assert_eq!(files.len(), made.len());
    if rows == made {
        return String::new();
    }
    format!("docs/damage.md, {section}: the rows should be\n{}\n", made.join("\n"))
}

#[test]
fn what_becomes_of_damaged_files_is_what_the_manual_says() {
    let dir = tempfile::tempdir().unwrap();
    let node = Some(Daemon::found(dir.path(), "single"));
    let single = Place { dir: dir.path(), name: "single", node, others: Vec::new() };
    let [first, second, third] = three(dir.path());
    let (node, others) = (Some(third), vec![first, second]);
    let member = Place { dir: dir.path(), name: "three", node, others };
    let (mut small, mut large, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for mut place in [single, member] {
        place.kill();
        let entries = fs::read_dir(place.data()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with("records")).collect();
        let mut known = [&SMALL[..], &LARGE].concat();
        names.sort();
        known.sort_unstable();
        assert_eq!(names, known, "a file of the data directory is in no row");
        place.start();
        place.publish();
        small.push(place.small());
        large.push(place.large());
        records.push(place.records());
        for other in std::mem::take(&mut place.others) {
            other.kill();
        }
        assert_eq!(place.read_back(), "all", "it is no other member that answers");
    }
    let all = |names: &[&'static str]| -> Vec<(&'static str, Kind)> {
        names.iter().flat_map(|name| KINDS.map(|kind| (*name, kind))).collect()
    };
    let wrong = [
        compare("Files beside the record store", &all(&SMALL), &small[0], &small[1]),
        compare("Journals and the key", &all(&LARGE), &large[0], &large[1]),
        compare("The record store of real nodes", &RECORDS, &records[0], &records[1]),
    ];
    assert!(wrong.iter().all(String::is_empty), "{}", wrong.concat());
}
