//! Why the helper stopped: the step, what happened, the remedy and the exit code.

use serde::{Deserialize, Serialize};
use std::{fmt, io};

/// Something that ended the capture or the workload's start. `Display` says what happened at this
/// level; the cause, when the kernel gave one, is the source.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {what}")]
pub(crate) struct Failure {
    kind: Kind,
    step: String,
    what: String,
    hint: Option<String>,
    #[source]
    cause: Option<io::Error>,
}

/// Whose fault it was, which is what the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command line, or the namespace it names, cannot be used.
    Usage,
    /// The helper, or the program that started it, did something impossible.
    Internal,
    /// Another live gate holds the namespace.
    Busy,
    /// A privilege or a kernel option is missing.
    Privilege,
    /// The workload's program cannot be executed.
    NotExecutable,
    /// The workload's program does not exist.
    NotFound,
}

impl Kind {
    /// The process exit code: sysexits.h for our own, the shell's for the workload's program.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Internal => 70,
            Self::Busy => 75,
            Self::Privilege => 77,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }

    fn from_exit_code(code: u8) -> Self {
        let all = [Self::Usage, Self::Busy, Self::Privilege, Self::NotExecutable, Self::NotFound];
        all.into_iter().find(|kind| kind.exit_code() == code).unwrap_or(Self::Internal)
    }
}

/// A [`Failure`] as the gate reads it, with its causes in one line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FailureReport {
    step: String,
    message: String,
    hint: Option<String>,
    exit_code: u8,
}

impl fmt::Display for FailureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}

impl From<FailureReport> for Failure {
    fn from(report: FailureReport) -> Self {
        Self {
            kind: Kind::from_exit_code(report.exit_code),
            step: report.step,
            what: report.message,
            hint: report.hint,
            cause: None,
        }
    }
}

impl Failure {
    /// A failure in `step`; `what` is one clause in lower case, without the cause.
    pub(crate) fn new(kind: Kind, step: &'static str, what: impl Into<String>) -> Self {
        Self { kind, step: step.to_owned(), what: what.into(), hint: None, cause: None }
    }

    /// Adds what the kernel said.
    pub(crate) fn because(mut self, cause: impl Into<io::Error>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds what the operator can do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The kind, hence the exit code.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened, with its cause.
    pub(crate) fn in_a_line(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}: {cause}", self.what),
            None => self.what.clone(),
        }
    }

    /// The failure with its causes in one line, for the gate to show.
    pub(crate) fn report(&self) -> FailureReport {
        FailureReport {
            step: self.step.clone(),
            message: self.in_a_line(),
            hint: self.hint.clone(),
            exit_code: self.kind.exit_code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_carries_step_cause_hint_and_code() {
        let failure = Failure::new(Kind::Privilege, "nft batch", "the kernel refused a rule")
            .because(io::Error::from_raw_os_error(libc::ENOENT))
            .hint("enable CONFIG_NFT_TPROXY");
        let report = serde_json::to_value(failure.report()).unwrap();
        assert_eq!(report["step"], "nft batch");
        assert_eq!(report["message"], "the kernel refused a rule: No such file or directory (os error 2)");
        assert_eq!(report["hint"], "enable CONFIG_NFT_TPROXY");
        assert_eq!(report["exit_code"], 77);
    }
}
