//! The child processes of `bzzz dev`.
//!
//! 1. A signal goes to a child that was started here and not yet waited for, so its process id
//!    cannot have been given to anybody else.
//! 2. No child outlives this process: not an error, not a panic, not a SIGKILL of this process.
//! 3. Once `kill_all` ran, no further child starts.

use std::collections::BTreeMap;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use crate::cli::error::CliError;
use crate::types::Lock;

/// Variable that tells a child the process id of the one that started it.
pub const PARENT_VARIABLE: &str = "BZZZ_DEV_PARENT";

/// Makes the kernel kill this process together with the `bzzz dev` that started it; does nothing
/// for a node that was started otherwise.
///
/// The signal hangs on the thread that started this process, not on the whole parent, which is why
/// children are started by the main thread only.
pub fn die_with_parent() -> Result<(), CliError> {
    let Some(text) = std::env::var_os(PARENT_VARIABLE) else { return Ok(()) };
    let parent: Option<i32> = text.to_str().and_then(|text| text.parse().ok());
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| CliError::failure(format!("cannot follow the parent process: {error}")))?;
    // The parent may have died before the kernel was told.
    if getppid().map(Pid::as_raw_pid) == parent {
        return Ok(());
    }
    Err(CliError::failure(format!("{PARENT_VARIABLE} does not name the parent of this process"))
        .hint(format!("unset {PARENT_VARIABLE}, it is meant for `bzzz dev` alone")))
}

/// All children, by the number of their node. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    running: BTreeMap<usize, Child>,
    closed: bool,
}

impl Children {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The table is whole between any two statements, so a panic elsewhere does not harm it.
        self.0.locked()
    }

    /// Starts a child. Call it from the main thread, see [`die_with_parent`].
    pub fn spawn(&self, number: usize, command: &mut Command) -> Result<u32, CliError> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(CliError::interrupted());
        }
        let child = command.env(PARENT_VARIABLE, std::process::id().to_string()).spawn();
        let child = child.map_err(|error| {
            let program = command.get_program().to_string_lossy().into_owned();
            CliError::failure(format!("cannot start {program}: {error}"))
        })?;
        let pid = child.id();
        inner.running.insert(number, child);
        Ok(pid)
    }

    /// Sends a signal to a child, if it is still there.
    pub fn signal(&self, number: usize, signal: Signal) -> Result<(), CliError> {
        let inner = self.lock();
        let Some(child) = inner.running.get(&number) else { return Ok(()) };
        send(child, signal)
            .map_err(|error| CliError::failure(format!("cannot signal node {number}: {error}")))
    }

    /// How a child ended, if it has. A child that is gone is forgotten by this.
    pub fn ended(&self, number: usize) -> Option<ExitStatus> {
        let mut inner = self.lock();
        let status = inner.running.get_mut(&number)?.try_wait().ok()??;
        inner.running.remove(&number);
        Some(status)
    }

    /// Sends a signal to all children.
    pub fn signal_all(&self, signal: Signal) {
        for child in self.lock().running.values() {
            // A child that is just ending needs no signal.
            let _ = send(child, signal);
        }
    }

    /// Kills all children, lets no other one start and waits until they are gone.
    pub fn kill_all(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        for child in inner.running.values_mut() {
            // Both fail only if the child is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
        inner.running.clear();
    }

    /// True once no child is left.
    pub fn all_ended(&self) -> bool {
        let mut inner = self.lock();
        inner.running.retain(|_, child| matches!(child.try_wait(), Ok(None)));
        inner.running.is_empty()
    }
}

fn send(child: &Child, signal: Signal) -> rustix::io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.map_or(Ok(()), |pid| kill_process(pid, signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("60");
        command
    }

    #[test]
    fn children_are_signalled_until_they_have_ended() {
        let children = Children::default();
        children.spawn(1, &mut sleeper()).unwrap();
        children.spawn(2, &mut sleeper()).unwrap();
        assert_eq!(children.ended(1), None);
        children.signal(1, Signal::KILL).unwrap();
        let status = loop {
            if let Some(status) = children.ended(1) {
                break status;
            }
            std::thread::yield_now();
        };
        assert!(!status.success());
        children.signal(1, Signal::KILL).unwrap();
        assert!(!children.all_ended());
        children.kill_all();
        assert!(children.all_ended());
    }

    #[test]
    fn nothing_starts_after_the_end() {
        let children = Children::default();
        children.kill_all();
        assert!(children.spawn(1, &mut sleeper()).is_err());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Children::default().spawn(1, &mut Command::new("/nonexistent/bzzz"));
        assert!(error.unwrap_err().message.contains("/nonexistent/bzzz"));
    }
}
