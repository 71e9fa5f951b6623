//! The `bzzz` program: the daemon and the command line in one file.

use std::process::ExitCode;

/// A node makes and drops many small messages on many threads: with the allocator of the C library a
/// loaded one spends a tenth of its time on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    bzzz::cli::main()
}
