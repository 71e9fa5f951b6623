//! What a machine is and how busy it is.

use serde::{Deserialize, Serialize};

use crate::types::limits::GPUS_MAX;

/// Capabilities of a machine, as it measured them itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Vendor of the GPUs (`nvidia`, `amd`), empty without one.
    pub gpu_type: String,
    /// Memory of each GPU, in MiB.
    pub gpu_memory_mb: Vec<u32>,
    /// Logical processors.
    pub cpu_cores: u32,
    /// Main memory, in GiB, rounded.
    pub memory_gb: u32,
    /// Size of the file system that holds the data directory, in GiB, rounded.
    pub storage_gb: u32,
    /// `ollama`, `parallama`, or empty where none answers.
    pub ollama_type: String,
}

impl Capabilities {
    /// Memory of all GPUs together, in MiB.
    pub fn gpu_memory_total_mb(&self) -> u64 {
        self.gpu_memory_mb.iter().map(|mb| u64::from(*mb)).sum()
    }

    /// True if every field is within its bound; what a stranger claims is checked with this.
    pub fn is_bounded(&self) -> bool {
        self.gpu_type.len() <= 32
            && self.ollama_type.len() <= 32
            && self.gpu_memory_mb.len() <= GPUS_MAX
    }
}

/// How busy a machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Processor time in use over the last interval, in parts of a thousand of all cores.
    pub cpu_permille: u16,
    /// Memory in use, in parts of a thousand.
    pub memory_permille: u16,
    /// Free room on the file system of the data directory, in MiB.
    pub disk_free_mb: u64,
}
