//! `sluicegate status`: how a running instance is.

use clap::{Args, Subcommand};

use super::error::CommandError;
use super::select::InstanceChoice;
use super::{print, print_json};
use crate::audit::view::Escaped;
use crate::control::api::{PolicySource, Status};
use crate::exit;

/// The commands below `sluicegate status`.
#[derive(Debug, Subcommand)]
pub(crate) enum StatusCommand {
    /// Show how a running instance is
    #[command(after_help = "Examples:\n  sluicegate status get\n  \
        sluicegate status get --instance box --json | jq -r .generation")]
    Get(GetOptions),
}

/// The options of `status get`.
#[derive(Args, Debug)]
pub(crate) struct GetOptions {
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print it as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &StatusCommand) -> Result<u8, CommandError> {
    let StatusCommand::Get(options) = command;
    let status: Status = options.choice.client()?.get("/v1/status")?;
    if options.json {
        print_json(&status)?
    } else {
        print(text(&status))?
    }
    Ok(exit::OK)
}

fn text(status: &Status) -> String {
    let labels: Vec<_> = status.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let log = match &status.log_file {
        Some(file) => file.display().to_string(),
        None => "standard output".to_owned(),
    };
    let mut lines = vec![
        ("instance", status.instance.clone()),
        ("container", status.container_id.clone()),
        ("labels", labels.join(", ")),
        ("process", format!("{} (sluicegate {})", status.pid, status.version)),
        ("started", humantime::format_rfc3339_seconds(status.started).to_string()),
        ("policy", policy(status)),
        ("mode", status.mode.clone()),
        ("requests", status.requests.to_string()),
        (
            "log",
            format!("{log}{}", if status.log_healthy { "" } else { ", cannot be written: all is refused" }),
        ),
    ];
    if status.approvals_pending > 0 {
        let waiting = format!("{} waiting; see `sluicegate approval list`", status.approvals_pending);
        lines.push(("approvals", waiting));
    }
    let mut text = String::new();
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name:10} {}\n", Escaped(value)));
    }
    text
}

fn policy(status: &Status) -> String {
    let file = status.policy.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    let source = match status.policy.source {
        PolicySource::Document if status.watching => format!("{file}, followed"),
        PolicySource::Document => file,
        PolicySource::Upload => format!("uploaded from {file}"),
        PolicySource::None => "none, so everything is refused".to_owned(),
    };
    let overridden = if status.overridden { ", changed at run time" } else { "" };
    format!("{} ({source}{overridden})", status.generation)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::control::api::PolicyOrigin;

    pub(crate) fn status() -> Status {
        Status {
            instance: "box".into(),
            container_id: "c1".into(),
            labels: BTreeMap::from([("team".into(), "blue".into()), ("x".into(), "\u{1b}[2J".into())]),
            pid: 42,
            version: "0.1.0".into(),
            generation: "d2f891751a97".into(),
            mode: "enforce".into(),
            policy: PolicyOrigin { source: PolicySource::Document, file: Some("/etc/p.toml".into()) },
            started: humantime::parse_rfc3339("2026-01-31T12:00:00Z").unwrap(),
            requests: 7,
            log_file: Some("/log.jsonl".into()),
            log_healthy: true,
            overridden: true,
            approvals_pending: 2,
            watching: true,
        }
    }

    #[test]
    fn what_there_is_to_know_is_shown() {
        let expected = "\
instance   box
container  c1
labels     team=blue, x=\\u{1b}[2J
process    42 (sluicegate 0.1.0)
started    2026-01-31T12:00:00Z
policy     d2f891751a97 (/etc/p.toml, followed, changed at run time)
mode       enforce
requests   7
log        /log.jsonl
approvals  2 waiting; see `sluicegate approval list`
";
        assert_eq!(text(&status()), expected);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_told() {
        let status = Status {
            log_healthy: false,
            log_file: None,
            approvals_pending: 0,
            labels: BTreeMap::new(),
            policy: PolicyOrigin { source: PolicySource::None, file: None },
            overridden: false,
            ..status()
        };
        let text = text(&status);
        assert!(text.contains("log        standard output, cannot be written: all is refused\n"), "{text}");
        assert!(text.contains("(none, so everything is refused)"), "{text}");
        assert!(!text.contains("labels") && !text.contains("approvals"), "{text}");
    }
}
