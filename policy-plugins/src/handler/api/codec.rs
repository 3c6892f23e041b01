//! JSON, URLs, base64 and hashes.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use rhai::{Dynamic, ImmutableString, Map, NativeCallContext};

use super::request::COMPONENT;
use super::secret::Secret;
use super::{Registrar, entry, optional};
use crate::handler::failure::{Fallible, thrown};
use crate::handler::journal::{Question, Told};
use crate::handler::message::parse_url;
use crate::handler::run::Run;
use crate::handler::value::{Blob, bytes_of, parse_json, text_of, to_json};
use crate::handler::{Answer, Effect};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The longest text that a decoder gives out, in bytes. Longer ones are the interpreter's to refuse.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

pub(super) fn register(api: &mut Registrar<'_>) {
    api.section("JSON, URLs and encodings");
    register_json(api);
    register_urls(api);
    register_encodings(api);
    register_hashes(api);
}

fn register_json(api: &mut Registrar<'_>) {
    api.function(
        entry(
            "parse_json(text)",
            "The value that a JSON text stands for",
            "let value = parse_json(`{\"a\": 1}`);",
        ),
        |text: &str| -> Fallible<Dynamic> { parse_json(text.as_bytes()) },
    );
    api.function(
        entry("to_json(value)", "A value as JSON", "let text = to_json(#{ a: 1 });"),
        |value: Dynamic| -> Fallible<String> { Ok(to_json(&value)?.to_string()) },
    );
    // Rhai has one of its own for maps, which would print what JSON does not have.
    api.also("to_json", |value: Map| -> Fallible<String> { Ok(to_json(&value.into())?.to_string()) });
}

fn register_urls(api: &mut Registrar<'_>) {
    api.function(
        entry(
            "parse_url(text)",
            "The parts of an http or https URL: a map of scheme, host, port, path and query",
            "let host = parse_url(\"https://example.test/a?b\").host;",
        ),
        |text: &str| -> Fallible<Map> {
            let (scheme, authority, path) = parse_url(text)?;
            let mut map = Map::new();
            map.insert("scheme".into(), scheme.as_str().into());
            map.insert("host".into(), authority.host.to_string().into());
            map.insert("port".into(), i64::from(authority.port).into());
            map.insert("path".into(), path.path().into());
            map.insert("query".into(), optional(path.query().map(str::to_owned)));
            Ok(map)
        },
    );
    api.function(
        entry(
            "encode_uri(text)",
            "Percent-encodes all but letters, digits and `-._~`, for one part of a path or a query",
            "request.path = \"/\" + encode_uri(\"a b\");",
        ),
        |text: &str| utf8_percent_encode(text, COMPONENT).to_string(),
    );
    api.function(
        entry("decode_uri(text)", "The same the other way; throws where the result is not UTF-8", ""),
        |text: &str| -> Fallible<String> {
            let decoded =
                percent_decode_str(text).decode_utf8().map_err(|_| thrown("not UTF-8 when decoded"))?;
            Ok(decoded.into_owned())
        },
    );
}

fn register_encodings(api: &mut Registrar<'_>) {
    api.function(
        entry(
            "base64_encode(value)",
            "A text or a blob in base64, with padding",
            "let text = base64_encode(\"hi\");",
        ),
        |value: Dynamic| -> Fallible<String> { Ok(BASE64.encode(bytes_of(&value)?)) },
    );
    api.function(
        entry("base64_decode(text)", "The blob that base64 stands for, with or without padding", ""),
        |text: &str| -> Fallible<Blob> {
            BASE64.decode(text).map(|bytes| Blob(bytes.into())).map_err(|_| thrown("not base64"))
        },
    );
    api.function(
        entry(
            "text(blob)",
            "A blob as text; throws where it is not UTF-8",
            "let text = text(request.read_body(100));",
        ),
        |blob: Blob| -> Fallible<ImmutableString> { text_of(&blob.0, TEXT_BYTES_MAX) },
    );
    api.function(
        entry("hex(blob)", "A blob in lower-case hexadecimal", "let digest = hex(sha256(\"hello\"));"),
        |blob: Blob| blob.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    );
}

fn register_hashes(api: &mut Registrar<'_>) {
    api.function(
        entry(
            "sha256(value)",
            "SHA-256 of a text or a blob, as a blob",
            "let digest = hex(sha256(\"hello\"));",
        ),
        |value: Dynamic| -> Fallible<Blob> {
            let hash = digest::digest(&digest::SHA256, &bytes_of(&value)?);
            Ok(Blob(Bytes::copy_from_slice(hash.as_ref())))
        },
    );
    api.function(
        entry(
            "hmac_sha256(key, value)",
            "HMAC-SHA-256 of a text or a blob; the key is a text, a blob or a secret",
            "let signature = hmac_sha256(env.secrets.API_TOKEN, request.path);",
        ),
        hmac_sha256,
    );
}

fn hmac_sha256(context: NativeCallContext<'_>, key: Dynamic, value: Dynamic) -> Fallible<Blob> {
    let data = bytes_of(&value)?;
    let Some(secret) = key.read_lock::<Secret>() else {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes_of(&key)?);
        return Ok(Blob(Bytes::copy_from_slice(hmac::sign(&key, &data).as_ref())));
    };
    let run = Run::of(&context)?;
    let at = context.call_position();
    let name = secret.name();
    let question = Question::new("hmac", (name, &data));
    let told = run.perform(at, question, || Effect::Hmac { secret: name.clone(), data: data.clone() })?;
    match told {
        Told::Other(Answer::Bytes(signature)) => Ok(Blob(signature)),
        _ => Err(run.wrong_answer(at)),
    }
}
