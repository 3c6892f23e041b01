//! The audit log, as programs write it.

use serde_json::{Map, Value};
use sluicegate_policy::{LogLevel, LogLine};

use crate::bindings::policy::log::{Host, Level};
use crate::state::State;

/// The longest message of a line, in bytes; what is longer is cut.
const MESSAGE_BYTES_MAX: usize = 1024;
/// The longest fields of a line, in bytes. Longer ones cannot be cut, and are left out.
const FIELDS_BYTES_MAX: usize = 16 * 1024;

impl Host for State {
    fn write(&mut self, level: Level, message: String, fields: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        let (message, fields) = match self.fields(&fields) {
            Some(fields) => (message, fields),
            // Better in the wrong place than not in the log.
            None => (format!("{message} {fields}"), Map::new()),
        };
        let message = self.shown(&message, MESSAGE_BYTES_MAX).into();
        self.write_log(LogLine { level, message, fields })
    }
}

impl State {
    /// None where the text is no JSON object, or too long.
    fn fields(&self, text: &str) -> Option<Map<String, Value>> {
        if text.is_empty() {
            return Some(Map::new());
        }
        if text.len() > FIELDS_BYTES_MAX {
            return None;
        }
        serde_json::from_str(&self.shown(text, usize::MAX)).ok()
    }
}
