//! Processes that end with this one, and free ports for them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// A process that is killed when this value is dropped.
pub struct Running(Child);

impl Running {
    /// Starts a process that says nothing.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Self::start_saying(command, Stdio::null())
    }

    /// Starts a process whose standard error goes there.
    pub fn start_saying(command: &mut Command, to: Stdio) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(to).spawn().map(Self)
    }

    /// Takes over a process.
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Microseconds of processor time that it has spent so far, and the processes that it started.
    pub fn processor_us(&self) -> io::Result<f64> {
        let mut stats = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            // Others come and go.
            let text =
                pid.and_then(|pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
            stats.extend(pid.zip(text.as_deref().and_then(Stat::parse)));
        }
        if !stats.iter().any(|(pid, _)| *pid == self.0.id()) {
            return Err(io::Error::other("the process to be measured has ended"));
        }
        Ok((ticks(&stats, self.0.id()) * TICK_US) as f64)
    }

    /// Kills it, at once.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Microseconds of a tick: Linux counts in hundredths of a second, whatever it runs on.
const TICK_US: u64 = 10_000;

/// What the system says of a process, see proc_pid_stat(5).
struct Stat {
    parent: u32,
    /// Of processor time.
    ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name before the parenthesis may contain anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self { parent: fields.get(1)?.parse().ok()?, ticks: ticks(11)? + ticks(12)? })
    }
}

/// Ticks of a process and of those that it started, and they.
fn ticks(stats: &[(u32, Stat)], first: u32) -> u64 {
    let mut family = BTreeSet::from([first]);
    while stats.iter().any(|(pid, stat)| family.contains(&stat.parent) && family.insert(*pid)) {}
    stats.iter().filter(|(pid, _)| family.contains(pid)).map(|(_, stat)| stat.ticks).sum()
}

/// So many ports of loopback that nobody listens on now.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_hides_nothing() {
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194560 161 0 0 0 20 22 5 5 20 0 1 0 9 8 7";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.parent, stat.ticks), (3, 42));
        assert!(Stat::parse("7 (a) S 3").is_none());
    }

    #[test]
    fn what_a_process_starts_counts_as_its_own() {
        let stat = |parent, ticks| Stat { parent, ticks };
        // Numbers are used again, so a child may have the smaller one.
        let stats = [(2, stat(5, 1)), (5, stat(9, 20)), (6, stat(1, 300)), (9, stat(1, 4_000))];
        assert_eq!(ticks(&stats, 9), 4_021);
        assert_eq!(ticks(&stats, 6), 300);
    }
}
