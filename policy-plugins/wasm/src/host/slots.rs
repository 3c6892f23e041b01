//! From the placeholders in a request that a program wrote to the slots that secrets are put into, last
//! of all, outside of the program.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use sluicegate_policy::message::{MessageError, SLOTS_MAX, parse_path, shown};
use sluicegate_policy::{
    BasicAuth, BodyPart, BodySource, Edits, Encoding, HeaderEdit, OutgoingRequest, Placeholders, QueryEdit,
    Template, TemplatePart,
};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a header with a secret becomes.
enum Slot {
    Value(Template),
    Basic(BasicAuth),
}

/// Turns every placeholder in a request into a slot: afterwards none is left in the plain part of it.
///
/// # Errors
/// One stands where no secret can be put, or there are too many.
pub(super) fn fill(request: &mut OutgoingRequest, placeholders: &Placeholders) -> Result<(), MessageError> {
    if placeholders.stand_in(request.authority.host.to_string().as_bytes()) {
        return Err(error("a secret cannot be put into the host of a URL"));
    }
    if let Some(plain) = of_query(&request.path_and_query, &mut request.secrets, placeholders)? {
        request.path_and_query = plain;
    }
    of_headers(&mut request.headers, &mut request.secrets, placeholders)?;
    let secrets = &request.secrets;
    if secrets.headers.len() + secrets.query.len() + usize::from(secrets.basic_auth.is_some()) > SLOTS_MAX {
        return Err(too_many());
    }
    of_body(request, placeholders)
}

fn of_headers(
    headers: &mut HeaderMap,
    secrets: &mut Edits,
    placeholders: &Placeholders,
) -> Result<(), MessageError> {
    let mut found = Vec::new();
    for (name, value) in headers.iter() {
        if placeholders.stand_in(name.as_str().as_bytes()) {
            return Err(error("a secret can be the value of a header, and not its name"));
        }
        let Some(slot) = of_header(name, value, placeholders)? else { continue };
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(error(format!("header {name} holds a secret and another value: set it once")));
        }
        found.push((name.clone(), slot));
    }
    for (name, slot) in found {
        headers.remove(&name);
        match slot {
            Slot::Value(value) => secrets.headers.push(HeaderEdit::Set(name, value)),
            Slot::Basic(basic) => secrets.basic_auth = Some(basic),
        }
    }
    Ok(())
}

fn of_header(
    name: &HeaderName,
    value: &HeaderValue,
    placeholders: &Placeholders,
) -> Result<Option<Slot>, MessageError> {
    if name == AUTHORIZATION
        && let Some(basic) = of_basic(value, placeholders)?
    {
        return Ok(Some(Slot::Basic(basic)));
    }
    if !placeholders.stand_in(value.as_bytes()) {
        return Ok(None);
    }
    Ok(placeholders.template(&shown(value))?.map(Slot::Value))
}

/// Basic authentication (RFC 7617 section 2): the secret is in what base64 stands for.
fn of_basic(value: &HeaderValue, placeholders: &Placeholders) -> Result<Option<BasicAuth>, MessageError> {
    let credentials = value.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((_, encoded)) = credentials.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic")) else {
        return Ok(None);
    };
    let Ok(decoded) = BASE64.decode(encoded.trim()) else {
        return Ok(None);
    };
    if !placeholders.stand_in(&decoded) {
        return Ok(None);
    }
    let text = std::str::from_utf8(&decoded).ok().filter(|text| !text.chars().any(char::is_control));
    let Some((username, password)) = text.and_then(|text| text.split_once(':')) else {
        return Err(error("Basic authentication is base64 of user:password, in UTF-8"));
    };
    let template = |text: &str| -> Result<Template, MessageError> {
        let literal = || Template::from_parts(vec![TemplatePart::Literal(text.into())]);
        Ok(placeholders.template(text)?.unwrap_or_else(literal))
    };
    Ok(Some(BasicAuth { username: template(username)?, password: template(password)? }))
}

/// The path and query without the parameters that hold a secret, where there are such.
fn of_query(
    path_and_query: &PathAndQuery,
    secrets: &mut Edits,
    placeholders: &Placeholders,
) -> Result<Option<PathAndQuery>, MessageError> {
    if placeholders.stand_in(path_and_query.path().as_bytes()) {
        return Err(error(
            "a secret cannot be put into the path of a URL: put it into a header or the query",
        ));
    }
    let Some(query) = path_and_query.query().filter(|query| placeholders.stand_in(query.as_bytes())) else {
        return Ok(None);
    };
    let mut plain: Vec<&str> = Vec::new();
    for part in query.split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if placeholders.stand_in(name.as_bytes()) {
            return Err(error("a secret can be the value of a parameter of the query, and not its name"));
        }
        match placeholders.template(&decoded(value))? {
            Some(value) => secrets.query.push(QueryEdit { name: decoded(name).into(), value }),
            None => plain.push(part),
        }
    }
    let names = secrets.query.iter().map(|edit| &*edit.name);
    let others = plain.iter().map(|part| decoded(part.split('=').next().unwrap_or_default()));
    let others: Vec<String> = others.chain(names.clone().map(str::to_owned)).collect();
    if names.into_iter().any(|name| others.iter().filter(|other| *other == name).count() > 1) {
        return Err(error("a parameter of the query that holds a secret is there once only"));
    }
    let path = path_and_query.path();
    Ok(Some(if plain.is_empty() {
        parse_path(path)?
    } else {
        parse_path(&format!("{path}?{}", plain.join("&")))?
    }))
}

/// As a form is decoded: `+` is a space.
fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

fn of_body(request: &mut OutgoingRequest, placeholders: &Placeholders) -> Result<(), MessageError> {
    let BodySource::Bytes(bytes) = &request.body else {
        return Ok(());
    };
    let Some(parts) = placeholders.body(bytes, encoding(&request.headers))? else {
        return Ok(());
    };
    if parts.iter().filter(|part| matches!(part, BodyPart::Secret(..))).count() > SLOTS_MAX {
        return Err(too_many());
    }
    request.body = BodySource::Filled(parts);
    Ok(())
}

/// How values are written into a body of this media type.
fn encoding(headers: &HeaderMap) -> Encoding {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        Encoding::Json
    } else if essence == "application/x-www-form-urlencoded" {
        Encoding::Form
    } else {
        Encoding::Raw
    }
}

fn too_many() -> MessageError {
    error(format!("more than {SLOTS_MAX} secrets in one request"))
}

fn error(message: impl Into<String>) -> MessageError {
    MessageError(message.into())
}
