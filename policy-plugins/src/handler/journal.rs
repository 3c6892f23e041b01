//! What a handler was told so far, in order: what makes its next run come further than the last.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{Answer, BodyHandle};

/// What was asked, as a number that another question hardly has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question(u64);

impl Question {
    /// Two runs that ask the same get the same.
    pub(super) fn new(kind: &'static str, about: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        kind.hash(&mut hasher);
        about.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// One question and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) question: Question,
    pub(super) told: Told,
}

/// An answer as it is kept: cheap to give again.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// A response.
    Response(Response),
    /// Any other answer.
    Other(Answer),
    /// Random bytes.
    Random(Bytes),
}

/// A response as it came.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: Arc<HeaderMap>,
    pub(super) body: Option<BodyHandle>,
}

impl From<Answer> for Told {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Response { status, headers, body } => {
                Self::Response(Response { status, headers: Arc::new(headers), body })
            }
            other => Self::Other(other),
        }
    }
}
