//! What commands print, and in which form.
//!
//! 1. Data goes to stdout, talk to stderr.
//! 2. `-o json` prints the object of the API byte for byte, so that it can be piped into what was
//!    written for the API.
//! 3. `-o ndjson` prints one object on each line: the rows of a list, or the object itself.
//! 4. A reader that goes away (`| head`) ends the command quietly.

use std::io::{self, ErrorKind, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Answer;
use super::error::{CliError, Exit};

/// The forms of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// The object of the API.
    Json,
    /// One object on each line.
    Ndjson,
}

/// Where a command prints to.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// The form that was asked for.
    pub format: Format,
    /// True if only data is wanted.
    pub quiet: bool,
    /// True if nothing is to be coloured.
    pub no_color: bool,
}

impl Output {
    /// True if what is written to stderr may be coloured.
    pub fn colors_stderr(&self) -> bool {
        !self.no_color && io::stderr().is_terminal()
    }

    /// True if what is written to stdout may be coloured.
    pub fn colors_stdout(&self) -> bool {
        !self.no_color && io::stdout().is_terminal()
    }

    /// True for the forms that programs read.
    pub fn is_json(&self) -> bool {
        self.format != Format::Table
    }

    /// Writes text to stdout as it is.
    pub fn text(&self, text: &str) -> Result<(), CliError> {
        self.bytes(text.as_bytes())
    }

    /// Writes bytes to stdout as they are.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| {
            if error.kind() == ErrorKind::BrokenPipe {
                // Nobody reads any more, which is no failure.
                CliError::new(Exit::Ok, "")
            } else {
                CliError::failure(format!("cannot write to the standard output: {error}"))
            }
        })
    }

    /// Writes an object on a line of its own.
    pub fn line(&self, value: &impl Serialize) -> Result<(), CliError> {
        self.text(&format!("{}\n", json(value)?))
    }

    /// Says something to whoever watches; nothing with `--quiet`.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// Says something that must be seen even with `--quiet`. Where stderr is closed, nobody can
    /// be told, so a failure is not one of the command.
    pub fn warn(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Prints an answer: the object itself, or what `render` makes of it.
    pub fn answer<T>(
        &self,
        answer: &Answer,
        render: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError>
    where
        T: DeserializeOwned + Serialize,
    {
        match self.format {
            Format::Table => self.text(&render(&answer.parse()?)),
            Format::Json => self.text(&format!("{}\n", answer.text)),
            Format::Ndjson => self.line(&answer.parse::<T>()?),
        }
    }

    /// Prints an answer that is a list.
    pub fn list<T, I>(
        &self,
        answer: &Answer,
        items: impl FnOnce(&T) -> &[I],
        render: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError>
    where
        T: DeserializeOwned + Serialize,
        I: Serialize,
    {
        if self.format != Format::Ndjson {
            return self.answer(answer, render);
        }
        items(&answer.parse()?).iter().try_for_each(|item| self.line(item))
    }
}

fn json(value: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string(value)
        .map_err(|error| CliError::failure(format!("cannot write json: {error}")))
}
