//! Threads for work that takes a processor for a while.

/// A job for one of the threads.
pub type Job = Box<dyn FnOnce() + Send>;

/// Does jobs off the reactor.
pub trait Workers: Send + Sync + 'static {
    /// Queues a job without waiting; false, and the job is dropped, if as many wait as may. Jobs that
    /// wait are begun in the order in which they came.
    fn run(&self, job: Job) -> bool;
}
