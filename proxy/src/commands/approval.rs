//! `sluicegate approval`: requests that wait for a person, and the person's answers.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::{Client, segment};
use super::error::CommandError;
use super::select::InstanceChoice;
use super::table::Table;
use super::{parse_span, print, print_json};
use crate::approvals::{Pending, Remembered, Subject};
use crate::audit::view::Escaped;
use crate::control::api::{ApprovalAnswer, Event, PendingApprovals, RememberedAnswers};
use crate::exit;

const APPROVALS: &str = "/v1/approvals";

/// The commands below `sluicegate approval`.
#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalCommand {
    /// Show the requests that wait
    #[command(after_help = "Examples:\n  sluicegate approval list\n  \
        sluicegate approval list --watch              (until the instance ends)\n  \
        sluicegate approval list --watch --json | jq -r .event")]
    List(ListOptions),
    /// Let a request go on
    #[command(
        after_help = "An answer that is remembered counts for the same method, URL and reason, and for nothing like it.\n\n\
        Examples:\n  sluicegate approval allow a1\n  sluicegate approval allow a1 --remember 1h"
    )]
    Allow(AnswerOptions),
    /// Have a request refused
    #[command(
        after_help = "Examples:\n  sluicegate approval deny a1\n  sluicegate approval deny a1 --always"
    )]
    Deny(AnswerOptions),
    /// Show the answers that are remembered
    #[command(after_help = "Example:\n  sluicegate approval remembered")]
    Remembered(RememberedOptions),
    /// Forget an answer, so that a person is asked again
    #[command(after_help = "Example:\n  sluicegate approval forget r1")]
    Forget(ForgetOptions),
}

/// The options of `approval list`.
#[derive(Args, Debug)]
pub(crate) struct ListOptions {
    /// Show what is asked and answered from now on as well
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print one JSON object; with --watch one for each event
    #[arg(long)]
    json: bool,
}

/// The options of `approval allow` and `approval deny`.
#[derive(Args, Debug)]
pub(crate) struct AnswerOptions {
    /// Which request, as `approval list` names it
    id: String,
    /// Answer the same question alike for so long: 30s, 10m, 1h
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    remember: Option<Duration>,
    /// Answer the same question alike until `approval forget`
    #[arg(long, conflicts_with = "remember")]
    always: bool,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print the answer as one JSON object
    #[arg(long)]
    json: bool,
}

/// The options of `approval remembered`.
#[derive(Args, Debug)]
pub(crate) struct RememberedOptions {
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print them as one JSON object
    #[arg(long)]
    json: bool,
}

/// The options of `approval forget`.
#[derive(Args, Debug)]
pub(crate) struct ForgetOptions {
    /// Which answer, as `approval remembered` names it
    id: String,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print what was forgotten as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &ApprovalCommand) -> Result<u8, CommandError> {
    match command {
        ApprovalCommand::List(options) if options.watch => watch(options)?,
        ApprovalCommand::List(options) => list(options)?,
        ApprovalCommand::Allow(options) => answer(options, true)?,
        ApprovalCommand::Deny(options) => answer(options, false)?,
        ApprovalCommand::Remembered(options) => remembered(options)?,
        ApprovalCommand::Forget(options) => forget(options)?,
    }
    Ok(exit::OK)
}

fn list(options: &ListOptions) -> Result<(), CommandError> {
    let waiting = pending(&options.choice.client()?)?;
    if options.json {
        return print_json(&waiting);
    }
    if waiting.pending.is_empty() {
        return Ok(());
    }
    print(pending_table(&waiting.pending, SystemTime::now()))
}

fn pending(client: &Client) -> Result<PendingApprovals, CommandError> {
    client.get(APPROVALS)
}

fn pending_table(pending: &[Pending], now: SystemTime) -> Table<5> {
    let mut table = Table::new(["ID", "REQUEST", "REASON", "ASKED BY", "LEFT"]);
    for question in pending {
        let Pending { id, subject, asked_by, waiting, .. } = question;
        let mut request = request(subject);
        if *waiting > 1 {
            request.push_str(&format!(" (x{waiting})"));
        }
        table.row([id, &request, &subject.reason, asked_by, &left(question.expires, now)]);
    }
    table
}

fn watch(options: &ListOptions) -> Result<(), CommandError> {
    let client = options.choice.client()?;
    // Listened for first and listed then, so that nothing is missed in between; what comes twice for
    // it is told once.
    let already_waiting = || {
        let mut told = BTreeSet::new();
        for question in pending(&client)?.pending {
            told.insert(question.id.clone());
            tell(&Event::ApprovalAsked(question), options.json)?;
        }
        Ok(told)
    };
    client.events(already_waiting, |told, event| match &event {
        Event::ApprovalAsked(question) if told.remove(&question.id) => Ok(()),
        event => tell(event, options.json),
    })
}

fn tell(event: &Event, as_json: bool) -> Result<(), CommandError> {
    match (as_json, in_words(event, SystemTime::now())) {
        (_, None) => Ok(()),
        (true, Some(_)) => print_json(event),
        (false, Some(words)) => print(format_args!("{}\n", Escaped(&words))),
    }
}

/// `None` for what has nothing to do with approvals.
fn in_words(event: &Event, now: SystemTime) -> Option<String> {
    Some(match event {
        Event::ApprovalAsked(Pending { id, subject, asked_by, expires, .. }) => {
            let (request, left) = (request(subject), left(*expires, now));
            format!("{id}  {request}  {} (asked by {asked_by}, {left} left)", subject.reason)
        }
        Event::ApprovalDecided { id, allow, by } => format!("{id}  {} by {by}", verb(*allow)),
        Event::ApprovalLapsed { id } => format!("{id}  no longer waits"),
        Event::Lagged { missed } => format!("{missed} events were missed; see `sluicegate approval list`"),
        _ => return None,
    })
}

fn answer(options: &AnswerOptions, allow: bool) -> Result<(), CommandError> {
    let AnswerOptions { id, remember, always, .. } = options;
    let remember_seconds = remember.map(|span| span.as_secs());
    let answer = ApprovalAnswer { allow, remember_seconds, always: *always };
    let path = format!("{APPROVALS}/{}", segment(id));
    let _: Value = options.choice.client()?.send(Method::POST, &path, &answer)?;
    if options.json {
        return print_json(&json!({ "id": id, "allow": allow }));
    }
    print(format_args!("{} {}\n", Escaped(id), verb(allow)))
}

fn remembered(options: &RememberedOptions) -> Result<(), CommandError> {
    let answers: RememberedAnswers = options.choice.client()?.get(&format!("{APPROVALS}/remembered"))?;
    if options.json {
        return print_json(&answers);
    }
    if answers.remembered.is_empty() {
        return Ok(());
    }
    print(remembered_table(&answers.remembered))
}

fn remembered_table(answers: &[Remembered]) -> Table<5> {
    let mut table = Table::new(["ID", "ANSWER", "REQUEST", "REASON", "UNTIL"]);
    for Remembered { id, subject, allow, expires, .. } in answers {
        let until = expires
            .map_or("forgotten".to_owned(), |time| humantime::format_rfc3339_seconds(time).to_string());
        table.row([id, verb(*allow), &request(subject), &subject.reason, &until]);
    }
    table
}

fn forget(options: &ForgetOptions) -> Result<(), CommandError> {
    let id = &options.id;
    options.choice.client()?.delete(&format!("{APPROVALS}/remembered/{}", segment(id)))?;
    if options.json {
        return print_json(&json!({ "id": id, "forgotten": true }));
    }
    print(format_args!("{} forgotten\n", Escaped(id)))
}

fn request(subject: &Subject) -> String {
    let Subject { method, scheme, authority, target, .. } = subject;
    format!("{method} {scheme}://{authority}{target}")
}

fn left(expires: SystemTime, now: SystemTime) -> String {
    let left = expires.duration_since(now).unwrap_or_default();
    humantime::format_duration(Duration::from_secs(left.as_secs())).to_string()
}

fn verb(allow: bool) -> &'static str {
    if allow { "allowed" } else { "denied" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            instance: "box".into(),
            method: "POST".into(),
            scheme: "https".into(),
            authority: "api.test:443".into(),
            target: "/pay?x=\u{1b}[2J".into(),
            reason: "really?".into(),
        }
    }

    fn waiting() -> Pending {
        Pending {
            id: "a1".into(),
            subject: subject(),
            asked_by: "rules[1]".into(),
            request_id: "1-1".into(),
            waiting: 2,
            asked: SystemTime::UNIX_EPOCH,
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(60),
        }
    }

    #[test]
    fn a_question_shows_the_request_and_the_time_left() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let expected = "\
ID  REQUEST                                              REASON   ASKED BY  LEFT
a1  POST https://api.test:443/pay?x=\\u{1b}[2J (x2)       really?  rules[1]  58s
";
        let text = pending_table(&[waiting()], now).to_string();
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>(),
            expected.split_whitespace().collect::<Vec<_>>()
        );
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(99);
        assert!(pending_table(&[waiting()], late).to_string().ends_with("0s\n"));
    }

    #[test]
    fn what_happens_is_told_in_a_line() {
        let table = [
            (
                Event::ApprovalAsked(waiting()),
                Some("a1  POST https://api.test:443/pay?x=\u{1b}[2J  really? (asked by rules[1], 1m left)"),
            ),
            (
                Event::ApprovalDecided { id: "a1".into(), allow: false, by: "uid 0".into() },
                Some("a1  denied by uid 0"),
            ),
            (Event::ApprovalLapsed { id: "a1".into() }, Some("a1  no longer waits")),
            (Event::PolicyRefused { error: "x".into() }, None),
        ];
        for (event, words) in table {
            assert_eq!(in_words(&event, SystemTime::UNIX_EPOCH).as_deref(), words, "{event:?}");
        }
    }

    #[test]
    fn a_remembered_answer_shows_until_when() {
        let mut answer = Remembered {
            id: "r1".into(),
            subject: subject(),
            allow: true,
            decided: SystemTime::UNIX_EPOCH,
            expires: None,
        };
        assert!(
            remembered_table(std::slice::from_ref(&answer)).to_string().ends_with("really?  forgotten\n")
        );
        answer.expires = Some(SystemTime::UNIX_EPOCH);
        assert!(remembered_table(&[answer]).to_string().ends_with("1970-01-01T00:00:00Z\n"));
    }
}
