//! The `bzzz` program: the daemon and the command line in one file.

use std::process::ExitCode;

/// A node makes and drops many small messages on many threads: with the allocator of the C library a
/// loaded one spends a tenth of its time on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Huge pages make a node that does nothing three times as large, where the system hands them out
    // unasked. One that may not say so runs as well.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    bzzz::cli::main()
}
