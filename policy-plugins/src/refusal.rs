//! The answer that a refused HTTP request gets: the `[refusal]` section, parsed and filled in.

use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::deny_reason::DenyReason;
use crate::template::{Piece, TemplateError, pieces};

/// What a refusal's body can tell about the refused request.
#[derive(Clone, Copy, Debug)]
pub struct RefusalFacts<'facts> {
    /// The stable code.
    pub reason: DenyReason,
    /// The same in words.
    pub detail: &'facts str,
    /// The rule that refused, if one did.
    pub rule: Option<&'facts str>,
    /// The host that was asked for, as far as it was understood.
    pub host: &'facts str,
    /// The request's id in the audit log.
    pub request_id: &'facts str,
}

/// The `[refusal]` section of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalAnswer {
    /// 400 to 599; 403 unless the document says otherwise.
    pub status: StatusCode,
    /// Headers, with a `content-type`; never one that frames the message.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Option<RefusalBody>,
}

/// A body with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusalBody {
    parts: Vec<Part>,
    json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Hole(Hole),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    Reason,
    Detail,
    Rule,
    Host,
    RequestId,
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

impl RefusalAnswer {
    /// An answer with the body of the document, or without one the standard JSON object.
    pub(crate) fn new(
        status: StatusCode,
        mut headers: Vec<(HeaderName, HeaderValue)>,
        body: Option<RefusalBody>,
    ) -> Self {
        if !headers.iter().any(|(name, _)| name == header::CONTENT_TYPE) {
            let value = if body.is_some() { TEXT } else { JSON };
            headers.push((header::CONTENT_TYPE, value));
        }
        Self { status, headers, body }
    }

    /// The body for one refused request.
    #[must_use]
    pub fn body(&self, facts: &RefusalFacts<'_>) -> String {
        match &self.body {
            Some(body) => body.fill(facts),
            None => standard_body(facts),
        }
    }
}

impl Default for RefusalAnswer {
    fn default() -> Self {
        Self::new(StatusCode::FORBIDDEN, Vec::new(), None)
    }
}

impl RefusalBody {
    /// The names that may stand between `${` and `}`.
    pub(crate) const HOLES: [&'static str; 5] = ["reason", "detail", "rule", "host", "request_id"];

    /// Reads a body; `json` says whether inserted values are escaped for a JSON string.
    pub(crate) fn parse(text: &str, json: bool) -> Result<Self, TemplateError> {
        let parts = pieces(text)?
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => Ok(Part::Text(text.into())),
                Piece::Hole("reason") => Ok(Part::Hole(Hole::Reason)),
                Piece::Hole("detail") => Ok(Part::Hole(Hole::Detail)),
                Piece::Hole("rule") => Ok(Part::Hole(Hole::Rule)),
                Piece::Hole("host") => Ok(Part::Hole(Hole::Host)),
                Piece::Hole("request_id") => Ok(Part::Hole(Hole::RequestId)),
                Piece::Hole(other) => Err(TemplateError::Unknown(other.to_owned())),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { parts, json })
    }

    fn fill(&self, facts: &RefusalFacts<'_>) -> String {
        let mut body = String::new();
        for part in &self.parts {
            let value = match part {
                Part::Text(text) => {
                    body.push_str(text);
                    continue;
                }
                Part::Hole(Hole::Reason) => facts.reason.as_str(),
                Part::Hole(Hole::Detail) => facts.detail,
                Part::Hole(Hole::Rule) => facts.rule.unwrap_or_default(),
                Part::Hole(Hole::Host) => facts.host,
                Part::Hole(Hole::RequestId) => facts.request_id,
            };
            if self.json {
                push_json_escaped(&mut body, value);
            } else {
                body.push_str(value);
            }
        }
        body
    }
}

fn standard_body(facts: &RefusalFacts<'_>) -> String {
    let mut body = serde_json::json!({
        "error": "policy_denied",
        "reason": facts.reason.as_str(),
        "detail": facts.detail,
        "rule": facts.rule,
        "host": facts.host,
        "hint": facts.reason.hint(),
        "request_id": facts.request_id,
    })
    .to_string();
    body.push('\n');
    body
}

/// The value as it stands between the quotes of a JSON string.
fn push_json_escaped(body: &mut String, value: &str) {
    let quoted = serde_json::Value::from(value).to_string();
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    body.push_str(inner.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: RefusalFacts<'static> = RefusalFacts {
        reason: DenyReason::NotNamed,
        detail: "a \"quoted\"\nword",
        rule: None,
        host: "example.com",
        request_id: "r-1",
    };

    #[test]
    fn the_standard_body_explains_itself() {
        let answer = RefusalAnswer::default();
        assert_eq!(answer.status, 403);
        assert_eq!(answer.headers, [(header::CONTENT_TYPE, JSON)]);
        let body: serde_json::Value = serde_json::from_str(&answer.body(&FACTS)).unwrap();
        assert_eq!(body["error"], "policy_denied");
        assert_eq!(body["reason"], "not_named");
        assert_eq!(body["rule"], serde_json::Value::Null);
        assert_eq!(body["hint"], DenyReason::NotNamed.hint());
        assert_eq!(body["request_id"], "r-1");
    }

    #[test]
    fn o03_a_body_of_the_document_is_filled_in() {
        let text = RefusalBody::parse("${host}: ${reason} (${detail}) [${rule}] $${x}", false).unwrap();
        assert_eq!(text.fill(&FACTS), "example.com: not_named (a \"quoted\"\nword) [] ${x}");
        let json = RefusalBody::parse(r#"{"why":"${detail}","id":"${request_id}"}"#, true).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json.fill(&FACTS)).unwrap();
        assert_eq!(value["why"], FACTS.detail);
        assert_eq!(value["id"], "r-1");
    }

    #[test]
    fn every_hole_is_known_and_nothing_else() {
        for hole in RefusalBody::HOLES {
            assert!(RefusalBody::parse(&format!("${{{hole}}}"), false).is_ok(), "{hole}");
        }
        assert_eq!(RefusalBody::parse("${secret:A}", false), Err(TemplateError::Unknown("secret:A".into())));
    }
}
