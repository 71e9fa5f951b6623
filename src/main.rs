//! The `bzzz` program: the daemon and the command line in one file.

use std::process::ExitCode;

fn main() -> ExitCode {
    bzzz::cli::main()
}
