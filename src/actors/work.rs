//! The work that an actor has under way, and the way back of its answers.
//!
//! Invariants:
//! 1. An answer counts for the work that it is of: a token that was given out again, or cancelled, does
//!    not take the answer of what it stood for before.
//! 2. An actor that ends wants nothing of its work any more.

use std::collections::BTreeMap;
use std::sync::Weak;

use ractor::ActorRef;

use crate::actors::directory::Addressed;
use crate::actors::{Env, Mail};
use crate::core::work::{Cancelled, Computed, Done};

/// Work that is under way, by its token.
#[derive(Default)]
pub(super) struct OpenWork {
    begun: BTreeMap<u64, (u64, Cancelled)>,
    last: u64,
}

impl OpenWork {
    pub(super) fn len(&self) -> usize {
        self.begun.len()
    }

    /// Begins some, and gives it a number that no other has.
    pub(super) fn begin(&mut self, token: u64) -> (u64, Cancelled) {
        self.last += 1;
        let cancelled = Cancelled::default();
        if let Some((_, earlier)) = self.begun.insert(token, (self.last, cancelled.clone())) {
            earlier.set();
        }
        (self.last, cancelled)
    }

    /// Nobody wants it any more.
    pub(super) fn cancel(&mut self, token: u64) {
        if let Some((_, cancelled)) = self.begun.remove(&token) {
            cancelled.set();
        }
    }

    /// True if somebody waits for this answer; it is the only one.
    pub(super) fn end(&mut self, token: u64, number: u64) -> bool {
        let is_it = self.begun.get(&token).is_some_and(|(begun, _)| *begun == number);
        if is_it {
            self.begun.remove(&token);
        }
        is_it
    }
}

impl Drop for OpenWork {
    fn drop(&mut self) {
        self.begun.values().for_each(|(_, cancelled)| cancelled.set());
    }
}

/// The way back of one answer.
pub(super) struct Answer<M: Addressed> {
    pub(super) env: Weak<Env>,
    pub(super) to: ActorRef<Mail<M>>,
    pub(super) token: u64,
    pub(super) number: u64,
}

impl<M: Addressed> Clone for Answer<M> {
    fn clone(&self) -> Self {
        let Self { env, to, token, number } = self;
        Self { env: env.clone(), to: to.clone(), token: *token, number: *number }
    }
}

impl<M: Addressed> Answer<M> {
    pub(super) fn give(&self, done: Done) {
        if let Some(env) = self.env.upgrade() {
            let mail = Mail::Done { token: self.token, number: self.number, done };
            M::slot(&env.directory).mail_to(&self.to, mail);
        }
    }
}

/// A task that runs. If a panic takes it away before there is a result, that is the answer.
pub(super) struct Running<M: Addressed>(Option<Answer<M>>);

impl<M: Addressed> Running<M> {
    pub(super) fn new(answer: Answer<M>) -> Self {
        Self(Some(answer))
    }

    pub(super) fn end(mut self, result: Computed) {
        if let Some(answer) = self.0.take() {
            answer.give(Done::Computed(result));
        }
    }
}

impl<M: Addressed> Drop for Running<M> {
    fn drop(&mut self) {
        if let Some(answer) = self.0.take() {
            answer.give(Done::Failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_and_only_for_its_own_work() {
        let mut work = OpenWork::default();
        let (first, cancelled) = work.begin(7);
        work.cancel(7);
        assert!(cancelled.is_set() && !work.end(7, first), "nobody wants it");
        let (second, _) = work.begin(7);
        assert!(!work.end(7, first), "that is of the first");
        assert!(work.end(7, second) && !work.end(7, second), "once");
        let (_, earlier) = work.begin(8);
        let (_, last) = work.begin(8);
        assert!(earlier.is_set() && !last.is_set());
        drop(work);
        assert!(last.is_set(), "whoever wanted it has ended");
    }
}
