//! Errors of the command line and the exit codes that scripts see.
//!
//! 1. Every failure ends in one [`Exit`], so scripts can tell "try again" from "fix your command".
//! 2. The message says what happened, the hint what to do about it.
//! 3. No message repeats a secret.

use std::io::Write;
use std::process::ExitCode;

use crate::http::api::Problem;

/// Exit codes, the same for all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Ok = 0,
    /// Something failed that has no code of its own.
    Failure = 1,
    /// The command or its arguments are wrong.
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// The API wants a token, or another one.
    Auth = 4,
    /// The state of the cluster is not what the command expected.
    Conflict = 5,
    /// The node cannot be reached, or did not answer in time.
    Unreachable = 6,
    /// The cluster takes no writes at present.
    NoQuorum = 7,
    /// Somebody pressed Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// The exit code that fits an answer of the API.
    pub fn of_problem(problem: &Problem) -> Self {
        match (problem.code.as_str(), problem.status) {
            ("READ_ONLY_MINORITY" | "NO_LEADER" | "REPLICAS_UNAVAILABLE", _) => Self::NoQuorum,
            // Another address does it.
            ("HOST_WRONG" | "ORIGIN_WRONG", _) => Self::Usage,
            // The daemon was started without it, which no other token changes.
            ("FAULT_INJECTION_OFF", _) => Self::Conflict,
            (
                "WRITE_OUTCOME_UNKNOWN"
                | "BUSY"
                | "STARTING"
                | "JOINING"
                | "NODE_BEHIND"
                | "KEYS_PENDING"
                | "TIMED_OUT"
                | "CLOCK_WRONG",
                _,
            ) => Self::Unreachable,
            (_, 401 | 403) => Self::Auth,
            // The API calls it a conflict, as it is one for a node that joins with it.
            (_, 404 | 410) => Self::NotFound,
            (_, 409 | 412 | 428) => Self::Conflict,
            (_, 400 | 413..=415 | 431) => Self::Usage,
            _ => Self::Failure,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// How the process ends.
    pub exit: Exit,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What the API said, if it was the API that refused.
    pub problem: Option<Box<Problem>>,
}

impl CliError {
    /// An error without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, problem: None }
    }

    /// An error of the command or its arguments.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A failure that has no exit code of its own.
    pub fn failure(message: impl Into<String>) -> Self {
        Self::new(Exit::Failure, message)
    }

    /// The error of a command that was interrupted.
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    /// The same error with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The code of the API's answer, if it was the API that refused.
    pub fn code(&self) -> Option<&str> {
        self.problem.as_ref().map(|problem| problem.code.as_str())
    }

    /// Writes the error for people, and with `json` the API's object below it.
    pub fn write(&self, to: &mut impl Write, color: bool, json: bool) -> std::io::Result<()> {
        if self.exit == Exit::Ok {
            return Ok(());
        }
        let (red, plain) = if color { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        writeln!(to, "{red}error:{plain} {}", self.message)?;
        if let Some(hint) = &self.hint {
            writeln!(to, "hint: {hint}")?;
        }
        if let (true, Some(problem)) = (json, &self.problem) {
            writeln!(to, "{}", serde_json::to_string(problem).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        let mut message = problem.detail.clone();
        if message.is_empty() {
            message.clone_from(&problem.title);
        }
        for error in &problem.errors {
            let text = format!("{}: {}", error.field, error.reason);
            if message != text {
                message.push_str(&format!("; {text}"));
            }
        }
        Self {
            exit: Exit::of_problem(&problem),
            message: super::table::printable(&message),
            hint: problem.hint.as_deref().map(super::table::printable),
            problem: Some(Box::new(problem)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::api::FieldError;
    use crate::http::codes;

    fn problem(code: &str, status: u16) -> Problem {
        Problem { code: code.into(), status, detail: "no".into(), ..Problem::default() }
    }

    #[test]
    fn every_kind_of_refusal_has_its_exit_code() {
        for (code, status, exit) in [
            ("READ_ONLY_MINORITY", 503, 7),
            ("NO_LEADER", 503, 7),
            ("WRITE_OUTCOME_UNKNOWN", 504, 6),
            ("BUSY", 503, 6),
            ("JOINING", 503, 6),
            ("STARTING", 503, 6),
            ("UNAUTHORIZED", 401, 4),
            ("FAULT_INJECTION_OFF", 403, 5),
            ("NOT_FOUND", 404, 3),
            ("NO_SUCH_MEMBER", 404, 3),
            ("TOKEN_UNKNOWN", 404, 3),
            ("VERSION_MISMATCH", 412, 5),
            ("PRECONDITION_REQUIRED", 428, 5),
            ("TOKEN_USED", 409, 5),
            ("INVALID", 400, 2),
            ("VALUE_TOO_LARGE", 413, 2),
            ("MEDIA_TYPE_WRONG", 415, 2),
            ("HOST_WRONG", 403, 2),
            ("ROLE_CANNOT_READ", 403, 4),
            ("CONTENT_GONE", 410, 3),
            ("DISK_FULL", 507, 1),
        ] {
            assert_eq!(Exit::of_problem(&problem(code, status)) as u8, exit, "{code}");
            assert_eq!(codes::find(code).map(|row| row.status), Some(status), "{code}");
        }
    }

    #[test]
    fn an_error_says_what_to_do_and_shows_the_object_where_json_is_wanted() {
        let mut problem = problem("INVALID", 400);
        problem.hint = Some("do this".into());
        problem.errors = vec![FieldError { field: "uses".into(), reason: "is 0".into() }];
        let error = CliError::from(problem);
        let write = |json| {
            let mut text = Vec::new();
            error.write(&mut text, false, json).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert_eq!(write(false), "error: no; uses: is 0\nhint: do this\n");
        let json = write(true);
        let last: Problem = serde_json::from_str(json.lines().last().unwrap()).unwrap();
        assert_eq!(last.code, "INVALID");
    }

    #[test]
    fn an_answer_cannot_write_to_the_terminal_as_it_likes() {
        let evil = Problem { detail: "a\x1b[2Jb".into(), ..problem("INVALID", 400) };
        assert_eq!(CliError::from(evil).message, "a?[2Jb");
    }
}
