//! Why something was not done.

use std::fmt;

use crate::bindings;

/// What a handler's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something was not done.
///
/// `?` makes one of any error of the standard library's kind: a [`Error::Failed`] with its text. For
/// that reason it is no [`std::error::Error`] itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The handler refuses the request, and this is the reason, which the workload is told: see
    /// [`deny`](crate::deny).
    Denied(String),
    /// It took longer than it was given.
    TimedOut,
    /// It is not well-formed, or not allowed; in words that hold no secret.
    Invalid(String),
    /// The world did not do it: no answer, no connection, a store that failed; in words that hold no
    /// secret.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(reason) => write!(formatter, "refused: {reason}"),
            Self::TimedOut => formatter.write_str("it took longer than it was given"),
            Self::Invalid(why) | Self::Failed(why) => formatter.write_str(why),
        }
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Error {
    pub(crate) fn into_host(self) -> bindings::Error {
        match self {
            Self::Denied(reason) => bindings::Error::Denied(reason),
            Self::TimedOut => bindings::Error::TimedOut,
            Self::Invalid(why) => bindings::Error::Invalid(why),
            Self::Failed(why) => bindings::Error::Failed(why),
        }
    }

    /// To be given to `map_err`: `?` by itself would lose which error it is.
    pub(crate) fn from_host(error: bindings::Error) -> Self {
        match error {
            bindings::Error::Denied(reason) => Self::Denied(reason),
            bindings::Error::TimedOut => Self::TimedOut,
            bindings::Error::Invalid(why) => Self::Invalid(why),
            bindings::Error::Failed(why) => Self::Failed(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_the_same_to_the_gate_and_back() {
        let all = [
            Error::Denied("a".into()),
            Error::TimedOut,
            Error::Invalid("b".into()),
            Error::Failed("c".into()),
        ];
        for error in all {
            assert_eq!(Error::from_host(error.clone().into_host()), error);
        }
    }

    #[test]
    fn other_errors_become_failures_with_their_text() {
        fn number(text: &str) -> Result<u8> {
            Ok(text.parse()?)
        }
        assert_eq!(number("7"), Ok(7));
        assert_eq!(number("x"), Err(Error::Failed("invalid digit found in string".into())));
    }
}
