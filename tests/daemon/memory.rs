//! What a node that does nothing takes up: counted against a table of budgets, so that it does not
//! creep up unseen. Whatever adds something that is kept says in here what it may take.

use super::process::{Daemon, wait};

/// Pages of memory of its own, by what they are for, in KiB.
const OWN: &[(&str, u64)] = &[
    ("stacks of its threads", 512),
    ("the allocator, the runtime and what is made at the start", 2_560),
    ("consensus: openraft's queues, which fill once in the first minutes", 2_048),
    ("records: fjall with its caches and workers", 1_536),
    ("the network: libp2p, TLS and their buffers", 1_536),
    ("actors, the API and the events that are kept", 1_024),
];
/// Pages of the program and its libraries that it has touched, shared by all nodes of a machine.
const PROGRAM_KIB: u64 = 35 * 1_024;
/// All together.
const ALL_KIB: u64 = 45 * 1_024;

const _: () = assert!(PROGRAM_KIB < ALL_KIB);

/// A line of `/proc/PID/status`, in KiB.
fn kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn an_idle_node_stays_within_its_budgets() {
    let own: u64 = OWN.iter().map(|(_, kib)| kib).sum();
    assert!(own + PROGRAM_KIB <= ALL_KIB, "the budgets are more than there is: {own}");
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::found(dir.path(), "one");
    let pid = node.ready.pid;
    // What is made at the start is given back, or kept, by the time that nothing new comes.
    let (mut last, mut same) = (0, 0);
    wait("it has come to rest", || {
        let now = kib(pid, "RssAnon");
        same = if now.abs_diff(last) < 64 { same + 1 } else { 0 };
        last = now;
        same >= 100
    });
    let (taken, program, all) = (kib(pid, "RssAnon"), kib(pid, "RssFile"), kib(pid, "VmRSS"));
    eprintln!("an idle node: {all} KiB, {taken} of its own and {program} of the program");
    assert!(taken <= own, "{taken} KiB of its own, and {own} in {OWN:?}");
    assert!(program <= PROGRAM_KIB, "{program} KiB of the program");
    assert!(all <= ALL_KIB, "{all} KiB");
}
