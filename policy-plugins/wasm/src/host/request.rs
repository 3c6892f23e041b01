//! Requests: the workload's, and those of a program's own.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use sluicegate_policy::message::{TAP_BYTES_MAX, header_name, parse_method, parse_url, url};
use sluicegate_policy::{
    Authority, BodyHandle, BodySource, Edits, HandlerInput, OutgoingRequest, Placeholders, Scheme,
};
use wasmtime::component::Resource;

use super::{Body, Refused, headers, slots};
use crate::bindings::policy::http::HostRequest;
use crate::state::State;

/// A request as a program holds it. Placeholders of secrets stand in it as they were written, until it
/// is sent.
#[derive(Debug)]
pub struct Request {
    method: Method,
    scheme: Scheme,
    authority: Authority,
    path_and_query: PathAndQuery,
    /// Shared with copies until one of them is written to.
    headers: Arc<HeaderMap>,
    body: Option<Body>,
    is_workloads: bool,
    tap: Option<usize>,
}

impl Request {
    /// The workload's request.
    pub(crate) fn of_workload(input: &HandlerInput, headers: HeaderMap) -> Self {
        Self {
            method: input.method.clone(),
            scheme: input.scheme,
            authority: input.authority.clone(),
            path_and_query: input.path_and_query.clone(),
            headers: Arc::new(headers),
            body: input.has_body.then(|| Body::held(BodyHandle::WORKLOAD)),
            is_workloads: true,
            tap: None,
        }
    }

    fn copy(&self) -> Self {
        Self {
            method: self.method.clone(),
            scheme: self.scheme,
            authority: self.authority.clone(),
            path_and_query: self.path_and_query.clone(),
            headers: Arc::clone(&self.headers),
            body: None,
            is_workloads: self.is_workloads,
            tap: None,
        }
    }

    /// What is sent, with secrets in their slots.
    fn sent(self, placeholders: Option<&Placeholders>) -> Result<OutgoingRequest, Refused> {
        let body = self.body.map_or(Ok(BodySource::Empty), Body::source)?;
        let mut headers = Arc::unwrap_or_clone(self.headers);
        if body != BodySource::Handle(BodyHandle::WORKLOAD) {
            headers.remove(CONTENT_LENGTH);
        }
        let mut request = OutgoingRequest {
            method: self.method,
            scheme: self.scheme,
            authority: self.authority,
            path_and_query: self.path_and_query,
            headers,
            secrets: Edits::NONE,
            body,
            is_workloads: self.is_workloads,
            tap: self.tap,
            timeout: None,
        };
        if let Some(placeholders) = placeholders {
            slots::fill(&mut request, placeholders)?;
        }
        Ok(request)
    }
}

impl State {
    /// A request as it is sent.
    ///
    /// # Errors
    /// Its body was begun, or a secret stands where none can be put.
    pub(super) fn outgoing(&mut self, request: Request) -> Result<OutgoingRequest, Refused> {
        let unwanted = request.body.as_ref().and_then(Body::to_drop);
        let sent = request.sent(self.placeholders());
        if sent.is_err() {
            self.drop_later(unwanted);
        }
        sent
    }
}

impl HostRequest for State {
    fn create(&mut self, method: String, url: String) -> Result<Resource<Request>, Refused> {
        let (scheme, authority, path_and_query) = parse_url(&url)?;
        let method = parse_method(&method)?;
        self.keep(url.len())?;
        Ok(self.push(Request {
            method,
            scheme,
            authority,
            path_and_query,
            headers: Arc::default(),
            body: None,
            is_workloads: false,
            tap: None,
        })?)
    }

    fn copy(&mut self, request: Resource<Request>) -> wasmtime::Result<Resource<Request>> {
        let copy = self.get(&request)?.copy();
        self.push(copy)
    }

    fn method(&mut self, request: Resource<Request>) -> wasmtime::Result<String> {
        Ok(self.get(&request)?.method.as_str().to_owned())
    }

    fn set_method(&mut self, request: Resource<Request>, method: String) -> Result<(), Refused> {
        self.get_mut(&request)?.method = parse_method(&method)?;
        Ok(())
    }

    fn url(&mut self, request: Resource<Request>) -> wasmtime::Result<String> {
        let request = self.get(&request)?;
        Ok(url(request.scheme, &request.authority, &request.path_and_query))
    }

    fn set_url(&mut self, request: Resource<Request>, url: String) -> Result<(), Refused> {
        let (scheme, authority, path_and_query) = parse_url(&url)?;
        self.keep(url.len())?;
        let request = self.get_mut(&request)?;
        (request.scheme, request.authority, request.path_and_query) = (scheme, authority, path_and_query);
        Ok(())
    }

    fn scheme(&mut self, request: Resource<Request>) -> wasmtime::Result<String> {
        Ok(self.get(&request)?.scheme.as_str().to_owned())
    }

    fn host(&mut self, request: Resource<Request>) -> wasmtime::Result<String> {
        Ok(self.get(&request)?.authority.host.to_string())
    }

    fn port(&mut self, request: Resource<Request>) -> wasmtime::Result<u16> {
        Ok(self.get(&request)?.authority.port)
    }

    fn path(&mut self, request: Resource<Request>) -> wasmtime::Result<String> {
        Ok(self.get(&request)?.path_and_query.path().to_owned())
    }

    fn query(&mut self, request: Resource<Request>) -> wasmtime::Result<Option<String>> {
        Ok(self.get(&request)?.path_and_query.query().map(str::to_owned))
    }

    fn headers(&mut self, request: Resource<Request>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(headers::all(&self.get(&request)?.headers))
    }

    fn header(&mut self, request: Resource<Request>, name: String) -> wasmtime::Result<Vec<String>> {
        Ok(headers::of_name(&self.get(&request)?.headers, &name))
    }

    fn set_headers(&mut self, request: Resource<Request>, new: Vec<(String, String)>) -> Result<(), Refused> {
        self.keep(headers::length(&new))?;
        let request = self.get_mut(&request)?;
        request.headers = Arc::new(headers::replaced(&request.headers, new)?);
        Ok(())
    }

    fn set_header(&mut self, request: Resource<Request>, name: String, value: String) -> Result<(), Refused> {
        let name = header_name(&name)?;
        self.keep(value.len())?;
        Ok(headers::set(Arc::make_mut(&mut self.get_mut(&request)?.headers), name, &value)?)
    }

    fn append_header(
        &mut self,
        request: Resource<Request>,
        name: String,
        value: String,
    ) -> Result<(), Refused> {
        let name = header_name(&name)?;
        self.keep(value.len())?;
        Ok(headers::append(Arc::make_mut(&mut self.get_mut(&request)?.headers), name, &value)?)
    }

    fn delete_header(&mut self, request: Resource<Request>, name: String) -> Result<(), Refused> {
        let name = header_name(&name)?;
        let request = self.get_mut(&request)?;
        if request.headers.contains_key(&name) {
            Arc::make_mut(&mut request.headers).remove(name);
        }
        Ok(())
    }

    fn has_body(&mut self, request: Resource<Request>) -> wasmtime::Result<bool> {
        Ok(self.get(&request)?.body.is_some())
    }

    fn take_body(&mut self, request: Resource<Request>) -> wasmtime::Result<Option<Resource<Body>>> {
        let body = self.get_mut(&request)?.body.take();
        body.map(|body| self.push(body)).transpose()
    }

    fn set_body(&mut self, request: Resource<Request>, body: Option<Resource<Body>>) -> wasmtime::Result<()> {
        let body = body.map(|body| self.take(body)).transpose()?;
        let before = std::mem::replace(&mut self.get_mut(&request)?.body, body);
        self.discard(before);
        Ok(())
    }

    fn tap_body(&mut self, request: Resource<Request>, limit: u32) -> wasmtime::Result<()> {
        self.get_mut(&request)?.tap = Some(tapped(limit));
        Ok(())
    }

    fn drop(&mut self, request: Resource<Request>) -> wasmtime::Result<()> {
        let body = self.take(request)?.body;
        self.discard(body);
        Ok(())
    }
}

/// How many bytes of a body are logged where so many were asked for.
pub(super) fn tapped(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX).min(TAP_BYTES_MAX)
}
