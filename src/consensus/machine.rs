//! The control state under openraft: apply, snapshot, install.
//!
//! A snapshot is the whole control state as one durable record, in a journal of its own that is
//! rewritten each time. After every batch the newest view and the list of changes go to the
//! `control` actor.
//!
//! Invariants:
//! 1. A snapshot is on disk before the log that it replaces is dropped.
//! 2. Views are cast in the order of their indexes.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::async_runtime::AsyncRuntime as _;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::Notify;

use super::raft::{
    AppData, Applied, Config, RaftLogId, RaftMembership, log_id, to_log_id, to_stored_membership,
    voter_config,
};
use super::runtime::Runtime;
use crate::core::consensus::ConsensusEvent;
use crate::core::control::{Change, ControlState, StoredSnapshot};
use crate::ports::{Journal, Sink};
use crate::types::codec::{CodecError, encode_durable};
use crate::types::journal::JournalError;
use crate::types::{Bytes, Lock, LogId};

/// How long a snapshot that found no room waits before it is tried again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// What openraft passes around as a snapshot: the encoded `StoredSnapshot`.
pub type SnapshotBytes = Arc<Vec<u8>>;

#[derive(Default)]
struct Inner {
    state: ControlState,
    applied: Option<RaftLogId>,
    membership: RaftMembership,
    snapshot: Option<(SnapshotMetaOf<Config>, SnapshotBytes)>,
}

/// The control state, shared between the machine and its snapshot builders.
#[derive(Clone)]
pub struct StateMachine {
    inner: Arc<Mutex<Inner>>,
    journal: Arc<dyn Journal>,
    events: Sink<ConsensusEvent>,
    /// Wakes who waits for more.
    applied_more: Arc<Notify>,
}

fn malformed(error: CodecError) -> io::Error {
    io::Error::other(error)
}

impl StateMachine {
    /// The state from the newest snapshot, if there is one.
    pub fn open(
        journal: Arc<dyn Journal>,
        records: &[Vec<u8>],
        events: Sink<ConsensusEvent>,
    ) -> Result<Self, CodecError> {
        let mut inner = Inner::default();
        if let Some(bytes) = records.last() {
            inner.restore(Arc::new(bytes.clone()))?;
        }
        let inner = Arc::new(Mutex::new(inner));
        Ok(Self { inner, journal, events, applied_more: Arc::default() })
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Inner) -> T) -> T {
        use_it(&mut self.inner.locked())
    }

    /// Casts the whole state, for a control actor that knows nothing yet.
    pub fn resync(&self) {
        self.with(|inner| {
            if let Some(applied) = &inner.applied {
                (self.events)(ConsensusEvent::Applied {
                    log_id: log_id(applied),
                    view: inner.state.view().clone(),
                    changes: vec![Change::Installed],
                });
            }
        });
    }

    /// The last entry applied.
    pub fn applied(&self) -> Option<LogId> {
        self.with(|inner| inner.applied.as_ref().map(log_id))
    }

    /// Waits until more is applied than `known`, or the state is replaced.
    pub async fn wait_beyond(&self, known: Option<LogId>) {
        let more = self.applied_more.notified();
        if self.applied() <= known {
            more.await;
        }
    }

    /// The newest snapshot, and the last entry that it covers.
    pub fn snapshot(&self) -> Option<(Option<LogId>, SnapshotBytes)> {
        self.with(|inner| {
            let (meta, bytes) = inner.snapshot.clone()?;
            Some((meta.last_log_id.as_ref().map(log_id), bytes))
        })
    }

    /// The control state, and who votes, as of the last entry that was applied.
    pub(super) fn copy(&self) -> (ControlState, StoredSnapshot) {
        self.with(|inner| {
            let stored = StoredSnapshot {
                last: inner.applied.as_ref().map(log_id),
                voters_at: inner.membership.log_id().as_ref().map(log_id),
                voters: voter_config(inner.membership.membership()),
                state: Bytes::default(),
            };
            (inner.state.clone(), stored)
        })
    }

    /// Hash over the control state, and the index that it stands at.
    pub fn digest(&self) -> (u64, [u8; 32]) {
        self.with(|inner| (inner.state.view().index(), inner.state.digest()))
    }

    /// Without room it waits: an error would end consensus on this node, and the log is still here.
    async fn persist(&self, bytes: &SnapshotBytes) -> Result<(), io::Error> {
        loop {
            let (done, durable) = tokio::sync::oneshot::channel();
            self.journal.rewrite(vec![bytes.to_vec()], Box::new(|result| drop(done.send(result))));
            match durable.await.unwrap_or(Err(JournalError::Closed)) {
                Err(JournalError::Full { .. }) => Runtime::sleep(FULL_RETRY).await,
                other => return other.map_err(io::Error::other),
            }
        }
    }
}

impl Inner {
    fn restore(&mut self, bytes: SnapshotBytes) -> Result<(), CodecError> {
        let (stored, state) = StoredSnapshot::read(&bytes)?;
        self.state = state;
        self.applied = stored.last.map(to_log_id);
        self.membership = to_stored_membership(stored.voters_at, &stored.voters);
        let meta = SnapshotMetaOf::<Config> {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
        };
        self.snapshot = Some((meta, bytes));
        Ok(())
    }

    fn stored(&self) -> StoredSnapshot {
        StoredSnapshot {
            last: self.applied.as_ref().map(log_id),
            voters_at: self.membership.log_id().as_ref().map(log_id),
            voters: voter_config(self.membership.membership()),
            state: Bytes(self.state.encode()),
        }
    }
}

/// Builds one snapshot.
pub struct SnapshotBuilder(StateMachine);

impl RaftSnapshotBuilder<Config> for SnapshotBuilder {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Config, SnapshotBytes>, io::Error> {
        let (meta, bytes) = self.0.with(|inner| {
            let bytes: SnapshotBytes = Arc::new(encode_durable(&inner.stored()));
            let meta = SnapshotMetaOf::<Config> {
                last_log_id: inner.applied,
                last_membership: inner.membership.clone(),
            };
            (meta, bytes)
        });
        self.0.persist(&bytes).await?;
        self.0.with(|inner| inner.snapshot = Some((meta.clone(), bytes.clone())));
        Ok(SnapshotOf::<Config, SnapshotBytes> { meta, snapshot: bytes })
    }
}

impl RaftStateMachine<Config> for StateMachine {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, RaftMembership), io::Error> {
        Ok(self.with(|inner| (inner.applied, inner.membership.clone())))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Config>, io::Error>> + Unpin + OptionalSend,
    {
        let mut changes = Vec::new();
        let mut responders = Vec::new();
        let mut last = None;
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let id = log_id(&entry.log_id);
            self.with(|inner| {
                match &entry.payload {
                    EntryPayload::Normal(AppData(proposal)) => {
                        inner.state.apply(id, proposal, &mut changes);
                    }
                    EntryPayload::Blank => inner.state.skip(id),
                    EntryPayload::Membership(membership) => {
                        inner.state.skip(id);
                        inner.membership =
                            RaftMembership::new(Some(entry.log_id), membership.clone());
                    }
                }
                inner.applied = Some(entry.log_id);
            });
            last = Some(id);
            responders.extend(responder);
        }
        if let Some(log_id) = last {
            let view = self.with(|inner| inner.state.view().clone());
            (self.events)(ConsensusEvent::Applied { log_id, view, changes });
            self.applied_more.notify_waiters();
        }
        for responder in responders {
            responder.send(Applied);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder(self.clone())
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<Config>,
        snapshot: SnapshotBytes,
    ) -> Result<(), io::Error> {
        StoredSnapshot::read(&snapshot).map_err(malformed)?;
        self.persist(&snapshot).await?;
        self.with(|inner| inner.restore(snapshot)).map_err(malformed)?;
        self.resync();
        self.applied_more.notify_waiters();
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<Config, SnapshotBytes>>, io::Error> {
        Ok(self.with(|inner| {
            let (meta, snapshot) = inner.snapshot.clone()?;
            Some(SnapshotOf::<Config, SnapshotBytes> { meta, snapshot })
        }))
    }
}
