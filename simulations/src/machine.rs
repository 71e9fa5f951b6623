//! The remaining ports of a simulated node: its key, its hardware, its seeds, its threads.

use std::sync::Arc;

use bzzz::crypto::{Signature, Vault};
use bzzz::ports::work::Job;
use bzzz::ports::{Clock as _, Entropy, Host, Workers};
use bzzz::types::PeerId;
use bzzz::types::host::{Capabilities, Load};

use crate::clock::SimClock;
use crate::rng::Stream;

/// Signs with a keyed hash. Everybody can check, nobody checks out a wrong key: what a simulation
/// needs of a signature.
pub struct SimVault(pub PeerId);

fn signature(signer: PeerId, domain: &str, bytes: &[u8]) -> Signature {
    let mut hasher = blake3::Hasher::new_keyed(&signer.0);
    hasher.update(&(domain.len() as u64).to_le_bytes());
    hasher.update(domain.as_bytes());
    hasher.update(bytes);
    let mut signature = [0; 64];
    hasher.finalize_xof().fill(&mut signature);
    signature
}

impl Vault for SimVault {
    fn sign(&self, domain: &'static str, bytes: &[u8]) -> Signature {
        signature(self.0, domain, bytes)
    }

    fn verify(
        &self,
        signer: PeerId,
        domain: &'static str,
        bytes: &[u8],
        given: &Signature,
    ) -> bool {
        signature(signer, domain, bytes) == *given
    }
}

/// A machine of a given size, always equally busy.
pub struct SimHost(pub Capabilities);

impl SimHost {
    /// The machine of a node: each has hardware of its own.
    pub fn of(node: usize) -> Self {
        let size = u32::try_from(node % 4).unwrap_or(0);
        Self(Capabilities {
            gpu_type: if size > 1 { "nvidia".into() } else { String::new() },
            gpu_model: String::new(),
            gpu_memory_mb: vec![24_576; size as usize],
            cpu_cores: 8 << (size / 2),
            memory_gb: 32 << (size / 2),
            storage_gb: 1_000,
            ollama_type: String::new(),
        })
    }
}

impl Host for SimHost {
    fn capabilities(&self) -> Capabilities {
        self.0.clone()
    }

    fn load(&self) -> Load {
        Load { cpu_permille: 100, memory_permille: 300, disk_free_mb: 500_000 }
    }
}

/// Does work one piece after the other is asked for, each after a while that the seed gives.
pub struct SimWorkers {
    /// The clock of the node; what is under way when it dies is never done.
    pub clock: Arc<SimClock>,
    /// How long each takes.
    pub rng: Stream,
}

impl Workers for SimWorkers {
    fn run(&self, job: Job) -> bool {
        self.clock.alarm(self.rng.micros(100, 20_000), job);
        true
    }
}

/// Seeds from the world's seed.
pub struct SimEntropy(pub Stream);

impl Entropy for SimEntropy {
    fn seed(&self) -> [u8; 32] {
        self.0.bytes()
    }
}
