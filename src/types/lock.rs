//! Locks of the standard library, without their poison.
//!
//! A lock is poisoned when a thread panics that holds it. Here no state is left half-changed under a
//! lock: what is under one is a value that is replaced, a counter, or a map of which one entry
//! changes. An actor that panics is restarted by its supervisor, and whoever shares a lock with it
//! goes on; to panic as well would bring down what had no fault.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex that is taken whoever held it before.
pub trait Lock<T> {
    /// Waits for it and takes it.
    fn locked(&self) -> MutexGuard<'_, T>;
}

impl<T> Lock<T> for Mutex<T> {
    fn locked(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn who_panics_under_a_lock_leaves_it_to_others() {
        let mutex = Mutex::new(1);
        let panics = || {
            *mutex.locked() = 2;
            let _held = mutex.locked();
            panic!("under the lock");
        };
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!((mutex.is_poisoned(), *mutex.locked()), (true, 2));
    }
}
