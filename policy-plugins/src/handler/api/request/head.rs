//! Method, URL and query of a request.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rhai::{Dynamic, ImmutableString};

use super::super::{Registrar, entry, optional};
use super::{Head, Request};
use crate::handler::failure::{Fallible, thrown};
use crate::handler::message::{self, parse_method, parse_path, parse_url};
use crate::host::WrittenAuthority;

/// All but the unreserved characters of RFC 3986 section 2.3.
pub(in crate::handler::api) const COMPONENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Head {
    pub(super) fn url(&self) -> String {
        message::url(self.scheme, &self.authority, &self.path_and_query)
    }

    fn set_url(&mut self, text: &str) -> Fallible<()> {
        (self.scheme, self.authority, self.path_and_query) = parse_url(text)?;
        Ok(())
    }

    fn set_host(&mut self, text: &str) -> Fallible<()> {
        let written = WrittenAuthority::parse(text).map_err(|error| thrown(format!("bad host: {error}")))?;
        self.authority = written.or_port(self.authority.port);
        Ok(())
    }

    fn set_path(&mut self, text: &str) -> Fallible<()> {
        if text.contains('?') {
            return Err(thrown("a path has no query: use set_query or request.query"));
        }
        self.put(text, self.query().map(str::to_owned).as_deref())
    }

    fn query(&self) -> Option<&str> {
        self.path_and_query.query()
    }

    fn set_whole_query(&mut self, text: Option<&str>) -> Fallible<()> {
        let path = self.path_and_query.path().to_owned();
        self.put(&path, text)?;
        self.slots.query.clear();
        Ok(())
    }

    fn put(&mut self, path: &str, query: Option<&str>) -> Fallible<()> {
        self.path_and_query = match query {
            Some(query) => parse_path(&format!("{path}?{query}"))?,
            None => parse_path(path)?,
        };
        Ok(())
    }

    /// The first value of a parameter, decoded as a form is: `+` is a space.
    fn parameter(&self, name: &str) -> Option<String> {
        if let Some(slot) = self.slots.query.iter().find(|edit| &*edit.name == name) {
            return slot.value.secrets().next().map(super::super::secret::shown);
        }
        let parts = self.query()?.split('&').map(|part| part.split_once('=').unwrap_or((part, "")));
        parts
            .map(|(part, value)| (decoded(part), value))
            .find(|(part, _)| part == name)
            .map(|found| decoded(found.1))
    }

    /// Takes a parameter out, a secret in it too.
    pub(super) fn remove_parameter(&mut self, name: &str) -> Fallible<()> {
        self.slots.query.retain(|edit| &*edit.name != name);
        let Some(query) = self.query() else {
            return Ok(());
        };
        let named = |part: &str| decoded(part.split('=').next().unwrap_or_default()) == name;
        let rest = query.split('&').filter(|part| !named(part)).collect::<Vec<_>>().join("&");
        let path = self.path_and_query.path().to_owned();
        self.put(&path, (!rest.is_empty()).then_some(&rest))
    }

    fn set_parameter(&mut self, name: &str, value: &str) -> Fallible<()> {
        self.remove_parameter(name)?;
        let new =
            format!("{}={}", utf8_percent_encode(name, COMPONENT), utf8_percent_encode(value, COMPONENT));
        let query = self.query().map_or_else(|| new.clone(), |query| format!("{query}&{new}"));
        let path = self.path_and_query.path().to_owned();
        self.put(&path, Some(&query))
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

pub(super) fn register(api: &mut Registrar<'_>) {
    api.property(
        entry("request.method", "The method, in upper case; can be set", "request.method = \"GET\";"),
        |request: &mut Request| request.lock().method.to_string(),
    );
    api.writable("method", |request: &mut Request, text: ImmutableString| {
        request.lock().method = parse_method(&text)?;
        Ok(())
    });
    api.property(
        entry(
            "request.url",
            "The whole URL, without the port that its scheme means anyway; can be set",
            "request.url = \"https://mirror.example.test/simple/\";",
        ),
        |request: &mut Request| request.lock().url(),
    );
    api.writable("url", |request: &mut Request, text: ImmutableString| request.lock().set_url(&text));
    api.property(entry("request.scheme", "`https` or `http`", ""), |request: &mut Request| {
        request.lock().scheme.to_string()
    });
    api.property(
        entry(
            "request.host",
            "The host, normalised; can be set, with or without a port",
            "request.host = \"mirror.example.test\";",
        ),
        |request: &mut Request| request.lock().authority.host.to_string(),
    );
    api.writable("host", |request: &mut Request, text: ImmutableString| request.lock().set_host(&text));
    api.property(entry("request.port", "The port, as a number", ""), |request: &mut Request| {
        i64::from(request.lock().authority.port)
    });
    register_path(api);
}

fn register_path(api: &mut Registrar<'_>) {
    api.property(
        entry(
            "request.path",
            "The path as it is written, without the query; can be set",
            "request.path = \"/v2/\";",
        ),
        |request: &mut Request| request.lock().path_and_query.path().to_owned(),
    );
    api.writable("path", |request: &mut Request, text: ImmutableString| request.lock().set_path(&text));
    api.property(
        entry("request.query", "The text after `?`, or `()`; can be set", "request.query = \"page=2\";"),
        |request: &mut Request| optional(request.lock().query().map(str::to_owned)),
    );
    // A setter has one type, and this one takes `()` too.
    api.writable("query", |request: &mut Request, value: Dynamic| {
        if value.is_unit() {
            return request.lock().set_whole_query(None);
        }
        let text =
            value.into_immutable_string().map_err(|kind| thrown(format!("a query is text, not a {kind}")))?;
        request.lock().set_whole_query(Some(&text))
    });
    api.function(
        entry(
            "request.query_param(name)",
            "The first value of a parameter of the query, decoded, or `()`",
            "let page = request.query_param(\"page\");",
        ),
        |request: &mut Request, name: &str| optional(request.lock().parameter(name)),
    );
    api.function(
        entry(
            "request.set_query(name, value)",
            "Puts one parameter in place of all of that name; the value is encoded",
            "request.set_query(\"page\", \"2\");",
        ),
        |request: &mut Request, name: &str, value: &str| -> Fallible<()> {
            request.lock().set_parameter(name, value)
        },
    );
    api.function(
        entry("request.remove_query(name)", "Removes every parameter of that name", ""),
        |request: &mut Request, name: &str| -> Fallible<()> { request.lock().remove_parameter(name) },
    );
}
