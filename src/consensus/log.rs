//! Vote and log, on a journal of their own.
//!
//! Problem: what openraft promises to others has to be on disk before the promise leaves, and a
//! log that came back damaged or shorter must not be taken for the real one. The journal sees to
//! checksums, order and torn ends; this file turns openraft's calls into records, and records back
//! into a log.
//!
//! Invariants:
//! 1. `save_vote` returns, and an append completes, only when the journal has the record.
//! 2. Reading the records from the start gives the state that the calls made.

use crate::core::consensus::is_sound;
use crate::messages::command::HeadsCommand;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use serde::{Deserialize, Serialize};

use super::raft::{
    Config, RaftEntry, RaftLogId, RaftVote, entry, log_id, to_entry, to_log_id, to_vote, vote,
};
use crate::messages::command::{Command, Proposal};
use crate::messages::wire::{Entry, Payload, VoteId};
use crate::ports::Journal;
use crate::types::Lock;
use crate::types::LogId;
use crate::types::codec::{CodecError, Durable, decode_durable, encode_durable, encode_wire};
use crate::types::fault::{Fault, planted};
use crate::types::journal::JournalError;
use crate::types::limits::{APPEND_ENTRIES_MAX, FRAME_LEN_MAX};

/// One record of the journal.
#[derive(Debug, Serialize, Deserialize)]
enum LogRecord {
    Vote(VoteId),
    Append { entries: Vec<Entry>, committed: Option<LogId> },
    TruncateAfter(Option<LogId>),
    Purge(LogId),
}

impl Durable for LogRecord {
    const NAME: &'static str = "consensus log";
    const KIND: u8 = 5;
    const VERSION: u8 = 1;
}

#[derive(Default)]
struct LogMemory {
    vote: Option<VoteId>,
    entries: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    /// Bytes of the journal after the last rewrite.
    rewritten_at: u64,
}

impl LogMemory {
    fn replay(records: &[Vec<u8>]) -> Result<Self, CodecError> {
        let mut memory = Self::default();
        for record in records {
            match decode_durable::<LogRecord>(record)? {
                LogRecord::Vote(vote) => memory.vote = Some(vote),
                LogRecord::Append { entries, committed } => {
                    for entry in &entries {
                        if let Payload::Membership(config) = &entry.payload
                            && !is_sound(config)
                        {
                            return Err(CodecError::Malformed("a voter without a key".into()));
                        }
                    }
                    memory.entries.extend(entries.into_iter().map(|entry| (entry.id.index, entry)));
                    memory.committed = memory.committed.max(committed);
                }
                LogRecord::TruncateAfter(last) => memory.truncate_after(last),
                LogRecord::Purge(upto) => memory.purge(upto),
            }
        }
        // What is committed but not here any more can't be read again.
        Ok(memory)
    }

    fn truncate_after(&mut self, last: Option<LogId>) {
        let first_gone = last.map_or(0, |last| last.index + 1);
        self.entries.split_off(&first_gone);
    }

    fn purge(&mut self, upto: LogId) {
        self.entries = self.entries.split_off(&(upto.index + 1));
        self.purged = self.purged.max(Some(upto));
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.id).or(self.purged)
    }

    /// The fewest records that give this state.
    fn records(&self) -> Vec<Vec<u8>> {
        let vote = self.vote.map(LogRecord::Vote);
        let purge = self.purged.map(LogRecord::Purge);
        let entries: Vec<Entry> = self.entries.values().cloned().collect();
        let append = LogRecord::Append { entries, committed: self.committed };
        vote.into_iter()
            .chain(purge)
            .chain([append])
            .map(|record| encode_durable(&record))
            .collect()
    }
}

/// openraft's view of the log.
#[derive(Clone)]
pub struct LogStore {
    journal: Arc<dyn Journal>,
    memory: Arc<Mutex<LogMemory>>,
    /// Bytes from which on the journal is rewritten once most of it is garbage.
    rewrite_above: u64,
}

fn failed(error: JournalError) -> io::Error {
    io::Error::other(error)
}

impl LogStore {
    /// A log from the records of its journal.
    pub fn open(
        journal: Arc<dyn Journal>,
        records: &[Vec<u8>],
        rewrite_above: u64,
    ) -> Result<Self, CodecError> {
        let memory = Arc::new(Mutex::new(LogMemory::replay(records)?));
        Ok(Self { journal, memory, rewrite_above })
    }

    /// True if this node has ever voted or stored an entry.
    pub fn is_old(&self) -> bool {
        let memory = self.lock();
        memory.vote.is_some() || memory.last().is_some()
    }

    /// The last entry that was dropped because a snapshot covers it.
    pub fn purged(&self) -> Option<LogId> {
        self.lock().purged
    }

    fn lock(&self) -> MutexGuard<'_, LogMemory> {
        self.memory.locked()
    }

    /// The entries that follow on `after`, up to `upto`, which is committed. None if the log does
    /// not reach back so far, or does not hold that very entry.
    pub fn committed_after(&self, after: Option<LogId>, upto: LogId) -> Option<Vec<Entry>> {
        let memory = self.lock();
        let holds = |id: LogId| memory.entries.get(&id.index).is_some_and(|entry| entry.id == id);
        let begins = match after {
            None => memory.purged.is_none(),
            Some(after) => memory.purged == Some(after) || holds(after),
        };
        // Right after a snapshot was installed, the log may still hold entries of another term
        // below it. Entries up to one that is committed are committed themselves.
        let ends = after >= Some(upto) || holds(upto);
        let first = after.map_or(Some(0), |after| after.index.checked_add(1))?;
        let entries = memory.entries.range(first..).map(|(_, entry)| entry);
        let committed = entries.take_while(|entry| entry.id.index <= upto.index);
        let committed = committed.take(APPEND_ENTRIES_MAX as usize);
        (begins && ends).then(|| within_a_frame(committed).cloned().collect())
    }

    fn rewrite_if_large(&self, memory: &mut LogMemory) {
        let len = self.journal.len_bytes();
        if len > self.rewrite_above && len > memory.rewritten_at * 2 {
            let records = memory.records();
            memory.rewritten_at =
                records.iter().map(|record| record.len() as u64).sum::<u64>().max(len / 4);
            // A rewrite that fails leaves the old journal, which says the same.
            self.journal.rewrite(records, Box::new(|_| {}));
        }
    }
}

/// As many entries as fit in a frame, and always the first one.
fn within_a_frame<'a>(entries: impl Iterator<Item = &'a Entry>) -> impl Iterator<Item = &'a Entry> {
    let mut room = Some(FRAME_LEN_MAX / 2);
    entries.take_while(move |entry| {
        let fits = room.is_some();
        room = room.and_then(|room| room.checked_sub(weight(entry)));
        fits
    })
}

/// About as many bytes as an entry takes up in a message, and no fewer.
fn weight(entry: &Entry) -> usize {
    match &entry.payload {
        Payload::Proposal(Proposal {
            command: Command::Heads(HeadsCommand::Set { key, value, author, .. }),
            ..
        }) => 128 + key.len() + value.0.len() + author.len(),
        Payload::Blank => 64,
        Payload::Proposal(_) | Payload::Membership(_) => {
            encode_wire(entry).map_or(FRAME_LEN_MAX, |bytes| bytes.len())
        }
    }
}

impl RaftLogReader<Config> for LogStore {
    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let memory = self.lock();
        let entries = memory.entries.range(start..end).map(|(_, entry)| entry);
        Ok(within_a_frame(entries).map(|entry| to_entry(entry.clone())).collect())
    }

    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let bounds: (Bound<u64>, Bound<u64>) =
            (range.start_bound().cloned(), range.end_bound().cloned());
        Ok(self.lock().entries.range(bounds).map(|(_, entry)| to_entry(entry.clone())).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        Ok(self.lock().vote.map(to_vote))
    }
}

impl RaftLogStorage<Config> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Config>, io::Error> {
        let memory = self.lock();
        Ok(LogState {
            last_purged_log_id: memory.purged.map(to_log_id),
            last_log_id: memory.last().map(to_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, new: &RaftVote) -> Result<(), io::Error> {
        let new = vote(new);
        let (done, durable) = tokio::sync::oneshot::channel();
        {
            let mut memory = self.lock();
            memory.vote = Some(new);
            if planted(Fault::VoteNotPersisted) {
                return Ok(());
            }
            // Under the lock, so that records come in the order of the states.
            let record = encode_durable(&LogRecord::Vote(new));
            self.journal.append(vec![record], Box::new(|result| drop(done.send(result))));
        }
        durable.await.unwrap_or(Err(JournalError::Closed)).map_err(failed)
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> Result<(), io::Error> {
        // Written with the next append: it only saves work after a restart.
        let mut memory = self.lock();
        memory.committed = memory.committed.max(committed.as_ref().map(log_id));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<RaftLogId>, io::Error> {
        let memory = self.lock();
        Ok(memory.committed.min(memory.last()).map(to_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Config>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().map(|new| entry(&new)).collect();
        let mut memory = self.lock();
        let record = LogRecord::Append { entries, committed: memory.committed };
        let bytes = encode_durable(&record);
        if let LogRecord::Append { entries, .. } = record {
            memory.entries.extend(entries.into_iter().map(|entry| (entry.id.index, entry)));
        }
        if planted(Fault::AnswerBeforeFsync) {
            self.journal.append(vec![bytes], Box::new(|_| {}));
            callback.io_completed(Ok(()));
            return Ok(());
        }
        self.journal
            .append(vec![bytes], Box::new(|result| callback.io_completed(result.map_err(failed))));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> Result<(), io::Error> {
        let last = last.as_ref().map(log_id);
        let mut memory = self.lock();
        memory.truncate_after(last);
        let record = encode_durable(&LogRecord::TruncateAfter(last));
        // What follows is ordered behind it, so nobody has to wait.
        self.journal.append(vec![record], Box::new(|_| {}));
        Ok(())
    }

    async fn purge(&mut self, upto: RaftLogId) -> Result<(), io::Error> {
        let upto = log_id(&upto);
        let mut memory = self.lock();
        memory.purge(upto);
        self.journal.append(vec![encode_durable(&LogRecord::Purge(upto))], Box::new(|_| {}));
        self.rewrite_if_large(&mut memory);
        Ok(())
    }
}

#[cfg(test)]
mod guards;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::fixture::Scratch;
    use crate::types::{MemberId, golden};

    fn blank(term: u64, index: u64) -> Entry {
        Entry { id: LogId { term, index }, payload: Payload::Blank }
    }

    #[test]
    fn a_follower_is_served_what_follows_on_and_nothing_else() {
        let id = |term, index| LogId { term, index };
        let records = [
            LogRecord::Append {
                entries: (0..10).map(|i| blank(1, i)).collect(),
                committed: Some(id(1, 3)),
            },
            LogRecord::Purge(id(1, 2)),
        ];
        let bytes: Vec<Vec<u8>> = records.iter().map(encode_durable).collect();
        let log = LogStore::open(Arc::new(Scratch::default()), &bytes, 0).unwrap();
        let after = |after, upto| {
            let found = log.committed_after(after, id(1, upto));
            found.map(|entries| entries.iter().map(|entry| entry.id.index).collect::<Vec<_>>())
        };
        assert_eq!(after(Some(id(1, 4)), 7), Some(vec![5, 6, 7]), "nothing beyond the committed");
        assert_eq!(after(Some(id(1, 2)), 4), Some(vec![3, 4]), "from the end of what was dropped");
        assert_eq!(after(Some(id(1, 7)), 7), Some(vec![]), "nothing new");
        assert_eq!(after(Some(id(1, 8)), 5), Some(vec![]), "this voter is behind");
        assert_eq!(after(Some(id(1, 1)), 7), None, "dropped");
        assert_eq!(after(None, 7), None, "dropped");
        assert_eq!(after(Some(id(2, 4)), 7), None, "another entry stands there");
        let stale = log.committed_after(Some(id(1, 4)), id(2, 7));
        assert_eq!(stale, None, "what is committed at 7 is not what the log holds");
        let beyond = log.committed_after(Some(id(1, 4)), id(1, 12));
        assert_eq!(beyond, None, "what is committed is not here yet");
    }

    #[test]
    fn golden_bytes() {
        let id = LogId { term: 2, index: 7 };
        let records = [
            LogRecord::Vote(VoteId { term: 2, candidate: MemberId(3), committed: true }),
            LogRecord::Append { entries: vec![blank(2, 7)], committed: Some(id) },
            LogRecord::TruncateAfter(None),
            LogRecord::TruncateAfter(Some(id)),
            LogRecord::Purge(id),
        ];
        golden::durable::<LogRecord>(include_str!("../types/golden/consensus-log"), &records);
    }

    #[test]
    fn records_replay_to_the_state_that_wrote_them() {
        let id = |term, index| LogId { term, index };
        let records = [
            LogRecord::Vote(VoteId { term: 1, candidate: MemberId(1), committed: true }),
            LogRecord::Append {
                entries: (0..10).map(|i| blank(1, i)).collect(),
                committed: Some(id(1, 3)),
            },
            LogRecord::TruncateAfter(Some(id(1, 6))),
            LogRecord::Append { entries: vec![blank(2, 7)], committed: None },
            LogRecord::Purge(id(1, 2)),
        ];
        let bytes: Vec<Vec<u8>> = records.iter().map(encode_durable).collect();
        let memory = LogMemory::replay(&bytes).unwrap();
        assert_eq!(memory.entries.keys().copied().collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
        assert_eq!((memory.last(), memory.purged), (Some(id(2, 7)), Some(id(1, 2))));
        assert_eq!(memory.committed, Some(id(1, 3)));
        let again = LogMemory::replay(&memory.records()).unwrap();
        assert_eq!(again.entries, memory.entries);
        assert_eq!(
            (again.vote, again.purged, again.committed),
            (memory.vote, memory.purged, memory.committed)
        );
    }
}
