//! Work: what would keep a machine, and with it its whole node, longer than a message may.
//!
//! Problem: a machine never blocks and never waits, but disks, hashes of gigabytes and keys take
//! milliseconds to minutes.
//!
//! Flow: the machine puts work in its outbox, under a token of its own. It is done off the reactor, and
//! the machine is told in `on_done`, under the token. Work that is not wanted any more is cancelled: it
//! may stop early, and nothing of it is told.
//!
//! Invariants:
//! 1. Work that was asked for is answered once, unless it was cancelled or its machine failed meanwhile;
//!    then it is told to stop early. No answer is taken for that of other work under the same token.
//! 2. A machine has at most `WORK_OPEN_MAX` under way. More is answered with `Busy`, and was not begun.
//! 3. What was asked of the record store is done in the order in which it was asked.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::core::records::store::{StoreAnswer, StoreFault, StoreOp};

/// Something to be done.
pub enum Work {
    /// Operations on the record store, in order, with one fsync at their end.
    Records(Vec<StoreOp>),
    /// Something that takes a processor for a while.
    Compute(Task),
}

/// What came of it.
#[derive(Debug)]
pub enum Done {
    /// Of the operations on the record store: it is on disk, or it failed.
    Records(Result<Vec<StoreAnswer>, StoreFault>),
    /// What the task has returned.
    Computed(Computed),
    /// Too much is under way; it was not begun.
    Busy,
    /// The task has panicked, which is a fault in the program.
    Failed,
}

/// What a task returns; whoever has asked for it knows the type.
pub type Computed = Box<dyn Any + Send>;

/// A function to be called on a thread that may be kept for as long as it takes.
pub struct Task {
    /// What it does, for traces and logs.
    pub name: &'static str,
    /// The function. Looking at the flag now and then, it stops early when nobody wants its result.
    pub run: Box<dyn FnOnce(&Cancelled) -> Computed + Send>,
}

impl Task {
    /// A task of this name.
    pub fn new<T: Send + 'static>(
        name: &'static str,
        run: impl FnOnce(&Cancelled) -> T + Send + 'static,
    ) -> Self {
        Self { name, run: Box::new(move |cancelled| Box::new(run(cancelled))) }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(ops) => f.debug_tuple("Records").field(ops).finish(),
            Self::Compute(task) => f.debug_tuple("Compute").field(&task.name).finish(),
        }
    }
}

/// Says whether work is still wanted.
#[derive(Clone, Debug, Default)]
pub struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    /// Nobody wants it any more.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once nobody does.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
