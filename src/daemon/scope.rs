//! How consensus sees this process: one node, one clock, and tasks that always may run.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use crate::consensus::NodeScope;
use crate::ports::{Clock, Entropy};
use crate::types::Mono;

/// The scope of a process that runs one node.
pub struct ProcessScope {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl ProcessScope {
    /// A scope over the clock and the randomness of the node.
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, entropy }
    }
}

impl NodeScope for ProcessScope {
    fn now(&self) -> Mono {
        self.clock.now()
    }

    fn real(&self, duration: Duration) -> Duration {
        duration
    }

    fn seed(&self) -> u64 {
        let seed = self.entropy.seed();
        seed.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn may_run(&self, _context: &mut Context<'_>) -> bool {
        true
    }
}
