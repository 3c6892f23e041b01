//! One request on its way out: secrets on, sent, and what came of it noted in its record.
//!
//! **Invariant:** no request leaves but through [`Sending::send`], and no secret is on before it.

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, IF_RANGE, RANGE, UPGRADE};
use http::{HeaderName, Request, Response, request, response};
use http_body::Body as _;
use sluicegate_policy::{DenyReason, Edits, HeaderEdit, Refusal, SecretName};

use crate::audit::{AuditRecord, Verdict};
use crate::body::{Progress, RequestBody};
use crate::credentials::{CredentialError, Slots};
use crate::generation::Generation;
use crate::hop;
use crate::respond::Failure;
use crate::scrub::Scrubber;
use crate::upgrade::Asked;
use crate::upstream::{Answered, Origin, UpstreamError};

/// Where a request goes and what goes onto it.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// The generation that judged it.
    pub generation: &'a Generation,
    /// Whom it is for, and how it travels.
    pub origin: &'a Origin,
    /// The slots, in the order in which they are filled.
    pub edits: &'a [&'a Edits],
}

/// The secrets that these edits put on: a pooled connection is used for one set of them.
pub fn credentials(edits: &[&Edits]) -> Vec<SecretName> {
    edits.iter().flat_map(|edits| edits.secrets().cloned()).collect()
}

impl Sending<'_> {
    /// Puts the secrets on. To be done before the body is made, which may hold some too.
    ///
    /// # Errors
    /// [`Failure::Refused`] when a secret may not go there or has no value; nothing may be sent then.
    pub fn put_on(&self, head: &mut request::Parts, record: &mut AuditRecord) -> Result<(), Failure> {
        for edits in self.edits.iter().filter(|edits| !edits.is_empty()) {
            self.slots().apply(edits, head)?;
            record.credentials.extend(edits.secrets().map(ToString::to_string));
        }
        record.credentials.sort_unstable();
        record.credentials.dedup();
        if self.masks() {
            // What is compressed cannot be searched, and a part may hold half of a value.
            for name in [ACCEPT_ENCODING, RANGE, IF_RANGE] {
                head.headers.remove(name);
            }
        }
        Ok(())
    }

    /// Where secrets go on a request for this authority.
    pub fn slots(&self) -> Slots<'_> {
        Slots {
            policy: &self.generation.policy,
            secrets: &self.generation.secrets,
            authority: &self.origin.authority,
            scheme: self.origin.scheme,
        }
    }

    /// Sends a request whose secrets are on; `record` is told what came back.
    ///
    /// # Errors
    /// [`Failure`]; the record is told which secrets may have left all the same.
    pub async fn send(
        &self,
        request: Request<RequestBody>,
        progress: &Progress,
        record: &mut AuditRecord,
    ) -> Result<Answered, Failure> {
        let mut request = request;
        let asked = request.extensions().get::<Asked>().cloned();
        if let Err(refusal) = self.prepare(asked.as_ref(), &mut request) {
            record.credentials.clear();
            return Err(Failure::Refused(refusal));
        }
        request.body_mut().bar_trailers(self.slot_names());
        let upstream = &self.generation.upstream;
        let sent = match &asked {
            None => Box::pin(upstream.send(self.origin, request, progress)).await,
            Some(_) => Box::pin(upstream.send_upgrade(self.origin, request, progress)).await,
        };
        let mut answered = match sent.and_then(|answered| self.look(asked, answered)) {
            Ok(answered) => answered,
            Err(error) => {
                if !error.was_sent() {
                    record.credentials.clear();
                }
                return Err(error.into());
            }
        };
        record.mark_first_byte();
        record.verdict = Some(Verdict::Allowed);
        record.upstream = Some(answered.address);
        record.connect = Some(answered.connect);
        record.retries = Some(answered.retries).filter(|&retries| retries > 0);
        record.upstream_version = Some(answered.response.version());
        record.upstream_status = Some(answered.response.status().as_u16());
        record.status = record.upstream_status;
        hop::strip_response(answered.response.headers_mut());
        Ok(answered)
    }

    /// The headers that are set and removed.
    fn slot_names(&self) -> Vec<HeaderName> {
        let of = |edits: &Edits| {
            let names = edits.headers.iter().map(|edit| match edit {
                HeaderEdit::Remove(name) | HeaderEdit::Set(name, _) => name.clone(),
            });
            names.chain(edits.basic_auth.as_ref().map(|_| AUTHORIZATION)).collect::<Vec<_>>()
        };
        self.edits.iter().flat_map(|edits| of(edits)).collect()
    }

    /// Puts what asks for an upgrade on the head, or takes it off.
    fn prepare(&self, asked: Option<&Asked>, request: &mut Request<RequestBody>) -> Result<(), Refusal> {
        let Some(asked) = asked else {
            request.headers_mut().remove(UPGRADE);
            return Ok(());
        };
        let refused = |detail: String| Refusal { reason: DenyReason::UpgradeNotSupported, detail };
        if let Some(name) = self.masked().next() {
            return Err(refused(format!("secret {name} is masked in responses, and these cannot be read")));
        }
        if !request.body().is_end_stream() {
            return Err(refused(String::from("a request that asks for an upgrade has no body")));
        }
        asked.put_on(request.headers_mut());
        Ok(())
    }

    /// Looks at whether an answer changes the protocol, and whether that was asked for.
    fn look(&self, asked: Option<Asked>, mut answered: Answered) -> Result<Answered, UpstreamError> {
        let (mut head, body) = answered.response.into_parts();
        let to = (self.origin.scheme, self.origin.authority.clone());
        answered.granted = Asked::granted(asked, &mut head, to)?;
        answered.response = Response::from_parts(head, body);
        Ok(answered)
    }

    /// What masks the secrets of this authority in what it answers, the head done already; `None`
    /// where none is to be masked.
    ///
    /// # Errors
    /// When they are to be masked and cannot be: the response is compressed, or a value is not
    /// to be had. Nothing of the response may then be passed on.
    pub fn scrub(&self, head: &mut response::Parts) -> Result<Option<Scrubber>, Failure> {
        if !self.generation.scrubs {
            return Ok(None);
        }
        let names: Vec<_> = self.masked().collect();
        if names.is_empty() {
            return Ok(None);
        }
        if !Scrubber::can_read(&head.headers) {
            return Err(UpstreamError::Unreadable.into());
        }
        let values = names
            .into_iter()
            .map(|name| self.generation.secrets.reveal(name))
            .collect::<Result<Vec<_>, _>>()
            .map_err(CredentialError::Unavailable)?;
        let values: Vec<&[u8]> = values.iter().map(|value| value.bytes()).collect();
        let scrubber = Scrubber::new(&values);
        scrubber.head(head);
        Ok(Some(scrubber))
    }

    /// Whether what this authority answers is searched for secrets.
    pub fn masks(&self) -> bool {
        self.generation.scrubs && self.masked().next().is_some()
    }

    /// The secrets that this authority could show back.
    fn masked(&self) -> impl Iterator<Item = &SecretName> {
        self.generation
            .policy
            .secrets()
            .iter()
            .filter(|secret| secret.scrub && secret.is_bound_to(&self.origin.authority, self.origin.scheme))
            .map(|secret| &secret.name)
    }
}
