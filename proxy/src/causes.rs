//! An error with its causes, as one line of text.

use std::error::Error;

/// What happened, then why, level by level: each error's `Display` says its own level only.
pub fn in_words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words
}
