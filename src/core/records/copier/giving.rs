//! What other holders are given.

use super::{Copier, Task, root_of, send};
use crate::core::ctx::Ctx;
use crate::core::records::store::{StoreAnswer, StoreFault, StoreOp};
use crate::messages::wire::{CopyAnswer, CopyAsk, CopyMessage};
use crate::types::PeerId;
use crate::types::limits::{RECORD_KEYS_MAX, REPLICA_OPEN_MAX};

impl Copier {
    pub(super) fn on_ask(
        &mut self,
        ctx: &mut Ctx<'_, ()>,
        to: PeerId,
        id: u64,
        layout: u64,
        ask: CopyAsk,
    ) {
        let op = match ask {
            _ if self.restoring
                || layout != self.view.layout.version
                || self.tasks.len() >= REPLICA_OPEN_MAX =>
            {
                None
            }
            CopyAsk::Digests { root } => {
                let task = Task::Serve { to, id, root: Some(root) };
                return self.store(ctx, task, vec![StoreOp::Digests]);
            }
            CopyAsk::Keys { partition, after } if partition.is_valid() => {
                Some(StoreOp::Keys { partition, after })
            }
            CopyAsk::Fetch { keys } if keys.len() <= RECORD_KEYS_MAX => Some(StoreOp::Fetch(keys)),
            CopyAsk::Keys { .. } | CopyAsk::Fetch { .. } => None,
        };
        match op {
            Some(op) => self.store(ctx, Task::Serve { to, id, root: None }, vec![op]),
            None => send(ctx, to, CopyMessage::Answer { id, answer: CopyAnswer::Unavailable }),
        }
    }

    pub(super) fn serve(
        ctx: &mut Ctx<'_, ()>,
        to: PeerId,
        id: u64,
        root: Option<u64>,
        result: Result<Vec<StoreAnswer>, StoreFault>,
    ) {
        let answer = match result.ok().and_then(|mut answers| answers.pop()) {
            Some(StoreAnswer::Digests(digests)) if root == Some(root_of(&digests)) => {
                CopyAnswer::Same
            }
            Some(StoreAnswer::Digests(digests)) => CopyAnswer::Digests(digests),
            Some(StoreAnswer::Keys(keys, more)) => CopyAnswer::Keys(keys, more),
            Some(StoreAnswer::Records(records)) => CopyAnswer::Records(records),
            _ => CopyAnswer::Unavailable,
        };
        send(ctx, to, CopyMessage::Answer { id, answer });
    }
}
