//! A bucket of an S3-compatible service: OpenDAL's protocol over our own connections.
//!
//! **Invariant:** credentials come from the policy's secrets alone: no environment, no file and no
//! metadata service is asked.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http::{Method, Request, Response, Uri};
use http_body::{Body, Frame};
use http_body_util::BodyDataStream;
use opendal_core::raw::parse_content_length;
use opendal_core::{
    Buffer, Error, ErrorKind, HttpBody, HttpTransport, HttpTransporter, OperationContext, Operator,
};
use opendal_service_s3::S3;
use sluicegate_policy::{Authority, Scheme, SecretName};

use super::Fault;
use super::location::Bucket;
use crate::body::{Arriving, RequestBody};
use crate::causes::in_words;
use crate::secrets::{Secret, Secrets};
use crate::upstream::{Lease, Origin, Upstream};

/// The longest answer that is not an object: a page of a thousand keys, or an error.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A bucket that is opened when it is first used, and again when a key was changed.
pub(super) struct OpenBucket {
    bucket: Bucket,
    upstream: Arc<Upstream>,
    opened: Mutex<Option<Opened>>,
}

struct Opened {
    keys: Option<(Arc<Secret>, Arc<Secret>)>,
    operator: Operator,
}

impl OpenBucket {
    pub(super) fn new(bucket: Bucket, upstream: Arc<Upstream>) -> Self {
        Self { bucket, upstream, opened: Mutex::default() }
    }

    /// The bucket, opened with the keys of now.
    pub(super) fn operator(&self, secrets: &Secrets) -> Result<Operator, Fault> {
        let reveal = |name: &SecretName| secrets.reveal(name).map_err(|_| Fault::Secret);
        let keys = match &self.bucket.keys {
            Some((id, key)) => Some((reveal(id)?, reveal(key)?)),
            None => None,
        };
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = opened.as_ref().filter(|opened| opened.has(keys.as_ref())) {
            return Ok(opened.operator.clone());
        }
        let operator = self.open(keys.as_ref())?;
        *opened = Some(Opened { keys, operator: operator.clone() });
        Ok(operator)
    }

    /// OpenDAL keeps copies of the keys that nobody wipes, as long as the bucket is open.
    fn open(&self, keys: Option<&(Arc<Secret>, Arc<Secret>)>) -> Result<Operator, Fault> {
        let mut service = S3::default()
            .disable_config_load()
            .disable_ec2_metadata()
            .bucket(&self.bucket.name)
            .root(&self.bucket.root)
            .region(&self.bucket.region);
        if let Some(endpoint) = &self.bucket.endpoint {
            service = service.endpoint(endpoint);
        }
        service = match keys {
            None => service.skip_signature(),
            Some((id, key)) => {
                let text = |secret: &Arc<Secret>| {
                    std::str::from_utf8(secret.bytes()).map(ToOwned::to_owned).map_err(|_| Fault::Secret)
                };
                service.access_key_id(&text(id)?).secret_access_key(&text(key)?)
            }
        };
        let names = self.bucket.keys.iter().flat_map(|(id, key)| [id.clone(), key.clone()]).collect();
        let transport = Transport { upstream: Arc::clone(&self.upstream), credentials: names };
        let context = OperationContext::new().with_http_transport(HttpTransporter::new(transport));
        Ok(Operator::new(service)?.with_context(context))
    }
}

impl Opened {
    fn has(&self, keys: Option<&(Arc<Secret>, Arc<Secret>)>) -> bool {
        match (&self.keys, keys) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => {
                ours.0.bytes() == theirs.0.bytes() && ours.1.bytes() == theirs.1.bytes()
            }
            _ => false,
        }
    }
}

/// OpenDAL's way out: through `upstream`, as everything goes.
struct Transport {
    upstream: Arc<Upstream>,
    /// The names of the keys, so that these connections carry nothing else.
    credentials: Vec<SecretName>,
}

impl Transport {
    fn origin(&self, uri: &Uri) -> Option<Origin> {
        let scheme = match uri.scheme_str()? {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return None,
        };
        let authority = Authority::parse(uri.authority()?.as_str(), scheme.default_port()).ok()?;
        Some(Origin { scheme, authority, multiplexed: false, credentials: self.credentials.clone() })
    }
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal_core::Result<Response<HttpBody>> {
        let origin = self.origin(request.uri()).ok_or_else(|| failed(Fault::Unreachable))?;
        let (mut head, content) = request.into_parts();
        head.uri = as_signed(head.uri);
        let streams = head.method == Method::GET && head.uri.query().is_none();
        let has_body = head.method != Method::HEAD;
        let (body, progress) = RequestBody::bytes(content.to_bytes(), Arc::default());
        let sent = self.upstream.send_to_store(&origin, Request::from_parts(head, body), &progress);
        let answered = Box::pin(sent).await.map_err(|error| {
            tracing::warn!(store = %origin.authority, error = %in_words(&error), "a store cannot be reached");
            failed(Fault::Unreachable)
        })?;
        let (head, incoming) = answered.response.into_parts();
        let length = if has_body { parse_content_length(&head.headers)? } else { None };
        let is_object = streams && head.status.is_success();
        let left = if is_object { None } else { Some(ANSWER_BYTES_MAX) };
        let body = BodyDataStream::new(Answer { incoming, lease: answered.lease, left });
        Ok(Response::from_parts(head, HttpBody::new(body, length)))
    }
}

/// The URI with its query as it was signed. OpenDAL leaves `/` in it as it is; services that compare
/// what they get without reading it first then see another signature.
fn as_signed(uri: Uri) -> Uri {
    let Some(query) = uri.query().filter(|query| query.contains('/')) else { return uri };
    let written = format!("{}?{}", uri.path(), query.replace('/', "%2F"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = written.parse().ok();
    Uri::from_parts(parts).unwrap_or(uri)
}

/// An answer's content, and the connection that it comes by.
struct Answer {
    incoming: Arriving,
    lease: Option<Lease>,
    /// How many bytes more it may have; an object may have any number.
    left: Option<usize>,
}

impl Body for Answer {
    type Data = Buffer;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<opendal_core::Result<Frame<Buffer>>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if (frame.is_none() || self.incoming.is_end_stream())
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(|_| failed(Fault::Unreachable))?;
        if let (Some(left), Some(bytes)) = (&mut self.left, frame.data_ref()) {
            *left = left.checked_sub(bytes.len()).ok_or_else(|| failed(Fault::Failed))?;
        }
        Poll::Ready(Some(Ok(frame.map_data(Buffer::from))))
    }
}

/// A fault in OpenDAL's form, out of which it is taken again.
fn failed(fault: Fault) -> Error {
    Error::new(ErrorKind::Unexpected, "").set_source(fault)
}
