//! Slots of a request that secrets are put into, last of all, outside of the handler.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderName;
use http::header::AUTHORIZATION;

use super::super::secret::{self, Secret};
use super::super::{Registrar, entry};
use super::Request;
use crate::edits::{BasicAuth, Edits, HeaderEdit, QueryEdit};
use crate::handler::failure::{Fallible, thrown};
use crate::handler::message::{SLOTS_MAX, header_name};
use crate::template::{Template, TemplatePart};

/// What is shown of the slot in this header, if there is one.
pub(super) fn shown(slots: &Edits, name: &str) -> Option<String> {
    let mut headers = slots.headers.iter().filter_map(of_header);
    let header = headers.find(|(other, _)| other.as_str().eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let basic = slots.basic_auth.as_ref().filter(|_| AUTHORIZATION.as_str().eq_ignore_ascii_case(name));
    let template = header.or_else(|| basic.map(|basic| &basic.password))?;
    template.secrets().next().map(secret::shown)
}

/// The headers that have a slot.
pub(super) fn names(slots: &Edits) -> impl Iterator<Item = &str> {
    let basic = slots.basic_auth.iter().map(|_| AUTHORIZATION.as_str());
    slots.headers.iter().filter_map(of_header).map(|(name, _)| name.as_str()).chain(basic)
}

/// Takes the slot of this header away.
pub(super) fn clear(slots: &mut Edits, name: &HeaderName) {
    slots.headers.retain(|edit| of_header(edit).is_none_or(|(other, _)| other != name));
    if *name == AUTHORIZATION {
        slots.basic_auth = None;
    }
}

/// Makes a slot of this header, in place of any other.
pub(super) fn set(slots: &mut Edits, name: HeaderName, value: Template) {
    clear(slots, &name);
    slots.headers.push(HeaderEdit::Set(name, value));
}

fn of_header(edit: &HeaderEdit) -> Option<(&HeaderName, &Template)> {
    match edit {
        HeaderEdit::Set(name, value) => Some((name, value)),
        HeaderEdit::Remove(_) => None,
    }
}

fn put(request: &Request, name: &str, secret: &Secret, between: (&str, &str)) -> Fallible<()> {
    let name = header_name(name)?;
    let mut head = request.lock();
    if head.slots.headers.len() >= SLOTS_MAX {
        return Err(thrown(format!("more than {SLOTS_MAX} secrets in one request")));
    }
    head.set_slot(name, secret, between)
}

fn put_query(request: &Request, name: &str, secret: &Secret) -> Fallible<()> {
    let mut head = request.lock();
    if head.slots.query.len() >= SLOTS_MAX {
        return Err(thrown(format!("more than {SLOTS_MAX} secrets in one request")));
    }
    head.remove_parameter(name)?;
    let value = secret.between("", "")?;
    head.slots.query.push(QueryEdit { name: name.into(), value });
    Ok(())
}

/// The user name of HTTP Basic authentication (RFC 7617 section 2).
fn check_user(user: &str) -> Fallible<()> {
    if user.contains(':') || user.chars().any(char::is_control) {
        return Err(thrown("the user name of Basic authentication has no colon and no control characters"));
    }
    Ok(())
}

pub(super) fn register(api: &mut Registrar<'_>) {
    api.function(
        entry(
            "request.set_header(name, prefix, secret, suffix)",
            "Puts a secret into a header, between two texts that may be left out from the end; from the front, \
             `set_header(name, secret)`",
            "request.set_header(\"authorization\", \"token \", env.secrets.API_TOKEN);",
        ),
        |request: &mut Request, name: &str, prefix: &str, secret: Secret, suffix: &str| -> Fallible<()> {
            put(request, name, &secret, (prefix, suffix))
        },
    );
    api.also(
        "set_header",
        |request: &mut Request, name: &str, prefix: &str, secret: Secret| -> Fallible<()> {
            put(request, name, &secret, (prefix, ""))
        },
    );
    api.also("set_header", |request: &mut Request, name: &str, secret: Secret| -> Fallible<()> {
        put(request, name, &secret, ("", ""))
    });
    api.also("add_header", |_: &mut Request, _: &str, secret: Secret| -> Fallible<()> {
        Err(secret.misused())
    });
    api.function(
        entry(
            "request.set_bearer(secret)",
            "The header `authorization: Bearer …`",
            "request.set_bearer(env.secrets.API_TOKEN);",
        ),
        |request: &mut Request, secret: Secret| -> Fallible<()> {
            put(request, AUTHORIZATION.as_str(), &secret, ("Bearer ", ""))
        },
    );
    register_basic(api);
    api.function(
        entry(
            "request.set_query(name, secret)",
            "Puts a secret into a parameter of the query",
            "request.set_query(\"key\", env.secrets.API_TOKEN);",
        ),
        |request: &mut Request, name: &str, secret: Secret| -> Fallible<()> {
            put_query(request, name, &secret)
        },
    );
}

fn register_basic(api: &mut Registrar<'_>) {
    api.function(
        entry(
            "request.set_basic_auth(user, secret)",
            "The header `authorization: Basic …`; the password may be plain text too",
            "request.set_basic_auth(\"robot\", env.secrets.API_TOKEN);",
        ),
        |request: &mut Request, user: &str, secret: Secret| -> Fallible<()> {
            check_user(user)?;
            let username = Template::from_parts(vec![TemplatePart::Literal(user.into())]);
            let password = secret.between("", "")?;
            request.lock().set_basic_auth(BasicAuth { username, password });
            Ok(())
        },
    );
    api.also("set_basic_auth", |request: &mut Request, user: &str, password: &str| -> Fallible<()> {
        check_user(user)?;
        let value = format!("Basic {}", BASE64.encode(format!("{user}:{password}")));
        let mut head = request.lock();
        head.headers.set(AUTHORIZATION, &value)?;
        head.clear_slot(&AUTHORIZATION);
        Ok(())
    });
}
