//! What the kernel says about this process, read anew each time (about 0.1 ms).
//!
//! Invariant: what can't be read is `None`, never 0.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Ticks of the times in `/proc` per second, on every architecture of Linux that the node runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What this process has taken so far, and takes now.
pub struct Process {
    /// Seconds of processor time, of user and system.
    pub cpu_seconds: f64,
    /// When it began, in seconds since 1970.
    pub start_seconds: Option<f64>,
    /// Bytes of memory that are resident.
    pub resident_bytes: Option<u64>,
    /// Bytes of its address space.
    pub virtual_bytes: Option<u64>,
    /// File descriptors that are open.
    pub open_fds: Option<usize>,
    /// How many may be; `None` if there is no limit.
    pub max_fds: Option<u64>,
    /// Its threads.
    pub threads: Option<u64>,
}

impl Process {
    /// Reads it.
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let status = text("/proc/self/status");
        let bytes = |name| field(&status, name).map(|kib| kib * 1_024);
        // The listing has one open itself.
        let fds = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1));
        Self {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            start_seconds: start(&text("/proc/self/stat"), &text("/proc/stat")),
            resident_bytes: bytes("VmRSS"),
            virtual_bytes: bytes("VmSize"),
            open_fds: fds,
            max_fds: getrlimit(Resource::Nofile).current,
            threads: field(&status, "Threads"),
        }
    }
}

/// A number of `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// `stat` counts from the start of the machine, which `machine` has. The name of the program comes
/// second in it, in brackets, and may hold anything (proc(5)).
fn start(stat: &str, machine: &str) -> Option<f64> {
    let (_, from_third) = stat.rsplit_once(')')?;
    let ticks: f64 = from_third.split_whitespace().nth(22 - 3)?.parse().ok()?;
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn this_process_has_begun_takes_something_and_has_files_open() {
        let process = Process::read();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let start = process.start_seconds.unwrap();
        assert!(start <= now + 1.0 && start > now - 86_400.0, "{start} {now}");
        assert!(process.cpu_seconds > 0.0 && process.threads.unwrap() > 0);
        let (resident, all) = (process.resident_bytes.unwrap(), process.virtual_bytes.unwrap());
        assert!(resident > 1 << 20 && resident <= all, "{resident} {all}");
        let held = fs::File::open("/proc/self/stat").unwrap();
        assert!(Process::read().open_fds.unwrap() > 3);
        drop(held);
    }

    #[test]
    fn odd_names_of_programs_do_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 250 1 2";
        assert_eq!(start(stat, "cpu 1\nbtime 1000\n"), Some(1002.5));
        assert_eq!(start(stat, "cpu 1\n"), None);
        assert_eq!(start("", "btime 1000\n"), None);
        assert_eq!(field("VmRSSx:\t1 kB\nVmRSS:\t  12 kB\n", "VmRSS"), Some(12));
    }
}
