//! openraft's runtime: tokio, seen through one node's eyes.
//!
//! In a simulation many nodes share one thread and one virtual clock. Every task that openraft
//! spawns is wrapped with the node that it belongs to; while the task is polled, `now`, `sleep`
//! and `thread_rng` are that node's own, and a node that is paused or dead is not polled at all.
//! The daemon uses the same type with one scope for the whole process.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::OptionalSend;
use openraft::async_runtime::AsyncRuntime;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::watch::OrderedWatch;
use crate::types::Mono;

/// One node, as its consensus tasks see the world.
pub trait NodeScope: Send + Sync + 'static {
    /// Monotonic time of the node.
    fn now(&self) -> Mono;

    /// How long tokio has to sleep for `duration` to pass on the node's clock.
    fn real(&self, duration: Duration) -> Duration;

    /// A seed for a short-lived generator.
    fn seed(&self) -> u64;

    /// True if the node's tasks may run now. If not, the scope wakes `context` when they may.
    fn may_run(&self, context: &mut Context<'_>) -> bool;
}

/// A node's scope, shared by all its tasks.
pub type Scope = Arc<dyn NodeScope>;

thread_local! {
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

fn with_current<T>(use_it: impl FnOnce(&Scope) -> T) -> T {
    CURRENT.with_borrow(|current| {
        use_it(current.as_ref().expect("consensus code runs inside a node's scope"))
    })
}

/// A future that belongs to a node.
pub struct Scoped<F> {
    scope: Scope,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if !self.scope.may_run(context) {
            return Poll::Pending;
        }
        let outer = CURRENT.replace(Some(self.scope.clone()));
        // Put back also when the task panics: tokio goes on using this thread.
        struct Restore(Option<Scope>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(outer);
        self.future.as_mut().poll(context)
    }
}

/// Runs a future in a node's scope.
pub fn scoped<F: Future>(scope: Scope, future: F) -> Scoped<F> {
    Scoped { scope, future: Box::pin(future) }
}

/// A reading of the current node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub Mono);

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0 + by)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0 - by)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, by: Duration) {
        *self = *self - by;
    }
}

impl Sub<Self> for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.since(earlier.0)
    }
}

impl openraft::async_runtime::instant::Instant for Instant {
    fn now() -> Self {
        with_current(|scope| Self(scope.now()))
    }
}

/// See the module's documentation. Never instantiated: openraft needs a type only.
pub struct Runtime;

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = Instant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = ChaCha8Rng;
    type Mpsc = openraft_rt_tokio::TokioMpsc;
    type Watch = OrderedWatch;
    type Oneshot = openraft_rt_tokio::TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = openraft_rt_tokio::TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let scope = with_current(Arc::clone);
        #[expect(clippy::disallowed_methods, reason = "the one place where consensus spawns")]
        tokio::task::spawn(scoped(scope, future))
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        tokio::time::sleep(with_current(|scope| scope.real(duration)))
    }

    fn sleep_until(deadline: Instant) -> Self::Sleep {
        Self::sleep(with_current(|scope| deadline.0.since(scope.now())))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout(with_current(|scope| scope.real(duration)), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Self::timeout(with_current(|scope| deadline.0.since(scope.now())), future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        join_error.is_panic()
    }

    fn thread_rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(with_current(|scope| scope.seed()))
    }

    fn new(_threads: usize) -> Self {
        unreachable!("openraft makes runtimes in its own tests only")
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, _future: F) -> T {
        unreachable!("openraft blocks in its own tests only")
    }
}
