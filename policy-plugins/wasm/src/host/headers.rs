//! Headers of a request or a response, as programs read and write them.

use http::{HeaderMap, HeaderName};
use sluicegate_policy::message::{
    HEADER_VALUES_MAX, MessageError, header_name, header_value, shown, too_many_headers,
};

/// Names in lower case and values, in order.
pub(super) fn all(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), shown(value))).collect()
}

/// Every value of one header; the name is the same in any case.
pub(super) fn of_name(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(shown).collect()
}

/// These headers in place of all that a handler can write. Those of one hop stay as they are, and are
/// passed over where they come, so that the headers of one message can be put into another.
///
/// # Errors
/// A name or a value is none, or there are too many.
pub(super) fn replaced(headers: &HeaderMap, new: Vec<(String, String)>) -> Result<HeaderMap, MessageError> {
    let mut map = HeaderMap::with_capacity(new.len().min(HEADER_VALUES_MAX));
    for (name, value) in headers {
        if is_of_the_hop(name) {
            map.try_append(name, value.clone()).map_err(|_| too_many_headers())?;
        }
    }
    for (name, value) in new {
        let name = match header_name(&name) {
            Ok(name) => name,
            Err(error) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(_) => continue,
                Err(_) => return Err(error),
            },
        };
        append(&mut map, name, &value)?;
    }
    Ok(map)
}

/// Puts one value in place of all of that name.
///
/// # Errors
/// As [`replaced`].
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), MessageError> {
    let value = header_value(&name, value)?;
    room(headers)?;
    headers.try_insert(name, value).map_err(|_| too_many_headers())?;
    Ok(())
}

/// Adds a value.
///
/// # Errors
/// As [`replaced`].
pub(super) fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), MessageError> {
    let value = header_value(&name, value)?;
    room(headers)?;
    headers.try_append(name, value).map_err(|_| too_many_headers())?;
    Ok(())
}

fn room(headers: &HeaderMap) -> Result<(), MessageError> {
    if headers.len() >= HEADER_VALUES_MAX { Err(too_many_headers()) } else { Ok(()) }
}

fn is_of_the_hop(name: &HeaderName) -> bool {
    header_name(name.as_str()).is_err()
}

/// The bytes of what a program wrote.
pub(super) fn length(headers: &[(String, String)]) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.len()).sum()
}
