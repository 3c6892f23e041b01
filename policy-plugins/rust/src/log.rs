//! The audit log. Where a placeholder of a secret was written, its name is shown.

use crate::bindings::sluicegate::policy::log;

pub use crate::bindings::sluicegate::policy::log::Level;

/// For whoever writes the handler.
pub fn debug(message: &str) {
    log::write(Level::Debug, message, "");
}

/// What happens.
pub fn info(message: &str) {
    log::write(Level::Info, message, "");
}

/// What should not.
pub fn warn(message: &str) {
    log::write(Level::Warn, message, "");
}

/// What must not.
pub fn error(message: &str) {
    log::write(Level::Error, message, "");
}

/// A line with more than a message: `fields` is the text of a JSON object, or empty.
pub fn write(level: Level, message: &str, fields: &str) {
    log::write(level, message, fields);
}

/// A line with more than a message: `fields` is a map, a `struct` or an object of `serde_json::json!`.
///
/// # Errors
/// The fields cannot be written as JSON.
#[cfg(feature = "json")]
pub fn with(level: Level, message: &str, fields: &impl serde::Serialize) -> crate::Result<()> {
    log::write(level, message, &serde_json::to_string(fields)?);
    Ok(())
}
