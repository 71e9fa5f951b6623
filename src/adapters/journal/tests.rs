//! The writer on a disk in memory that can be full, broken or stuck.

mod files;

use std::io;
use std::ops::Range;
use std::time::Instant;

use rustix::io::Errno;

use super::disk::Replace;
use super::writer::FULL_RETRY;
use super::*;
use crate::types::journal::{HEADER_LEN, MARK_LEN, RECORD_OVERHEAD};

const PATIENCE: Duration = Duration::from_secs(20);

/// What happened to a disk, and to the requests on it, in order.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Write(Range<u64>),
    Mark(u64),
    Sync,
    Done(usize, Result<(), JournalError>),
}

/// A disk in memory that can be full, broken or stuck.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    events: Vec<Event>,
    room: Option<u64>,
    sync_error: Option<Errno>,
    mark_error: Option<Errno>,
    replace_error: Option<fn() -> Replace>,
    stuck: bool,
}

#[derive(Clone, Default)]
struct TestDisk(Arc<(Mutex<Memory>, Condvar)>);

impl TestDisk {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.0.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Memory)) {
        change(&mut self.memory());
        self.0.1.notify_all();
    }

    fn records(&self) -> Vec<Vec<u8>> {
        scan("test", &self.memory().bytes).unwrap().records
    }

    /// A journal on this disk, with its name for the registry.
    fn start(&self) -> Arc<FileJournal> {
        let (image, tail) = new_image("test", [3; 16], &[]).unwrap();
        self.memory().bytes = image;
        let claim = Claim::take("test", &Arc::default(), None).unwrap();
        FileJournal::start(Box::new(self.clone()), tail, claim).unwrap()
    }

    /// Appends a record and notes its completion among the events.
    fn append(&self, journal: &FileJournal, number: usize) {
        let disk = self.clone();
        let done =
            move |result| disk.change(|memory| memory.events.push(Event::Done(number, result)));
        journal.append(vec![record(number)], Box::new(done));
    }

    fn wait(&self, mut ready: impl FnMut(&Memory) -> bool) {
        let (memory, timeout) =
            self.0.1.wait_timeout_while(self.memory(), PATIENCE, |memory| !ready(memory)).unwrap();
        assert!(!timeout.timed_out(), "{:?}", memory.events);
    }

    fn done(&self) -> Vec<(usize, Result<(), JournalError>)> {
        done(&self.memory().events)
    }
}

fn done(events: &[Event]) -> Vec<(usize, Result<(), JournalError>)> {
    let done = |event: &Event| match event {
        Event::Done(number, result) => Some((*number, result.clone())),
        _ => None,
    };
    events.iter().filter_map(done).collect()
}

impl Disk for TestDisk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut memory = self.memory();
        if offset < HEADER_LEN {
            let length = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
            memory.events.push(Event::Mark(length));
            if let Some(error) = memory.mark_error {
                return Err(error.into());
            }
        }
        let end = offset + bytes.len() as u64;
        let fits = memory.room.unwrap_or(u64::MAX).min(end).max(offset);
        let size = memory.bytes.len().max(fits as usize);
        memory.bytes.resize(size, 0);
        memory.bytes[offset as usize..fits as usize]
            .copy_from_slice(&bytes[..(fits - offset) as usize]);
        if fits < end {
            return Err(Errno::NOSPC.into());
        }
        if offset >= HEADER_LEN {
            memory.events.push(Event::Write(offset..end));
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut memory = self.0.1.wait_while(self.memory(), |memory| memory.stuck).unwrap();
        memory.events.push(Event::Sync);
        memory.sync_error.map_or(Ok(()), |error| Err(error.into()))
    }

    fn allocate(&mut self, offset: u64, len: u64) -> io::Result<()> {
        // Lets the record itself through, so that writes run into the end of the room as well.
        match self.memory().room {
            Some(room) if offset + len > room && len > 100 => Err(Errno::DQUOT.into()),
            _ => Ok(()),
        }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.memory().bytes.truncate(length as usize);
        Ok(())
    }

    fn replace(&mut self, image: &[u8]) -> Result<(), Replace> {
        let mut memory = self.memory();
        if let Some(error) = memory.replace_error {
            return Err(error());
        }
        memory.bytes = image.to_vec();
        Ok(())
    }
}

fn record(number: usize) -> Vec<u8> {
    format!("record {number:06}").into_bytes()
}

fn wait_for(request: impl FnOnce(Completion)) -> Result<(), JournalError> {
    let (sender, receiver) = mpsc::channel();
    request(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv_timeout(PATIENCE).unwrap()
}

fn append(journal: &dyn Journal, records: &[Vec<u8>]) -> Result<(), JournalError> {
    wait_for(|done| journal.append(records.to_vec(), done))
}

fn rewrite(journal: &dyn Journal, records: &[Vec<u8>]) -> Result<(), JournalError> {
    wait_for(|done| journal.rewrite(records.to_vec(), done))
}

#[test]
fn a_thousand_appends_share_a_few_syncs_and_none_completes_before_its_own() {
    let disk = TestDisk::default();
    disk.change(|memory| memory.stuck = true);
    let journal = disk.start();
    let stats = journal.stats.clone();
    for number in 0..1_000 {
        disk.append(&journal, number);
    }
    assert_eq!(stats.queued.load(Relaxed), 1_000);
    disk.change(|memory| memory.stuck = false);
    drop(journal);
    assert_eq!(disk.done(), (0..1_000).map(|number| (number, Ok(()))).collect::<Vec<_>>());
    assert_eq!(disk.records(), (0..1_000).map(record).collect::<Vec<_>>());
    let fsyncs = stats.fsyncs.load(Relaxed);
    assert!((1..100).contains(&fsyncs), "{fsyncs} syncs");
    assert_eq!((stats.batches.load(Relaxed), stats.queued.load(Relaxed)), (fsyncs, 0));
    let (mut written, mut synced) = (0, 0);
    for event in &disk.memory().events {
        match event {
            Event::Write(range) => written = range.end,
            Event::Sync => synced = written,
            Event::Mark(length) => assert_eq!(*length, synced),
            Event::Done(number, _) => {
                let end = HEADER_LEN as usize + (number + 1) * (RECORD_OVERHEAD + record(0).len());
                assert!(end as u64 <= synced, "{number} completed before its sync");
            }
        }
    }
}

#[test]
fn a_full_disk_delays_appends_and_loses_none() {
    let disk = TestDisk::default();
    let journal = disk.start();
    disk.append(&journal, 0);
    disk.wait(|memory| done(&memory.events).len() == 1);
    let length = journal.len_bytes();
    disk.change(|memory| memory.room = Some(length + 20));
    disk.append(&journal, 1);
    let since = Instant::now();
    while !journal.stats.full.load(Relaxed) {
        assert!(since.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((disk.memory().bytes.len() as u64, journal.len_bytes()), (length, length));
    for number in 2..50 {
        disk.append(&journal, number);
    }
    thread::sleep(FULL_RETRY * 2);
    assert_eq!(disk.done().len(), 1);
    disk.change(|memory| memory.room = None);
    disk.wait(|memory| done(&memory.events).len() == 50);
    assert!(!journal.stats.full.load(Relaxed));
    assert!(journal.stats.full_retries.load(Relaxed) >= 2);
    assert_eq!(disk.done(), (0..50).map(|number| (number, Ok(()))).collect::<Vec<_>>());
    assert_eq!(disk.records(), (0..50).map(record).collect::<Vec<_>>());
}

#[test]
fn closing_on_a_full_disk_fails_what_waits() {
    let disk = TestDisk::default();
    let journal = disk.start();
    disk.append(&journal, 0);
    disk.wait(|memory| done(&memory.events).len() == 1);
    let length = journal.len_bytes();
    disk.change(|memory| memory.room = Some(length));
    for number in 1..5 {
        disk.append(&journal, number);
    }
    thread::sleep(Duration::from_millis(20));
    let stats = journal.stats.clone();
    drop(journal);
    assert!(!stats.failed.load(Relaxed), "no room is no failure");
    let done = disk.done();
    let numbers: Vec<_> = done.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    let full = |result: &Result<(), _>| matches!(result, Err(JournalError::Full { .. }));
    assert!(done[1..].iter().all(|(_, result)| full(result)), "{done:?}");
    assert_eq!(disk.records(), [record(0)]);
}

#[test]
fn nothing_is_written_after_a_failed_sync() {
    let disk = TestDisk::default();
    let journal = disk.start();
    disk.append(&journal, 0);
    disk.wait(|memory| done(&memory.events).len() == 1);
    disk.change(|memory| (memory.stuck, memory.sync_error) = (true, Some(Errno::IO)));
    for number in 1..9 {
        disk.append(&journal, number);
    }
    assert!(!journal.stats.failed.load(Relaxed));
    disk.change(|memory| memory.stuck = false);
    disk.wait(|memory| done(&memory.events).len() == 9);
    assert!(journal.stats.failed.load(Relaxed));
    disk.change(|memory| memory.sync_error = None);
    disk.append(&journal, 9);
    let error = rewrite(&*journal, &[]).unwrap_err();
    assert!(matches!(error, JournalError::Io { .. }) && error.to_string().contains("os error 5"));
    assert!(disk.done()[1..].iter().all(|(_, result)| *result == Err(error.clone())));
    let syncs = disk.memory().events.iter().filter(|event| **event == Event::Sync).count();
    assert_eq!(syncs, 2, "the failed sync is not tried again");
}

#[test]
fn a_rewrite_that_fails_keeps_the_journal_or_ends_it() {
    let disk = TestDisk::default();
    let journal = disk.start();
    append(&*journal, &[record(0), record(1)]).unwrap();
    disk.change(|memory| memory.replace_error = Some(|| Replace::Kept(Errno::NOSPC.into())));
    assert!(matches!(rewrite(&*journal, &[record(7)]), Err(JournalError::Full { .. })));
    append(&*journal, &[record(2)]).unwrap();
    assert_eq!(disk.records(), [record(0), record(1), record(2)]);
    disk.change(|memory| memory.replace_error = None);
    rewrite(&*journal, &[record(8)]).unwrap();
    append(&*journal, &[record(9)]).unwrap();
    assert_eq!(disk.records(), [record(8), record(9)]);
    assert_eq!(journal.len_bytes(), disk.memory().bytes.len() as u64);
    disk.change(|memory| memory.replace_error = Some(|| Replace::Unclear(Errno::IO.into())));
    assert!(matches!(rewrite(&*journal, &[record(7)]), Err(JournalError::Io { .. })));
    assert!(matches!(append(&*journal, &[record(7)]), Err(JournalError::Io { .. })));
}

#[test]
fn a_mark_that_fails_is_tried_again_in_the_same_place() {
    let disk = TestDisk::default();
    let journal = disk.start();
    let places =
        |disk: &TestDisk| [4096, 8192].map(|at| disk.memory().bytes[at..at + MARK_LEN].to_vec());
    let before = places(&disk);
    disk.change(|memory| memory.mark_error = Some(Errno::IO));
    append(&*journal, &[record(0)]).unwrap();
    append(&*journal, &[record(1)]).unwrap();
    assert_eq!((places(&disk), journal.stats.marks_missed.load(Relaxed)), (before.clone(), 2));
    disk.change(|memory| memory.mark_error = None);
    append(&*journal, &[record(2)]).unwrap();
    let after = places(&disk);
    assert_eq!((after[0] == before[0], after[1] == before[1]), (true, false), "an odd sequence");
    assert_eq!(disk.records().len(), 3);
}

#[test]
fn a_record_that_is_too_long_fails_alone() {
    let disk = TestDisk::default();
    let journal = disk.start();
    disk.change(|memory| memory.stuck = true);
    disk.append(&journal, 0);
    let long = vec![0; crate::types::limits::JOURNAL_RECORD_MAX + 1];
    let (sender, receiver) = mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    journal.append(vec![record(5), long], done);
    disk.append(&journal, 1);
    disk.change(|memory| memory.stuck = false);
    let result = receiver.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(result, Err(JournalError::RecordTooLong { .. })));
    drop(journal);
    assert_eq!(disk.records(), [record(0), record(1)]);
}

#[test]
fn a_completion_may_drop_the_journal() {
    let disk = TestDisk::default();
    let journal = disk.start();
    disk.change(|memory| memory.stuck = true);
    let (sender, receiver) = mpsc::channel();
    let last = journal.clone();
    journal.append(
        vec![record(0)],
        Box::new(move |result| {
            drop(last);
            sender.send(result).unwrap();
        }),
    );
    drop(journal);
    disk.change(|memory| memory.stuck = false);
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Ok(()));
}
