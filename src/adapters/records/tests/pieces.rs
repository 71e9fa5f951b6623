//! What is saved of a store of which a part is missing.

use super::*;

/// Records that are written to tables together, and how often that is done.
const TOGETHER: u64 = 20;
const TIMES: u64 = 3;
/// Bytes of a content that has a file of its own.
const LARGE: usize = 3_000;
const ALL: usize = (TOGETHER * TIMES) as usize;

/// A store with as many tables, which alone have its records.
fn fill(dir: &Path) {
    let stores = FjallStores::new(dir, false);
    for time in 0..TIMES {
        let opened = stores.open().unwrap();
        for number in time * TOGETHER..(time + 1) * TOGETHER {
            run(opened.store.as_ref(), publication(number, LARGE).to_vec()).unwrap();
        }
        stores.last.lock().unwrap().close();
        let table = FjallTable::open(dir, 0).unwrap();
        table.flush().unwrap();
        table.close().unwrap();
    }
    fs::write(newest_journal(dir).0, "").unwrap();
}

/// Versions, and those of them whose content is there.
fn left(store: &dyn RecordStore) -> (usize, usize) {
    let StoreAnswer::Versions(versions) =
        run(store, vec![StoreOp::Versions(address())]).unwrap().remove(0)
    else {
        panic!("versions are answered with versions");
    };
    let has_content = |version: &&Version| {
        let found = run(store, vec![StoreOp::Content(version.content)]).unwrap().remove(0);
        matches!(found, StoreAnswer::Content(Some(_)))
    };
    (versions.len(), versions.iter().filter(has_content).count())
}

#[test]
fn what_one_file_takes_along_is_no_more_than_what_stood_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    fill(&whole.join("records"));
    let names: Vec<PathBuf> = matrix::files(&whole.join("records/keyspaces"))
        .into_iter()
        .map(|path| path.strip_prefix(&whole).unwrap().to_owned())
        .collect();
    let of = |kind: &str| names.iter().filter(|name| name.to_str().unwrap().contains(kind)).count();
    assert!(of("2/tables/") >= 3 && of("2/blobs/") >= 3 && of("1/tables/") >= 3, "{names:?}");
    for name in &names {
        for is_gone in [true, false] {
            let dir = directory.path().join("copy");
            matrix::copy(&whole, &dir);
            if is_gone {
                fs::remove_file(dir.join(name)).unwrap();
            } else {
                let mut bytes = fs::read(dir.join(name)).unwrap();
                let at = bytes.len() / 2;
                bytes[at] ^= 4;
                fs::write(dir.join(name), bytes).unwrap();
            }
            let stores = FjallStores::new(&dir.join("records"), true);
            let opened = stores.open().unwrap();
            let (versions, contents) = left(opened.store.as_ref());
            let what = format!("{name:?} {is_gone}: {versions} versions");
            assert_eq!(versions, contents, "{what}: each with its content");
            let holds_records = ["1/tables", "2/tables", "2/blobs"];
            let has_records =
                holds_records.iter().any(|part| name.to_str().unwrap().contains(part));
            let least = if has_records { ALL - TOGETHER as usize } else { ALL };
            assert!(versions >= least, "{what}");
            // The library leaves manifests behind that nothing leads to any more.
            let expected =
                if versions == ALL && opened.is_whole() { Kept::Whole } else { Kept::Lost };
            assert_eq!(opened.kept, expected, "{what}");
            drop((opened, stores));
            fs::remove_dir_all(&dir).unwrap();
        }
    }
}

#[test]
fn what_stands_behind_a_damaged_place_in_a_journal_is_saved() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    let stores = FjallStores::new(&dir, false);
    let opened = stores.open().unwrap();
    for number in 0..9 {
        run(opened.store.as_ref(), publication(number, LARGE).to_vec()).unwrap();
    }
    drop((opened, stores));
    let (journal, end) = newest_journal(&dir);
    let mut bytes = fs::read(&journal).unwrap();
    bytes[end as usize / 2] ^= 4;
    fs::write(&journal, bytes).unwrap();
    let stores = FjallStores::new(&dir, true);
    let opened = stores.open().unwrap();
    assert_eq!(left(opened.store.as_ref()), (8, 8));
}
