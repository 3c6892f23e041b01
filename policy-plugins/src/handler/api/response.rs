//! `response`: a handle to a response that a script got or made.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use rhai::{Array, Dynamic, ImmutableString, Map, NativeCallContext};

use super::body::{Body, plain};
use super::headers::Headers;
use super::secret::Secret;
use super::{Registrar, entry, optional};
use crate::handler::failure::{Fallible, thrown};
use crate::handler::message::{header_name, may_have_body, parse_status, tap_limit};
use crate::handler::run::Run;
use crate::handler::value::{Blob, parse_json, text_of, to_json};
use crate::handler::{BodySource, HandlerResponse, journal};

/// A response as a script holds it; copies of the handle are the same response.
#[derive(Clone, Debug)]
pub(in crate::handler) struct Response(Arc<Mutex<Head>>);

#[derive(Debug)]
pub(super) struct Head {
    status: StatusCode,
    headers: Headers,
    body: BodySource,
    tap: Option<usize>,
}

impl Response {
    fn new(status: StatusCode, headers: Headers, body: BodySource) -> Self {
        Self(Arc::new(Mutex::new(Head { status, headers, body, tap: None })))
    }

    /// What an upstream answered.
    pub(super) fn of(answer: journal::Response) -> Self {
        let body = answer.body.map_or(BodySource::Empty, BodySource::Handle);
        Self::new(answer.status, Headers(answer.headers), body)
    }

    fn lock(&self) -> MutexGuard<'_, Head> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The response as it is now, for the workload.
    ///
    /// # Errors
    /// Its body was sent before, or its status has none.
    pub(in crate::handler) fn send(&self, run: &Run) -> Fallible<HandlerResponse> {
        let head = self.lock();
        let wrote = matches!(&head.body, BodySource::Bytes(bytes) if !bytes.is_empty());
        if wrote {
            may_have_body(head.status)?;
        }
        Ok(HandlerResponse {
            status: head.status,
            headers: (*head.headers.0).clone(),
            body: run.send_body(&head.body)?,
            tap: head.tap,
        })
    }
}

impl Head {
    fn put_body(&mut self, body: BodySource) {
        self.headers.remove(&CONTENT_LENGTH);
        self.body = body;
    }

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

fn reply(status: i64, body: &Dynamic) -> Fallible<Response> {
    let status = parse_status(status)?;
    let response = Response::new(status, Headers::default(), BodySource::Empty);
    let is_json = body.is_map() || body.is_array();
    let is_body = body.read_lock::<Body>().is_some();
    let content = if is_json { BodySource::Bytes(to_json(body)?.to_string().into()) } else { plain(body)? };
    let empty =
        matches!(&content, BodySource::Empty) || matches!(&content, BodySource::Bytes(b) if b.is_empty());
    if !empty {
        may_have_body(status)?;
    }
    if is_body {
        response.lock().put_body(content);
    } else if is_json {
        response.lock().put_typed(content, "application/json")?;
    } else if body.is_string() {
        response.lock().put_typed(content, "text/plain; charset=utf-8")?;
    } else {
        response.lock().put_typed(content, "application/octet-stream")?;
    }
    Ok(response)
}

pub(super) fn register(api: &mut Registrar<'_>) {
    api.engine.register_type_with_name::<Response>("response");
    api.section("The response");
    api.function(
        entry(
            "reply(status, body)",
            "A response of the handler's own, status 200 to 599. The body may be left out; a text is sent as \
             text/plain, a blob as application/octet-stream, a map or an array as application/json, the body \
             of a message or an object as it streams",
            "return reply(404, \"no such key\\n\");",
        ),
        |status: i64, body: Dynamic| -> Fallible<Response> { reply(status, &body) },
    );
    api.also("reply", |status: i64| -> Fallible<Response> {
        Ok(Response::new(parse_status(status)?, Headers::default(), BodySource::Empty))
    });
    api.property(
        entry(
            "response.status",
            "The status, as a number; can be set",
            "let status = fetch(request).status;",
        ),
        |response: &mut Response| i64::from(response.lock().status.as_u16()),
    );
    api.writable("status", |response: &mut Response, status: i64| {
        response.lock().status = parse_status(status)?;
        Ok(())
    });
    register_headers(api);
    register_body(api);
    register_body_writers(api);
}

fn register_headers(api: &mut Registrar<'_>) {
    api.describe(entry(
        "response.header(name), header_all(name), header_names(), set_header(name, value), add_header(name, value), \
         remove_header(name)",
        "As those of the request; no secret can be put into a response",
        "let response = fetch(request); response.set_header(\"x-seen-by\", \"sluicegate\");",
    ));
    api.also("header", |response: &mut Response, name: &str| optional(response.lock().headers.first(name)));
    api.also("header_all", |response: &mut Response, name: &str| response.lock().headers.all(name));
    api.also("header_names", |response: &mut Response| -> Array {
        response.lock().headers.names().map(Into::into).collect()
    });
    api.also("set_header", |response: &mut Response, name: &str, value: &str| -> Fallible<()> {
        response.lock().headers.set(header_name(name)?, value)
    });
    api.also("add_header", |response: &mut Response, name: &str, value: &str| -> Fallible<()> {
        response.lock().headers.add(header_name(name)?, value)
    });
    api.also("remove_header", |response: &mut Response, name: &str| -> Fallible<()> {
        response.lock().headers.remove(&header_name(name)?);
        Ok(())
    });
    for name in ["set_header", "add_header"] {
        api.also(name, |_: &mut Response, _: &str, secret: Secret| -> Fallible<()> { Err(secret.misused()) });
    }
}

fn register_body(api: &mut Registrar<'_>) {
    api.describe(entry(
        "response.body, content_length, read_body(limit), read_text(limit), read_json(limit), peek_body(limit), \
             tap_body(limit)",
        "As those of the request",
        "let answer = fetch(request).read_json(65536);",
    ));
    api.engine.register_get("body", |response: &mut Response| Body(response.lock().body.clone()));
    api.engine
        .register_get("content_length", |response: &mut Response| optional(response.lock().content_length()));
    api.also(
        "read_body",
        |context: NativeCallContext<'_>, response: &mut Response, limit: i64| -> Fallible<Blob> {
            read(&context, response, limit).map(Blob)
        },
    );
    api.also(
        "read_text",
        |context: NativeCallContext<'_>, response: &mut Response, limit: i64| -> Fallible<ImmutableString> {
            let bytes = read(&context, response, limit)?;
            text_of(&bytes, Run::of(&context)?.environment().limits.string_bytes)
        },
    );
    api.also(
        "read_json",
        |context: NativeCallContext<'_>, response: &mut Response, limit: i64| -> Fallible<Dynamic> {
            parse_json(&read(&context, response, limit)?)
        },
    );
    api.also(
        "peek_body",
        |context: NativeCallContext<'_>, response: &mut Response, limit: i64| -> Fallible<Blob> {
            let body = response.lock().body.clone();
            Run::of(&context)?.peek_body(context.call_position(), &body, limit).map(Blob)
        },
    );
    api.also("tap_body", |response: &mut Response, limit: i64| -> Fallible<()> {
        response.lock().tap = Some(tap_limit(limit)?);
        Ok(())
    });
}

fn register_body_writers(api: &mut Registrar<'_>) {
    api.describe(entry(
        "response.set_body(value), set_json(value)",
        "As those of the request, without secrets",
        "let response = fetch(request); response.set_json(#{ seen: true });",
    ));
    api.also("set_body", |response: &mut Response, value: Dynamic| -> Fallible<()> {
        let body = plain(&value)?;
        response.lock().put_body(body);
        Ok(())
    });
    api.also("set_json", |response: &mut Response, value: Dynamic| -> Fallible<()> {
        let text = to_json(&value)?.to_string();
        response.lock().put_typed(BodySource::Bytes(text.into()), "application/json")
    });
    api.also("set_form", |_: &mut Response, _: Map| -> Fallible<()> {
        Err(thrown("a form belongs to a request; use set_json or set_body"))
    });
}

fn read(context: &NativeCallContext<'_>, response: &Response, limit: i64) -> Fallible<Bytes> {
    let body = response.lock().body.clone();
    Run::of(context)?.read_body(context.call_position(), &body, limit)
}
