//! Every file of a record store, and each kind of damage to it: what is called whole has
//! everything, and `docs/damage.md` has a row for each of what is said and of what can be read.

use std::io;

use super::*;

/// A kind of damage to a file.
#[derive(Clone, Copy)]
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

    fn befall(self, path: &Path) {
        let bytes = fs::read(path).unwrap();
        match self {
            Self::Gone => fs::remove_file(path).unwrap(),
            Self::Empty => fs::write(path, "").unwrap(),
            Self::Half => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
            Self::Bit => {
                let mut bytes = bytes;
                let at = bytes.len() / 2;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 0x04;
                }
                fs::write(path, &bytes).unwrap();
            }
            Self::Other => fs::write(path, "something else\n".repeat(20)).unwrap(),
        }
    }
}

/// Bytes of a content: a large value has a file of its own.
fn length_of(number: u64) -> usize {
    if number <= 3 { 5_000 } else { 50 }
}

/// What the store of these tests holds: tables, large values, and batches that are in no table.
fn fill(dir: &Path) {
    let stores = FjallStores::new(dir, false);
    let opened = stores.open().unwrap();
    for number in 1..=3 {
        run(opened.store.as_ref(), publication(number, length_of(number)).to_vec()).unwrap();
    }
    stores.last.lock().unwrap().close();
    let table = FjallTable::open(dir, 0).unwrap();
    table.flush().unwrap();
    table.close().unwrap();
    let opened = stores.open().unwrap();
    for number in 4..=6 {
        run(opened.store.as_ref(), publication(number, length_of(number)).to_vec()).unwrap();
    }
    stores.last.lock().unwrap().close();
}

/// How many of the contents and versions can be read, none if reading fails.
fn readable(store: &dyn RecordStore) -> Option<(usize, usize)> {
    let mut contents = 0;
    for number in 1..=6 {
        let [StoreOp::Put { hash, .. }, _] = publication(number, length_of(number)) else {
            panic!("a content comes before its version");
        };
        match run(store, vec![StoreOp::Content(hash)]).ok()?.remove(0) {
            StoreAnswer::Content(content) => contents += usize::from(content.is_some()),
            other => panic!("{other:?}"),
        }
    }
    match run(store, vec![StoreOp::Versions(address())]).ok()?.remove(0) {
        StoreAnswer::Versions(versions) => Some((contents, versions.len())),
        other => panic!("{other:?}"),
    }
}

pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, target).unwrap();
    }
}

/// All cells: the damaged copy, which file it was, and the kind.
fn cells(mut test: impl FnMut(&Path, &Path, Kind)) {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    fill(&whole.join("records"));
    let all = files(&whole);
    let names: Vec<&Path> = all.iter().map(|path| path.strip_prefix(&whole).unwrap()).collect();
    let has = |name: &str| names.iter().any(|path| path.to_str().unwrap().contains(name));
    for kind in ["records.mark", ".jnl", "lock", "version", "current", "tables", "blobs"] {
        assert!(has(kind), "{kind} is not among {names:?}");
    }
    for name in &names {
        for kind in KINDS {
            test(directory.path(), name, kind);
        }
    }
}

/// A copy with this damage.
fn damaged(directory: &Path, name: &Path, kind: Kind) -> PathBuf {
    let copied = directory.join("copy");
    if copied.exists() {
        fs::remove_dir_all(&copied).unwrap();
    }
    copy(&directory.join("whole"), &copied);
    kind.befall(&copied.join(name));
    copied
}

/// Takes what is written to the log.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prepares a store, and returns the warnings and errors that this has told, and how it ended.
fn prepare(stores: &FjallStores, data: &Path) -> (String, Result<(), RecordsError>) {
    let said = Said::default();
    let writer = said.clone();
    let log = tracing_subscriber::fmt().json().with_max_level(tracing::Level::WARN);
    let log = log.with_writer(move || writer.clone()).finish();
    let done = tracing::subscriber::with_default(log, || stores.prepare());
    let text = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
    let mut sentences: Vec<String> = text.lines().map(sentence).collect();
    sentences.extend(done.as_ref().err().map(ToString::to_string));
    let data = format!("{}/", data.display());
    let what = |sentence: &String| {
        let what = sentence.replace(&data, "");
        what.split("; ").next().unwrap_or_default().to_owned()
    };
    let said = sentences.iter().map(what).collect::<Vec<_>>().join("; ");
    (if said.is_empty() { "nothing".to_owned() } else { said }, done)
}

/// The words of a line of the log, and the file that it names.
fn sentence(line: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(line).unwrap();
    let message = json["fields"]["message"].as_str().unwrap();
    match json["fields"]["file"].as_str() {
        Some(file) => format!("{message}: {file}"),
        None => message.to_owned(),
    }
}

/// What a member of a cluster says, and what it has: what it calls whole has everything.
fn as_member(dir: &Path, at: &str) -> String {
    let stores = FjallStores::new(&dir.join("records"), true);
    let (said, prepared) = prepare(&stores, dir);
    prepared.unwrap_or_else(|error| panic!("{at}: {error}"));
    let opened = stores.open().unwrap_or_else(|fault| panic!("{at}: {fault}"));
    assert_eq!(stores.disk(), DiskState::Writable);
    let found = readable(opened.store.as_ref());
    let read = if opened.is_whole() {
        assert_eq!(found, Some((6, 6)), "{at}");
        "all, by itself".to_owned()
    } else {
        // It takes what is copied to it.
        let all = (1..=6).flat_map(|number| publication(number, length_of(number)));
        let copied = run(opened.store.as_ref(), all.collect());
        assert!(copied.is_ok(), "{at}: {copied:?}");
        assert_eq!(readable(opened.store.as_ref()), Some((6, 6)), "{at}");
        let (contents, versions) = found.unwrap_or_default();
        match contents + versions {
            12 => "all, by itself, and compared with other members".to_owned(),
            own => format!("all, {own} of 12 by itself, the others from other members"),
        }
    };
    // Known to be lost is what is not in the store that took the place of another one.
    let is_lost = is_set_aside(dir);
    assert_eq!(opened.kept == Kept::Lost, is_lost, "{at}");
    let whole = opened.is_whole();
    drop(opened);
    let again = stores.open().unwrap();
    assert_eq!(again.is_whole(), whole, "{at}: the same at the next start");
    assert_eq!(again.kept == Kept::Lost, is_lost, "{at}");
    drop((again, stores));
    let stores = FjallStores::new(&dir.join("records"), true).giving_up(true);
    let kept = stores.open().unwrap().kept;
    let given_up = if whole { Kept::Whole } else { Kept::Unsure };
    assert_eq!(kept, given_up, "{at}: nobody waits for what is given up");
    format!("{said} | {read}")
}

/// What a node says that is the only member, and what it has: it goes on without what is lost
/// only if told to.
fn as_single(dir: &Path, at: &str) -> String {
    let records = dir.join("records");
    let stores = FjallStores::new(&records, true).without_copies(false);
    let (said, prepared) = prepare(&stores, dir);
    let Err(error) = prepared else {
        let opened = stores.open().unwrap();
        assert_eq!(readable(opened.store.as_ref()), Some((6, 6)), "{at}");
        return format!("{said} | all");
    };
    assert!(matches!(error, RecordsError::Lost { .. }), "{at}: {error}");
    let text = error.to_string();
    assert!(text.contains("--accept-lost-records"), "{text}");
    assert!(!text.contains("Error"), "in words of our own: {text}");
    for entry in fs::read_dir(dir).unwrap() {
        let made = entry.unwrap().file_name().into_string().unwrap();
        let is_new = made.contains("damaged") || made.contains("incomplete");
        assert!(!is_new, "{at}: {made} was made");
    }
    drop(stores);
    let stores = FjallStores::new(&records, true).without_copies(true);
    let opened = stores.open().unwrap_or_else(|fault| panic!("{at}: {fault}"));
    assert!(!opened.is_whole());
    let left = readable(opened.store.as_ref());
    let (contents, versions) = left.unwrap_or_else(|| panic!("{at}: what is left can be read"));
    format!("{said} | not started; {} of 12 if the rest is given up", contents + versions)
}

#[test]
fn what_is_called_whole_has_everything_and_what_is_lost_is_said_as_in_the_manual() {
    let page = include_str!("../../../../docs/damage.md");
    let part = page.split("\n## ").find(|part| part.starts_with("The record store\n"));
    let part = part.unwrap_or_default();
    let rows: Vec<&str> = part.lines().filter(|line| line.starts_with("| `")).collect();
    let mut made = Vec::new();
    cells(|directory, name, kind| {
        let (file, kind_name) = (name.display(), kind.name());
        let at = format!("{file} {kind_name}");
        let single = as_single(&damaged(directory, name, kind), &at);
        let member = as_member(&damaged(directory, name, kind), &at);
        made.push(format!("| `{file}` | {kind_name} | {single} | {member} |"));
    });
    let text = made.join("\n");
    assert!(rows == made, "docs/damage.md, The record store: the rows should be\n{text}\n");
}

/// Makes one journal of each batch, as if the library had begun a new one after each, and returns
/// how many there are.
fn split_journal(dir: &Path) -> usize {
    let (journal, end) = newest_journal(dir);
    let bytes = fs::read(&journal).unwrap()[..end as usize].to_vec();
    let mut at = 0;
    let mut starts = Vec::new();
    while let Some(length) = journals::length_of(&bytes[at..]) {
        starts.push(at);
        at += length;
    }
    assert_eq!(at, bytes.len());
    fs::remove_file(&journal).unwrap();
    starts.push(at);
    for (number, range) in starts.windows(2).enumerate() {
        fs::write(dir.join(format!("{number}.jnl")), &bytes[range[0]..range[1]]).unwrap();
    }
    starts.len() - 1
}

#[test]
fn a_journal_of_several_that_is_taken_away_is_missed() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    fill(&dir);
    let count = split_journal(&dir);
    assert!(count >= 3, "{count} batches");
    let scanned = journals::scan(&dir).unwrap();
    assert_eq!(scanned.damage(6), None);
    for number in 0..count {
        let copied = directory.path().join("copy");
        copy(&dir, &copied.join("records"));
        fs::copy(directory.path().join("records.mark"), copied.join("records.mark")).unwrap();
        fs::remove_file(copied.join(format!("records/{number}.jnl"))).unwrap();
        let stores = FjallStores::new(&copied.join("records"), true);
        let opened = stores.open().unwrap();
        let found = readable(opened.store.as_ref());
        // What is in tables already is not missed.
        assert!(!opened.is_whole() || found == Some((6, 6)), "without journal {number}: {found:?}");
        drop(stores);
        fs::remove_dir_all(&copied).unwrap();
    }
}

#[test]
fn a_gap_is_missed_at_every_start() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    fill(&dir);
    let count = split_journal(&dir);
    assert!(count >= 3, "{count} batches");
    // The first three of six batches are in tables. The fifth and the sixth are left.
    for number in 0..count - 2 {
        fs::remove_file(dir.join(format!("{number}.jnl"))).unwrap();
    }
    let before = files(&dir);
    for _ in 0..5 {
        let stores = FjallStores::new(&dir, true).without_copies(false);
        match stores.prepare().unwrap_err() {
            RecordsError::Lost { damage, .. } => assert_eq!(damage, Damage::Gap),
            other => panic!("{other}"),
        }
        assert_eq!(files(&dir), before, "nothing was written or deleted");
    }
}
