//! What this machine is, and how busy it is. Its GPUs are looked for in `gpus`.
//!
//! Capabilities are probed once, when the node starts, but for the inference backend, which comes
//! and goes. Load is sampled when somebody asks, at most once a second; while nobody asks, nothing
//! runs.
//!
//! Invariants:
//! 1. Nothing here waits for anything but the kernel, except `start`, which gives the inference
//!    backend `BACKEND_WAIT` to answer.
//! 2. What can't be probed reads as nothing (0, or empty), never as a guess.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, System};
use tokio::runtime::Handle;

use super::gpus::{Gpus, gpus};
use crate::ports::Host;
use crate::ports::host::{Capabilities, Load};
use crate::types::Lock;

/// Age from which a sample of the load is taken anew.
const LOAD_AGE_MAX: Duration = Duration::from_secs(1);
/// Age from which the inference backend is probed anew.
const BACKEND_AGE_MAX: Duration = Duration::from_secs(60);
/// How long the inference backend has to answer.
const BACKEND_WAIT: Duration = Duration::from_millis(200);
/// Where Ollama listens.
const OLLAMA: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 11_434);
/// Bytes of the backend's answer that are read at most.
const ANSWER_LEN_MAX: usize = 4_096;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// This machine.
pub struct SystemHost {
    /// Where the backend is probed again.
    runtime: Handle,
    /// A directory on the file system that holds the node's data.
    data_dir: PathBuf,
    /// All capabilities but the inference backend.
    hardware: Capabilities,
    /// The inference backend, as last probed.
    backend: Arc<Mutex<Backend>>,
    /// The load, as last sampled.
    sampler: Mutex<Sampler>,
}

struct Backend {
    kind: &'static str,
    /// When the last probe was started.
    probed_at: Instant,
}

struct Sampler {
    /// Keeps the processor times of the sample before.
    system: System,
    load: Load,
    sampled_at: Instant,
}

impl SystemHost {
    /// Probes the machine. `data_dir` need not exist yet.
    pub fn start(data_dir: &Path, runtime: Handle) -> Self {
        let data_dir = nearest_existing(data_dir);
        let mut system = System::new();
        let load = sample(&mut system, &data_dir);
        let Gpus { vendor, model, memory_mb } = gpus(None, Path::new("/"));
        let hardware = Capabilities {
            gpu_type: vendor.to_owned(),
            gpu_model: model,
            gpu_memory_mb: memory_mb,
            cpu_cores: std::thread::available_parallelism()
                .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
            memory_gb: rounded_gib(memory(&system).0),
            storage_gb: rounded_gib(disk(&data_dir).0),
            ollama_type: String::new(),
        };
        let now = Instant::now();
        let backend = Backend { kind: probe_backend(OLLAMA), probed_at: now };
        Self {
            runtime,
            data_dir,
            hardware,
            backend: Arc::new(Mutex::new(backend)),
            sampler: Mutex::new(Sampler { system, load, sampled_at: now }),
        }
    }
}

impl Host for SystemHost {
    fn capabilities(&self) -> Capabilities {
        let mut backend = lock(&self.backend);
        if backend.probed_at.elapsed() >= BACKEND_AGE_MAX {
            backend.probed_at = Instant::now();
            let slot = self.backend.clone();
            self.runtime.spawn_blocking(move || {
                let kind = probe_backend(OLLAMA);
                lock(&slot).kind = kind;
            });
        }
        Capabilities { ollama_type: backend.kind.to_owned(), ..self.hardware.clone() }
    }

    fn load(&self) -> Load {
        let mut sampler = lock(&self.sampler);
        if sampler.sampled_at.elapsed() >= LOAD_AGE_MAX {
            sampler.sampled_at = Instant::now();
            sampler.load = sample(&mut sampler.system, &self.data_dir);
        }
        sampler.load
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.locked()
}

/// `path` itself, or the closest directory above it that is there.
fn nearest_existing(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn sample(system: &mut System, data_dir: &Path) -> Load {
    system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_cpu_usage());
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let (total, used) = memory(system);
    Load {
        // Percent; a cast from a float saturates.
        cpu_permille: ((system.global_cpu_usage() * 10.0).round() as u16).min(1_000),
        memory_permille: permille(used, total),
        disk_free_mb: disk(data_dir).1 / MIB,
    }
}

/// Bytes of main memory: of the container, if one limits us.
pub(super) fn memory_total() -> u64 {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    memory(&system).0
}

/// Bytes of main memory, and how many of them are in use: of the container, if one limits us.
fn memory(system: &System) -> (u64, u64) {
    let machine = (system.total_memory(), system.used_memory());
    if machine.0 == 0 {
        // Without it the library refuses, by a panic, to look for a container.
        return machine;
    }
    let container = system.cgroup_limits().map(|limits| {
        (limits.total_memory, limits.total_memory.saturating_sub(limits.free_memory))
    });
    narrower(machine, container)
}

/// The memory of the container, if that is less than the machine has.
fn narrower(machine: (u64, u64), container: Option<(u64, u64)>) -> (u64, u64) {
    container.filter(|(total, _)| *total < machine.0).unwrap_or(machine)
}

/// Bytes of the file system that holds `path`, and how many of them we could still fill.
fn disk(path: &Path) -> (u64, u64) {
    rustix::fs::statvfs(path).map_or((0, 0), |stat| {
        (stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize))
    })
}

fn rounded_gib(bytes: u64) -> u32 {
    u32::try_from(bytes.saturating_add(GIB / 2) / GIB).unwrap_or(u32::MAX)
}

fn permille(part: u64, whole: u64) -> u16 {
    let permille = u128::from(part) * 1_000 / u128::from(whole.max(1));
    u16::try_from(permille.min(1_000)).unwrap_or(1_000)
}

/// The kind of inference backend that answers at `address` within `BACKEND_WAIT`, or nothing.
fn probe_backend(address: SocketAddr) -> &'static str {
    match ask_version(address, Instant::now() + BACKEND_WAIT) {
        Some(answer) if is_version(&answer) => "ollama",
        _ => "",
    }
}

fn is_version(answer: &[u8]) -> bool {
    let answer = String::from_utf8_lossy(answer);
    let ok = answer
        .lines()
        .next()
        .is_some_and(|line| line.starts_with("HTTP/1.") && line.split(' ').nth(1) == Some("200"));
    ok && answer.split_once("\r\n\r\n").is_some_and(|(_, body)| body.contains("\"version\""))
}

/// What `GET /api/version` answers before `deadline`, cut at `ANSWER_LEN_MAX`.
fn ask_version(address: SocketAddr, deadline: Instant) -> Option<Vec<u8>> {
    // A timeout of zero is an error to the socket; the call then just has been too late.
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut stream = TcpStream::connect_timeout(&address, left()).ok()?;
    stream.set_write_timeout(Some(left())).ok()?;
    let request = "GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1_024];
    while answer.len() < ANSWER_LEN_MAX {
        stream.set_read_timeout(Some(left())).ok()?;
        match stream.read(&mut buffer).ok()? {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
    }

    /// Answers one request with `answer`, or takes it and says nothing until the peer gives up.
    fn serve(answer: Option<&'static str>) -> (SocketAddr, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 512];
            let count = stream.read(&mut request).expect("a request");
            assert!(request[..count].starts_with(b"GET /api/version "));
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).expect("the answer"),
                None => drop(stream.read(&mut request)),
            }
        });
        (address, served)
    }

    fn probe(answer: Option<&'static str>) -> &'static str {
        let (address, served) = serve(answer);
        let kind = probe_backend(address);
        served.join().expect("the server ended well");
        kind
    }

    #[test]
    fn this_machine_has_processors_memory_and_storage() {
        let runtime = runtime();
        let dir = tempfile::tempdir().expect("a directory");
        let host = SystemHost::start(&dir.path().join("not/there/yet"), runtime.handle().clone());
        let capabilities = host.capabilities();
        assert!(capabilities.is_bounded());
        assert!(capabilities.cpu_cores > 0);
        let load = host.load();
        assert!(load.cpu_permille <= 1_000);
        assert!(load.memory_permille > 0 && load.memory_permille <= 1_000, "{load:?}");
        assert!(load.disk_free_mb / 1_024 <= u64::from(capabilities.storage_gb) + 1, "{load:?}");
    }

    #[test]
    fn the_memory_is_that_of_the_container_if_there_is_one() {
        assert_eq!(narrower((64 * GIB, 9 * GIB), Some((2 * GIB, GIB))), (2 * GIB, GIB));
        assert_eq!(narrower((64 * GIB, 9 * GIB), Some((64 * GIB, GIB))), (64 * GIB, 9 * GIB));
        assert_eq!(narrower((64 * GIB, 9 * GIB), None), (64 * GIB, 9 * GIB));
        let mut system = System::new();
        assert_eq!(memory(&system), (0, 0), "nothing was looked at");
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let total = memory_total();
        assert!(total > 0 && total <= system.total_memory(), "{total}");
    }

    #[test]
    fn load_is_sampled_at_most_once_a_second_and_only_when_asked() {
        let runtime = runtime();
        let host = SystemHost::start(Path::new("/"), runtime.handle().clone());
        let wrong = Load { cpu_permille: 1, memory_permille: 2, disk_free_mb: 3 };
        *lock(&host.sampler) =
            Sampler { system: System::new(), load: wrong, sampled_at: Instant::now() };
        assert_eq!(host.load(), wrong);
        lock(&host.sampler).sampled_at = Instant::now() - LOAD_AGE_MAX;
        assert_ne!(host.load(), wrong);
    }

    #[test]
    fn the_backend_is_probed_anew_after_a_minute() {
        let runtime = runtime();
        let host = SystemHost::start(Path::new("/"), runtime.handle().clone());
        *lock(&host.backend) = Backend { kind: "stale", probed_at: Instant::now() };
        assert_eq!(host.capabilities().ollama_type, "stale");
        lock(&host.backend).probed_at = Instant::now() - BACKEND_AGE_MAX;
        assert_eq!(host.capabilities().ollama_type, "stale", "asking does not wait");
        // Shutting down waits for the probe.
        drop(runtime);
        assert_ne!(host.capabilities().ollama_type, "stale");
    }

    #[test]
    fn only_a_version_in_time_is_a_backend() {
        assert_eq!(probe(Some("HTTP/1.1 200 OK\r\n\r\n{\"version\":\"0.11.4\"}")), "ollama");
        assert_eq!(probe(Some("HTTP/1.1 404 Not Found\r\n\r\n{\"version\":\"1\"}")), "");
        assert_eq!(probe(Some("HTTP/1.1 200 OK\r\nX: \"version\"\r\n\r\n<html>")), "");
        assert_eq!(probe(Some("")), "");
        let asked = Instant::now();
        assert_eq!(probe(None), "");
        assert!(asked.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn nobody_listening_is_no_backend() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        assert_eq!(probe_backend(address), "");
    }

    #[test]
    fn figures_are_rounded_and_bounded() {
        assert_eq!(rounded_gib(0), 0);
        assert_eq!(rounded_gib(31 * GIB + GIB / 2), 32);
        assert_eq!(rounded_gib(u64::MAX), u32::try_from(u64::MAX / GIB).unwrap_or(u32::MAX));
        assert_eq!(permille(1, 3), 333);
        assert_eq!(permille(9, 3), 1_000);
        assert_eq!(permille(0, 0), 0);
        assert_eq!(permille(u64::MAX, u64::MAX), 1_000);
    }
}
