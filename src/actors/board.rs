//! What every actor of a node is doing, for people: the supervision tree as a table.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use crate::types::Lock;

use serde::{Deserialize, Serialize};

/// Where an actor is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// Not running.
    #[default]
    Stopped,
    /// Started, not loaded yet.
    Starting,
    /// Working.
    Running,
    /// Asked to stop.
    Stopping,
}

/// One actor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorInfo {
    /// Position in the order of the start, for printing.
    pub order: usize,
    /// Where it is in its life.
    pub state: ActorState,
    /// Restarts since the node started.
    pub restarts: u64,
    /// Messages that wait for it.
    pub mailbox: usize,
    /// Why it failed last.
    pub last_failure: Option<String>,
}

/// All actors of a node, by path (`root/services/front`).
#[derive(Default)]
pub struct Board(Mutex<BTreeMap<String, ActorInfo>>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ActorInfo>> {
        self.0.locked()
    }

    /// Changes the row of an actor.
    pub fn update(&self, path: &str, change: impl FnOnce(&mut ActorInfo)) {
        let mut rows = self.lock();
        let order = rows.len();
        change(
            rows.entry(path.to_owned())
                .or_insert_with(|| ActorInfo { order, ..ActorInfo::default() }),
        );
    }

    /// All rows, in the order of the first start.
    pub fn rows(&self) -> Vec<(String, ActorInfo)> {
        let mut rows: Vec<_> =
            self.lock().iter().map(|(path, info)| (path.clone(), info.clone())).collect();
        rows.sort_by_key(|(_, info)| info.order);
        rows
    }
}
