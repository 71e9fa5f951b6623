//! The signals of a node: some end it in order, one has it read its files again, none kills it by
//! accident.
//!
//! | Signal | What it does |
//! | --- | --- |
//! | TERM, INT, QUIT | hands over and ends; the second one ends at once |
//! | HUP | reads `api.token` again; the log goes to the standard error and has no file to reopen |
//! | USR1, USR2, ALRM, VTALRM, PROF, IO, PWR, STKFLT | nothing |

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::RunError;

/// Signals that end a process that does not listen for them, and mean nothing to this one: USR1,
/// USR2, ALRM, STKFLT, VTALRM, PROF, IO and PWR, by their numbers on Linux.
const MEANINGLESS: [i32; 8] = [10, 12, 14, 16, 26, 27, 29, 30];

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To end.
    End,
    /// To open files anew.
    Reopen,
}

/// The signals, from the moment at which this is made.
pub struct Signals {
    ends: [Signal; 3],
    reopen: Signal,
    /// Kept, so that nothing takes them over again.
    _meaningless: Vec<Signal>,
}

impl Signals {
    /// Takes over the signals.
    pub fn listen() -> Result<Self, RunError> {
        let listen =
            |kind| signal(kind).map_err(|error| RunError::System("listen to signals", error));
        let meaningless = MEANINGLESS.map(|number| listen(SignalKind::from_raw(number)));
        Ok(Self {
            ends: [
                listen(SignalKind::terminate())?,
                listen(SignalKind::interrupt())?,
                listen(SignalKind::quit())?,
            ],
            reopen: listen(SignalKind::hangup())?,
            _meaningless: meaningless.into_iter().collect::<Result<_, _>>()?,
        })
    }

    /// Waits for the next one that means something.
    pub async fn next(&mut self) -> Wish {
        poll_fn(|context| {
            if self.ends.iter_mut().any(|signal| signal.poll_recv(context).is_ready()) {
                return Poll::Ready(Wish::End);
            }
            self.reopen.poll_recv(context).map(|_| Wish::Reopen)
        })
        .await
    }

    /// Waits for the next one that asks for the end; `reopen` is called for others.
    pub async fn end(&mut self, reopen: impl Fn()) {
        while self.next().await != Wish::End {
            reopen();
        }
    }
}
