//! The streams of this node: how many there may be, and how each is ended from elsewhere.
//!
//! Invariants:
//! 1. Whoever begins a stream holds it, and gives its place back by dropping it.
//! 2. A stream ends for the first reason that is given, and for no other one later.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::pipe::Pipe;
use crate::adapters::network::stats::NetworkStats;
use crate::ports::bulk::{BulkError, BulkId};
use crate::types::limits::{BULK_STREAMS_MAX, BULK_STREAMS_PER_PEER_MAX, BULK_STREAMS_TAKEN_MAX};
use crate::types::{Lock, PeerId};

struct Entry {
    peer: PeerId,
    /// True if this node has opened it.
    is_own: bool,
    end: watch::Sender<Option<BulkError>>,
    /// What is to be closed with it.
    pipe: Option<Arc<Pipe>>,
}

impl Entry {
    /// Ends it, unless it has ended.
    fn give(&self, why: &BulkError) {
        self.end.send_if_modified(|ended| {
            let is_first = ended.is_none();
            if is_first {
                *ended = Some(why.clone());
            }
            is_first
        });
        if let Some(pipe) = &self.pipe {
            pipe.close();
        }
    }
}

#[derive(Default)]
struct Table {
    last: u64,
    open: HashMap<BulkId, Entry>,
    is_stopped: bool,
}

impl Table {
    fn count(&self, is_own: bool, peer: Option<PeerId>) -> usize {
        let counts =
            |entry: &&Entry| entry.is_own == is_own && peer.is_none_or(|peer| entry.peer == peer);
        self.open.values().filter(counts).count()
    }
}

/// See the module.
pub struct Streams {
    table: Mutex<Table>,
    stats: Arc<NetworkStats>,
}

impl Streams {
    /// None so far.
    pub fn new(stats: Arc<NetworkStats>) -> Self {
        Self { table: Mutex::default(), stats }
    }

    /// A number for one, whatever becomes of it.
    pub fn number(&self) -> BulkId {
        let mut table = self.table.locked();
        table.last += 1;
        BulkId(table.last)
    }

    /// Begins one with a peer, if there is room: this node's, or one that the peer opens.
    pub fn begin(
        self: &Arc<Self>,
        id: BulkId,
        peer: PeerId,
        is_own: bool,
    ) -> Result<Held, BulkError> {
        let mut table = self.table.locked();
        if table.is_stopped {
            return Err(BulkError::Stopped);
        }
        // How many others can open follows from how many connections they may have.
        let most = if is_own { BULK_STREAMS_PER_PEER_MAX } else { BULK_STREAMS_TAKEN_MAX };
        if table.count(is_own, Some(peer)) >= most
            || (is_own && table.count(true, None) >= BULK_STREAMS_MAX)
        {
            return Err(BulkError::Busy);
        }
        let (end, ended) = watch::channel(None);
        table.open.insert(id, Entry { peer, is_own, end, pipe: None });
        self.update_gauges(&table);
        drop(table);
        Ok(Held { id, peer, ended, streams: self.clone() })
    }

    /// Ends one, unless it has ended.
    pub fn end(&self, id: BulkId, why: &BulkError) {
        if let Some(entry) = self.table.locked().open.get(&id) {
            entry.give(why);
        }
    }

    /// Ends those with peers of which that is true.
    pub fn end_with(&self, is_meant: impl Fn(PeerId) -> bool, why: &BulkError) {
        for entry in self.table.locked().open.values().filter(|entry| is_meant(entry.peer)) {
            entry.give(why);
        }
    }

    /// Ends all of them, and begins none any more.
    pub fn stop(&self) {
        self.table.locked().is_stopped = true;
        self.end_with(|_| true, &BulkError::Stopped);
    }

    fn update_gauges(&self, table: &Table) {
        let bulk = &self.stats.bulk;
        for (gauge, is_own) in [(&bulk.streams_out, true), (&bulk.streams_in, false)] {
            gauge.store(table.count(is_own, None) as u64, Ordering::Relaxed);
        }
    }
}

/// A stream, as long as somebody has it.
pub struct Held {
    /// Its number.
    pub id: BulkId,
    /// With whom it is.
    pub peer: PeerId,
    ended: watch::Receiver<Option<BulkError>>,
    streams: Arc<Streams>,
}

impl Held {
    /// Waits until it is ended from elsewhere.
    pub async fn ended(&self) -> BulkError {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or(BulkError::Stopped),
            Err(_) => BulkError::Stopped,
        }
    }

    /// Closes a pipe with it, at once if it has ended.
    pub fn attach(&self, pipe: &Arc<Pipe>) {
        let mut table = self.streams.table.locked();
        if let Some(entry) = table.open.get_mut(&self.id) {
            entry.pipe = Some(pipe.clone());
        }
        drop(table);
        if self.ended.borrow().is_some() {
            pipe.close();
        }
    }

    /// Ends it.
    pub fn end(&self, why: &BulkError) {
        self.streams.end(self.id, why);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut table = self.streams.table.locked();
        table.open.remove(&self.id);
        self.streams.update_gauges(&table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(streams: &Arc<Streams>, peer: u8, is_own: bool) -> Result<Held, BulkError> {
        streams.begin(streams.number(), PeerId([peer; 32]), is_own)
    }

    #[test]
    fn each_peer_and_all_together_have_so_many_places_which_come_back() {
        let streams = Arc::new(Streams::new(Arc::default()));
        let mut held = Vec::new();
        for peer in 0..(BULK_STREAMS_MAX / BULK_STREAMS_PER_PEER_MAX) as u8 {
            for _ in 0..BULK_STREAMS_PER_PEER_MAX {
                held.push(begin(&streams, peer, true).unwrap());
            }
            assert_eq!(begin(&streams, peer, true).err(), Some(BulkError::Busy));
            let theirs = (0..BULK_STREAMS_TAKEN_MAX).map(|_| begin(&streams, peer, false).unwrap());
            let theirs: Vec<Held> = theirs.collect();
            assert_eq!(begin(&streams, peer, false).err(), Some(BulkError::Busy));
            drop(theirs);
        }
        assert_eq!(begin(&streams, 200, true).err(), Some(BulkError::Busy));
        held.pop();
        let out = |streams: &Streams| streams.stats.bulk.streams_out.load(Ordering::Relaxed);
        assert_eq!(out(&streams), BULK_STREAMS_MAX as u64 - 1);
        assert!(begin(&streams, 200, true).is_ok());
        drop(held);
        assert_eq!(out(&streams), 0);
    }

    #[tokio::test]
    async fn the_first_reason_stands() {
        let streams = Arc::new(Streams::new(Arc::default()));
        let (one, other) = (begin(&streams, 1, true).unwrap(), begin(&streams, 2, true).unwrap());
        one.end(&BulkError::Cancelled);
        streams.end_with(|peer| peer == PeerId([2; 32]), &BulkError::NotAMember);
        streams.stop();
        assert_eq!(one.ended().await, BulkError::Cancelled);
        assert_eq!(other.ended().await, BulkError::NotAMember);
        assert_eq!(begin(&streams, 1, true).err(), Some(BulkError::Stopped));
    }
}
