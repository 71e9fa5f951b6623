//! The real world behind the ports.
#![expect(clippy::disallowed_methods, reason = "this is where clocks, threads and tasks are real")]

pub mod age;
pub mod cache;
pub mod clock;
pub mod entropy;
pub mod files;
mod gpus;
pub mod host;
pub mod journal;
pub mod keyring;
pub mod lines;
pub mod meter;
pub mod network;
mod place;
pub mod process;
pub mod records;
pub mod vault;
pub mod workers;

pub use cache::MemoryCache;
pub use clock::SystemClock;
pub use entropy::SystemEntropy;
pub use host::SystemHost;
pub use journal::FileJournals;
pub use keyring::AgeKeyring;
pub use network::{NetworkConfig, NetworkError, NetworkStats, P2pNetwork};
pub use process::Process;
pub use records::{FjallStores, RecordStats};
pub use vault::{KeyVault, VaultError};
