//! How errors, warnings and the message at start are put into words for a terminal.

use std::io::{self, Write};

use serde_json::Value;
use sluicegate_policy::{PolicyError, Problem, Summary};

use crate::causes::in_words;
use crate::instance::{Instance, InstanceError};

/// Prints an error with its causes and, on a line of its own, what to do.
pub fn error(error: &InstanceError) {
    if let InstanceError::Policy(error) = error {
        return policy(error);
    }
    say(&format!("sluicegate: {}\n", in_words(error)));
    let help = miette::Diagnostic::help(error).map(|help| help.to_string());
    if let Some(hint) = error.hint().map(String::from).or(help) {
        say(&format!("  hint: {hint}\n"));
    }
}

/// Prints what is wrong with a policy, each with a picture of its place in the document or the
/// script: file, line, column, caret.
pub fn policy(error: &PolicyError) {
    let handler = miette::GraphicalReportHandler::new();
    let mut picture = String::new();
    match handler.render_report(&mut picture, error) {
        Ok(()) => say(&picture),
        Err(_) => say(&format!("sluicegate: {}\n", in_words(error))),
    }
}

/// Prints the warnings of a document and its scripts.
pub fn warnings(warnings: &[Problem]) {
    for warning in warnings {
        let Problem { file, line, column, message, .. } = warning;
        say(&format!("{file}:{line}:{column}: warning: {message}\n"));
        if let Some(help) = &warning.help {
            say(&format!("  help: {help}\n"));
        }
    }
}

/// What a policy amounts to, in one line.
pub fn summary(summary: &Summary) -> String {
    let allowed = match summary.allowed_hosts {
        Some(count) => format!("{count} allowed"),
        None => "no allow list".into(),
    };
    format!(
        "{allowed}, {} denied, {}, {}, internet {}",
        summary.denied_hosts,
        counted(summary.rules, "rule"),
        counted(summary.secrets, "secret"),
        if summary.internet { "on" } else { "off" },
    )
}

/// Says what is running and where its log is.
pub fn started(instance: &Instance) {
    let generation = instance.generation();
    let policy = &generation.policy;
    let (name, id) = (&instance.name, policy.generation());
    let source = match instance.loaded.file() {
        Some(file) => format!("{} ({}; generation {id})", file.display(), summary(&policy.summary())),
        None if policy.generation() == instance.loaded.policy.generation() => {
            "none given, so everything is refused; name one with --policy FILE".into()
        }
        None => format!("set at run time ({}; generation {id})", summary(&policy.summary())),
    };
    let log = match &instance.log_file {
        Some(file) => file.display().to_string(),
        None => "standard output".into(),
    };
    say(&format!("sluicegate: {name} is sealed\n  policy: {source}\n  log:    {log}\n"));
}

/// The same of a gate that is another process, by what it says of itself when it serves.
pub fn serving(ready: &Value) {
    let text = |name: &str| ready.get(name).and_then(Value::as_str);
    let (name, id) = (text("instance").unwrap_or_default(), text("generation").unwrap_or_default());
    let policy = match text("policy") {
        Some(file) => format!("{file} (generation {id})"),
        None => format!("none given (generation {id}), so what was not allowed at run time is refused"),
    };
    let log = text("log").unwrap_or_default();
    say(&format!("sluicegate: {name} is sealed\n  policy: {policy}\n  log:    {log}\n"));
}

/// Says what was changed at run time before and cannot be any more.
pub fn ignored(changes: &[String]) {
    for change in changes {
        say(&format!("warning: a change made at run time no longer counts: {change}\n"));
    }
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// To standard error; a reader that went away is no error.
fn say(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}
