//! Small traits to the world. `adapters/` implements them for real, the simulator again.
//!
//! Rules that every implementation keeps:
//! 1. No method blocks or awaits. Whatever takes time is answered through a callback or a sink.
//! 2. A callback is called exactly once, also on failure and on shutdown.
//! 3. Nothing that arrives from outside is handed on before its length was checked.

pub mod bulk;
pub mod cache;
pub mod clock;
pub mod consensus;
pub mod entropy;
pub mod host;
pub mod journal;
pub mod meter;
pub mod network;
pub mod records;
pub mod vault;
pub mod work;

use std::sync::Arc;

pub use bulk::{Bulk, NoBulk};
pub use cache::{ContentCache, NoCache};
pub use clock::Clock;
pub use consensus::{Consensus, ConsensusEvent, Op};
pub use entropy::Entropy;
pub use host::Host;
pub use journal::{Journal, Journals};
pub use meter::{Meter, NoMeter};
pub use network::{Lane, Network, NetworkEvent};
pub use records::{RecordStore, RecordStores};
pub use vault::{Keyring, Vault};
pub use work::Workers;

/// Where a port delivers what happens by itself. It must not block.
pub type Sink<T> = Arc<dyn Fn(T) + Send + Sync>;

/// All ports of one node.
#[derive(Clone)]
pub struct Ports {
    /// Bytes in bulk.
    pub bulk: Arc<dyn Bulk>,
    /// Contents that were read not long ago.
    pub cache: Arc<dyn ContentCache>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness that seeds the node's generators.
    pub entropy: Arc<dyn Entropy>,
    /// Keys for contents.
    pub keyring: Arc<dyn Keyring>,
    /// Capabilities and load of this machine.
    pub host: Arc<dyn Host>,
    /// Durable record files.
    pub journals: Arc<dyn Journals>,
    /// How long things take.
    pub meter: Arc<dyn Meter>,
    /// Peers.
    pub network: Arc<dyn Network>,
    /// The record store.
    pub records: Arc<dyn RecordStores>,
    /// The node's own key.
    pub vault: Arc<dyn Vault>,
    /// Threads for work that takes a processor for a while.
    pub workers: Arc<dyn Workers>,
}
