//! Compiles every document in `golden/` and compares what it decides, or why it is refused.
//!
//! A case is a document, a line of ten hyphens, and the expectation: for a document that is
//! refused, the rendered error; for another, one question a line with its answer, then every
//! warning. What was found instead is left in the target folder, to be reviewed and copied.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use http::Method;
use miette::{GraphicalReportHandler, GraphicalTheme};
use sluicegate_policy::{
    Authority, Compiled, Content, Decision, Entry, Exports, Host, Policy, Program, Reach, RequestFacts,
    Scheme, ScriptProblem, Sources, Verdict, WrittenAuthority,
};

const SEPARATOR: &str = "\n----------\n";

/// The files of `golden/`.
struct Files;

impl Sources for Files {
    fn read(&self, path: &str) -> Result<Content, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        fs::read(folder.join(path)).map(Content::from).map_err(|_| String::from("no such file"))
    }

    fn program(&self, _program: &Program) -> Result<Exports, ScriptProblem> {
        Ok(Exports { entries: vec![Entry::Outbound], needs_reveal: false })
    }
}

#[test]
fn every_golden_case_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let found_folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
    fs::create_dir_all(&found_folder).unwrap();
    let mut cases = 0;
    let mut failures = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let case = fs::read_to_string(&path).unwrap();
        let (document, expected) =
            case.split_once(SEPARATOR).unwrap_or_else(|| panic!("{name}: no separator"));
        let found = outcome(name, document, expected);
        if found.trim() != expected.trim() {
            writeln!(failures, "== {name}\n-- expected\n{expected}\n-- found\n{found}").unwrap();
            fs::write(found_folder.join(name), format!("{document}{SEPARATOR}{found}")).unwrap();
        }
        cases += 1;
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(cases >= 20, "only {cases} cases were found");
}

fn outcome(name: &str, document: &str, expected: &str) -> String {
    match Policy::compile(name, document, &Files) {
        Ok(compiled) => answers(&compiled, expected),
        Err(error) => {
            let mut text = String::new();
            let handler = GraphicalReportHandler::new_themed(GraphicalTheme::none()).with_width(200);
            handler.render_report(&mut text, &error).unwrap();
            for problem in error.problems() {
                let (file, message) = (&problem.file, &problem.message);
                writeln!(text, "{file}:{}:{}: {message}", problem.line, problem.column).unwrap();
            }
            text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
        }
    }
}

fn answers(compiled: &Compiled, questions: &str) -> String {
    let mut text = String::new();
    for line in questions.lines().filter(|line| !line.starts_with("warning ")) {
        match line.split_once(" -> ") {
            Some((question, _)) => {
                writeln!(text, "{question} -> {}", answer(&compiled.policy, question)).unwrap()
            }
            None => writeln!(text, "{line}").unwrap(),
        }
    }
    for warning in &compiled.warnings {
        writeln!(text, "warning {}:{} {}", warning.line, warning.column, warning.message).unwrap();
    }
    text
}

fn answer(policy: &Policy, question: &str) -> String {
    let words: Vec<&str> = question.split(' ').collect();
    match words.as_slice() {
        ["dns", name] => {
            let host = Host::parse(name).unwrap();
            match policy.reaches(&host) {
                Reach::Open => String::from("open"),
                Reach::Refused(reason) if policy.dns().answers_nxdomain(&host) => {
                    format!("refused {reason} nxdomain")
                }
                Reach::Refused(reason) => format!("refused {reason} sink"),
            }
        }
        ["tls", authority] => match policy.splices(&Authority::parse(authority, 443).unwrap()) {
            Some(rule) => format!("splice rule={rule}"),
            None => String::from("open"),
        },
        ["address", address] => match policy.denies_address(address.parse::<SocketAddr>().unwrap()) {
            Some(pattern) => format!("denied {pattern}"),
            None => String::from("passes"),
        },
        ["secret", name, url] => {
            let (scheme, authority, _) = split_url(url);
            let secret = policy.secrets().iter().find(|secret| secret.name.as_str() == *name).unwrap();
            String::from(if secret.admits(&authority, scheme) { "admitted" } else { "withheld" })
        }
        [method, url] => {
            let (scheme, authority, path) = split_url(url);
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            shown(&policy.decide(&RequestFacts {
                scheme,
                authority: &authority,
                method: &method,
                path,
                carries_dns: false,
            }))
        }
        _ => panic!("no question: {question}"),
    }
}

fn shown(decision: &Decision<'_>) -> String {
    let mut text = match &decision.verdict {
        Verdict::Forward(_) => String::from("forward"),
        Verdict::Handle(handler, _) => format!("handle {}", handler.name),
        Verdict::Respond(answer) => format!("respond {}", answer.status.as_u16()),
        Verdict::Refuse(refusal) => format!("refuse {}", refusal.reason),
    };
    if let Some(rule) = decision.rule {
        write!(text, " rule={rule}").unwrap();
    }
    if let Verdict::Forward(edits) | Verdict::Handle(_, edits) = &decision.verdict
        && !edits.is_empty()
    {
        let secrets: Vec<&str> = edits.secrets().map(|name| name.as_str()).collect();
        write!(text, " edited secrets={}", secrets.join(",")).unwrap();
    }
    if let Some(ask) = decision.ask {
        write!(text, " ask={}", ask.reason).unwrap();
    }
    if let Some(refusal) = &decision.would_refuse {
        write!(text, " would_refuse={}", refusal.reason).unwrap();
    }
    text
}

fn split_url(url: &str) -> (Scheme, Authority, &str) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let (authority, path) = rest.split_at(rest.find('/').unwrap());
    (scheme, WrittenAuthority::parse(authority).unwrap().or_port(scheme.default_port()), path)
}
