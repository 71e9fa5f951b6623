//! What the log goes by, one rule at a time: each of these fails where its rule is gone.

use crate::messages::command::HeadsCommand;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;

use super::*;
use crate::consensus::fixture::Scratch;
use crate::messages::command::Expect;
use crate::messages::wire::VoterConfig;
use crate::types::limits::{HEAD_KEY_MAX, NODE_NAME_LEN_MAX};
use crate::types::{Bytes, MemberId, PeerId, ProposalId, Wall};

fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

fn blank(index: u64) -> Entry {
    Entry { id: id(1, index), payload: Payload::Blank }
}

fn value(index: u64, len: usize) -> Entry {
    let (key, author) = ("monitoring/k".to_owned(), "me".to_owned());
    let value = Bytes(vec![1; len]);
    let command =
        Command::Heads(HeadsCommand::Set { key, expect: Expect::Version(u64::MAX), value, author });
    let proposal = Proposal { id: ProposalId([255; 16]), at: Wall(u64::MAX), command };
    Entry { id: id(u64::MAX, index), payload: Payload::Proposal(proposal) }
}

fn append(entries: Vec<Entry>, committed: Option<LogId>) -> LogRecord {
    LogRecord::Append { entries, committed }
}

fn replayed(records: &[LogRecord]) -> LogMemory {
    let bytes: Vec<Vec<u8>> = records.iter().map(encode_durable).collect();
    LogMemory::replay(&bytes).unwrap()
}

fn opened(records: &[LogRecord]) -> (LogStore, Arc<Scratch>) {
    let journal = Arc::new(Scratch::default());
    let bytes: Vec<Vec<u8>> = records.iter().map(encode_durable).collect();
    (LogStore::open(journal.clone(), &bytes, 1_000).unwrap(), journal)
}

fn indexes(memory: &LogMemory) -> Vec<u64> {
    memory.entries.keys().copied().collect()
}

#[test]
fn what_is_dropped_at_either_end_ends_where_it_is_said_to() {
    let five = || append((0..5).map(blank).collect(), None);
    assert_eq!(
        indexes(&replayed(&[five(), LogRecord::TruncateAfter(Some(id(1, 3)))])),
        [0, 1, 2, 3]
    );
    assert_eq!(indexes(&replayed(&[five(), LogRecord::TruncateAfter(Some(id(1, 4)))])).len(), 5);
    assert!(indexes(&replayed(&[five(), LogRecord::TruncateAfter(None)])).is_empty());
    let purged = replayed(&[five(), LogRecord::Purge(id(1, 3))]);
    assert_eq!((indexes(&purged), purged.purged), (vec![4], Some(id(1, 3))));
    let all = replayed(&[five(), LogRecord::Purge(id(1, 9)), LogRecord::Purge(id(1, 2))]);
    assert_eq!((all.purged, all.last()), (Some(id(1, 9)), Some(id(1, 9))), "it never comes back");
}

#[test]
fn what_is_committed_never_becomes_less() {
    let (mut log, _) = opened(&[
        append((0..5).map(blank).collect(), Some(id(1, 3))),
        append(vec![blank(5)], Some(id(1, 2))),
        append(vec![blank(6)], None),
    ]);
    let committed = |log: &mut LogStore| {
        let read = log.read_committed().now_or_never().unwrap().unwrap();
        read.as_ref().map(log_id)
    };
    assert_eq!(committed(&mut log), Some(id(1, 3)));
    let save = |log: &mut LogStore, index: Option<u64>| {
        let upto = index.map(|index| to_log_id(id(1, index)));
        log.save_committed(upto).now_or_never().unwrap().unwrap();
    };
    save(&mut log, Some(2));
    save(&mut log, None);
    assert_eq!(committed(&mut log), Some(id(1, 3)));
    save(&mut log, Some(5));
    assert_eq!(committed(&mut log), Some(id(1, 5)));
    save(&mut log, Some(9));
    assert_eq!(committed(&mut log), Some(id(1, 6)), "no more than there is");
}

#[test]
fn a_voter_without_a_key_is_no_log() {
    let membership = |configs: Vec<Vec<u64>>| {
        let configs =
            configs.into_iter().map(|set| set.into_iter().map(MemberId).collect()).collect();
        let nodes = [(MemberId(1), PeerId([1; 32]))].into();
        let payload = Payload::Membership(VoterConfig { configs, nodes });
        let record = append(vec![Entry { id: id(1, 0), payload }], None);
        LogMemory::replay(&[encode_durable(&record)]).is_ok()
    };
    assert!(membership(vec![vec![1]]) && membership(vec![vec![1], vec![1]]));
    assert!(!membership(vec![vec![1, 2]]) && !membership(vec![]));
    assert!(!membership(vec![vec![1], vec![1], vec![1]]), "of more than two sets");
}

#[test]
fn a_node_is_old_once_it_has_voted_or_stored() {
    let vote = VoteId { term: 1, candidate: MemberId(1), committed: false };
    let is_old = |records: &[LogRecord]| opened(records).0.is_old();
    assert!(!is_old(&[]));
    assert!(is_old(&[LogRecord::Vote(vote)]));
    assert!(is_old(&[append(vec![blank(0)], None)]));
    assert!(is_old(&[LogRecord::Purge(id(1, 4))]), "what it had is in a snapshot");
}

#[test]
fn a_follower_is_served_from_the_beginning_and_as_much_as_fits() {
    let many = APPEND_ENTRIES_MAX + 10;
    let (log, _) = opened(&[append((0..many).map(blank).collect(), None)]);
    let served = |after: Option<LogId>, upto: u64| {
        log.committed_after(after, id(1, upto)).map(|entries| entries.len() as u64)
    };
    assert_eq!(served(None, 0), Some(1));
    assert_eq!(served(None, many - 1), Some(APPEND_ENTRIES_MAX));
    assert_eq!(served(Some(id(1, many - 2)), many - 1), Some(1));
    assert_eq!(served(Some(id(1, u64::MAX)), many - 1), None);
    assert_eq!(log.committed_after(Some(id(2, 3)), id(1, 9)), None, "another entry stands there");
    assert_eq!(log.purged(), None);
    let (log, _) = opened(&[append((0..5).map(blank).collect(), None), LogRecord::Purge(id(1, 3))]);
    assert_eq!((log.purged(), log.committed_after(None, id(1, 4))), (Some(id(1, 3)), None));
}

#[test]
fn as_many_entries_go_into_a_message_as_fit_and_always_one() {
    let entry = value(0, 4_000);
    let fitting = FRAME_LEN_MAX / 2 / weight(&entry);
    let entries = vec![entry; 2 * fitting];
    let count = within_a_frame(entries.iter()).count();
    assert_eq!(count, fitting + 1, "the one that fills it is the last one");
    let bytes: usize = entries[..count].iter().map(|entry| encode_wire(entry).unwrap().len()).sum();
    assert!(bytes < FRAME_LEN_MAX);
    let large = value(0, FRAME_LEN_MAX);
    assert_eq!(within_a_frame([&large, &large].into_iter()).count(), 1);
}

#[test]
fn no_entry_is_larger_than_it_is_taken_for() {
    let config = VoterConfig {
        configs: vec![vec![MemberId(1)]],
        nodes: [(MemberId(1), PeerId([1; 32]))].into(),
    };
    let membership = Entry { id: id(1, 1), payload: Payload::Membership(config) };
    let mut long = value(u64::MAX, 4_096);
    if let Payload::Proposal(Proposal {
        command: Command::Heads(HeadsCommand::Set { key, author, .. }),
        ..
    }) = &mut long.payload
    {
        *key = "k".repeat(HEAD_KEY_MAX);
        *author = "a".repeat(NODE_NAME_LEN_MAX);
    }
    for entry in [blank(u64::MAX), value(u64::MAX, 0), long, membership] {
        let len = encode_wire(&entry).unwrap().len();
        assert!((len..len + 128).contains(&weight(&entry)), "{len}: {}", weight(&entry));
    }
}

#[test]
fn a_journal_is_written_anew_once_it_is_large_and_mostly_garbage() {
    let (mut log, journal) = opened(&[append((0..20).map(blank).collect(), None)]);
    let purge = |log: &mut LogStore, len: u64, upto: u64| {
        journal.len.store(len, Ordering::Relaxed);
        log.purge(to_log_id(id(1, upto))).now_or_never().unwrap().unwrap();
        journal.rewrites.load(Ordering::Relaxed)
    };
    assert_eq!(purge(&mut log, 1_000, 1), 0, "not large yet");
    assert_eq!(purge(&mut log, 1_001, 2), 1);
    assert!(log.lock().rewritten_at < 1_001, "what is left is less");
    assert_eq!(purge(&mut log, 1_000_000, 3), 2);
    // It may be that little of it could be dropped.
    assert_eq!(log.lock().rewritten_at, 250_000);
    // From then on it has to have doubled.
    log.lock().rewritten_at = 2_000;
    assert_eq!(purge(&mut log, 4_000, 4), 2);
    assert_eq!(purge(&mut log, 4_001, 5), 3);
}

#[test]
fn openraft_is_told_what_there_is() {
    let (mut log, _) = opened(&[
        append((0..5).map(blank).collect(), None),
        LogRecord::Purge(id(1, 1)),
        LogRecord::Vote(VoteId { term: 3, candidate: MemberId(2), committed: true }),
    ]);
    let state = log.get_log_state().now_or_never().unwrap().unwrap();
    let last = state.last_log_id.as_ref().map(log_id);
    assert_eq!(
        (state.last_purged_log_id.as_ref().map(log_id), last),
        (Some(id(1, 1)), Some(id(1, 4)))
    );
    let read = log.read_vote().now_or_never().unwrap().unwrap();
    assert_eq!(
        read.as_ref().map(vote).map(|vote| (vote.term, vote.candidate)),
        Some((3, MemberId(2)))
    );
    let entries = log.try_get_log_entries(2..4).now_or_never().unwrap().unwrap();
    let of = |entries: &[RaftEntry]| -> Vec<u64> {
        entries.iter().map(|of| entry(of).id.index).collect()
    };
    assert_eq!(of(&entries), [2, 3]);
    let entries = log.limited_get_log_entries(3, 9).now_or_never().unwrap().unwrap();
    assert_eq!(of(&entries), [3, 4]);
    log.truncate_after(Some(to_log_id(id(1, 3)))).now_or_never().unwrap().unwrap();
    assert_eq!(indexes(&log.lock()), [2, 3]);
    let new = to_vote(VoteId { term: 4, candidate: MemberId(1), committed: false });
    log.save_vote(&new).now_or_never().unwrap().unwrap();
    assert_eq!(log.lock().vote.map(|vote| vote.term), Some(4));
}
