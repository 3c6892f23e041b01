//! Values of the document as handlers see them.

use std::ops::Range;

use crate::error::Findings;

/// A table; what JSON cannot say is reported at `at`.
pub(super) fn table(
    table: &toml::Table,
    at: &Range<usize>,
    findings: &mut Findings<'_>,
) -> serde_json::Map<String, serde_json::Value> {
    table.iter().map(|(key, entry)| (key.clone(), value(entry, at, findings))).collect()
}

/// A value; dates and times are texts.
pub(super) fn value(
    entry: &toml::Value,
    at: &Range<usize>,
    findings: &mut Findings<'_>,
) -> serde_json::Value {
    match entry {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Boolean(boolean) => (*boolean).into(),
        toml::Value::Datetime(moment) => moment.to_string().into(),
        toml::Value::Array(items) => items.iter().map(|item| value(item, at, findings)).collect(),
        toml::Value::Table(entries) => table(entries, at, findings).into(),
        toml::Value::Float(number) => {
            serde_json::Number::from_f64(*number).map(serde_json::Value::from).unwrap_or_else(|| {
                findings
                    .error(at.clone(), format!("{number} is no number that a handler can be given"))
                    .help("leave `nan` and `inf` out");
                serde_json::Value::Null
            })
        }
    }
}
