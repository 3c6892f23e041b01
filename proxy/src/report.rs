//! How errors, warnings and the message at start are put into words for a terminal.

use std::io::{self, Write};
use std::path::Path;

use sluicegate_policy::{Problem, Summary};

use crate::causes::in_words;
use crate::instance::{Instance, InstanceError};

/// Prints an error with its causes and, on a line of its own, what to do.
pub fn error(error: &InstanceError) {
    if let InstanceError::Policy(policy) = error {
        // A picture of the place in the document: file, line, column, caret.
        let handler = miette::GraphicalReportHandler::new();
        let mut picture = String::new();
        if handler.render_report(&mut picture, policy).is_ok() {
            say(&picture);
            return;
        }
    }
    say(&format!("sluicegate: {}\n", in_words(error)));
    let help = miette::Diagnostic::help(error).map(|help| help.to_string());
    if let Some(hint) = error.hint().map(String::from).or(help) {
        say(&format!("  hint: {hint}\n"));
    }
}

/// Prints a document's warnings.
pub fn warnings(file: &Path, warnings: &[Problem]) {
    for warning in warnings {
        let (file, line, column) = (file.display(), warning.line, warning.column);
        say(&format!("{file}:{line}:{column}: warning: {}\n", warning.message));
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
    let policy = &instance.loaded.policy;
    let source = match &instance.loaded.file {
        Some(file) => {
            format!("{} ({}; generation {})", file.display(), summary(&policy.summary()), policy.generation())
        }
        None => "none given, so everything is refused; name one with --policy FILE".into(),
    };
    let log = match &instance.log_file {
        Some(file) => file.display().to_string(),
        None => "standard output".into(),
    };
    say(&format!("sluicegate: {} is sealed\n  policy: {source}\n  log:    {log}\n", instance.name));
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// To standard error; a reader that went away is no error.
fn say(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}
