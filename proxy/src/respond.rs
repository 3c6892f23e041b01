//! The one place where a failure becomes a response, and the same failure a line of the log.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use serde::Serialize;
use sluicegate_policy::{DenyReason, FixedAnswer, Policy, Refusal, RefusalFacts};

use crate::audit::{AuditRecord, Verdict};
use crate::body::ResponseBody;
use crate::causes::in_words;
use crate::credentials::CredentialError;
use crate::request_authority::AuthorityFault;
use crate::request_head::HeadFault;
use crate::upstream::UpstreamError;

/// Says in a header what the body says in full, for clients that show no bodies.
const REASON: HeaderName = HeaderName::from_static("x-sluicegate-reason");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Why a request gets an answer of the gate's own instead of the upstream's.
#[derive(Debug)]
pub enum Failure {
    /// The policy, or a rule that stands above every policy, says no.
    Refused(Refusal),
    /// The head was not one; the connection cannot be trusted to be in step.
    Malformed(HeadFault),
    /// It was allowed, and did not work.
    Upstream(UpstreamError),
    /// Its handler did not come to a decision. The workload is told no more than that.
    Handler(HandlerFailure),
}

/// How a handler failed.
#[derive(Debug)]
pub struct HandlerFailure {
    /// Whether it was its time that ended.
    pub timed_out: bool,
    /// Where and why, for the log.
    pub detail: String,
}

impl From<AuthorityFault> for Failure {
    fn from(fault: AuthorityFault) -> Self {
        Self::Refused(Refusal { reason: fault.reason(), detail: fault.to_string() })
    }
}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        let detail = in_words(&error);
        Self::Refused(Refusal { reason: error.reason(), detail })
    }
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        let reason = match error {
            UpstreamError::DeniedAddress(_) => DenyReason::DeniedHost,
            UpstreamError::ForbiddenAddress { .. } => DenyReason::ForbiddenAddress,
            _ => return Self::Upstream(error),
        };
        Self::Refused(Refusal { reason, detail: error.to_string() })
    }
}

impl From<DenyReason> for Failure {
    fn from(reason: DenyReason) -> Self {
        Self::Refused(Refusal { reason, detail: String::new() })
    }
}

/// What a client finds in the body of an answer that is not a refusal by policy.
#[derive(Serialize)]
struct Explanation<'a> {
    error: &'static str,
    reason: &'a str,
    detail: &'a str,
    request_id: &'a str,
}

/// The answer to a failed request; the record is told the same.
pub fn failure(
    failure: &Failure,
    policy: &Policy,
    method: &Method,
    record: &mut AuditRecord,
) -> Response<ResponseBody> {
    let mut response = match failure {
        Failure::Refused(refusal) => refused(refusal, policy, record),
        Failure::Malformed(fault) => {
            record.verdict = Some(Verdict::Refused);
            let reason = DenyReason::MalformedRequest.as_str();
            explain(fault.status(), ("malformed_request", reason), &fault.to_string(), record)
        }
        Failure::Upstream(error) => {
            record.verdict = Some(Verdict::Failed);
            explain(error.status(), ("upstream_failed", error.code()), &in_words(error), record)
        }
        Failure::Handler(failure) => handler_failed(failure, record),
    };
    let malformed = match failure {
        Failure::Malformed(_) => true,
        Failure::Refused(refusal) => refusal.reason == DenyReason::MalformedRequest,
        Failure::Upstream(_) | Failure::Handler(_) => false,
    };
    if malformed {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    finish(response, method, record)
}

/// Notes a failure in the record of a request that is not the workload's, and so gets no answer.
pub fn note(failure: &Failure, record: &mut AuditRecord) {
    let (verdict, reason, detail) = match failure {
        Failure::Refused(refusal) => (Verdict::Refused, refusal.reason.as_str(), refusal.detail.clone()),
        Failure::Malformed(fault) => {
            (Verdict::Refused, DenyReason::MalformedRequest.as_str(), fault.to_string())
        }
        Failure::Upstream(error) => (Verdict::Failed, error.code(), in_words(error)),
        Failure::Handler(failure) => (Verdict::Failed, reason_of(failure).as_str(), failure.detail.clone()),
    };
    record.verdict = Some(verdict);
    record.reason = Some(reason);
    if !detail.is_empty() {
        record.set_detail(detail);
    }
}

/// The answer that a handler gives by itself.
pub fn by_handler(
    mut response: Response<ResponseBody>,
    method: &Method,
    record: &mut AuditRecord,
) -> Response<ResponseBody> {
    // hyper says how long a body is. An answer to HEAD has none, and says how long it would be.
    if *method != Method::HEAD || !http_body::Body::is_end_stream(response.body()) {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    finish(response, method, record)
}

/// The answer that a rule gives by itself.
pub fn fixed(answer: &FixedAnswer, method: &Method, record: &mut AuditRecord) -> Response<ResponseBody> {
    record.verdict = Some(Verdict::Answered);
    let mut response = Response::new(ResponseBody::own(Bytes::copy_from_slice(answer.body.as_bytes())));
    *response.status_mut() = answer.status;
    for (name, value) in &answer.headers {
        response.headers_mut().append(name, value.clone());
    }
    finish(response, method, record)
}

/// The status of a refusal whose reason is not a matter of policy.
fn status_of(reason: DenyReason, policy: &Policy) -> StatusCode {
    match reason {
        DenyReason::AuditUnavailable | DenyReason::SecretUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        DenyReason::AuthorityMismatch | DenyReason::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        DenyReason::MalformedRequest => StatusCode::BAD_REQUEST,
        DenyReason::UpgradeNotSupported => StatusCode::NOT_IMPLEMENTED,
        _ => policy.refusal().status,
    }
}

fn refused(refusal: &Refusal, policy: &Policy, record: &mut AuditRecord) -> Response<ResponseBody> {
    record.verdict = Some(Verdict::Refused);
    record.reason = Some(refusal.reason.as_str());
    if !refusal.detail.is_empty() {
        record.set_detail(&refusal.detail);
    }
    let answer = policy.refusal();
    let body = answer.body(&RefusalFacts {
        reason: refusal.reason,
        detail: &refusal.detail,
        rule: record.rule.as_deref(),
        host: record.host.as_deref().unwrap_or_default(),
        request_id: record.request_id.as_deref().unwrap_or_default(),
    });
    let mut response = Response::new(ResponseBody::own(body));
    *response.status_mut() = status_of(refusal.reason, policy);
    for (name, value) in &answer.headers {
        response.headers_mut().append(name, value.clone());
    }
    response.headers_mut().insert(REASON, HeaderValue::from_static(refusal.reason.as_str()));
    response
}

fn reason_of(failure: &HandlerFailure) -> DenyReason {
    if failure.timed_out { DenyReason::HandlerTimeout } else { DenyReason::HandlerFailed }
}

/// What a handler is made of is nobody's business but its author's: where it failed is in the log.
fn handler_failed(failure: &HandlerFailure, record: &mut AuditRecord) -> Response<ResponseBody> {
    record.verdict = Some(Verdict::Failed);
    let reason = reason_of(failure);
    let (status, told) = if failure.timed_out {
        (StatusCode::GATEWAY_TIMEOUT, "the handler of this request took too long")
    } else {
        (StatusCode::BAD_GATEWAY, "the handler of this request failed")
    };
    let response = explain(status, ("handler_failed", reason.as_str()), told, record);
    record.set_detail(&failure.detail);
    response
}

fn explain(
    status: StatusCode,
    (error, reason): (&'static str, &'static str),
    detail: &str,
    record: &mut AuditRecord,
) -> Response<ResponseBody> {
    record.reason = Some(reason);
    record.set_detail(detail);
    let explanation =
        Explanation { error, reason, detail, request_id: record.request_id.as_deref().unwrap_or_default() };
    let body = serde_json::to_vec(&explanation).unwrap_or_default();
    let mut response = Response::new(ResponseBody::own(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(REASON, HeaderValue::from_static(reason));
    response
}

fn finish(
    mut response: Response<ResponseBody>,
    method: &Method,
    record: &mut AuditRecord,
) -> Response<ResponseBody> {
    use http_body::Body as _;
    use std::sync::atomic::Ordering;
    record.status = Some(response.status().as_u16());
    record.complete = Some(true);
    if *method != Method::HEAD {
        let length = response.body().size_hint().exact().unwrap_or(0);
        record.response_bytes_counter().store(length, Ordering::Relaxed);
    } else if let Some(length) = response.body().size_hint().exact() {
        // RFC 9110 section 9.3.2: HEAD says what GET would have sent.
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
        *response.body_mut() = ResponseBody::Own(None);
    }
    response
}
