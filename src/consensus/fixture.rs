//! What the tests of consensus share: a journal that keeps nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ports::Journal;
use crate::ports::journal::Completion;

/// A journal that takes everything at once, says how long it is, and counts how often it was written anew.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) len: AtomicU64,
    pub(super) rewrites: AtomicU64,
}

impl Journal for Scratch {
    fn append(&self, _: Vec<Vec<u8>>, done: Completion) {
        done(Ok(()));
    }

    fn rewrite(&self, _: Vec<Vec<u8>>, done: Completion) {
        self.rewrites.fetch_add(1, Ordering::Relaxed);
        done(Ok(()));
    }

    fn len_bytes(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }
}
