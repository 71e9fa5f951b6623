//! Journals on real files: reopening, damage, locks and permissions.

use std::fs;

use super::*;

/// Numbers that look random and are the same in every run.
fn seeded(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    }
}

#[test]
fn records_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("below/data");
    let journals = FileJournals::open(&path).unwrap();
    let (journal, records) = journals.open("log").unwrap();
    assert_eq!((records.len(), journal.len_bytes()), (0, HEADER_LEN));
    append(&*journal, &[record(0), vec![]]).unwrap();
    append(&*journal, &[]).unwrap();
    for number in 1..100 {
        journal.append(vec![record(number)], Box::new(|result| result.unwrap()));
    }
    drop(journal);
    let (journal, records) = journals.open("log").unwrap();
    assert_eq!((records.len(), &records[1], &records[100]), (101, &vec![], &record(99)));
    rewrite(&*journal, &[record(1000)]).unwrap();
    append(&*journal, &[record(1001)]).unwrap();
    let length = journal.len_bytes();
    drop((journal, journals));
    // A rewrite that was interrupted before its rename leaves this behind.
    fs::write(path.join("log.journal.new"), b"half a journal").unwrap();
    let journals = FileJournals::open(&path).unwrap();
    let (journal, records) = journals.open("log").unwrap();
    assert_eq!((records, journal.len_bytes()), (vec![record(1000), record(1001)], length));
    assert!(!path.join("log.journal.new").exists());
    assert_eq!(fs::metadata(path.join("log.journal")).unwrap().len(), length);
}

#[test]
fn an_unmarked_end_is_marked_on_opening_and_a_torn_one_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("log.journal");
    let (mut image, mut tail) = new_image("log", [1; 16], &[record(0)]).unwrap();
    tail.encode_record(&record(1), &mut image).unwrap();
    let end = image.len() as u64;
    image.extend_from_slice(&[9; 500]);
    fs::write(&file, &image).unwrap();
    let journals = FileJournals::open(dir.path()).unwrap();
    let (journal, records) = journals.open("log").unwrap();
    assert_eq!((records, journal.len_bytes()), (vec![record(0), record(1)], end));
    let found = scan("log", &fs::read(&file).unwrap()).unwrap();
    assert_eq!((found.marked, found.torn_bytes), (end, 0));
}

#[test]
fn a_directory_and_a_journal_have_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let journals = FileJournals::open(dir.path()).unwrap();
    let locked = FileJournals::open(dir.path()).err().unwrap();
    let path = dir.path().display().to_string();
    assert_eq!(locked, JournalError::Locked { path, pid: Some(std::process::id()) });
    let (journal, _) = journals.open("log").unwrap();
    let again = journals.open("log").err().unwrap();
    assert_eq!(again, JournalError::InUse { name: "log".into() });
    journals.open("other").unwrap();
    drop(journals);
    assert!(FileJournals::open(dir.path()).is_err(), "a journal keeps the lock");
    append(&*journal, &[record(0)]).unwrap();
    drop(journal);
    let journals = FileJournals::open(dir.path()).unwrap();
    assert_eq!(journals.open("log").unwrap().1, [record(0)]);
    assert_eq!(journals.stats("log").unwrap().queued.load(Relaxed), 0);
}

#[test]
fn a_copy_at_any_moment_has_all_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let journals = FileJournals::open(&dir.path().join("live")).unwrap();
    let killed = FileJournals::open(&dir.path().join("killed")).unwrap();
    let (journal, _) = journals.open("log").unwrap();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut number = 0;
    for _ in 0..40 {
        for _ in 0..25 {
            let acknowledged = acknowledged.clone();
            let done = move |result: Result<(), _>| {
                result.unwrap();
                acknowledged.fetch_add(1, Relaxed);
            };
            journal.append(vec![record(number)], Box::new(done));
            number += 1;
        }
        let at_least = acknowledged.load(Relaxed) as usize;
        let bytes = fs::read(dir.path().join("live/log.journal")).unwrap();
        fs::write(dir.path().join("killed/log.journal"), bytes).unwrap();
        let (_journal, records) = killed.open("log").unwrap();
        assert!(records.len() >= at_least, "{} of {at_least}", records.len());
        assert_eq!(records, (0..records.len()).map(record).collect::<Vec<_>>());
    }
}

#[test]
fn damage_to_a_real_file_is_an_error_or_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("log.journal");
    let journals = FileJournals::open(dir.path()).unwrap();
    let (journal, _) = journals.open("log").unwrap();
    let all: Vec<_> = (0..300).map(record).collect();
    for batch in all.chunks(30) {
        append(&*journal, batch).unwrap();
    }
    drop(journal);
    let bytes = fs::read(&file).unwrap();
    let mut random = seeded(0x5eed);
    let mut refused = 0;
    for round in 0..400 {
        let at = random(bytes.len());
        let mut damaged = bytes.clone();
        if round < 200 {
            damaged[at] ^= 1 << random(8);
        } else {
            damaged.truncate(at);
        }
        fs::write(&file, &damaged).unwrap();
        match journals.open("log") {
            Ok((_, records)) => assert!(round < 200 && records == all, "round {round}, byte {at}"),
            Err(error) => {
                assert!(error.is_damage(), "round {round}, byte {at}: {error}");
                assert_eq!(fs::read(&file).unwrap(), damaged, "evidence is left alone");
                refused += 1;
            }
        }
    }
    assert!(refused > 250, "{refused} were refused");
}

#[test]
fn what_can_not_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let journals = FileJournals::open(dir.path()).unwrap();
    fs::create_dir(dir.path().join("dir.journal")).unwrap();
    let error = journals.open("dir").err().unwrap();
    assert!(matches!(&error, JournalError::Io { what, .. } if what.ends_with("dir.journal")));
    std::os::unix::fs::symlink("/dev/null", dir.path().join("null.journal")).unwrap();
    let error = journals.open("null").err().unwrap();
    assert!(matches!(error, JournalError::NotAJournal { .. }), "{error}");
    for errno in [Errno::ROFS, Errno::ACCESS, Errno::PERM] {
        let error = refused(Path::new("/data"), &errno.into());
        assert!(matches!(error, JournalError::ReadOnly { .. }), "{error}");
    }
    assert!(matches!(journals.open("../log").err(), Some(JournalError::Name { .. })));
}

#[test]
fn a_read_only_directory_is_reported() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        return; // Root may write everywhere.
    }
    let dir = tempfile::tempdir().unwrap();
    let read_only = || fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    read_only();
    let error = FileJournals::open(dir.path()).err().unwrap();
    assert!(matches!(error, JournalError::ReadOnly { .. }), "{error}");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let journals = FileJournals::open(dir.path()).unwrap();
    read_only();
    let error = journals.open("log").err().unwrap();
    assert!(matches!(error, JournalError::ReadOnly { .. }), "{error}");
}

#[test]
fn nothing_is_acknowledged_once_the_file_is_not_in_the_directory() {
    type Take = fn(&Path);
    let takes: [Take; 3] = [
        |dir| fs::remove_dir_all(dir).unwrap(),
        |dir| fs::rename(dir, dir.with_extension("elsewhere")).unwrap(),
        |dir| {
            fs::rename(dir.join("log.journal"), dir.join("other")).unwrap();
            fs::copy(dir.join("other"), dir.join("log.journal")).unwrap();
        },
    ];
    for take in takes {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        let journals = FileJournals::open(&dir).unwrap();
        let (journal, _) = journals.open("log").unwrap();
        append(&*journal, &[record(0)]).unwrap();
        rewrite(&*journal, &[record(1)]).unwrap();
        append(&*journal, &[record(2)]).unwrap();
        assert_eq!(journals.disk(), DiskState::Writable);
        take(&dir);
        let error = append(&*journal, &[record(3)]).unwrap_err();
        assert!(error.to_string().contains("while the node was running"), "{error}");
        assert_eq!(journals.disk(), DiskState::Failed);
        let again = rewrite(&*journal, &[record(4)]).unwrap_err();
        assert_eq!(again, error, "nothing is tried again");
    }
}

#[test]
fn nothing_is_made_anew_where_something_was_taken_away() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let journals = FileJournals::open(&dir).unwrap();
    let (journal, _) = journals.open("log").unwrap();
    append(&*journal, &[record(0)]).unwrap();
    drop(journal);
    fs::remove_file(dir.join("log.journal")).unwrap();
    let error = journals.open("log").err().unwrap();
    assert!(error.to_string().contains("log.journal: it was deleted"), "{error}");
    assert_eq!(journals.disk(), DiskState::Writable, "another journal may be sound");

    // Somebody else's lock is none of ours, also if the directory is the same.
    fs::remove_file(dir.join("lock")).unwrap();
    let other = FileJournals::open(&dir).unwrap();
    assert_eq!((journals.disk(), other.disk()), (DiskState::Failed, DiskState::Writable));
    assert!(journals.open("new").is_err());
    assert!(!dir.join("new.journal").exists());
}
