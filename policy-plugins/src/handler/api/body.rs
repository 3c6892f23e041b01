//! Bodies and blobs: what a message carries, read or handed on.

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rhai::{Dynamic, Map, NativeCallContext};

use super::secret::Secret;
use super::{Registrar, entry};
use crate::handler::failure::{Fallible, thrown};
use crate::handler::run::Run;
use crate::handler::value::{Blob, Pieces, bytes_of, kind_of};
use crate::handler::{BodyPart, BodySource, Encoding};

/// What a form leaves as it is (WHATWG URL section 5.2), but for the space.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_').remove(b' ');

/// A body that a script hands on without looking into it.
#[derive(Clone, Debug)]
pub(in crate::handler) struct Body(pub(in crate::handler) BodySource);

/// A body that a script wrote, secrets and all.
///
/// # Errors
/// It is longer than a script may write.
pub(super) fn filled(context: &NativeCallContext<'_>, pieces: Pieces) -> Fallible<BodySource> {
    let most = Run::of(context)?.environment().limits.body_bytes;
    let parts = pieces.finish();
    let length: usize = parts
        .iter()
        .map(|part| match part {
            BodyPart::Literal(bytes) => bytes.len(),
            BodyPart::Secret(..) => 0,
        })
        .sum();
    if length > most {
        return Err(thrown(format!("the body is longer than {most} bytes (body_bytes of [handler_limits])")));
    }
    Ok(match parts.as_slice() {
        [] => BodySource::Empty,
        [BodyPart::Literal(bytes)] => BodySource::Bytes(bytes.clone()),
        _ => BodySource::Filled(parts),
    })
}

/// The fields of a form, in the order of their names.
///
/// # Errors
/// A value is neither text, a number, true, false nor a secret.
pub(super) fn form(fields: &Map) -> Fallible<Pieces> {
    let mut pieces = Pieces::default();
    let encoded = |text: &str| utf8_percent_encode(text, FORM).to_string().replace(' ', "+");
    for (index, (name, value)) in fields.iter().enumerate() {
        pieces.push(if index == 0 { "" } else { "&" });
        pieces.push(&encoded(name));
        pieces.push("=");
        if let Some(secret) = value.read_lock::<Secret>() {
            pieces.push_secret(&secret, Encoding::Form);
        } else if value.is_string() || value.is_int() || value.is_bool() || value.is_float() {
            pieces.push(&encoded(&value.to_string()));
        } else {
            return Err(thrown(format!("field {name} of a form cannot be a {}", kind_of(value))));
        }
    }
    Ok(pieces)
}

/// A body for a place where secrets cannot be put: a response or a store.
///
/// # Errors
/// The value is no body, or holds a secret.
pub(super) fn plain(value: &Dynamic) -> Fallible<BodySource> {
    match value.read_lock::<Body>() {
        Some(body) if matches!(body.0, BodySource::Filled(_)) => {
            Err(thrown("a body that holds a secret can only be sent with a request"))
        }
        Some(body) => Ok(body.0.clone()),
        None => Ok(BodySource::Bytes(bytes_of(value)?)),
    }
}

fn slice(blob: &Blob, start: i64, length: i64) -> Blob {
    let start = usize::try_from(start).unwrap_or(0).min(blob.0.len());
    let end = start.saturating_add(usize::try_from(length).unwrap_or(0)).min(blob.0.len());
    Blob(blob.0.slice(start..end))
}

pub(super) fn register(api: &mut Registrar<'_>) {
    api.engine.register_type_with_name::<Body>("body").register_type_with_name::<Blob>("blob");
    api.section("Blobs");
    api.property(
        entry("blob.len", "How many bytes it has", "let length = sha256(\"x\").len;"),
        |blob: &mut Blob| i64::try_from(blob.0.len()).unwrap_or(i64::MAX),
    );
    api.also("len", |blob: &mut Blob| i64::try_from(blob.0.len()).unwrap_or(i64::MAX));
    api.property(entry("blob.is_empty", "Whether it has none", ""), |blob: &mut Blob| blob.0.is_empty());
    api.function(
        entry(
            "blob.extract(start, length)",
            "A part of it; what lies beyond the end is left out",
            "let first = sha256(\"x\").extract(0, 4);",
        ),
        |blob: &mut Blob, start: i64, length: i64| slice(blob, start, length),
    );
    api.function(
        entry("text.to_blob()", "The UTF-8 bytes of a text", "let bytes = \"hello\".to_blob();"),
        |text: &str| Blob(Bytes::copy_from_slice(text.as_bytes())),
    );
    api.engine.register_indexer_get(|blob: &mut Blob, index: i64| -> Fallible<i64> {
        let byte = usize::try_from(index).ok().and_then(|index| blob.0.get(index));
        byte.map(|byte| i64::from(*byte)).ok_or_else(|| thrown(format!("the blob has no byte {index}")))
    });
    api.describe(entry("blob[index]", "One byte as a number, from 0", "let byte = sha256(\"x\")[0];"));
    api.also("==", |left: Blob, right: Blob| left == right);
    api.also("!=", |left: Blob, right: Blob| left != right);
    for name in ["to_string", "to_debug"] {
        api.also(name, |blob: &mut Blob| format!("<blob of {} bytes>", blob.0.len()));
        api.also(name, |_: &mut Body| "<body>".to_owned());
    }
}
