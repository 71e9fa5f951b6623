//! The queue of effects that wait for a disk write.
//!
//! Whatever an actor produces after a write that is not on disk yet waits behind it, in order,
//! also if it wrote nothing itself: an answer must not show state that a crash could take back.
//! Hundreds of calls can queue up behind one fsync, which is what makes them cheap.
//!
//! Invariants:
//! 1. Effects come out in the order in which they went in.
//! 2. No effect comes out before the write that went in with it or before it is durable.

use std::collections::VecDeque;

/// Counts the writes of one actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Effects behind their tickets.
pub struct Parked<E> {
    next: u64,
    queue: VecDeque<(Ticket, Vec<E>)>,
    len: usize,
}

impl<E> Default for Parked<E> {
    fn default() -> Self {
        Self { next: 0, queue: VecDeque::new(), len: 0 }
    }
}

impl<E> Parked<E> {
    /// Effects held back.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if nothing is held back.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A write begins; its effects wait for it.
    pub fn write(&mut self, effects: Vec<E>) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.len += effects.len();
        self.queue.push_back((ticket, effects));
        ticket
    }

    /// Effects without a write: they come back at once if nothing is held back, else they wait.
    pub fn pass(&mut self, effects: Vec<E>) -> Vec<E> {
        match self.queue.back_mut() {
            None => effects,
            Some((_, waiting)) => {
                self.len += effects.len();
                waiting.extend(effects);
                Vec::new()
            }
        }
    }

    /// Everything up to `ticket` is durable: the effects that may leave now, in order.
    pub fn durable(&mut self, ticket: Ticket) -> Vec<E> {
        let mut released = Vec::new();
        while self.queue.front().is_some_and(|(front, _)| *front <= ticket) {
            if let Some((_, effects)) = self.queue.pop_front() {
                self.len -= effects.len();
                released.extend(effects);
            }
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_wait_for_the_write_before_them_and_keep_their_order() {
        let mut parked = Parked::default();
        assert_eq!(parked.pass(vec![1]), [1]);
        let first = parked.write(vec![2]);
        assert!(parked.pass(vec![3]).is_empty());
        let second = parked.write(vec![]);
        assert!(parked.pass(vec![4]).is_empty());
        assert_eq!(parked.len(), 3);
        assert_eq!(parked.durable(first), [2, 3]);
        assert_eq!(parked.durable(first), Vec::<i32>::new());
        assert_eq!(parked.durable(second), [4]);
        assert_eq!(parked.pass(vec![5]), [5]);
    }

    #[test]
    fn a_later_completion_covers_the_earlier_writes() {
        let mut parked = Parked::default();
        parked.write(vec![1]);
        let second = parked.write(vec![2]);
        assert_eq!(parked.durable(second), [1, 2]);
        assert!(parked.is_empty());
    }
}
