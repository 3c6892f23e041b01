//! Responses: an upstream's, and those of a program's own.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sluicegate_policy::message::{header_name, may_have_body, parse_status};
use sluicegate_policy::{BodyHandle, BodySource, HandlerResponse, Placeholders};
use wasmtime::component::Resource;

use super::request::tapped;
use super::{Body, Refused, headers, invalid};
use crate::bindings::policy::http::HostResponse;
use crate::state::State;

/// A response as a program holds it.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Option<Body>,
    /// The body that it came with: the one that its `content-length` speaks of.
    original: Option<BodyHandle>,
    tap: Option<usize>,
}

impl Response {
    /// What an upstream answered.
    pub(super) fn of_upstream(status: StatusCode, headers: HeaderMap, body: Option<BodyHandle>) -> Self {
        Self { status, headers, body: body.map(Body::held), original: body, tap: None }
    }

    fn sent(self, placeholders: Option<&Placeholders>) -> Result<HandlerResponse, Refused> {
        let mut headers = self.headers;
        let body = self.body.map_or(Ok(BodySource::Empty), Body::source)?;
        check_body(self.status, &body)?;
        let is_original = match body {
            BodySource::Empty => self.original.is_none(),
            BodySource::Handle(handle) => self.original == Some(handle),
            _ => false,
        };
        if !is_original {
            headers.remove(CONTENT_LENGTH);
        }
        if let Some(placeholders) = placeholders {
            let in_header = |(name, value): (&HeaderName, &HeaderValue)| {
                placeholders.stand_in(name.as_str().as_bytes()) || placeholders.stand_in(value.as_bytes())
            };
            let in_headers = headers.iter().any(in_header);
            let in_body = matches!(&body, BodySource::Bytes(bytes) if placeholders.stand_in(bytes));
            if in_headers || in_body {
                return Err(invalid("a secret cannot be put into a response"));
            }
        }
        Ok(HandlerResponse { status: self.status, headers, body, tap: self.tap })
    }
}

/// Checks that a body which the program wrote may go with this status.
fn check_body(status: StatusCode, body: &BodySource) -> Result<(), Refused> {
    if matches!(body, BodySource::Bytes(bytes) if !bytes.is_empty()) {
        may_have_body(status)?;
    }
    Ok(())
}

impl State {
    /// A response as the workload gets it.
    ///
    /// # Errors
    /// Its body was begun, its status has none, or it holds a secret.
    pub(crate) fn answer_of(&mut self, response: Response) -> Result<HandlerResponse, Refused> {
        let unwanted = response.body.as_ref().and_then(Body::to_drop);
        let sent = response.sent(self.placeholders());
        if sent.is_err() {
            self.drop_later(unwanted);
        }
        sent
    }
}

impl HostResponse for State {
    fn create(
        &mut self,
        status: u16,
        new: Vec<(String, String)>,
        body: Option<Resource<Body>>,
    ) -> Result<Resource<Response>, Refused> {
        let body = body.map(|body| self.take(body)).transpose()?;
        self.keep(headers::length(&new))?;
        let made = parse_status(i64::from(status))
            .and_then(|status| Ok((status, headers::replaced(&HeaderMap::new(), new)?)));
        match made {
            Ok((status, headers)) => {
                Ok(self.push(Response { status, headers, body, original: None, tap: None })?)
            }
            Err(error) => {
                self.discard(body);
                Err(error.into())
            }
        }
    }

    fn status(&mut self, response: Resource<Response>) -> wasmtime::Result<u16> {
        Ok(self.get(&response)?.status.as_u16())
    }

    fn set_status(&mut self, response: Resource<Response>, status: u16) -> Result<(), Refused> {
        self.get_mut(&response)?.status = parse_status(i64::from(status))?;
        Ok(())
    }

    fn headers(&mut self, response: Resource<Response>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(headers::all(&self.get(&response)?.headers))
    }

    fn header(&mut self, response: Resource<Response>, name: String) -> wasmtime::Result<Vec<String>> {
        Ok(headers::of_name(&self.get(&response)?.headers, &name))
    }

    fn set_headers(
        &mut self,
        response: Resource<Response>,
        new: Vec<(String, String)>,
    ) -> Result<(), Refused> {
        self.keep(headers::length(&new))?;
        let response = self.get_mut(&response)?;
        response.headers = headers::replaced(&response.headers, new)?;
        Ok(())
    }

    fn set_header(
        &mut self,
        response: Resource<Response>,
        name: String,
        value: String,
    ) -> Result<(), Refused> {
        let name = header_name(&name)?;
        self.keep(value.len())?;
        Ok(headers::set(&mut self.get_mut(&response)?.headers, name, &value)?)
    }

    fn append_header(
        &mut self,
        response: Resource<Response>,
        name: String,
        value: String,
    ) -> Result<(), Refused> {
        let name = header_name(&name)?;
        self.keep(value.len())?;
        Ok(headers::append(&mut self.get_mut(&response)?.headers, name, &value)?)
    }

    fn delete_header(&mut self, response: Resource<Response>, name: String) -> Result<(), Refused> {
        let name = header_name(&name)?;
        self.get_mut(&response)?.headers.remove(name);
        Ok(())
    }

    fn has_body(&mut self, response: Resource<Response>) -> wasmtime::Result<bool> {
        Ok(self.get(&response)?.body.is_some())
    }

    fn take_body(&mut self, response: Resource<Response>) -> wasmtime::Result<Option<Resource<Body>>> {
        let body = self.get_mut(&response)?.body.take();
        body.map(|body| self.push(body)).transpose()
    }

    fn set_body(
        &mut self,
        response: Resource<Response>,
        body: Option<Resource<Body>>,
    ) -> wasmtime::Result<()> {
        let body = body.map(|body| self.take(body)).transpose()?;
        let before = std::mem::replace(&mut self.get_mut(&response)?.body, body);
        self.discard(before);
        Ok(())
    }

    fn tap_body(&mut self, response: Resource<Response>, limit: u32) -> wasmtime::Result<()> {
        self.get_mut(&response)?.tap = Some(tapped(limit));
        Ok(())
    }

    fn drop(&mut self, response: Resource<Response>) -> wasmtime::Result<()> {
        let body = self.take(response)?.body;
        self.discard(body);
        Ok(())
    }
}
