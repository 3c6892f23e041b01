//! Values between Rhai, JSON and bytes.

use bytes::Bytes;
use rhai::{Array, Dynamic, ImmutableString, Map};
use serde_json::Value;

use super::api::secret::Secret;
use super::failure::{Fallible, thrown};
use super::{BodyPart, Encoding, HandlerLimits};

/// The most values of a JSON text that is read: twice what the interpreter lets a script hold, which
/// would refuse it in the end.
const VALUES_MAX: usize = 2 * HandlerLimits::ITEMS_MAX;

/// The deepest nesting of a value that becomes JSON.
const DEPTH_MAX: usize = 64;

/// Bytes, as scripts hold them: cheap to copy, unlike Rhai's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob(pub(super) Bytes);

/// What a value is, in a word that scripts know.
pub(super) fn kind_of(value: &Dynamic) -> String {
    let name = value.type_name();
    match name.rsplit("::").next().unwrap_or(name) {
        "()" => "()".to_owned(),
        "i64" | "f64" => "number".to_owned(),
        "string" => "text".to_owned(),
        "Stored" => "object".to_owned(),
        own => own.to_lowercase(),
    }
}

/// JSON as a script sees it. Numbers beyond 64 bits become floating point.
pub(super) fn from_json(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => number.as_f64().map_or(Dynamic::UNIT, Dynamic::from),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => Dynamic::from_array(items.iter().map(from_json).collect()),
        Value::Object(fields) => {
            Dynamic::from_map(fields.iter().map(|(name, value)| (name.into(), from_json(value))).collect())
        }
    }
}

/// The commas of a JSON text that stand between values. Counting them costs a hundredth of reading.
fn separators(text: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b',' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

/// Reads JSON text, nested no deeper than serde_json allows (128).
///
/// # Errors
/// The text is no JSON, or has more values than a script may hold.
pub(super) fn parse_json(text: &[u8]) -> Fallible<Dynamic> {
    if separators(text) > VALUES_MAX {
        return Err(thrown(format!("the JSON has more than {VALUES_MAX} values")));
    }
    serde_json::from_slice(text).map(|value| from_json(&value)).map_err(|error| {
        // Where, but not what: the text is not the handler's own.
        thrown(format!("not JSON (line {}, column {})", error.line(), error.column()))
    })
}

/// A value as JSON without secrets.
///
/// # Errors
/// It holds something that JSON does not have.
pub(super) fn to_json(value: &Dynamic) -> Fallible<Value> {
    json_at(value, 0)
}

fn json_at(value: &Dynamic, depth: usize) -> Fallible<Value> {
    if depth > DEPTH_MAX {
        return Err(thrown(format!("a value nested more than {DEPTH_MAX} deep cannot become JSON")));
    }
    if let Some(items) = value.read_lock::<Array>() {
        return items.iter().map(|item| json_at(item, depth + 1)).collect::<Fallible<_>>().map(Value::Array);
    }
    if let Some(map) = value.read_lock::<Map>() {
        let fields = map.iter().map(|(name, value)| Ok((name.to_string(), json_at(value, depth + 1)?)));
        return fields.collect::<Fallible<_>>().map(Value::Object);
    }
    if let Some(secret) = value.read_lock::<Secret>() {
        return Err(secret.misused());
    }
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Ok(Value::String(text.to_string()));
    }
    scalar(value).ok_or_else(|| thrown(format!("a {} cannot become JSON", kind_of(value))))
}

fn scalar(value: &Dynamic) -> Option<Value> {
    if value.is_unit() {
        return Some(Value::Null);
    }
    if let Ok(boolean) = value.as_bool() {
        return Some(Value::Bool(boolean));
    }
    if let Ok(integer) = value.as_int() {
        return Some(integer.into());
    }
    if let Ok(character) = value.as_char() {
        return Some(Value::String(character.to_string()));
    }
    value.as_float().ok().and_then(serde_json::Number::from_f64).map(Value::Number)
}

/// A body in pieces, secrets between.
#[derive(Default)]
pub(super) struct Pieces {
    parts: Vec<BodyPart>,
    text: Vec<u8>,
}

impl Pieces {
    pub(super) fn push(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    pub(super) fn push_secret(&mut self, secret: &Secret, encoding: Encoding) {
        self.close();
        self.parts.push(BodyPart::Secret(secret.name().clone(), encoding));
    }

    fn close(&mut self) {
        if !self.text.is_empty() {
            self.parts.push(BodyPart::Literal(std::mem::take(&mut self.text).into()));
        }
    }

    /// Adds a value as JSON; strings are secrets where the script put them.
    ///
    /// # Errors
    /// As [`to_json`].
    pub(super) fn push_json(&mut self, value: &Dynamic) -> Fallible<()> {
        self.json_at(value, 0)
    }

    fn json_at(&mut self, value: &Dynamic, depth: usize) -> Fallible<()> {
        if let Some(secret) = value.read_lock::<Secret>() {
            self.push("\"");
            self.push_secret(&secret, Encoding::Json);
            self.push("\"");
            return Ok(());
        }
        if depth > DEPTH_MAX {
            return Err(thrown(format!("a value nested more than {DEPTH_MAX} deep cannot become JSON")));
        }
        if let Some(items) = value.read_lock::<Array>() {
            for (index, item) in items.iter().enumerate() {
                self.push(if index == 0 { "[" } else { "," });
                self.json_at(item, depth + 1)?;
            }
            self.push(if items.is_empty() { "[]" } else { "]" });
            return Ok(());
        }
        if let Some(map) = value.read_lock::<Map>() {
            for (index, (name, value)) in map.iter().enumerate() {
                self.push(if index == 0 { "{" } else { "," });
                self.push(&Value::from(name.as_str()).to_string());
                self.push(":");
                self.json_at(value, depth + 1)?;
            }
            self.push(if map.is_empty() { "{}" } else { "}" });
            return Ok(());
        }
        self.push(&json_at(value, depth)?.to_string());
        Ok(())
    }

    /// The parts in order; literal parts are not empty and no two follow each other.
    pub(super) fn finish(mut self) -> Vec<BodyPart> {
        self.close();
        self.parts
    }
}

/// The bytes of a text or a blob.
///
/// # Errors
/// It is something else.
pub(super) fn bytes_of(value: &Dynamic) -> Fallible<Bytes> {
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return Ok(Bytes::copy_from_slice(text.as_bytes()));
    }
    if let Some(blob) = value.read_lock::<Blob>() {
        return Ok(blob.0.clone());
    }
    if let Some(secret) = value.read_lock::<Secret>() {
        return Err(secret.misused());
    }
    Err(thrown(format!("needs text or a blob, not a {}", kind_of(value))))
}

/// Bytes as text.
///
/// # Errors
/// They are not UTF-8, or longer than a string may be.
pub(super) fn text_of(bytes: &[u8], string_bytes: usize) -> Fallible<ImmutableString> {
    if bytes.len() > string_bytes {
        return Err(thrown(format!(
            "longer than the {string_bytes} bytes of a text (string_bytes): take a blob"
        )));
    }
    std::str::from_utf8(bytes).map(ImmutableString::from).map_err(|_| thrown("not UTF-8: take it as a blob"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_too_many_values_is_not_read() {
        let many = |separator: &str| format!("[{}]", ["1"; VALUES_MAX + 2].join(separator));
        assert!(parse_json(many(",").as_bytes()).unwrap_err().to_string().contains("more than"));
        let quoted = format!("[\"{}\\\",\", 1]", ",".repeat(VALUES_MAX + 1));
        assert_eq!(separators(quoted.as_bytes()), 1);
        assert!(parse_json(quoted.as_bytes()).is_ok());
    }

    #[test]
    fn json_comes_back_as_it_went() {
        let text = r#"{"a":[1,-2,2.5,true,null,"x\n"],"b":{},"c":[]}"#;
        let value = parse_json(text.as_bytes()).unwrap();
        assert_eq!(to_json(&value).unwrap().to_string(), text);
        let mut pieces = Pieces::default();
        pieces.push_json(&value).unwrap();
        assert_eq!(pieces.finish(), [BodyPart::Literal(Bytes::from_static(text.as_bytes()))]);
    }

    #[test]
    fn deep_nesting_is_refused_both_ways() {
        let text = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(parse_json(text.as_bytes()).is_err());
        let mut value = Dynamic::UNIT;
        for _ in 0..DEPTH_MAX + 2 {
            value = Dynamic::from_array(vec![value]);
        }
        assert!(to_json(&value).is_err());
        assert!(Pieces::default().push_json(&value).is_err());
    }

    #[test]
    fn numbers_that_json_lacks_are_refused() {
        assert!(to_json(&f64::NAN.into()).is_err());
        assert!(to_json(&f64::INFINITY.into()).is_err());
    }
}
