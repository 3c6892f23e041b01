//! `sluicegate policy test`: what would happen to one request.

use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use sluicegate_wasm::Programs;

use super::compiled::CompiledChoice;
use super::error::CommandError;
use super::policy_get::source;
use super::select::InstanceChoice;
use super::table::Table;
use super::{print, print_json};

use crate::audit::view::Escaped;
use crate::control::api::{Explained, TestQuestion};
use crate::controller::explain;
use crate::document::Bundle;
use crate::exit;

/// The options of `policy test`.
#[derive(Args, Debug)]
pub(crate) struct TestOptions {
    /// The full URL, http or https; tcp://host:port or udp://host:port for a flow
    url: String,
    /// The request's method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// Show what is looked at, step by step
    #[arg(long)]
    explain: bool,
    /// Ask this document instead of a running instance
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    compiled: CompiledChoice,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print the answer with all its steps as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &TestOptions) -> Result<u8, CommandError> {
    let TestOptions { url, method, .. } = options;
    let explained: Explained = match &options.policy {
        Some(file) => offline(file, method, url, &options.compiled.programs())?,
        None => {
            let question = TestQuestion { method: method.clone(), url: url.clone() };
            options.choice.client()?.send(Method::POST, "/v1/policy/test", &question)?
        }
    };
    if options.json {
        print_json(&explained)?;
    } else {
        print(format_args!("{}\n", Escaped(&format!("{method} {url}: {}", in_words(&explained)))))?;
        if options.explain {
            print(format_args!("\n{}", steps(&explained)))?;
        }
    }
    Ok(if explained.verdict == "refuse" { exit::NO } else { exit::OK })
}

fn offline(file: &Path, method: &str, url: &str, programs: &Programs) -> Result<Explained, CommandError> {
    let (_, compiled) = Bundle::read(file, programs)?;
    let explanation = explain(&compiled.policy, method, url).map_err(CommandError::Usage)?;
    // The same words as a running instance would send.
    serde_json::to_value(&explanation)
        .and_then(serde_json::from_value)
        .map_err(|error| CommandError::Unreadable(error.to_string()))
}

fn in_words(explained: &Explained) -> String {
    let rule = explained.rule.as_ref().map(|rule| format!(" by rule \"{rule}\"")).unwrap_or_default();
    let reason = explained.reason.as_deref().unwrap_or("refused");
    let detail = explained.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let words = match explained.verdict.as_str() {
        "forward" => format!("allowed{rule}"),
        "handle" => format!("handled by {}", explained.handler.as_deref().unwrap_or("a handler")),
        "ask" => format!("asks a person{rule}{detail}"),
        "respond" => format!("answered{rule}"),
        "refuse" => format!("refused{rule}: {reason}{detail}"),
        other => other.to_owned(),
    };
    match &explained.would_refuse {
        None => words,
        Some(reason) => format!("{words}; without `mode = \"audit\"` refused: {reason}"),
    }
}

fn steps(explained: &Explained) -> Table<4> {
    let mut table = Table::new(["STEP", "OUTCOME", "BECAUSE", "FROM"]);
    for step in &explained.steps {
        let from = step.source.as_ref().map(source).unwrap_or_default();
        table.row([&step.step, &step.outcome, &step.because, &from]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn explained(text: Value) -> Explained {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_verdict_is_one_line() {
        let table = [
            (json!({"verdict": "forward", "rule": "read", "steps": []}), "allowed by rule \"read\""),
            (json!({"verdict": "handle", "handler": "log.rhai", "steps": []}), "handled by log.rhai"),
            (
                json!({"verdict": "ask", "rule": "write", "detail": "really?", "steps": []}),
                "asks a person by rule \"write\" (really?)",
            ),
            (json!({"verdict": "respond", "steps": []}), "answered"),
            (
                json!({"verdict": "refuse", "reason": "not_named", "detail": "nothing names it", "steps": []}),
                "refused: not_named (nothing names it)",
            ),
            (
                json!({"verdict": "forward", "would_refuse": "not_named", "steps": []}),
                "allowed; without `mode = \"audit\"` refused: not_named",
            ),
        ];
        for (answer, words) in table {
            assert_eq!(in_words(&explained(answer.clone())), words, "{answer}");
        }
    }

    #[test]
    fn the_steps_say_where_they_stand() {
        let answer = explained(json!({"verdict": "refuse", "steps": [
            {"step": "denied_hosts", "outcome": "passes", "because": "no pattern names it", "source": null},
            {"step": "rules", "outcome": "refuses", "because": "closed",
             "source": {"document": {"file": "p.toml", "line": 7}}},
        ]}));
        let expected = "\
STEP          OUTCOME  BECAUSE              FROM
denied_hosts  passes   no pattern names it
rules         refuses  closed               p.toml:7
";
        assert_eq!(steps(&answer).to_string(), expected);
    }

    #[test]
    fn a_document_answers_without_an_instance() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, "version = 1\nallowed_hosts = [\"a.test\"]\n").unwrap();
        let programs = Programs::new(None);
        assert_eq!(offline(&file, "GET", "https://a.test/x", &programs).unwrap().verdict, "forward");
        std::fs::write(&file, "version = 1\ntcp = [\"db.test:5432\"]\ndenied_hosts = [\"10.0.0.0/8\"]\n")
            .unwrap();
        let flow = offline(&file, "GET", "tcp://db.test:5432", &programs).unwrap();
        let steps: Vec<_> = flow.steps.iter().map(|step| (&*step.step, &*step.outcome)).collect();
        assert_eq!(steps, [("denied_hosts", "passes"), ("tcp", "allows")]);
        for (url, reason) in [("udp://db.test:5432", "udp_flow"), ("tcp://10.0.0.1:5432", "denied_host")] {
            assert_eq!(
                offline(&file, "GET", url, &programs).unwrap().reason.as_deref(),
                Some(reason),
                "{url}"
            );
        }
        assert!(offline(&file, "GET", "tcp://db.test", &programs).is_err());
        std::fs::write(&file, "version = 1\nallowed_hosts = [\"a.test\"]\n").unwrap();
        let refused = offline(&file, "GET", "https://b.test/", &programs).unwrap();
        assert_eq!(
            (refused.verdict.as_str(), refused.reason.as_deref()),
            ("refuse", Some("not_in_allowed_hosts"))
        );
        assert_eq!(offline(&file, "GET", "a.test", &programs).unwrap_err().exit_code(), exit::USAGE);
    }
}
