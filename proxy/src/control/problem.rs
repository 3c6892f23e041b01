//! What the control socket answers when something is not done: problem details of RFC 9457.

use axum::body::{Body, to_bytes};
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use miette::{GraphicalReportHandler, GraphicalTheme};
use sluicegate_policy::{PolicyError, Severity};

use super::api::{PolicyProblem, ProblemAnswer};
use crate::approvals::DecideError;
use crate::causes::in_words;
use crate::controller::ControlError;
use crate::document::DocumentError;

/// Its media type.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Problems of one policy that are told: who has more corrects these first.
const PROBLEMS_MAX: usize = 50;

/// The longest text of an error that is not ours, in bytes.
const FOREIGN_BYTES_MAX: usize = 1_024;

/// Something that was not done, and why.
#[derive(Debug)]
pub(super) struct Problem(Box<ProblemAnswer>);

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        let kind = format!("sluicegate:{kind}");
        let (status, detail) = (status.as_u16(), detail.into());
        Self(Box::new(ProblemAnswer { kind, title, status, detail, ..ProblemAnswer::default() }))
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// A store that did not do it.
    pub(super) fn store(words: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "store-failed", words)
    }

    fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// A bug of ours, of which the client is told no more.
    pub(super) fn bug() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "bug",
            "the gate could not answer; its own log says more",
        )
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    fn policy(error: &PolicyError) -> Self {
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "policy-refused", format!("{error}"));
        problem.0.problems = error.problems().iter().take(PROBLEMS_MAX).map(told).collect();
        problem.0.rendered = Some(rendered(error));
        problem
    }
}

fn told(problem: &sluicegate_policy::Problem) -> PolicyProblem {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    PolicyProblem {
        file: problem.file.to_string(),
        line: problem.line,
        column: problem.column,
        message: problem.message.clone(),
        help: problem.help.clone(),
        severity: severity.to_owned(),
    }
}

/// Pictures without colours: what reads them may be no terminal.
fn rendered(error: &PolicyError) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor());
    let mut picture = String::new();
    for problem in error.problems().iter().take(PROBLEMS_MAX) {
        if handler.render_report(&mut picture, problem).is_err() {
            break;
        }
    }
    picture
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let detail = in_words(&error);
        match error {
            ControlError::Document(DocumentError::Policy(error)) => Self::policy(&error),
            ControlError::Document(_) | ControlError::Unusable(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "policy-unusable", detail)
            }
            ControlError::Change(_) | ControlError::Invalid(_) => Self::invalid(detail),
            ControlError::NotFound(_) | ControlError::Decide(DecideError::NotPending) => {
                Self::not_found(detail)
            }
            ControlError::Decide(_) => Self::conflict(detail),
            ControlError::Missing(missing) => {
                let mut problem = Self::new(StatusCode::CONFLICT, "components-missing", detail).hint(
                    "send those that are `missing` to /v1/components/SHA256, and then the policy again",
                );
                problem.0.missing = missing;
                problem
            }
            ControlError::Binding(words) => Self::store(words),
            ControlError::Unkept(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unkept", detail)
                .hint("make the state folder and the audit log writable: check their disk and permissions"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(*self.0)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        response
    }
}

/// Puts refusals that are not ours, such as those of a path that nobody serves, into our form.
pub(super) async fn in_our_form(response: Response<Body>) -> Response<Body> {
    let status = response.status();
    let ours = response.headers().get(CONTENT_TYPE) == Some(&PROBLEM_JSON);
    if ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (head, body) = response.into_parts();
    let detail = match status {
        StatusCode::NOT_FOUND => "nothing has this path; see /v1/openapi.json".into(),
        StatusCode::METHOD_NOT_ALLOWED => "this path has other methods; see /v1/openapi.json".into(),
        _ => to_bytes(body, FOREIGN_BYTES_MAX).await.unwrap_or_default(),
    };
    let kind = if status == StatusCode::NOT_FOUND { "no-such-path" } else { "invalid" };
    let mut answer = Problem::new(status, kind, String::from_utf8_lossy(&detail)).into_response();
    if let Some(allow) = head.headers.get(ALLOW) {
        answer.headers_mut().insert(ALLOW, allow.clone());
    }
    answer
}
