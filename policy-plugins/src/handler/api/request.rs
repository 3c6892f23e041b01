//! `request`: a handle to a request that a script reads, changes and sends.

mod head;
mod slots;

pub(super) use head::COMPONENT;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderName, Method};
use rhai::{Array, Dynamic, ImmutableString, Map, NativeCallContext, Position};

use super::body::{Body, filled, form};
use super::headers::Headers;
use super::secret::Secret;
use super::{Registrar, entry, optional};
use crate::edits::Edits;
use crate::handler::failure::{Fallible, thrown};
use crate::handler::journal::{Question, Told};
use crate::handler::message::{header_name, parse_method, parse_url, tap_limit};
use crate::handler::run::Run;
use crate::handler::value::{Blob, Pieces, bytes_of, parse_json, text_of};
use crate::handler::{BodyHandle, BodySource, Effect, HandlerInput, OutgoingRequest};
use crate::host::{Authority, Scheme};

/// A request as a script holds it; copies of the handle are the same request.
#[derive(Clone, Debug)]
pub(in crate::handler) struct Request(Arc<Mutex<Head>>);

/// What a request is.
#[derive(Clone, Debug)]
pub(super) struct Head {
    method: Method,
    scheme: Scheme,
    authority: Authority,
    path_and_query: PathAndQuery,
    headers: Headers,
    /// Never holds a slot whose plain counterpart is in `headers` or the query.
    slots: Edits,
    body: BodySource,
    is_workloads: bool,
    tap: Option<usize>,
}

impl Request {
    fn new(head: Head) -> Self {
        Self(Arc::new(Mutex::new(head)))
    }

    /// The workload's request, as every run begins with it.
    pub(in crate::handler) fn of_workload(input: &HandlerInput, headers: &Headers) -> Self {
        let body = if input.has_body { BodySource::Handle(BodyHandle::WORKLOAD) } else { BodySource::Empty };
        Self::new(Head {
            method: input.method.clone(),
            scheme: input.scheme,
            authority: input.authority.clone(),
            path_and_query: input.path_and_query.clone(),
            headers: headers.clone(),
            slots: Edits::NONE,
            body,
            is_workloads: true,
            tap: None,
        })
    }

    /// A request of the script's own.
    ///
    /// # Errors
    /// The method or the URL is none.
    pub(super) fn to(method: &str, url: &str) -> Fallible<Self> {
        let (scheme, authority, path_and_query) = parse_url(url)?;
        Ok(Self::new(Head {
            method: parse_method(method)?,
            scheme,
            authority,
            path_and_query,
            headers: Headers::default(),
            slots: Edits::NONE,
            body: BodySource::Empty,
            is_workloads: false,
            tap: None,
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Head> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request as it is now, to be sent: its body is spent, unless it is in memory.
    ///
    /// # Errors
    /// The body was sent before.
    pub(in crate::handler) fn send(&self, run: &Run) -> Fallible<OutgoingRequest> {
        let head = self.lock();
        let body = run.send_body(&head.body)?;
        Ok(head.outgoing(body))
    }

    /// Sends the request and waits for what comes.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Run::perform`].
    pub(super) fn fetch(&self, run: &Run, at: Position) -> Fallible<Told> {
        let head = self.lock();
        let body = run.send_body(&head.body)?;
        let path = head.path_and_query.as_str();
        let about = (&head.method, head.scheme.as_str(), &head.authority, path, head.headers.0.len());
        run.perform(at, Question::new("fetch", about), || Effect::Fetch(Box::new(head.outgoing(body))))
    }

    fn copy(&self, run: &Run) -> Self {
        let mut head = self.lock().clone();
        if let BodySource::Handle(_) = head.body {
            let read = run.bytes_of(&head.body).map(BodySource::Bytes);
            head.put_body(read.unwrap_or(BodySource::Empty));
        }
        Self::new(head)
    }
}

impl Head {
    fn outgoing(&self, body: BodySource) -> OutgoingRequest {
        OutgoingRequest {
            method: self.method.clone(),
            scheme: self.scheme,
            authority: self.authority.clone(),
            path_and_query: self.path_and_query.clone(),
            headers: (*self.headers.0).clone(),
            secrets: self.slots.clone(),
            body,
            is_workloads: self.is_workloads,
            tap: self.tap,
            timeout: None,
        }
    }

    fn put_body(&mut self, body: BodySource) {
        self.headers.remove(&CONTENT_LENGTH);
        self.body = body;
    }

    /// Puts a body the script wrote, with its media type unless there is one.
    fn put_typed(&mut self, body: BodySource, media_type: &str) -> Fallible<()> {
        if !self.headers.0.contains_key(CONTENT_TYPE) {
            self.headers.set(CONTENT_TYPE, media_type)?;
        }
        self.put_body(body);
        Ok(())
    }

    fn content_length(&self) -> Option<i64> {
        match &self.body {
            BodySource::Empty => Some(0),
            BodySource::Bytes(bytes) => i64::try_from(bytes.len()).ok(),
            BodySource::Handle(_) => self.headers.0.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok(),
            BodySource::Filled(_) => None,
        }
    }
}

pub(super) fn register(api: &mut Registrar<'_>) {
    api.engine.register_type_with_name::<Request>("request");
    api.section("The request");
    head::register(api);
    register_headers(api);
    slots::register(api);
    register_body(api);
    register_body_writers(api);
    api.function(
        entry(
            "request.copy()",
            "Another request with the same head. The body stays with the first, unless it was read",
            "let second = request.copy();",
        ),
        |context: NativeCallContext<'_>, request: &mut Request| -> Fallible<Request> {
            Ok(request.copy(&Run::of(&context)?))
        },
    );
    api.function(
        entry(
            "new_request(method, url)",
            "A request of the handler's own, without headers and body",
            "let question = new_request(\"GET\", \"https://auth.example.test/check\");",
        ),
        Request::to,
    );
}

fn register_headers(api: &mut Registrar<'_>) {
    api.function(
        entry(
            "request.header(name)",
            "The first value of a header, or `()`. Names are the same in any case; a byte above 0x7f is shown as \
             the Latin-1 character of that number; a slot is shown as `<secret NAME>`",
            "let kind = request.header(\"content-type\") ?? \"text/plain\";",
        ),
        |request: &mut Request, name: &str| {
            let head = request.lock();
            optional(head.slot_of(name).or_else(|| head.headers.first(name)))
        },
    );
    api.function(
        entry("request.header_all(name)", "Every value of a header, in order", ""),
        |request: &mut Request, name: &str| {
            let head = request.lock();
            head.slot_of(name).map_or_else(|| head.headers.all(name), |slot| vec![slot.into()])
        },
    );
    api.function(
        entry("request.header_names()", "The names of all headers, in lower case", ""),
        |request: &mut Request| -> Array {
            let head = request.lock();
            head.headers.names().chain(head.slot_names()).map(Into::into).collect()
        },
    );
    api.function(
        entry(
            "request.set_header(name, value)",
            "Puts one value in place of all of that name. Headers of the connection (host, content-length, \
             transfer-encoding and the like) cannot be written",
            "request.set_header(\"x-team\", \"blue\");",
        ),
        |request: &mut Request, name: &str, value: &str| -> Fallible<()> {
            let name = header_name(name)?;
            let mut head = request.lock();
            head.headers.set(name.clone(), value)?;
            head.clear_slot(&name);
            Ok(())
        },
    );
    api.function(
        entry("request.add_header(name, value)", "Adds a value to those of that name", ""),
        |request: &mut Request, name: &str, value: &str| -> Fallible<()> {
            let name = header_name(name)?;
            let mut head = request.lock();
            if head.slot_of(name.as_str()).is_some() {
                return Err(thrown(format!("header {name} holds a secret: use set_header to replace it")));
            }
            head.headers.add(name, value)
        },
    );
    api.function(
        entry("request.remove_header(name)", "Removes every value of a header, and a secret in it", ""),
        |request: &mut Request, name: &str| -> Fallible<()> {
            let name: HeaderName = header_name(name)?;
            let mut head = request.lock();
            head.headers.remove(&name);
            head.clear_slot(&name);
            Ok(())
        },
    );
}

fn register_body(api: &mut Registrar<'_>) {
    api.property(
        entry("request.has_body", "Whether there is a body, or may be one", ""),
        |request: &mut Request| !matches!(request.lock().body, BodySource::Empty),
    );
    api.property(
        entry("request.content_length", "The length of the body in bytes, or `()` where it is not known", ""),
        |request: &mut Request| optional(request.lock().content_length()),
    );
    api.property(
        entry("request.body", "The body, unread, to be handed on as it streams", ""),
        |request: &mut Request| Body(request.lock().body.clone()),
    );
    api.function(
        entry(
            "request.read_body(limit)",
            "The body as a blob of at most so many bytes, taken into memory; it is still sent on",
            "let bytes = request.read_body(65536);",
        ),
        |context: NativeCallContext<'_>, request: &mut Request, limit: i64| -> Fallible<Blob> {
            read(&context, request, limit).map(Blob)
        },
    );
    api.function(
        entry("request.read_text(limit)", "The same as text; throws where it is not UTF-8", ""),
        |context: NativeCallContext<'_>, request: &mut Request, limit: i64| -> Fallible<ImmutableString> {
            let bytes = read(&context, request, limit)?;
            text_of(&bytes, Run::of(&context)?.environment().limits.string_bytes)
        },
    );
    api.function(
        entry("request.read_json(limit)", "The same as the value that its JSON stands for", ""),
        |context: NativeCallContext<'_>, request: &mut Request, limit: i64| -> Fallible<Dynamic> {
            parse_json(&read(&context, request, limit)?)
        },
    );
    api.function(
        entry(
            "request.peek_body(limit)",
            "The first bytes of the body as a blob: so many, or all of a shorter body. The body stays whole, \
             unread",
            "if text(request.peek_body(4)) == \"PACK\" { return deny(\"no packs\"); }",
        ),
        |context: NativeCallContext<'_>, request: &mut Request, limit: i64| -> Fallible<Blob> {
            let body = request.lock().body.clone();
            Run::of(&context)?.peek_body(context.call_position(), &body, limit).map(Blob)
        },
    );
    api.function(
        entry(
            "request.tap_body(limit)",
            "Puts the first bytes of the body (at most 65536) into the log while it streams past",
            "request.tap_body(1024);",
        ),
        |request: &mut Request, limit: i64| -> Fallible<()> {
            request.lock().tap = Some(tap_limit(limit)?);
            Ok(())
        },
    );
}

fn register_body_writers(api: &mut Registrar<'_>) {
    api.function(
        entry(
            "request.set_body(value)",
            "Puts a text, a blob or another message's body in place of the body",
            "request.set_body(\"hello\");",
        ),
        |request: &mut Request, value: Dynamic| -> Fallible<()> {
            let body = match value.read_lock::<Body>() {
                Some(body) => body.0.clone(),
                None => BodySource::Bytes(bytes_of(&value)?),
            };
            request.lock().put_body(body);
            Ok(())
        },
    );
    api.function(
        entry(
            "request.set_json(value)",
            "Puts a value as JSON in place of the body; strings in it may be secrets",
            "request.set_json(#{ token: env.secrets.API_TOKEN });",
        ),
        |context: NativeCallContext<'_>, request: &mut Request, value: Dynamic| -> Fallible<()> {
            let mut pieces = Pieces::default();
            pieces.push_json(&value)?;
            let body = filled(&context, pieces)?;
            request.lock().put_typed(body, "application/json")
        },
    );
    api.function(
        entry(
            "request.set_form(map)",
            "Puts the fields of a form in place of the body (application/x-www-form-urlencoded); values may be \
             secrets",
            "request.set_form(#{ grant_type: \"client_credentials\", client_secret: env.secrets.API_TOKEN });",
        ),
        |context: NativeCallContext<'_>, request: &mut Request, fields: Map| -> Fallible<()> {
            let body = filled(&context, form(&fields)?)?;
            request.lock().put_typed(body, "application/x-www-form-urlencoded")
        },
    );
}

fn read(context: &NativeCallContext<'_>, request: &Request, limit: i64) -> Fallible<Bytes> {
    let body = request.lock().body.clone();
    Run::of(context)?.read_body(context.call_position(), &body, limit)
}

impl Head {
    /// What is shown of the slot in this header, if there is one.
    fn slot_of(&self, name: &str) -> Option<String> {
        slots::shown(&self.slots, name)
    }

    fn slot_names(&self) -> impl Iterator<Item = &str> {
        slots::names(&self.slots)
    }

    fn clear_slot(&mut self, name: &HeaderName) {
        slots::clear(&mut self.slots, name);
    }

    fn set_slot(&mut self, name: HeaderName, secret: &Secret, between: (&str, &str)) -> Fallible<()> {
        let template = secret.between(between.0, between.1)?;
        self.headers.remove(&name);
        slots::set(&mut self.slots, name, template);
        Ok(())
    }

    fn set_basic_auth(&mut self, basic: crate::edits::BasicAuth) {
        self.headers.remove(&AUTHORIZATION);
        self.clear_slot(&AUTHORIZATION);
        self.slots.basic_auth = Some(basic);
    }
}
