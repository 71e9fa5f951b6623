//! Ctrl-C, and the other signals that ask this process to end.
//!
//! The first one is a wish: whoever waits notices it and cleans up. The second one kills the
//! children at once, which ends every wait for them.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::process::Children;
use crate::cli::error::{CliError, Exit};
use crate::types::Lock;

/// How often a condition outside of this process is looked at.
pub const POLL: Duration = Duration::from_millis(10);

/// Counts the signals. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<(Mutex<u32>, Condvar)>);

impl Interrupt {
    /// Listens for signals from now on; the second one kills `children`.
    pub fn listen(children: Children) -> Result<Self, CliError> {
        let fail = |error| CliError::failure(format!("cannot listen for signals: {error}"));
        let interrupt = Self::default();
        let runtime = Builder::new_current_thread().enable_io().build().map_err(fail)?;
        let signals = {
            let _entered = runtime.enter();
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
                .into_iter()
                .map(signal)
                .collect::<Result<Vec<_>, _>>()
                .map_err(fail)?
        };
        let shared = interrupt.clone();
        let serve = move || {
            let tasks: Vec<_> = signals
                .into_iter()
                .map(|signal| runtime.spawn(count(signal, shared.clone(), children.clone())))
                .collect();
            runtime.block_on(async {
                for task in tasks {
                    // Ends with the process; a task that panicked has nothing to clean up.
                    let _ = task.await;
                }
            });
        };
        thread::Builder::new().name("signals".to_owned()).spawn(serve).map_err(fail)?;
        Ok(interrupt)
    }

    fn add(&self) -> u32 {
        let (count, changed) = &*self.0;
        let mut count = count.locked();
        *count += 1;
        changed.notify_all();
        *count
    }

    /// An error if a signal came.
    pub fn check(&self) -> Result<(), CliError> {
        let count = *self.0.0.locked();
        if count == 0 { Ok(()) } else { Err(CliError::interrupted()) }
    }

    /// Waits until a signal comes or `time` is over; an error if one came.
    pub fn pause(&self, time: Duration) -> Result<(), CliError> {
        let (count, changed) = &*self.0;
        let count = count.locked();
        // A poisoned lock ends the wait early, and `check` looks anew.
        drop(changed.wait_timeout_while(count, time, |count| *count == 0));
        self.check()
    }

    /// Looks at something again and again until it says what was waited for.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<Option<T>, CliError>,
    ) -> Result<T, CliError> {
        let deadline = Instant::now() + limit;
        loop {
            self.check()?;
            if let Some(found) = look()? {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let seconds = limit.as_secs_f64();
                return Err(CliError::new(
                    Exit::Unreachable,
                    format!("{what} did not happen within {seconds} s"),
                ));
            }
            self.pause(POLL)?;
        }
    }
}

async fn count(mut signal: Signal, interrupt: Interrupt, children: Children) {
    while signal.recv().await.is_some() {
        if interrupt.add() > 1 {
            children.kill_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_was_waited_for_with_time_or_with_a_signal() {
        let interrupt = Interrupt::default();
        let mut looks = 0;
        let found = interrupt.until("it", Duration::from_secs(60), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.unwrap(), 3);
        let late = interrupt.until::<()>("it", Duration::ZERO, || Ok(None)).unwrap_err();
        assert!(late.message.contains("it did not happen"), "{}", late.message);
        interrupt.add();
        let error = interrupt.until("it", Duration::from_secs(60), || Ok(Some(()))).unwrap_err();
        assert_eq!(error.exit, Exit::Interrupted);
    }
}
