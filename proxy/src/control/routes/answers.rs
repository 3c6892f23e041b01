//! The refusals that routes have in common, for the description.

use utoipa::IntoResponses;

use crate::control::api::ProblemAnswer;

macro_rules! refusal {
    ($(#[$about:meta])* $name:ident, $status:ident) => {
        $(#[$about])*
        #[derive(IntoResponses)]
        #[response(status = $status, content_type = "application/problem+json")]
        #[expect(dead_code, reason = "it stands for an answer in the description and is never made")]
        pub(super) struct $name(ProblemAnswer);
    };
}

refusal!(
    /// The request cannot be read, or names what cannot be.
    Invalid,
    BAD_REQUEST
);
refusal!(
    /// There is no such thing.
    NotFound,
    NOT_FOUND
);
refusal!(
    /// It stands against what is there already.
    Conflict,
    CONFLICT
);
refusal!(
    /// The body is longer than it may be.
    TooLong,
    PAYLOAD_TOO_LARGE
);
refusal!(
    /// The policy does not compile, or cannot be put to work; the one before stays in force.
    Refused,
    UNPROCESSABLE_ENTITY
);
refusal!(
    /// The store did not do it.
    StoreFailed,
    BAD_GATEWAY
);
refusal!(
    /// It cannot be kept or logged, and so is not done; or too many ask at once.
    Unavailable,
    SERVICE_UNAVAILABLE
);
