//! Why a command failed: what it exits with, and what is printed.

use std::io::{self, Write};
use std::path::PathBuf;

use thiserror::Error;

use super::policy_build::BuildError;
use crate::audit::view::Escaped;
use crate::causes::in_words;
use crate::control::api::ProblemAnswer;
use crate::document::DocumentError;
use crate::{exit, report};

/// Why a command did not do what was asked.
#[derive(Debug, Error)]
pub(crate) enum CommandError {
    /// No instance can be reached.
    #[error("no instance is running")]
    NoInstance,
    /// The one that was named cannot.
    #[error("no instance named {name} is running{}", others(.running))]
    NotRunning {
        /// What was asked for.
        name: String,
        /// What there is.
        running: Vec<String>,
    },
    /// It is not clear which one is meant.
    #[error("several instances are running: {}", .0.join(", "))]
    Several(Vec<String>),
    /// The socket takes no connection.
    #[error("cannot reach the instance at {}", .socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The instance did not answer, or broke off.
    #[error("the instance did not answer")]
    NoAnswer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is not what this program knows.
    #[error("the instance's answer cannot be read: {0}")]
    Unreadable(String),
    /// The instance said no.
    #[error("{}", Escaped(&.0.detail))]
    Refused(Box<ProblemAnswer>),
    /// The document does not compile or cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A handler cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// What was given on the command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The system gives no folder, no thread or no terminal.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
    /// The result cannot be printed.
    #[error("cannot print")]
    Print(#[source] io::Error),
}

impl CommandError {
    /// The exit code that fits.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NoInstance | Self::NotRunning { .. } | Self::Several(_) | Self::Unreachable { .. } => {
                exit::UNAVAILABLE
            }
            Self::NoAnswer(_) | Self::Unreadable(_) => exit::BUG,
            Self::Refused(problem) => match problem.status {
                422 => exit::CONFIGURATION,
                400 | 404 | 409 | 413 => exit::USAGE,
                403 => exit::PRIVILEGE,
                // Its state folder, its log or a store cannot be used.
                502 | 503 => exit::IO,
                _ => exit::BUG,
            },
            Self::Document(_) => exit::CONFIGURATION,
            Self::Build(error) => error.exit_code(),
            Self::Usage(_) => exit::USAGE,
            Self::File { .. } | Self::System(..) | Self::Print(_) => exit::IO,
        }
    }

    /// What to do about it.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoInstance => {
                "start one with `sluicegate run` or `attach`, as this user and without --no-control"
            }
            Self::NotRunning { .. } => "`sluicegate instance list` shows those of this user",
            Self::Several(_) => "name one with --instance NAME or SLUICEGATE_INSTANCE",
            Self::Unreachable { .. } => {
                "only the user who started the instance reaches it, and not from inside the seal"
            }
            Self::Unreadable(_) => "the instance may be of another version: compare with `status get`",
            Self::Document(DocumentError::Read { .. }) => "check the path and that this user may read it",
            Self::Build(error) => return error.hint(),
            Self::Refused(problem) => return problem.hint.as_deref().map(|hint| Escaped(hint).to_string()),
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// Prints it to standard error with its causes, the picture of the place if there is one, and
    /// what to do.
    pub(crate) fn report(&self) {
        match self {
            Self::Document(DocumentError::Policy(error)) => report::policy(error),
            Self::Refused(problem) => say(&refusal(problem)),
            _ => say(&format!("sluicegate: {}\n", in_words(self))),
        }
        if let Some(hint) = self.hint() {
            say(&format!("  hint: {hint}\n"));
        }
    }
}

/// The picture where there is one, else the words.
fn refusal(problem: &ProblemAnswer) -> String {
    let words = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    let mut text = format!("sluicegate: {}\n", Escaped(words));
    match &problem.rendered {
        Some(picture) => picture.lines().for_each(|line| text.push_str(&format!("{}\n", Escaped(line)))),
        None => {
            for found in &problem.problems {
                let (file, message) = (Escaped(&found.file), Escaped(&found.message));
                text.push_str(&format!("  {file}:{}:{}: {message}\n", found.line, found.column));
            }
        }
    }
    text
}

fn others(running: &[String]) -> String {
    if running.is_empty() { String::new() } else { format!("; these are: {}", running.join(", ")) }
}

fn say(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::PolicyProblem;

    fn refused(status: u16) -> CommandError {
        CommandError::Refused(Box::new(ProblemAnswer { status, ..ProblemAnswer::default() }))
    }

    #[test]
    fn a_refusal_has_the_exit_code_of_its_status() {
        let table = [
            (422, exit::CONFIGURATION),
            (403, exit::PRIVILEGE),
            (404, exit::USAGE),
            (400, exit::USAGE),
            (409, exit::USAGE),
            (413, exit::USAGE),
            (502, exit::IO),
            (500, exit::BUG),
            (503, exit::IO),
        ];
        for (status, code) in table {
            assert_eq!(refused(status).exit_code(), code, "{status}");
        }
        assert_eq!(CommandError::NoInstance.exit_code(), exit::UNAVAILABLE);
    }

    #[test]
    fn the_instances_that_there_are_are_named() {
        let error = CommandError::NotRunning { name: "a".into(), running: vec!["b".into(), "c".into()] };
        assert_eq!(error.to_string(), "no instance named a is running; these are: b, c");
        let error = CommandError::NotRunning { name: "a".into(), running: vec![] };
        assert_eq!(error.to_string(), "no instance named a is running");
    }

    #[test]
    fn a_refusal_is_told_with_its_places_and_cannot_move_the_cursor() {
        let mut problem = ProblemAnswer { detail: "bad\u{1b}[2J".into(), ..ProblemAnswer::default() };
        problem.problems = vec![PolicyProblem {
            file: "a.toml".into(),
            line: 3,
            column: 1,
            message: "odd".into(),
            help: None,
            severity: "error".into(),
        }];
        assert_eq!(refusal(&problem), "sluicegate: bad\\u{1b}[2J\n  a.toml:3:1: odd\n");
        problem.rendered = Some("  x odd\n  | \u{1b}[31m".into());
        assert_eq!(refusal(&problem), "sluicegate: bad\\u{1b}[2J\n  x odd\n  | \\u{1b}[31m\n");
        let untold = ProblemAnswer { title: "not found".into(), ..ProblemAnswer::default() };
        assert_eq!(refusal(&untold), "sluicegate: not found\n");
    }
}
