//! The command line: the daemon, the client commands and the cluster for trying things out.
//!
//! One file is daemon and client. [`main`] parses the arguments, hands the work to the module of
//! the command and turns what comes back into an exit code. Client commands speak the HTTP API
//! like any other client and know nothing that it does not say.
//!
//! 1. stdout is data, stderr is talk; `-o json` is the API's object unchanged.
//! 2. No secret is an argument, and none is printed but a new join token.
//! 3. A failure ends in the exit code that says what kind it is.
#![allow(clippy::disallowed_methods, reason = "the daemon's shell runs on real time")]

mod args;
mod client;
mod commands;
mod dev;
mod error;
mod output;
mod table;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use args::{Cli, Command, Global};
pub use error::{CliError, Exit};
pub use output::{Format, Output};

use crate::daemon;
use args::NodeCommand;
use commands::{ClientCommand, Session};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout, complaints to stderr; a closed one is nobody's fault.
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let out = Output {
        format: cli.global.output,
        quiet: cli.global.quiet,
        no_color: cli.global.no_color || is_set("NO_COLOR") || is_set("BZZZ_NO_COLOR"),
    };
    let command = match cli.command {
        Command::Run(args) | Command::Client(ClientCommand::Node(NodeCommand::Run(args))) => {
            if let Err(error) = dev::die_with_parent() {
                return fail(&error, &out);
            }
            return daemon::run(*args);
        }
        command => command,
    };
    match client_command(command, &cli.global, out) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => fail(&error, &out),
    }
}

fn fail(error: &CliError, out: &Output) -> ExitCode {
    // Where stderr is closed the exit code still tells.
    let _ = error.write(&mut std::io::stderr(), out.colors_stderr(), out.is_json());
    error.exit.into()
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|text| !text.is_empty())
}

fn client_command(command: Command, global: &Global, out: Output) -> Result<(), CliError> {
    let session = Session { global, out };
    match command {
        // Ended the process above, as it needs no client.
        Command::Run(_) => Ok(()),
        Command::Dev(args) => dev::dev(&args, &out),
        Command::Status => commands::status::status(&session),
        Command::Client(command) => command.run(&session),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "bzzz", &mut script);
            out.bytes(&script)
        }
        Command::Version => version(&out),
    }
}

fn version(out: &Output) -> Result<(), CliError> {
    let version = env!("CARGO_PKG_VERSION");
    if out.is_json() {
        return out.line(&serde_json::json!({ "schema": 1, "version": version }));
    }
    out.text(&format!("bzzz {version}\n"))
}
