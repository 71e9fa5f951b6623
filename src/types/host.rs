//! What a machine is and how busy it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::limits::{GPU_MODEL_LEN_MAX, GPUS_MAX, LABEL_LEN_MAX};

/// Storage below this, in GiB, is `small`.
const STORAGE_SMALL_GB: u32 = 256;
/// Storage from this on, in GiB, is `large`; between the two it is `medium`.
const STORAGE_LARGE_GB: u32 = 2_048;

/// Capabilities of a machine, as it measured them itself.
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Vendor of the GPUs (`nvidia`, `amd`), empty without one.
    pub gpu_type: String,
    /// What the first GPU is called by its driver, empty where that does not tell.
    pub gpu_model: String,
    /// Memory of each GPU, in MiB; 0 where the driver does not tell.
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

    /// Labels that follow from what the machine is:
    /// - `gpu`: `nvidia`, `amd` or `none`; with GPUs also `gpu_count`, `gpu_memory_gb` (of all
    ///   together) and `gpu_model`, as far as they are known;
    /// - `pool`: machines with the same kind of GPU: the model, else the vendor, else `cpu`;
    /// - `storage`: `small` below 256 GiB, `large` from 2 TiB on, else `medium`.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let mut set = |name: &str, value: String| labels.insert(name.to_owned(), value);
        let model = slug(&self.gpu_model);
        let has_gpu = !self.gpu_memory_mb.is_empty();
        set("gpu", if has_gpu { slug(&self.gpu_type) } else { "none".to_owned() });
        if has_gpu {
            set("gpu_count", self.gpu_memory_mb.len().to_string());
            let memory_gb = self.gpu_memory_total_mb() / 1_024;
            if memory_gb > 0 {
                set("gpu_memory_gb", memory_gb.to_string());
            }
            if !model.is_empty() {
                set("gpu_model", model.clone());
            }
        }
        set(
            "pool",
            match (has_gpu, model.is_empty()) {
                (false, _) => "cpu".to_owned(),
                (true, true) => slug(&self.gpu_type),
                (true, false) => model,
            },
        );
        let storage = match self.storage_gb {
            0..STORAGE_SMALL_GB => "small",
            STORAGE_SMALL_GB..STORAGE_LARGE_GB => "medium",
            _ => "large",
        };
        set("storage", storage.to_owned());
        labels
    }

    /// True if every field is within its bound; what a stranger claims is checked with this.
    pub fn is_bounded(&self) -> bool {
        self.gpu_type.len() <= 32
            && self.gpu_model.len() <= GPU_MODEL_LEN_MAX
            && self.ollama_type.len() <= 32
            && self.gpu_memory_mb.len() <= GPUS_MAX
    }
}

/// A text as a value of a label: small letters and digits, everything else as one hyphen.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(LABEL_LEN_MAX);
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

/// How busy a machine is.
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Processor time in use over the last interval, in parts of a thousand of all cores.
    pub cpu_permille: u16,
    /// Memory in use, in parts of a thousand.
    pub memory_permille: u16,
    /// Free room on the file system of the data directory, in MiB.
    pub disk_free_mb: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(machine: &Capabilities) -> Vec<String> {
        machine.labels().into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn labels_follow_from_what_the_machine_is() {
        let mut machine = Capabilities { storage_gb: 255, ..Capabilities::default() };
        assert_eq!(labels(&machine), ["gpu=none", "pool=cpu", "storage=small"]);
        machine.gpu_type = "amd".into();
        machine.gpu_memory_mb = vec![0];
        machine.storage_gb = 256;
        assert_eq!(labels(&machine), ["gpu=amd", "gpu_count=1", "pool=amd", "storage=medium"]);
        machine.gpu_type = "nvidia".into();
        machine.gpu_model = "  NVIDIA GeForce RTX 4090 (D)".into();
        machine.gpu_memory_mb = vec![24_564; 2];
        machine.storage_gb = 2_048;
        let model = "nvidia-geforce-rtx-4090-d";
        let expected = [
            "gpu=nvidia".to_owned(),
            "gpu_count=2".to_owned(),
            "gpu_memory_gb=47".to_owned(),
            format!("gpu_model={model}"),
            format!("pool={model}"),
            "storage=large".to_owned(),
        ];
        assert_eq!(labels(&machine), expected);
        machine.gpu_model = "é".repeat(40) + &"x y".repeat(40);
        let slug = &machine.labels()["pool"];
        assert!(slug.len() <= LABEL_LEN_MAX && slug.starts_with('x') && !slug.ends_with('-'));
    }
}
