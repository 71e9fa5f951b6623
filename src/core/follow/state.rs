//! What a follower holds: the control state, what it needs to go on from there, and what it gives to those
//! that follow it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::assembly::{Assembled, Assembly, Part, assemble};
use crate::core::consensus::{Role, entries_are_sound};
use crate::core::control::{Change, ControlState, StoredSnapshot};
use crate::messages::wire::{Entry, FollowBody, Payload, VoterConfig};
use crate::types::codec::{encode_durable, encode_wire};
use crate::types::limits::{APPEND_ENTRIES_MAX, SNAPSHOT_PART};
use crate::types::{Bytes, LogId, Mono};

/// Entries, and their bytes, that a follower keeps for those that follow it.
const KEPT_MAX: usize = 1_024;
const KEPT_BYTES_MAX: usize = 2 * 1024 * 1024;

#[derive(Default)]
pub(super) struct State {
    pub(super) control: ControlState,
    pub(super) last: Option<LogId>,
    pub(super) voters_at: Option<LogId>,
    pub(super) voters: VoterConfig,
    pub(super) role: Role,
    /// The newest configuration under which the leader does not replicate to this node.
    pub(super) unfed_at: Option<LogId>,
    pub(super) saved_index: u64,
    pub(super) assembly: Option<Assembly>,
    /// The last entries, oldest first and with their lengths.
    kept: VecDeque<(Entry, usize)>,
    kept_bytes: usize,
    /// When a majority followed the leader for the last time, as far as was told.
    pub(super) heard: Option<Mono>,
    /// True if the last answer was not all that there is.
    pub(super) behind: bool,
    /// A snapshot that is being served, and the last entry that it covers.
    served: Option<(Option<LogId>, Arc<Vec<u8>>)>,
}

impl State {
    pub(super) fn restore(&mut self, (stored, control): (StoredSnapshot, ControlState)) {
        self.control = control;
        self.last = stored.last;
        self.voters_at = stored.voters_at;
        self.voters = stored.voters;
        self.saved_index = stored.last.map_or(0, |last| last.index);
        self.kept.clear();
        self.kept_bytes = 0;
    }

    /// A majority followed the leader at this time, as an answer tells.
    pub(super) fn hear(&mut self, majority_at: Mono) {
        self.heard = self.heard.max(Some(majority_at));
    }

    /// How long ago one did.
    pub(super) fn majority_age(&self, now: Mono) -> Option<Duration> {
        self.heard.map(|heard| now.since(heard))
    }

    pub(super) fn snapshot(&self) -> Vec<u8> {
        encode_durable(&StoredSnapshot {
            last: self.last,
            voters_at: self.voters_at,
            voters: self.voters.clone(),
            state: Bytes(self.control.encode()),
        })
    }

    /// Keeps an entry for those that follow this member.
    fn keep(&mut self, entry: Entry) {
        let len = encode_wire(&entry).map_or(0, |bytes| bytes.len());
        self.kept_bytes += len;
        self.kept.push_back((entry, len));
        while self.kept.len() > KEPT_MAX || self.kept_bytes > KEPT_BYTES_MAX {
            let Some((_, len)) = self.kept.pop_front() else { break };
            self.kept_bytes -= len;
        }
    }

    /// What was committed after an entry; none if this member is behind whoever asks.
    pub(super) fn what_follows(&mut self, after: Option<LogId>, offset: u64) -> Option<FollowBody> {
        if self.last < after {
            return None;
        }
        let next = after.map_or(0, |after| after.index.saturating_add(1));
        let first = self.kept.front().map(|(entry, _)| entry.id.index);
        if self.last == after {
            return Some(FollowBody::Entries(Vec::new()));
        }
        if let Some(skip) = first.and_then(|first| next.checked_sub(first)) {
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            let entries = self.kept.iter().skip(skip).take(APPEND_ENTRIES_MAX as usize);
            return Some(FollowBody::Entries(entries.map(|(entry, _)| entry.clone()).collect()));
        }
        // One that was begun is served to its end, as long as what comes after it is kept.
        let is_usable = self.served.as_ref().is_some_and(|(last, _)| {
            let next = last.map_or(0, |last| last.index + 1);
            *last > after && first.map_or(*last == self.last, |first| next >= first)
        });
        if !is_usable {
            self.served = Some((self.last, Arc::new(self.snapshot())));
        }
        body(None, self.served.clone(), offset)
    }

    pub(super) fn apply(&mut self, entries: Vec<Entry>, changes: &mut Vec<Change>) -> bool {
        if !entries_are_sound(self.last, &entries) {
            return false;
        }
        for entry in entries {
            match &entry.payload {
                Payload::Proposal(proposal) => {
                    self.control.apply(entry.id, proposal, changes);
                }
                Payload::Blank => self.control.skip(entry.id),
                Payload::Membership(voters) => {
                    self.control.skip(entry.id);
                    (self.voters_at, self.voters) = (Some(entry.id), voters.clone());
                }
            }
            self.last = Some(entry.id);
            self.keep(entry);
        }
        true
    }

    pub(super) fn assemble(&mut self, part: Part<'_>) -> Assembled {
        // Going back would take away what readers have seen.
        if part.last <= self.last {
            return Assembled::Unusable;
        }
        let assembled = assemble(&mut self.assembly, part);
        if let Assembled::Whole(bytes) = &assembled {
            match StoredSnapshot::read(bytes) {
                Ok((stored, control)) if stored.last > self.last => {
                    self.restore((stored, control));
                }
                _ => return Assembled::Unusable,
            }
        }
        assembled
    }
}

/// Answers a follower as far as log and snapshot go; none if neither follows on.
pub fn body(
    entries: Option<Vec<Entry>>,
    snapshot: Option<(Option<LogId>, Arc<Vec<u8>>)>,
    offset: u64,
) -> Option<FollowBody> {
    if let Some(entries) = entries {
        return Some(FollowBody::Entries(entries));
    }
    let (last, bytes) = snapshot?;
    // A part of an earlier snapshot does not go with this one: the follower begins again.
    let offset = usize::try_from(offset).ok().filter(|offset| *offset < bytes.len()).unwrap_or(0);
    let end = bytes.len().min(offset + SNAPSHOT_PART);
    Some(FollowBody::Snapshot {
        last,
        total: bytes.len() as u64,
        offset: offset as u64,
        part: Bytes(bytes[offset..end].to_vec()),
    })
}
