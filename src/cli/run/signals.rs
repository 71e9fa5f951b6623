//! The signals that end a node.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::RunError;

/// SIGTERM and SIGINT, from the moment at which this is made.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes over the signals.
    pub fn listen() -> Result<Self, RunError> {
        let listen =
            |kind| signal(kind).map_err(|error| RunError::System("listen to signals", error));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        let terminate = std::pin::pin!(self.terminate.recv());
        let interrupt = std::pin::pin!(self.interrupt.recv());
        futures_util::future::select(terminate, interrupt).await;
    }
}
