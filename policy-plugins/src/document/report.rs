//! Says what the TOML reader found wrong, in the words of the document.

use std::ops::Range;

use crate::error::{Findings, nearest};

/// Says what the TOML reader found in the words of the document.
pub(super) fn report(message: &str, at: Range<usize>, findings: &mut Findings<'_>) {
    let at = findings.first_line_of(at);
    let mut quoted = message.split('`').skip(1).step_by(2);
    let subject = quoted.next().unwrap_or_default();
    if let Some(kind) = unknown(message) {
        let known: Vec<&str> = quoted.collect();
        let help = match nearest(subject, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        findings.error(at, format!("unknown {kind} `{subject}`")).help(help);
    } else if message.starts_with("missing field") {
        let help = if subject == "version" {
            String::from("begin the document with `version = 1`")
        } else {
            format!("add `{subject} = …`")
        };
        findings.error(at, format!("missing key `{subject}`")).help(help);
    } else if let Some((found, expected)) = wrong_type(message) {
        let finding = findings.error(at, format!("wrong type: this is {found}, and {expected} is expected"));
        if let Some(help) = how_to_write(expected) {
            finding.help(help);
        }
    } else {
        let first_line = message.lines().next().unwrap_or(message);
        findings
            .error(at, format!("not valid TOML: {first_line}"))
            .help("strings stand in quotes, lists in [ ], and each key stands once in its table");
    }
}

fn unknown(message: &str) -> Option<&'static str> {
    if message.starts_with("unknown field") {
        Some("key")
    } else if message.starts_with("unknown variant") {
        Some("value")
    } else {
        None
    }
}

/// What was found, without its value, and what was expected.
fn wrong_type(message: &str) -> Option<(&'static str, &str)> {
    let (found, expected) = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?
        .split_once(", expected ")?;
    let found = match found.split([' ', '\n']).next()? {
        "string" => "a string",
        "integer" => "a whole number",
        "floating" => "a fraction",
        "boolean" => "true or false",
        "sequence" => "a list",
        "map" => "a table",
        _ => "something else",
    };
    let expected = match expected {
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "a map" => "a table",
        "u16" | "u32" | "u64" => "a whole number",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    Some((found, expected))
}

fn how_to_write(expected: &str) -> Option<&'static str> {
    Some(match expected {
        "a list" => "write [\"one\", \"two\"]",
        "true or false" => "write true or false without quotes",
        "a string" => "write \"…\" in quotes",
        "a whole number" => "write plain digits without quotes and sign",
        "a file, a name or a table" => "write \"handlers/name.rhai\" or { deny = \"why\" }",
        "a table" => "write { key = \"value\" }",
        _ => return None,
    })
}
