//! Owns the node's store: the first child of the tree, because all others read and write it.
//!
//! Problem: a write that failed leaves values in memory that no disk holds, and a journal that
//! takes no more. Restarting the actor that wrote is not enough.
//!
//! Flow: started the first time, it takes the store as `node::prepare` has opened it. When a write
//! fails, it fails as well; its supervisor starts it again, and with it everything that was started
//! after it. It then reads the store from disk before anybody else runs.
//!
//! Invariants:
//! 1. No actor runs on values of the store that a failed write left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::actors::Env;

/// What the owner of the store is told.
#[derive(Debug)]
pub enum StoreMsg {
    /// Begin.
    Load,
    /// A write failed, for this reason.
    Failed(String),
    /// Fail, as if something had gone wrong.
    Crash,
    /// Stop in order.
    Stop,
}

/// Owns the node's store.
pub struct Storekeeper {
    /// What the node's actors share.
    pub env: Arc<Env>,
    /// True until an earlier one has taken the store over.
    pub is_fresh: Arc<AtomicBool>,
    /// Called once the store can be used.
    pub loaded: Arc<dyn Fn() + Send + Sync>,
}

impl Storekeeper {
    fn load(&self, myself: ActorRef<StoreMsg>) -> Result<(), ActorProcessingErr> {
        if !self.is_fresh.swap(false, Ordering::Relaxed) {
            self.env.store.reopen(self.env.ports.journals.as_ref())?;
        }
        self.env.store.on_failure(Arc::new(move |reason| {
            // One that has stopped by then has a successor, which reads everything again.
            drop(myself.cast(StoreMsg::Failed(reason)));
        }));
        (self.loaded)();
        Ok(())
    }
}

impl Actor for Storekeeper {
    type Msg = StoreMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<StoreMsg>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<StoreMsg>,
        message: StoreMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            StoreMsg::Load => self.load(myself)?,
            StoreMsg::Failed(reason) => return Err(format!("a write failed: {reason}").into()),
            StoreMsg::Crash => return Err("stopped by fault injection".into()),
            StoreMsg::Stop => myself.stop(None),
        }
        Ok(())
    }
}
