//! From Rhai's errors to ours: what went wrong, and where.

use rhai::{Dynamic, EvalAltResult, Map, Position};

use super::message::MessageError;
use super::{HandlerError, HandlerFault};

/// What a host function returns.
pub(super) type Fallible<T> = Result<T, Box<EvalAltResult>>;

/// The longest message of a [`HandlerError`], in bytes.
const MESSAGE_BYTES_MAX: usize = 512;

/// An error that the script may catch; it then sees this text.
pub(super) fn thrown(message: impl Into<String>) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorRuntime(message.into().into(), Position::NONE))
}

impl From<MessageError> for Box<EvalAltResult> {
    fn from(error: MessageError) -> Self {
        thrown(error.0)
    }
}

/// The end of the run, which the script cannot catch.
pub(super) fn ended() -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE))
}

/// What went wrong, without the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) fault: HandlerFault,
    pub(super) at: Position,
    pub(super) message: Box<str>,
}

impl Failure {
    pub(super) fn new(fault: HandlerFault, at: Position, message: impl AsRef<str>) -> Self {
        Self { fault, at, message: bounded(message.as_ref(), MESSAGE_BYTES_MAX).into() }
    }

    /// Reads an error of the interpreter's; the place is the innermost one.
    pub(super) fn of(error: EvalAltResult) -> Self {
        let mut error = error;
        while let EvalAltResult::ErrorInFunctionCall(_, _, inner, _) = error {
            error = *inner;
        }
        let at = error.take_position();
        let limit = |what: &str| Self::new(HandlerFault::Limit, at, what);
        match error {
            EvalAltResult::ErrorRuntime(value, _) => Self::new(HandlerFault::Threw, at, text_of(value)),
            EvalAltResult::ErrorStackOverflow(_) => limit("more nested calls than call_depth"),
            EvalAltResult::ErrorTooManyVariables(_) => limit("too many variables"),
            EvalAltResult::ErrorDataTooLarge(what, _) => {
                limit(&format!("{what} too large: see string_bytes and items"))
            }
            EvalAltResult::ErrorTerminated(..) | EvalAltResult::ErrorTooManyOperations(_) => {
                limit("more operations than allowed")
            }
            EvalAltResult::ErrorFunctionNotFound(signature, _) => {
                Self::new(HandlerFault::Threw, at, format!("there is no function {signature}"))
            }
            other => Self::new(HandlerFault::Threw, at, other.to_string()),
        }
    }

    pub(super) fn in_file(self, file: &str) -> HandlerError {
        HandlerError {
            fault: self.fault,
            file: file.into(),
            line: self.at.line().unwrap_or(0),
            column: self.at.position().unwrap_or(0),
            message: self.message,
        }
    }
}

/// What a script threw, as text: a string as it is, an error that was caught and thrown again by
/// its message.
fn text_of(value: Dynamic) -> String {
    if let Some(map) = value.read_lock::<Map>() {
        if let Some(message) = map.get("message") {
            return message.to_string();
        }
        return "threw a map".to_owned();
    }
    value.into_string().unwrap_or_else(|kind| format!("threw a value of type {kind}"))
}

/// The text, cut between two characters so that it is no longer than this.
pub(super) fn bounded(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}
