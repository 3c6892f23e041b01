//! What a handler logged: its level, its words and its fields, within bounds.
//!
//! **Invariant:** the words may be the workload's own; they stay within their two fields.

use std::io;

use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value};
use sluicegate_policy::LogLevel;

use super::text::{bounded, mask_bounded};
use crate::scrub::Scrubber;

/// Bytes of a handler's message that are kept: a paragraph.
pub const MESSAGE_LIMIT: usize = 1024;
/// Bytes that a handler's fields may have as JSON; longer ones are left out as a whole.
pub const FIELDS_LIMIT: usize = 4096;

/// Stands for fields that were too long.
const TRUNCATED: &str = r#"{"truncated":true}"#;

/// A line that a handler logged.
#[derive(Debug)]
pub(super) struct HandlerLine {
    pub(super) level: LogLevel,
    pub(super) message: String,
    /// The fields as JSON text: it takes no more memory than it has bytes. Empty where there are none.
    fields: String,
}

impl HandlerLine {
    pub(super) fn new(level: LogLevel, message: &str, fields: &Map<String, Value>) -> Self {
        Self { level, message: bounded(message.as_bytes(), MESSAGE_LIMIT), fields: as_json(fields) }
    }

    /// Bytes that a handler may ask to be kept beside the message.
    pub(super) fn bulk(&self) -> usize {
        self.fields.len()
    }

    /// Gives up what is bulky.
    pub(super) fn shed(&mut self) {
        TRUNCATED.clone_into(&mut self.fields);
    }

    pub(super) fn mask(&mut self, mask: &Scrubber) {
        mask_bounded(&mut self.message, mask);
        mask.text(&mut self.fields);
    }

    /// The fields, if there are any.
    pub(super) fn fields(&self) -> Option<Fields<'_>> {
        (!self.fields.is_empty()).then_some(Fields(&self.fields))
    }
}

/// Fields, to be written into a line.
pub(super) struct Fields<'a>(&'a str);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Masking may have made it something else than JSON, and depth may be more than is read.
        let fields = serde_json::from_str(self.0);
        let truncated = || Map::from_iter([("truncated".to_owned(), Value::Bool(true))]);
        fields.unwrap_or_else(|_| truncated()).serialize(serializer)
    }
}

fn as_json(fields: &Map<String, Value>) -> String {
    if fields.is_empty() {
        return String::new();
    }
    let mut written = Bounded(Vec::new());
    let json = serde_json::to_writer(&mut written, fields).ok();
    json.and_then(|()| String::from_utf8(written.0).ok()).unwrap_or_else(|| TRUNCATED.to_owned())
}

/// Takes [`FIELDS_LIMIT`] bytes and fails at the next.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > FIELDS_LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(message: &str, fields: Value) -> HandlerLine {
        let Value::Object(fields) = fields else { panic!() };
        HandlerLine::new(LogLevel::Info, message, &fields)
    }

    fn fields(line: &HandlerLine) -> Value {
        serde_json::to_value(line.fields()).unwrap()
    }

    #[test]
    fn a_line_is_kept_within_its_bounds() {
        let whole = line(&"m".repeat(MESSAGE_LIMIT), json!({"k": "v".repeat(FIELDS_LIMIT - 8)}));
        assert_eq!(whole.message.len(), MESSAGE_LIMIT);
        assert_eq!(fields(&whole)["k"].as_str().unwrap().len(), FIELDS_LIMIT - 8);
        let cut = line(&"é".repeat(MESSAGE_LIMIT), json!({"k": "v".repeat(FIELDS_LIMIT - 7)}));
        assert!(cut.message.len() <= MESSAGE_LIMIT && cut.message.ends_with("é…"), "{}", cut.message);
        assert_eq!(fields(&cut), json!({"truncated": true}));
        assert_eq!(fields(&line("", json!({}))), Value::Null);
    }

    #[test]
    fn fields_that_are_nested_too_deep_are_left_out() {
        let mut deep = json!(1);
        for _ in 0..200 {
            deep = json!([deep]);
        }
        assert_eq!(fields(&line("", json!({"deep": deep}))), json!({"truncated": true}));
    }

    #[test]
    fn values_of_secrets_are_masked_and_what_is_no_json_then_is_left_out() {
        let mut plain = line("t=s3cr3t-token", json!({"t": "s3cr3t-token", "n": 1}));
        plain.mask(&Scrubber::new(&[b"s3cr3t-token"]));
        assert_eq!(plain.message, "t=************");
        assert_eq!(fields(&plain), json!({"t": "************", "n": 1}));
        let mut broken = line("m", json!({"a": "b", "c": "d"}));
        broken.mask(&Scrubber::new(&[br#"b","c"#]));
        assert_eq!(fields(&broken), json!({"truncated": true}));
    }
}
