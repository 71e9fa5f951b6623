//! The store on real files: what survives, what is noticed, and what is shared.

mod matrix;
mod pieces;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::mpsc;

use super::table::FjallTable;
use super::*;
use crate::ports::records::{Content, Envelope, StoreAnswer};
use crate::types::record::{DecisionKind, Hlc, Version};
use crate::types::ucxl::DecisionAddress;
use crate::types::{BodyHash, Bytes, ContentHash, MemberId, PeerId, PlaceHash, RequestId};

fn address() -> DecisionAddress {
    "a/b/c/d/e".parse().unwrap()
}

fn version(number: u64) -> Version {
    let mut request = [0; 16];
    request[..8].copy_from_slice(&number.to_le_bytes());
    Version {
        at: Hlc { ms: number, counter: 0 },
        writer: MemberId(1),
        content: ContentHash([number as u8; 32]),
        request: RequestId(request),
        kind: DecisionKind::Test,
        body: BodyHash([0; 32]),
    }
}

fn put(number: u8, length: usize) -> StoreOp {
    let content = Bytes(vec![number; length]);
    StoreOp::Put { hash: ContentHash([number; 32]), generation: 0, content }
}

fn add(number: u64) -> StoreOp {
    StoreOp::Add { address: address(), version: version(number), settled: false, vouched: None }
}

/// A publication whose content has a file of so many bytes.
fn publication(number: u64, length: usize) -> [StoreOp; 2] {
    let mut request = [0; 16];
    request[..8].copy_from_slice(&number.to_le_bytes());
    let (request, kind) = (RequestId(request), DecisionKind::Code);
    let envelope = Envelope {
        plain: [number as u8; 32],
        place: PlaceHash::of(&address(), &request, kind),
        generation: 1,
        roles: vec!["admin".into()],
        signer: PeerId([3; 32]),
        file: Bytes(vec![number as u8; length]),
        signature: Bytes(vec![0; 64]),
    };
    let stamp = (Hlc { ms: number, counter: 0 }, MemberId(1));
    let version = Version::new(stamp, &address(), request, kind, envelope.body());
    let content = Content::Sealed(envelope);
    let put = StoreOp::Put { hash: content.hash(), generation: 1, content: content.encode() };
    [put, StoreOp::Merge { address: address(), version, vouched: None }]
}

fn run(store: &dyn RecordStore, ops: Vec<StoreOp>) -> Result<Vec<StoreAnswer>, StoreFault> {
    let (sender, receiver) = mpsc::channel();
    store.run(ops, Box::new(move |result| drop(sender.send(result))));
    receiver.recv().unwrap()
}

fn versions(store: &dyn RecordStore) -> usize {
    match run(store, vec![StoreOp::Versions(address())]).unwrap().remove(0) {
        StoreAnswer::Versions(versions) => versions.len(),
        other => panic!("{other:?}"),
    }
}

/// The newest journal, and where its last whole batch ends.
fn newest_journal(dir: &Path) -> (PathBuf, u64) {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .collect();
    found.sort();
    let path = found.pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    (path, end as u64)
}

/// What `journals` and `manifest` read are formats that these versions write: read them against the new sources
/// before a version is changed here (docs/storage.md).
#[test]
fn the_library_and_what_is_below_it_are_those_that_were_read() {
    let lock = include_str!("../../../Cargo.lock");
    for (name, version) in [("fjall", "3.1.13"), ("lsm-tree", "3.1.10"), ("sfa", "1.0.0")] {
        let pinned = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert_eq!(lock.matches(&format!("name = \"{name}\"\n")).count(), 1, "{name}");
        assert!(lock.contains(&pinned), "{name} is another version than {version}");
    }
}

#[test]
fn what_was_answered_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let stores = FjallStores::new(&directory.path().join("records"), false);
    let opened = stores.open().unwrap();
    assert!(opened.is_whole());
    let stored = vec![StoreAnswer::Stored; 3];
    let ops = vec![put(1, 100), put(2, 1_000_000), add(5)];
    assert_eq!(run(opened.store.as_ref(), ops), Ok(stored));
    let digests = run(opened.store.as_ref(), vec![StoreOp::Digests]);
    for _ in 0..2 {
        drop(stores.open().unwrap());
    }
    assert_eq!(run(opened.store.as_ref(), vec![StoreOp::Digests]), Err(StoreFault::Busy));
    let opened = stores.open().unwrap();
    assert!(opened.is_whole(), "nothing was cut");
    let hash = ContentHash([2; 32]);
    let found = run(opened.store.as_ref(), vec![StoreOp::Content(hash)]).unwrap();
    assert_eq!(found, [StoreAnswer::Content(Some(Bytes(vec![2; 1_000_000])))]);
    assert_eq!(versions(opened.store.as_ref()), 1);
    assert_eq!(run(opened.store.as_ref(), vec![StoreOp::Digests]), digests);
}

#[test]
fn a_store_without_room_refuses_writes_and_goes_on_being_read() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    let mut stores = FjallStores::new(&dir, false);
    let opened = stores.open().unwrap();
    run(opened.store.as_ref(), vec![put(1, 100), add(5)]).unwrap();
    stores.room_min = u64::MAX;
    let opened = stores.open().unwrap();
    let store = opened.store.as_ref();
    let read = [StoreOp::Content(ContentHash([1; 32])), StoreOp::Content(ContentHash([2; 32]))];
    let found = [StoreAnswer::Content(Some(Bytes(vec![1; 100]))), StoreAnswer::Content(None)];
    for _ in 0..2 {
        assert_eq!(run(store, vec![put(2, 100)]), Err(StoreFault::Full));
        assert_eq!(run(store, vec![put(2, 100), read[0].clone()]), Err(StoreFault::Full));
        assert_eq!(stores.disk(), DiskState::Full);
        assert_eq!(run(store, read.to_vec()).unwrap(), found);
        assert_eq!(versions(store), 1);
    }
    stores.room_min = 0;
    assert_eq!(stores.disk(), DiskState::Writable);
}

#[test]
fn operations_that_wait_together_share_a_commit() {
    let directory = tempfile::tempdir().unwrap();
    let stores = FjallStores::new(&directory.path().join("records"), false);
    let opened = stores.open().unwrap();
    let (sender, receiver) = mpsc::channel();
    for number in 0..1_000 {
        let sender = sender.clone();
        let done: Done = Box::new(move |result| drop(sender.send((number, result))));
        opened.store.run(vec![add(number + 1)], done);
    }
    for number in 0..1_000 {
        let (answered, result) = receiver.recv().unwrap();
        assert_eq!((answered, result), (number, Ok(vec![StoreAnswer::Stored])), "in order");
    }
    let commits = stores.stats().commits.load(Relaxed);
    assert!(commits < 500, "{commits} commits for 1000 operations");
    assert_eq!(versions(opened.store.as_ref()), 1_000);
}

/// A store with five versions, closed.
fn five(dir: &Path) -> FjallStores {
    let stores = FjallStores::new(dir, false);
    let opened = stores.open().unwrap();
    for number in 1..=5 {
        run(opened.store.as_ref(), vec![add(number)]).unwrap();
    }
    stores.last.lock().unwrap().close();
    stores
}

#[test]
fn a_torn_batch_at_the_end_is_cut_off_and_missed_by_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    let stores = five(&dir);
    let (journal, end) = newest_journal(&dir);
    let torn = fs::read(&journal).unwrap()[..90].to_vec();
    let file = OpenOptions::new().write(true).open(&journal).unwrap();
    file.write_all_at(&torn, end).unwrap();
    let opened = stores.open().unwrap();
    assert!(opened.is_whole());
    assert_eq!(versions(opened.store.as_ref()), 5);
    assert!(directory.path().join("records.cut").exists(), "it was kept aside");
}

#[test]
fn a_flipped_bit_before_whole_batches_is_noticed_until_all_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    let stores = five(&dir);
    let (journal, end) = newest_journal(&dir);
    let file = OpenOptions::new().read(true).write(true).open(&journal).unwrap();
    let at = end / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    let opened = stores.open().unwrap();
    assert!(!opened.is_whole());
    let left = versions(opened.store.as_ref());
    assert!(left < 5);
    let digests = run(opened.store.as_ref(), vec![StoreOp::Digests]);
    let others = FjallStores::new(&directory.path().join("other"), false);
    let other = others.open().unwrap();
    for number in 1..=left as u64 {
        run(other.store.as_ref(), vec![add(number)]).unwrap();
    }
    let expected = run(other.store.as_ref(), vec![StoreOp::Digests]);
    assert_eq!(digests, expected, "its digests are those of what it has");
    drop(opened);
    let opened = stores.open().unwrap();
    assert!(!opened.is_whole(), "it has not been made whole meanwhile");
    for number in 1..=5 {
        let merge = StoreOp::Merge { address: address(), version: version(number), vouched: None };
        run(opened.store.as_ref(), vec![merge]).unwrap();
    }
    opened.store.restored();
    drop(opened);
    let opened = stores.open().unwrap();
    assert!(opened.is_whole());
    assert_eq!(versions(opened.store.as_ref()), 5);
}

#[test]
fn a_database_that_was_half_made_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    fs::create_dir_all(dir.join("keyspaces/0")).unwrap();
    fs::write(dir.join("0.jnl"), []).unwrap();
    let stores = FjallStores::new(&dir, false);
    let opened = stores.open().unwrap();
    assert!(opened.is_whole());
    assert_eq!(versions(opened.store.as_ref()), 0);
}

#[test]
fn journals_that_were_taken_away_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    let stores = five(&dir);
    fs::remove_file(newest_journal(&dir).0).unwrap();
    assert!(!stores.open().unwrap().is_whole());
}

#[test]
fn a_store_that_is_gone_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    drop(five(&dir));
    fs::remove_dir_all(&dir).unwrap();
    let stores = FjallStores::new(&dir, true);
    assert!(!stores.open().unwrap().is_whole());
    assert!(FjallStores::new(&directory.path().join("other"), false).open().unwrap().is_whole());
}

#[test]
fn what_is_written_after_the_files_are_gone_is_not_acknowledged() {
    type Take = fn(&Path);
    let takes: [Take; 3] = [
        |dir| fs::remove_dir_all(dir).unwrap(),
        |dir| fs::rename(dir, dir.with_extension("elsewhere")).unwrap(),
        |dir| fs::remove_file(newest_journal(dir).0).unwrap(),
    ];
    for (number, take) in takes.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("records");
        let stores = five(&dir);
        let opened = stores.open().unwrap();
        assert_eq!(stores.disk(), DiskState::Writable);
        take(&dir);
        // The first commit after opening looks for the journals.
        let result = run(opened.store.as_ref(), vec![add(6)]);
        assert!(matches!(result, Err(StoreFault::Failed(_))), "{number}: {result:?}");
        assert_eq!(stores.disk(), DiskState::Failed);
        assert_eq!(run(opened.store.as_ref(), vec![add(7)]), Err(StoreFault::Busy));
        drop(opened);
        let again = stores.open().unwrap();
        assert_eq!(run(again.store.as_ref(), vec![add(8)]), Err(StoreFault::Busy));
        assert_eq!(dir.exists(), number == 2, "nothing is made anew");
    }
}

#[test]
fn an_idle_store_that_was_taken_away_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    let stores = five(&dir);
    let opened = stores.open().unwrap();
    assert_eq!(stores.disk(), DiskState::Writable);
    fs::rename(&dir, directory.path().join("elsewhere")).unwrap();
    assert_eq!(stores.disk(), DiskState::Failed);
    assert_eq!(run(opened.store.as_ref(), vec![add(6)]), Err(StoreFault::Busy));
}

#[test]
fn a_store_that_failed_is_looked_at_as_a_whole_by_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    drop(five(&dir));
    let table = FjallTable::open(&dir, 0).unwrap();
    table.flush().unwrap();
    table.close().unwrap();
    let stores = FjallStores::new(&dir, true);
    assert!(stores.open().unwrap().is_whole());
    drop(stores);
    opening::suspect(&dir);
    let suspect = directory.path().join("records.suspect");
    let stores = FjallStores::new(&dir, true);
    assert!(stores.open().unwrap().is_whole(), "nothing was found");
    assert!(!suspect.exists(), "it was looked at");
}

#[test]
fn only_three_damaged_stores_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    let stores = five(&dir);
    let kept = || {
        let entries = fs::read_dir(directory.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("records.damaged-")).count()
    };
    for number in 1..=3 {
        fs::remove_file(newest_journal(&dir).0).unwrap();
        assert!(!stores.open().unwrap().is_whole());
        stores.last.lock().unwrap().close();
        assert_eq!(kept(), number);
    }
    fs::remove_file(newest_journal(&dir).0).unwrap();
    let error = stores.prepare().unwrap_err();
    assert!(matches!(error, RecordsError::TooMany { .. }), "{error}");
    assert!(error.to_string().contains("records.damaged-*"), "{error}");
    assert_eq!(kept(), 3);
}

#[test]
fn numbers_go_on_in_the_store_that_takes_the_place_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    let mark = directory.path().join("records.mark");
    let stores = five(&dir);
    assert_eq!(marks::Marked::read(&mark).unwrap().number(), 5);
    fs::remove_dir_all(&dir).unwrap();
    drop(stores);
    let stores = FjallStores::new(&dir, true);
    let opened = stores.open().unwrap();
    assert_eq!(marks::Marked::read(&mark).unwrap().number(), 6, "it has a first batch of its own");
    run(opened.store.as_ref(), vec![add(1)]).unwrap();
    opened.store.restored();
    drop(opened);
    let opened = stores.open().unwrap();
    assert!(opened.is_whole());
    assert_eq!(marks::Marked::read(&mark).unwrap().number(), 7);
}

#[test]
fn a_store_of_which_all_was_written_to_tables_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    let stores = five(&dir);
    run(stores.open().unwrap().store.as_ref(), vec![put(1, 5_000)]).unwrap();
    stores.last.lock().unwrap().close();
    let table = FjallTable::open(&dir, 0).unwrap();
    assert_eq!(table.flushed().unwrap(), (0, 0));
    table.flush().unwrap();
    assert_eq!(table.flushed().unwrap(), (6, 6));
    table.close().unwrap();
    // As after a rotation, when what came before has been deleted.
    let (journal, _) = newest_journal(&dir);
    fs::rename(&journal, dir.join("7.jnl")).unwrap();
    OpenOptions::new().write(true).open(dir.join("7.jnl")).unwrap().set_len(0).unwrap();
    assert!(stores.open().unwrap().is_whole());
}

#[test]
fn digests_that_can_not_be_read_are_damage() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    let stores = five(&dir);
    stores.last.lock().unwrap().close();
    let table = FjallTable::open(&dir, 0).unwrap();
    table.flush().unwrap();
    let digests = table.digests().unwrap();
    assert!(digests.values().iter().any(|digest| *digest != 0));
    table.close().unwrap();
    // Not before it is opened, when nothing of a small store is left unread.
    let table = FjallTable::look(&dir).unwrap();
    for keyspace in fs::read_dir(dir.join("keyspaces")).unwrap() {
        let tables = keyspace.unwrap().path().join("tables");
        for file in fs::read_dir(tables).into_iter().flatten() {
            let file = OpenOptions::new().write(true).open(file.unwrap().path()).unwrap();
            file.write_all_at(&[0xff; 64], 16).unwrap();
        }
    }
    let found = opening::attempt(|| table.digests()).unwrap();
    assert!(matches!(found, Err(Damage::Unopenable(_))), "{:?}", found.map(drop));
}

/// True if a store was set aside.
fn is_set_aside(directory: &Path) -> bool {
    let mut names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.any(|name| name.to_str().unwrap().contains("damaged"))
}

#[test]
fn what_others_put_into_a_store_is_named_and_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    drop(five(&dir));
    for name in ["0-old.jnl", "1.JNL", "keyspaces/1.bak"] {
        fs::create_dir(dir.join(name)).unwrap();
        let error = FjallStores::new(&dir, true).prepare().unwrap_err();
        assert!(matches!(error, RecordsError::Io { .. }), "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(!is_set_aside(directory.path()), "{name}");
        fs::remove_dir(dir.join(name)).unwrap();
    }
    assert!(FjallStores::new(&dir, true).open().unwrap().is_whole());
}

#[test]
fn a_store_that_another_process_uses_is_not_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    drop(five(&dir));
    let table = FjallTable::open(&dir, 0).unwrap();
    let error = FjallStores::new(&dir, true).prepare().unwrap_err();
    assert!(matches!(error, RecordsError::Io { .. }), "{error}");
    assert!(error.to_string().contains("another process"), "{error}");
    assert!(!is_set_aside(directory.path()));
    drop(table);
    assert!(FjallStores::new(&dir, true).open().unwrap().is_whole());
}

#[test]
fn what_was_found_stays_where_it_is_until_a_new_store_can_be_made() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    drop(five(&dir));
    fs::remove_file(newest_journal(&dir).0).unwrap();
    // Takes the place of the new store, which can't be made then.
    let fresh = directory.path().join("records.new");
    fs::write(&fresh, "").unwrap();
    let error = FjallStores::new(&dir, true).prepare().unwrap_err();
    assert!(matches!(error, RecordsError::Io { .. }), "{error}");
    assert!(!is_set_aside(directory.path()));
    fs::remove_file(&fresh).unwrap();
    assert!(!FjallStores::new(&dir, true).open().unwrap().is_whole());
    assert!(is_set_aside(directory.path()));
}

#[test]
fn a_store_of_an_earlier_version_has_a_batch_to_reach_from_its_first_start_on() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    drop(FjallStores::new(&dir, false).open().unwrap());
    let mark = directory.path().join("records.mark");
    fs::remove_file(&mark).unwrap();
    drop(FjallStores::new(&dir, true).open().unwrap());
    assert_eq!(marks::Marked::read(&mark).unwrap(), marks::Marked::UpTo(1));
    fs::write(newest_journal(&dir).0, "").unwrap();
    let stores = FjallStores::new(&dir, true).without_copies(false);
    assert!(matches!(stores.prepare(), Err(RecordsError::Lost { .. })));
}

#[test]
fn a_store_that_can_not_be_moved_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    drop(five(&dir));
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(&dir, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &dir).unwrap();
    assert!(FjallStores::new(&dir, true).open().unwrap().is_whole(), "it can be used");
    fs::remove_file(newest_journal(&dir).0).unwrap();
    let error = FjallStores::new(&dir, true).prepare().unwrap_err();
    assert!(matches!(error, RecordsError::Mounted { .. }), "{error}");
    assert!(!directory.path().join("records.incomplete").exists());
}

#[test]
fn an_empty_store_is_replaced_however_many_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    drop(five(&dir));
    for number in 1..=3 {
        fs::create_dir(directory.path().join(format!("records.damaged-{number}"))).unwrap();
    }
    fs::remove_dir_all(&dir).unwrap();
    assert!(!FjallStores::new(&dir, true).open().unwrap().is_whole());
}

#[test]
fn a_damaged_store_that_was_put_back_is_used_and_compared() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    let marker = directory.path().join("records.incomplete");
    drop(five(&dir));
    fs::write(&marker, "damaged\n").unwrap();
    let stores = FjallStores::new(&dir, true).without_copies(false);
    let opened = stores.open().unwrap();
    assert!(!opened.is_whole(), "it may have been incomplete before");
    assert_eq!(versions(opened.store.as_ref()), 5);
    assert_eq!(fs::read(&marker).unwrap(), b"incomplete\n");
    assert!(!is_set_aside(directory.path()));
}

#[test]
fn what_is_lost_after_the_start_is_not_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("records");
    drop(five(&dir));
    let stores = FjallStores::new(&dir, true).without_copies(true);
    for number in 1..=2 {
        fs::write(newest_journal(&dir).0, "").unwrap();
        let result = stores.prepare();
        assert_eq!(result.is_ok(), number == 1, "loss {number}");
        stores.last.lock().unwrap().prepared = None;
    }
}
