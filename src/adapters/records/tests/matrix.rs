//! Every file of a record store, and each kind of damage to it: what is called whole has
//! everything.

use super::*;

/// A kind of damage to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gone,
    Empty,
    Half,
    Bit,
    Other,
}

const KINDS: [Kind; 5] = [Kind::Gone, Kind::Empty, Kind::Half, Kind::Bit, Kind::Other];

impl Kind {
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

/// What the store of these tests holds: tables, large values, and batches that are in no table.
fn fill(dir: &Path) {
    let stores = FjallStores::new(dir, false);
    let opened = stores.open().unwrap();
    for number in 1..=3 {
        run(opened.store.as_ref(), vec![put(number, 5_000), add(number.into())]).unwrap();
    }
    stores.last.lock().unwrap().close();
    let table = FjallTable::open(dir, 0).unwrap();
    table.flush().unwrap();
    table.close().unwrap();
    let opened = stores.open().unwrap();
    for number in 4..=6 {
        run(opened.store.as_ref(), vec![put(number, 50), add(number.into())]).unwrap();
    }
    stores.last.lock().unwrap().close();
}

/// How many of the contents and versions can be read, none if reading fails.
fn readable(store: &dyn RecordStore) -> Option<(usize, usize)> {
    let mut contents = 0;
    for number in 1..=6_u8 {
        let hash = ContentHash([number; 32]);
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
fn cells(test: impl Fn(&Path, &Path, Kind)) {
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
            let copied = directory.path().join("copy");
            copy(&whole, &copied);
            kind.befall(&copied.join(name));
            test(&copied, name, kind);
            fs::remove_dir_all(&copied).unwrap();
        }
    }
}

#[test]
fn a_member_of_a_cluster_starts_and_what_it_calls_whole_has_everything() {
    cells(|dir, name, kind| {
        let stores = FjallStores::new(&dir.join("records"), true);
        let opened = stores.open().unwrap_or_else(|fault| panic!("{name:?} {kind:?}: {fault}"));
        assert_eq!(stores.disk(), DiskState::Writable);
        if opened.is_whole() {
            let found = readable(opened.store.as_ref());
            assert_eq!(found, Some((6, 6)), "{name:?} {kind:?}");
        } else {
            // It takes what is copied to it.
            let copied = run(opened.store.as_ref(), vec![put(9, 50), add(9)]);
            assert!(copied.is_ok(), "{name:?} {kind:?}: {copied:?}");
        }
        // Known to be lost is what is not in the store that took the place of another one.
        let is_lost = is_set_aside(dir);
        assert_eq!(opened.kept == Kept::Lost, is_lost, "{name:?} {kind:?}");
        let whole = opened.is_whole();
        drop(opened);
        let again = stores.open().unwrap();
        assert_eq!(again.is_whole(), whole, "{name:?} {kind:?}: the same at the next start");
        assert_eq!(again.kept == Kept::Lost, is_lost, "{name:?} {kind:?}");
        drop((again, stores));
        let stores = FjallStores::new(&dir.join("records"), true).giving_up(true);
        let kept = stores.open().unwrap().kept;
        let given_up = if whole { Kept::Whole } else { Kept::Unsure };
        assert_eq!(kept, given_up, "{name:?} {kind:?}: nobody waits for what is given up");
    });
}

#[test]
fn a_single_node_says_what_it_has_lost_and_goes_on_only_if_told_to() {
    cells(|dir, name, kind| {
        let records = dir.join("records");
        let stores = FjallStores::new(&records, true).without_copies(false);
        if let Err(error) = stores.prepare() {
            assert!(matches!(error, RecordsError::Lost { .. }), "{name:?} {kind:?}: {error}");
            let text = error.to_string();
            assert!(text.contains("--accept-lost-records"), "{text}");
            assert!(!text.contains("Error"), "in words of our own: {text}");
            for entry in fs::read_dir(dir).unwrap() {
                let made = entry.unwrap().file_name().into_string().unwrap();
                let is_new = made.contains("damaged") || made.contains("incomplete");
                assert!(!is_new, "{name:?} {kind:?}: {made} was made");
            }
            drop(stores);
            let stores = FjallStores::new(&records, true).without_copies(true);
            let opened = stores.open().unwrap_or_else(|fault| panic!("{name:?} {kind:?}: {fault}"));
            assert!(!opened.is_whole());
            let left = readable(opened.store.as_ref());
            assert!(left.is_some(), "{name:?} {kind:?}: what is left can be read");
        } else {
            let opened = stores.open().unwrap();
            assert_eq!(readable(opened.store.as_ref()), Some((6, 6)), "{name:?} {kind:?}");
        }
    });
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
