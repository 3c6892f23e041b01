//! A gate with the conformance handler, the origins that it knows, and a client that tells what it got.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) use e2e::assert_line;
use e2e::{Attached, Gate, Outcome, Received, Reply, Site, World, new_token, wait_until};
use serde_json::Value;

use crate::kept::Kept;
use crate::language::Language;

/// How long a line of the log, or anything else that is about to happen, may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long an origin takes that is asked for something with the query `slow`.
pub(crate) const SLOW: Duration = Duration::from_millis(1_500);

/// What every gate of these tests is called.
pub(crate) const NAME: &str = "box";

/// Far above what the handlers need on a slow machine in a build without optimisation, and so that
/// what ends a handler which wants too much is the limit it is about.
pub(crate) const LIMITS: &str = "[handler_limits]\ncpu_ms = 2000\noperations = 1000000000\n";

/// The origins, and what a gate with the conformance handler needs to find them.
#[derive(Debug)]
pub(crate) struct Stage<'world> {
    pub(crate) world: &'world World,
    pub(crate) language: Language,
    pub(crate) site: Site,
    /// The value of the secret `TOKEN`.
    pub(crate) token: String,
    agrees: Arc<AtomicBool>,
    kept: Kept,
}

impl<'world> Stage<'world> {
    /// Origins that answer with what they were asked, but for the query, which may hold a secret:
    /// `origin: METHOD PATH`; with the query `slow` after [`SLOW`].
    pub(crate) fn new(world: &'world World, language: Language) -> Self {
        language.place(world);
        let agrees = Arc::new(AtomicBool::new(true));
        let callout = Arc::clone(&agrees);
        let site = Site::answering(world, move |request| match request.authority.as_str() {
            "callout.test" if callout.load(Ordering::SeqCst) => Reply::text("yes"),
            "callout.test" => Reply::text("no"),
            _ => {
                let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
                let delay = if query == "slow" { SLOW } else { Duration::ZERO };
                Reply::text(format!("origin: {} {path}", request.method)).after(delay)
            }
        });
        let kept = Kept::lend(world, &language.to_string().to_lowercase());
        Self { world, language, site, token: new_token(), agrees, kept }
    }

    /// What `https://callout.test/check` says from now on.
    pub(crate) fn callout(&self, agrees: bool) {
        self.agrees.store(agrees, Ordering::SeqCst);
    }

    /// A document with this text, the secret and the origins. Tables may follow it.
    pub(crate) fn document(&self, text: &str) -> String {
        self.document_with(text, "")
    }

    /// The same, with more keys of the secret.
    pub(crate) fn document_with(&self, text: &str, more: &str) -> String {
        let names = ["scenario.test", "callout.test", "other.test", "plain.test"];
        let secret =
            format!("[secrets.TOKEN]\nsource = \"env://TOKEN\"\nhosts = [\"scenario.test\"]\n{more}\n");
        let document = self.site.policy(self.world, &format!("{text}\n{secret}\n{LIMITS}"), &names);
        // Nobody listens there.
        document.replace("resolve = {", "resolve = { \"down.test:443\" = \"10.77.0.2:1\",")
    }

    /// The document of most tests: the handler for everything.
    pub(crate) fn catch_all(&self) -> String {
        let handler = self.language.handler();
        self.document(&format!(
            "outbound = {{ handler = \"{handler}\", params = {{ greeting = \"hello\" }} }}"
        ))
    }

    /// A gate with a document, not yet started.
    pub(crate) fn gate(&self, document: &str) -> Gate<'world> {
        self.world.gate(document).named(NAME).env("TOKEN", &self.token)
    }

    /// Starts a gate.
    pub(crate) fn attach(&self, gate: Gate<'world>) -> Served<'_, 'world> {
        let gate = gate.attach();
        self.kept.keep();
        let served = Served { stage: self, gate, lines: Cell::new(0), seen: Cell::new([0, 0]) };
        served.arrived();
        served
    }

    /// Starts a gate with the handler for everything.
    pub(crate) fn serve(&self) -> Served<'_, 'world> {
        let gate = self.gate(&self.catch_all());
        let gate =
            ["--container-id", "c-1", "--label", "team=blue"].iter().fold(gate, |gate, flag| gate.flag(flag));
        self.attach(gate)
    }
}

/// A gate that serves, and how far its log and the origins were looked at.
#[derive(Debug)]
pub(crate) struct Served<'stage, 'world> {
    pub(crate) stage: &'stage Stage<'world>,
    pub(crate) gate: Attached<'world>,
    lines: Cell<usize>,
    /// Requests at the origin without TLS, and at the one with TLS.
    seen: Cell<[usize; 2]>,
}

impl Served<'_, '_> {
    /// Asks for a path of `https://scenario.test`, with more arguments for curl.
    #[track_caller]
    pub(crate) fn ask(&self, path: &str, arguments: &[&str]) -> Answer {
        self.ask_url(&format!("https://scenario.test{path}"), arguments)
    }

    /// Asks for a URL.
    #[track_caller]
    pub(crate) fn ask_url(&self, url: &str, arguments: &[&str]) -> Answer {
        Answer::of(&self.gate.run(curl(url, arguments)))
    }

    /// The line of the exchange for this path, among those that were not looked at before: it may be
    /// written after the answer has arrived.
    #[track_caller]
    pub(crate) fn exchange(&self, path: &str) -> Value {
        self.line("exchange", path)
    }

    /// The same for a line of another kind.
    #[track_caller]
    pub(crate) fn line(&self, kind: &str, path: &str) -> Value {
        let mut found = None;
        wait_until(&format!("the {kind} of {path}"), DEADLINE, || {
            let lines = self.gate.log().into_iter().enumerate().skip(self.lines.get());
            found = lines.into_iter().find(|(_, line)| line["kind"] == kind && line["path"] == path);
            found.is_some()
        });
        let (number, line) = found.unwrap();
        self.lines.set(number + 1);
        line
    }

    /// Passes over all lines so far.
    pub(crate) fn skip_log(&self) {
        self.lines.set(self.gate.log().len());
    }

    /// What reached the origins since this was asked for last.
    pub(crate) fn arrived(&self) -> Vec<Received> {
        let origins = [&self.stage.site.plain, &self.stage.site.tls].map(e2e::Origin::requests);
        let before = self.seen.replace([origins[0].len(), origins[1].len()]);
        origins.iter().zip(before).flat_map(|(requests, before)| requests[before..].to_vec()).collect()
    }

    /// The one request that reached the origins since this was asked for last.
    #[track_caller]
    pub(crate) fn arrived_one(&self) -> Received {
        let mut arrived = self.arrived();
        assert_eq!(arrived.len(), 1, "{arrived:#?}");
        arrived.remove(0)
    }
}

/// A curl that prints the head and the body of the response.
pub(crate) fn curl<'a>(url: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["curl", "-sS", "-i", "-g", "--max-time", "50", url], arguments].concat()
}

/// What [`curl`] got.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn of(outcome: &Outcome) -> Self {
        outcome.assert_success();
        let (head, body) =
            outcome.stdout.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {outcome:?}"));
        let mut lines = head.lines();
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let field = |line: &str| {
            line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        };
        Self {
            status: status.unwrap_or_else(|| panic!("no status: {outcome:?}")),
            headers: lines.filter_map(field).collect(),
            body: body.to_owned(),
        }
    }

    /// The first value of a header; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }

    /// The reason of a refusal; empty where it is none.
    pub(crate) fn reason(&self) -> &str {
        self.header("x-sluicegate-reason")
    }

    #[track_caller]
    pub(crate) fn assert_body(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.body.as_str(), self.reason()), (status, body, ""), "{self:#?}");
    }

    #[track_caller]
    pub(crate) fn assert_refused(&self, status: u16, reason: &str) {
        assert_eq!((self.status, self.reason()), (status, reason), "{self:#?}");
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}
