//! What handlers write into messages, and what of it is accepted: the same in every language.

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::compile::belongs_to_one_hop;
use crate::host::{Authority, Scheme};

/// The longest URL that a handler writes, in bytes.
pub const URL_BYTES_MAX: usize = 16 * 1024;
/// The most header values of a message that a handler has written to.
pub const HEADER_VALUES_MAX: usize = 256;
/// The longest header value that a handler writes, in bytes.
pub const HEADER_VALUE_BYTES_MAX: usize = 16 * 1024;
/// The most bytes of a body that are logged.
pub const TAP_BYTES_MAX: usize = 64 * 1024;
/// The most secrets in the head of one request.
pub const SLOTS_MAX: usize = 32;

/// Why something was not accepted, in words for whoever writes the handler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MessageError(pub String);

impl MessageError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Reads a method.
///
/// # Errors
/// It is not in upper case, or is `CONNECT`.
pub fn parse_method(text: &str) -> Result<Method, MessageError> {
    let known = text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) => Err(MessageError::new("CONNECT cannot be sent by a handler")),
        Ok(method) if known => Ok(method),
        _ => Err(MessageError::new("bad method: write it in upper case, such as GET")),
    }
}

/// Reads an absolute URL, with the same reader of hosts as everything else. A fragment is an error.
///
/// # Errors
/// It is none, or not of http or https.
pub fn parse_url(text: &str) -> Result<(Scheme, Authority, PathAndQuery), MessageError> {
    if text.len() > URL_BYTES_MAX {
        return Err(MessageError(format!("the URL is longer than {URL_BYTES_MAX} bytes")));
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(|| {
        MessageError::new("a URL begins with https:// or http://, such as https://api.example.test/v1/me")
    })?;
    let scheme = Scheme::ALL
        .into_iter()
        .find(|known| known.as_str().eq_ignore_ascii_case(scheme))
        .ok_or_else(|| MessageError::new("the scheme of a URL is https or http"))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = Authority::parse(authority, scheme.default_port())
        .map_err(|error| MessageError(format!("bad host in the URL: {error}")))?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((scheme, authority, parse_path(&path)?))
}

/// Reads a path with its query.
///
/// # Errors
/// It is not printable ASCII that begins with `/`, or holds a fragment.
pub fn parse_path(text: &str) -> Result<PathAndQuery, MessageError> {
    let plain = text.len() <= URL_BYTES_MAX
        && text.starts_with('/')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    match PathAndQuery::try_from(text) {
        Ok(path) if plain => Ok(path),
        _ => Err(MessageError::new(
            "bad path or query: it begins with / and is printable ASCII without # (see encode_uri)",
        )),
    }
}

/// A URL as text, without the port that its scheme means anyway.
#[must_use]
pub fn url(scheme: Scheme, authority: &Authority, path_and_query: &PathAndQuery) -> String {
    let shown = authority.to_string();
    let default = format!(":{}", scheme.default_port());
    let authority = shown.strip_suffix(&default).unwrap_or(&shown);
    format!("{scheme}://{authority}{path_and_query}")
}

/// The name of a header that a handler may write.
///
/// # Errors
/// It is no header name, or one that the gate writes itself.
pub fn header_name(text: &str) -> Result<HeaderName, MessageError> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        MessageError(format!("bad header name {:?}", text.chars().take(64).collect::<String>()))
    })?;
    if belongs_to_one_hop(&name) {
        return Err(MessageError(format!(
            "header {name} cannot be written: the gate writes it for each connection"
        )));
    }
    Ok(name)
}

/// A header's value as handlers see it: each byte above 0x7f as the Latin-1 character of that number, so
/// that what a handler does not touch comes out as it went in.
#[must_use]
pub fn shown(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

/// The same the other way.
///
/// # Errors
/// It is too long, or holds control characters or what is above U+00FF.
pub fn header_value(name: &HeaderName, text: &str) -> Result<HeaderValue, MessageError> {
    if text.len() > HEADER_VALUE_BYTES_MAX {
        return Err(MessageError(format!(
            "the value of header {name} is longer than {HEADER_VALUE_BYTES_MAX} bytes"
        )));
    }
    let bytes = text.chars().map(|c| u8::try_from(u32::from(c))).collect::<Result<Vec<u8>, _>>();
    bytes.ok().and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()).ok_or_else(|| {
        MessageError(format!(
            "header {name} cannot have this value: no control characters, nothing above U+00FF"
        ))
    })
}

/// That a message has more headers than a handler may write.
#[must_use]
pub fn too_many_headers() -> MessageError {
    MessageError(format!("more than {HEADER_VALUES_MAX} headers"))
}

/// A number of bytes to log.
///
/// # Errors
/// It is negative or too great.
pub fn tap_limit(limit: i64) -> Result<usize, MessageError> {
    usize::try_from(limit)
        .ok()
        .filter(|limit| *limit <= TAP_BYTES_MAX)
        .ok_or_else(|| MessageError(format!("0 to {TAP_BYTES_MAX} bytes of a body can be logged")))
}

/// Reads a response's status.
///
/// # Errors
/// It is not within 200 to 599.
pub fn parse_status(status: i64) -> Result<StatusCode, MessageError> {
    u16::try_from(status)
        .ok()
        .filter(|status| (200..=599).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| MessageError(format!("{status} is no status of a response: 200 to 599")))
}

/// Checks that a response with this status may have a body (RFC 9110 section 6.4.1).
///
/// # Errors
/// It may not.
pub fn may_have_body(status: StatusCode) -> Result<(), MessageError> {
    match status {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED => {
            Err(MessageError(format!("a response with status {} has no body", status.as_u16())))
        }
        _ => Ok(()),
    }
}
