//! The GPUs of this machine.
//!
//! NVIDIA's are asked for through NVML, the library that comes with the driver: it is looked for when
//! the node starts, so the program runs where there is none. Without it the kernel driver tells how
//! many there are, but not how much memory they have. AMD's driver tells what they have in sysfs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::types::limits::{GPU_MODEL_LEN_MAX, GPUS_MAX};

const MIB: u64 = 1 << 20;

/// What was found; no memory at all says that there are none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gpus {
    /// `nvidia`, `amd` or empty.
    pub(super) vendor: &'static str,
    /// What the first one is called; empty if the driver does not tell.
    pub(super) model: String,
    /// Memory of each in MiB; 0 if the driver does not tell.
    pub(super) memory_mb: Vec<u32>,
}

/// Looks for GPUs: in the NVML library, which is found by itself if none is named, then below `root`.
pub(super) fn gpus(library: Option<&OsStr>, root: &Path) -> Gpus {
    let found = managed(library).unwrap_or_else(|error| {
        tracing::debug!(%error, "the GPUs are not asked for through NVML");
        Gpus::default()
    });
    [found, nvidia(root), amd(root)]
        .into_iter()
        .find(|gpus| !gpus.memory_mb.is_empty())
        .unwrap_or_default()
}

/// NVIDIA's GPUs by NVML.
fn managed(library: Option<&OsStr>) -> Result<Gpus, NvmlError> {
    let nvml = match library {
        Some(path) => Nvml::builder().lib_path(path).init()?,
        None => Nvml::init()?,
    };
    let count = nvml.device_count()?.min(u32::try_from(GPUS_MAX).unwrap_or(u32::MAX));
    let (mut model, mut memory_mb) = (String::new(), Vec::new());
    for index in 0..count {
        // One that has failed is left out, and does not hide the others.
        let Ok(device) = nvml.device_by_index(index) else { continue };
        if model.is_empty() {
            model = device.name().map(cut).unwrap_or_default();
        }
        memory_mb.push(device.memory_info().map_or(0, |memory| mib(memory.total)));
    }
    Ok(Gpus { vendor: "nvidia", model, memory_mb })
}

/// NVIDIA's GPUs by the kernel driver.
fn nvidia(root: &Path) -> Gpus {
    let told: Vec<String> = entries(&root.join("proc/driver/nvidia/gpus"))
        .into_iter()
        .filter_map(|gpu| std::fs::read_to_string(gpu.join("information")).ok())
        .take(GPUS_MAX)
        .collect();
    let model = told.first().and_then(|text| {
        text.lines()
            .find_map(|line| line.strip_prefix("Model:"))
            .map(|model| model.trim().to_owned())
    });
    let memory_mb = vec![0; told.len()];
    Gpus { vendor: "nvidia", model: cut(model.unwrap_or_default()), memory_mb }
}

/// AMD's GPUs by the kernel driver.
fn amd(root: &Path) -> Gpus {
    let (mut model, mut memory_mb) = (String::new(), Vec::new());
    for card in entries(&root.join("sys/class/drm")).into_iter().filter(|entry| is_card(entry)) {
        let read = |name: &str| std::fs::read_to_string(card.join("device").join(name)).ok();
        let total = read("mem_info_vram_total").and_then(|bytes| bytes.trim().parse::<u64>().ok());
        let Some(total) = total.filter(|_| memory_mb.len() < GPUS_MAX) else { continue };
        memory_mb.push(mib(total));
        if model.is_empty() {
            model =
                read("product_name").map(|name| cut(name.trim().to_owned())).unwrap_or_default();
        }
    }
    Gpus { vendor: "amd", model, memory_mb }
}

fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes / MIB).unwrap_or(u32::MAX)
}

fn cut(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(GPU_MODEL_LEN_MAX));
    name
}

/// True for `card0`, false for `card0-DP-1`, which is a socket on it.
fn is_card(entry: &Path) -> bool {
    let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("card")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// What is in a directory, in the order of names; nothing if it is not there.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(listing) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("a directory")).expect("the directory");
        fs::write(path, text).expect("the file");
    }

    /// A library with the functions of NVML that are used here, by the documentation of NVML
    /// (NVIDIA Management Library API Reference): two GPUs, and one that has failed.
    const STAND_IN: &str = r#"
        #include <string.h>
        typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory;
        int nvmlInit_v2(void) { return 0; }
        int nvmlInitWithFlags(unsigned flags) { return 0; }
        int nvmlShutdown(void) { return 0; }
        int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return 0; }
        int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
            if (index == 1) return 15; /* NVML_ERROR_GPU_IS_LOST */
            *device = (void *)(unsigned long)(index + 1);
            return 0;
        }
        int nvmlDeviceGetName(void *device, char *name, unsigned length) {
            strncpy(name, "NVIDIA GeForce RTX 4090", length);
            return 0;
        }
        int nvmlDeviceGetMemoryInfo_v2(void *device, memory *info) {
            if (device == (void *)3) return 3; /* NVML_ERROR_NOT_SUPPORTED */
            if (info->version != (sizeof(memory) | 2u << 24)) return 25;
            info->total = 25757220864ull; info->free = 1; info->used = 2;
            return 0;
        }
        const char *nvmlErrorString(int error) { return "it failed"; }
    "#;

    #[test]
    fn nvidia_gpus_are_asked_for_through_the_library_of_the_driver() {
        let dir = tempfile::tempdir().expect("a directory");
        put(dir.path(), "nvml.c", STAND_IN);
        let library = dir.path().join("nvml.so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-w", "-o"])
            .args([&library, &dir.path().join("nvml.c")])
            .status();
        assert!(compiled.expect("a C compiler").success());
        let expected = Gpus {
            vendor: "nvidia",
            model: "NVIDIA GeForce RTX 4090".into(),
            memory_mb: vec![24_564, 0],
        };
        assert_eq!(gpus(Some(library.as_os_str()), dir.path()), expected);
    }

    #[test]
    fn without_the_library_the_kernel_tells() {
        let root = tempfile::tempdir().expect("a directory");
        let none = root.path().join("no-such-library.so");
        let look = || gpus(Some(none.as_os_str()), root.path());
        assert_eq!(look().memory_mb, [0; 0]);
        put(root.path(), "sys/class/drm/card0/device/mem_info_vram_total", "25753026560\n");
        put(root.path(), "sys/class/drm/card0/device/product_name", "AMD Instinct MI210\n");
        put(root.path(), "sys/class/drm/card1/device/mem_info_vram_total", "nonsense");
        put(root.path(), "sys/class/drm/card0-DP-1/device/mem_info_vram_total", "1048576");
        put(root.path(), "sys/class/drm/card2/device/vendor", "0x1a03");
        let model = "AMD Instinct MI210".to_owned();
        assert_eq!(look(), Gpus { vendor: "amd", model, memory_mb: vec![24_560] });
        let told = "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ: 4\n";
        put(root.path(), "proc/driver/nvidia/gpus/0000:01:00.0/information", told);
        put(root.path(), "proc/driver/nvidia/gpus/0000:41:00.0/information", "Model: B");
        let model = "NVIDIA A100-SXM4-40GB".to_owned();
        assert_eq!(look(), Gpus { vendor: "nvidia", model, memory_mb: vec![0, 0] });
    }
}
