//! Reads the log back for people: whole lines of a file that may still grow, a filter, and one
//! line of text for each record.
//!
//! **Invariant:** what [`Shown`] prints holds no character that a terminal acts upon.

use std::fmt::{self, Display, Formatter, Write as _};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::net::Ipv6Addr;
use std::time::SystemTime;

use serde::Deserialize;

use super::chain::LINE_LIMIT;
use super::kind::Kind;

/// Whole lines of a log; an unfinished last one is kept until its rest is there.
pub(crate) struct LineReader {
    file: BufReader<File>,
    line: Vec<u8>,
    is_whole: bool,
}

/// A record as it is read back. Fields that nobody shows or filters by are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Shown {
    time: String,
    kind: String,
    action: Option<String>,
    actor: Option<String>,
    verdict: Option<String>,
    reason: Option<String>,
    detail: Option<String>,
    would_refuse: Option<String>,
    rule: Option<String>,
    handler: Option<String>,
    approval: Option<String>,
    protocol: Option<String>,
    method: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<String>,
    question_type: Option<String>,
    original_destination: Option<String>,
    status: Option<u16>,
    duration_ms: Option<f64>,
    fetches: Option<u32>,
    credentials: Vec<String>,
    count: Option<u64>,
    lost: Option<u64>,
    torn_bytes: Option<u64>,
    level: Option<String>,
    message: Option<String>,
    fields: Option<serde_json::Value>,
}

/// Which records are wanted; everything that is `Some` must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) kind: Option<Kind>,
    pub(crate) host: Option<HostFilter>,
    pub(crate) would_refuse: bool,
    pub(crate) verdict: Option<String>,
    pub(crate) since: Option<SystemTime>,
}

/// A host, or with `*.` in front every name below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostFilter {
    /// This host.
    Exact(String),
    /// Every name that ends in this; it begins with a dot.
    Below(String),
}

impl LineReader {
    pub(crate) fn new(file: File) -> Self {
        Self { file: BufReader::with_capacity(64 * 1024, file), line: Vec::new(), is_whole: false }
    }

    /// The next whole line without its end; `None` when the file has no more for now. A line longer
    /// than [`LINE_LIMIT`] comes in pieces, none of which is a record.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        if self.is_whole {
            self.line.clear();
        }
        let room = LINE_LIMIT - self.line.len();
        self.is_whole = false;
        (&mut self.file).take(room as u64).read_until(b'\n', &mut self.line)?;
        if let Some(b'\n') = self.line.last() {
            self.line.pop();
            self.is_whole = true;
        } else if self.line.len() >= LINE_LIMIT {
            self.is_whole = true;
        }
        Ok(self.is_whole.then_some(self.line.as_slice()))
    }

    /// The file, and how far it was read.
    pub(crate) fn position(&mut self) -> io::Result<(&File, u64)> {
        let position = self.file.stream_position()?;
        Ok((self.file.get_ref(), position))
    }
}

impl Shown {
    /// Reads a line; `None` when it is not a record.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(line).ok().filter(|record| !record.kind.is_empty())
    }

    fn host_and_port(&self) -> Option<String> {
        let host = self.host.as_deref()?;
        let mut text = match host.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => host.to_owned(),
        };
        if let Some(port) = self.port {
            text.push_str(&format!(":{port}"));
        }
        Some(text)
    }

    /// What was done, in the words of the protocol.
    fn deed(&self) -> String {
        match self.kind.as_str() {
            "dns" => format!("DNS {}", self.question_type.as_deref().unwrap_or("?")),
            "inbound" => "TCP in".to_owned(),
            "flow" => self.protocol.as_deref().unwrap_or("flow").to_uppercase(),
            "control" => self.action.clone().unwrap_or_default(),
            "handler" => self.level.clone().unwrap_or_default(),
            "fetch" => format!("fetch {}", self.method.as_deref().unwrap_or("-")),
            _ => self.method.clone().unwrap_or_else(|| "-".to_owned()),
        }
    }

    /// To whom it was done.
    fn target(&self) -> String {
        let destination =
            self.host_and_port().or_else(|| self.original_destination.clone()).unwrap_or_default();
        destination + self.path.as_deref().unwrap_or_default()
    }

    /// By whose code: what it logged, or else that it was there.
    fn by_handler(&self) -> Option<String> {
        let handler = self.handler.as_deref();
        match self.message.as_deref() {
            Some(message) => Some(format!("{}: {message}", handler.unwrap_or("?"))),
            None => handler.map(|handler| format!("handler {handler}")),
        }
    }

    /// Why it ended as it did: reason, rule, and the words if there are any.
    fn cause(&self) -> Option<String> {
        let code = match (self.reason.as_deref(), self.rule.as_deref()) {
            (Some(reason), Some(rule)) => Some(format!("{reason} by {rule}")),
            (reason, rule) => reason.or(rule).map(str::to_owned),
        };
        match (code, self.detail.as_deref()) {
            (Some(code), Some(detail)) => Some(format!("{code} ({detail})")),
            (code, detail) => code.or_else(|| detail.map(|detail| format!("({detail})"))),
        }
    }
}

impl Display for Shown {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let verdict = self.verdict.as_deref().unwrap_or("-");
        // Padded after escaping: what is padded here is one of a few words in a log of ours.
        write!(formatter, "{:24}", Escaped(&self.time))?;
        write!(formatter, "  {:8}  {:7}", Escaped(verdict), Escaped(&self.deed()))?;
        let credentials = (!self.credentials.is_empty()).then(|| format!("+{}", self.credentials.join(",")));
        let parts = [
            Some(self.target()).filter(|target| !target.is_empty()),
            self.status.map(|status| status.to_string()),
            self.by_handler(),
            self.fields.as_ref().map(ToString::to_string),
            self.cause(),
            self.would_refuse.as_ref().map(|reason| format!("would refuse: {reason}")),
            self.approval.as_ref().map(|approval| format!("approval {approval}")),
            credentials,
            self.fetches.map(|fetches| format!("{fetches} fetched")),
            self.actor.as_ref().map(|actor| format!("by {actor}")),
            self.count.map(|count| format!("x{count}")),
            self.lost.map(|lost| format!("{lost} lost")),
            self.torn_bytes.map(|bytes| format!("{bytes} torn bytes cut off")),
            self.duration_ms.map(|milliseconds| format!("{milliseconds:.1} ms")),
        ];
        for part in parts.iter().flatten() {
            write!(formatter, "  {}", Escaped(part))?;
        }
        Ok(())
    }
}

impl Filter {
    /// Whether a record is wanted.
    pub(crate) fn admits(&self, record: &Shown) -> bool {
        let host = self
            .host
            .as_ref()
            .is_none_or(|filter| record.host.as_deref().is_some_and(|host| filter.admits(host)));
        let verdict = self.verdict.is_none() || self.verdict == record.verdict;
        let kind = self.kind.is_none_or(|kind| record.kind == kind.as_str());
        let would_refuse = !self.would_refuse || record.would_refuse.is_some();
        let is_since = |since| humantime::parse_rfc3339(&record.time).is_ok_and(|time| time >= since);
        kind && host && verdict && would_refuse && self.since.is_none_or(is_since)
    }
}

impl HostFilter {
    /// Reads `host` or `*.suffix`, in any case.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        match name.strip_prefix('*') {
            None if !name.is_empty() && !name.contains('*') => Ok(Self::Exact(name.to_owned())),
            Some(suffix) if suffix.len() > 1 && suffix.starts_with('.') && !suffix.contains('*') => {
                Ok(Self::Below(suffix.to_owned()))
            }
            _ => Err("expected a host, or *.suffix for every name below one".to_owned()),
        }
    }

    fn admits(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name),
            Self::Below(suffix) => {
                host.len() > suffix.len() && host.to_ascii_lowercase().ends_with(suffix.as_str())
            }
        }
    }
}

/// Text from the workload, with everything that a terminal acts upon made visible: control
/// characters (C0, DEL, C1), line and paragraph separators, and what turns the direction of text.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        if !self.0.contains(acts_on_terminal) {
            return formatter.pad(self.0);
        }
        for character in self.0.chars() {
            if acts_on_terminal(character) {
                write!(formatter, "{}", character.escape_default())?;
            } else {
                formatter.write_char(character)?;
            }
        }
        Ok(())
    }
}

fn acts_on_terminal(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn shown(json: &str) -> Shown {
        Shown::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_record_is_one_line_of_text() {
        let cases = [
            (
                r#"{"kind":"exchange","time":"2026-01-31T12:00:00.123Z","verdict":"allowed","method":"GET",
                    "host":"api.example.test","port":443,"path":"/v1/x","status":200,"rule":"rules[1]",
                    "credentials":["A","B"],"duration_ms":12.345}"#,
                "2026-01-31T12:00:00.123Z  allowed   GET      api.example.test:443/v1/x  200  rules[1]  +A,B  12.3 ms",
            ),
            (
                r#"{"kind":"exchange","time":"2026-01-31T12:00:00.123Z","verdict":"refused","method":"POST",
                    "host":"2001:db8::1","port":443,"path":"/","status":403,"reason":"denied_by_rule",
                    "rule":"rules[2]","detail":"no uploads"}"#,
                "2026-01-31T12:00:00.123Z  refused   POST     [2001:db8::1]:443/  403  denied_by_rule by rules[2] (no uploads)",
            ),
            (
                r#"{"kind":"flow","time":"t","verdict":"refused","protocol":"udp","original_destination":"192.0.2.1:53",
                    "reason":"udp_flow","count":7}"#,
                "t                         refused   UDP      192.0.2.1:53  udp_flow  x7",
            ),
            (
                r#"{"kind":"dns","time":"t","verdict":"answered","question_type":"AAAA","host":"a.test"}"#,
                "t                         answered  DNS AAAA  a.test",
            ),
            (
                r#"{"kind":"control","time":"t","action":"started","torn_bytes":9}"#,
                "t                         -         started  9 torn bytes cut off",
            ),
            (
                r#"{"kind":"control","time":"t","action":"policy_refused","actor":"uid 0","detail":"line 3"}"#,
                "t                         -         policy_refused  (line 3)  by uid 0",
            ),
            (
                r#"{"kind":"exchange","time":"t","verdict":"allowed","method":"PUT","host":"a.test","status":201,
                    "would_refuse":"not_named","handler":"h.rhai","approval":"7","fetches":2}"#,
                "t                         allowed   PUT      a.test  201  handler h.rhai  would refuse: not_named  approval 7  2 fetched",
            ),
            (
                r#"{"kind":"fetch","time":"t","verdict":"allowed","method":"GET","host":"b.test","port":443,
                    "path":"/x","status":200,"handler":"h.rhai"}"#,
                "t                         allowed   fetch GET  b.test:443/x  200  handler h.rhai",
            ),
            (
                r#"{"kind":"handler","time":"t","handler":"h.rhai","level":"warn","message":"too many",
                    "fields":{"n":3,"who":"a"}}"#,
                r#"t                         -         warn     h.rhai: too many  {"n":3,"who":"a"}"#,
            ),
        ];
        for (json, text) in cases {
            assert_eq!(shown(json).to_string(), text);
        }
    }

    #[test]
    fn nothing_that_a_terminal_acts_upon_is_printed() {
        let hostile = "a\n\r\t\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{2028}\u{200b}é";
        let json = serde_json::json!({
            "kind": "exchange", "time": hostile, "verdict": hostile, "method": hostile, "host": hostile,
            "path": hostile, "reason": hostile, "rule": hostile, "detail": hostile, "credentials": [hostile],
            "handler": hostile, "message": hostile, "fields": {hostile: hostile}, "would_refuse": hostile,
            "approval": hostile, "actor": hostile, "level": hostile,
        });
        let text = shown(&json.to_string()).to_string();
        assert!(!text.contains(acts_on_terminal), "{text:?}");
        assert!(text.contains(r"a\n\r\t\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{2028}\u{200b}é"), "{text}");
    }

    #[test]
    fn what_is_no_record_is_not_shown() {
        for line in ["", "{}", "[]", "hello", r#"{"time":"x"}"#, r#"{"kind":7}"#] {
            assert!(Shown::parse(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn a_host_filter_is_a_host_or_what_is_below_it() {
        let cases = [
            ("api.example.test", "API.example.test", true),
            ("API.example.test.", "api.example.test", true),
            ("example.test", "api.example.test", false),
            ("*.example.test", "api.example.test", true),
            ("*.example.test", "a.b.Example.test", true),
            ("*.example.test", "example.test", false),
            ("*.example.test", "notexample.test", false),
            ("[2001:db8::1]", "2001:db8::1", true),
        ];
        for (pattern, host, admitted) in cases {
            assert_eq!(HostFilter::parse(pattern).unwrap().admits(host), admitted, "{pattern} {host}");
        }
        for pattern in ["", "*", "*.", "*x.test", "a.*.test", "*.*.test", "."] {
            assert!(HostFilter::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_filter_wants_all_that_it_names() {
        let record = shown(
            r#"{"kind":"exchange","time":"2026-01-31T12:00:00.500Z","verdict":"refused","host":"a.test",
                "would_refuse":"not_named"}"#,
        );
        let control = shown(r#"{"kind":"control","time":"2026-01-31T12:00:00.500Z"}"#);
        let host = |name: &str| Filter { host: Some(HostFilter::parse(name).unwrap()), ..Filter::default() };
        let verdict = |word: &str| Filter { verdict: Some(word.to_owned()), ..Filter::default() };
        let since =
            |time| Filter { since: Some(humantime::parse_rfc3339(time).unwrap()), ..Filter::default() };
        let cases = [
            (Filter::default(), true, true),
            (host("a.test"), true, false),
            (host("b.test"), false, false),
            (verdict("refused"), true, false),
            (verdict("allowed"), false, false),
            (since("2026-01-31T12:00:00.500Z"), true, true),
            (since("2026-01-31T12:00:00.501Z"), false, false),
            (Filter { kind: Some(Kind::Exchange), ..Filter::default() }, true, false),
            (Filter { kind: Some(Kind::Control), ..Filter::default() }, false, true),
            (Filter { would_refuse: true, ..Filter::default() }, true, false),
            (Filter { host: host("a.test").host, ..verdict("allowed") }, false, false),
        ];
        for (filter, admits_record, admits_control) in cases {
            assert_eq!(filter.admits(&record), admits_record, "{filter:?}");
            assert_eq!(filter.admits(&control), admits_control, "{filter:?}");
        }
    }

    #[test]
    fn a_line_is_read_when_its_end_is_there() {
        let mut writer = tempfile::NamedTempFile::new().unwrap();
        let mut lines = LineReader::new(writer.reopen().unwrap());
        assert_eq!(lines.next_line().unwrap(), None);
        writer.write_all(b"one\ntw").unwrap();
        assert_eq!(lines.next_line().unwrap(), Some(b"one".as_slice()));
        assert_eq!(lines.next_line().unwrap(), None);
        assert_eq!(lines.next_line().unwrap(), None);
        writer.write_all(b"o\n\nthree\n").unwrap();
        assert_eq!(lines.next_line().unwrap(), Some(b"two".as_slice()));
        assert_eq!(lines.next_line().unwrap(), Some(b"".as_slice()));
        assert_eq!(lines.next_line().unwrap(), Some(b"three".as_slice()));
        assert_eq!(lines.next_line().unwrap(), None);
        assert_eq!(lines.position().unwrap().1, 15);
    }

    #[test]
    fn a_line_without_end_takes_no_more_than_its_limit() {
        let mut writer = tempfile::NamedTempFile::new().unwrap();
        writer.write_all(&vec![b'x'; LINE_LIMIT + 3]).unwrap();
        writer.write_all(b"\nend\n").unwrap();
        let mut lines = LineReader::new(writer.reopen().unwrap());
        assert_eq!(lines.next_line().unwrap().unwrap().len(), LINE_LIMIT);
        assert_eq!(lines.next_line().unwrap(), Some(b"xxx".as_slice()));
        assert_eq!(lines.next_line().unwrap(), Some(b"end".as_slice()));
    }
}
