//! One line of the log: the names and the order of its fields, as JSON.
//!
//! JSON escapes every control character below U+0020, so a line holds neither a line break nor an
//! escape sequence, whatever the workload put into a name.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::Version;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::entry::Entry;
use super::kind::Kind;

/// An entry with its place in the chain.
pub(super) struct Line<'a> {
    pub(super) sequence: u64,
    pub(super) previous: &'a str,
    pub(super) instance: &'a str,
    pub(super) generation: &'a str,
    pub(super) entry: &'a Entry,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = self.entry;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("sequence", &self.sequence)?;
        map.serialize_entry("previous", self.previous)?;
        // A clock before 1970 is broken, and the format knows no such time.
        let began = entry.began.max(SystemTime::UNIX_EPOCH);
        map.serialize_entry("time", &AsText(humantime::format_rfc3339_millis(began)))?;
        map.serialize_entry("kind", entry.kind.as_str())?;
        map.serialize_entry("instance", self.instance)?;
        map.serialize_entry("generation", entry.generation.as_deref().unwrap_or(self.generation))?;
        put_judgement(&mut map, entry)?;
        put_subject(&mut map, entry)?;
        put_measures(&mut map, entry)?;
        put_contents(&mut map, entry)?;
        map.end()
    }
}

/// What became of it, and why.
fn put_judgement<M: SerializeMap>(map: &mut M, entry: &Entry) -> Result<(), M::Error> {
    put(map, "action", entry.action)?;
    put(map, "actor", entry.actor.as_deref())?;
    put(map, "request_id", entry.request_id.as_deref())?;
    put(map, "verdict", entry.verdict)?;
    put(map, "reason", entry.reason)?;
    put(map, "detail", entry.detail.as_deref())?;
    put(map, "would_refuse", entry.would_refuse)?;
    put(map, "rule", entry.rule.as_deref())?;
    put(map, "handler", entry.handler.as_deref())?;
    put(map, "handler_version", entry.handler_version.as_deref())?;
    put(map, "approval", entry.approval.as_deref())
}

/// What it was, and between whom.
fn put_subject<M: SerializeMap>(map: &mut M, entry: &Entry) -> Result<(), M::Error> {
    put(map, "protocol", entry.protocol)?;
    put(map, "scheme", entry.scheme)?;
    put(map, "method", entry.method.as_ref().map(http::Method::as_str))?;
    put(map, "host", entry.host.as_deref())?;
    put(map, "port", entry.port)?;
    put(map, "path", entry.path.as_deref())?;
    put(map, "question_type", entry.question_type.as_deref())?;
    put(map, "sni", entry.sni.as_deref())?;
    put(map, "client_version", entry.client_version.map(version_name))?;
    put(map, "upstream_version", entry.upstream_version.map(version_name))?;
    put(map, "tls", entry.tls)?;
    put(map, "client", entry.client.map(AsText))?;
    put(map, "original_destination", entry.original_destination.map(AsText))?;
    put(map, "upstream", entry.upstream.map(AsText))
}

/// What came of it, counted and timed.
fn put_measures<M: SerializeMap>(map: &mut M, entry: &Entry) -> Result<(), M::Error> {
    put(map, "status", entry.status)?;
    put(map, "upstream_status", entry.upstream_status)?;
    put(map, "request_bytes", count_of(entry, entry.request_bytes.as_ref()))?;
    put(map, "response_bytes", count_of(entry, entry.response_bytes.as_ref()))?;
    put(map, "duration_ms", entry.duration.map(milliseconds))?;
    put(map, "connect_ms", entry.connect.map(milliseconds))?;
    put(map, "first_byte_ms", entry.first_byte.map(milliseconds))?;
    put(map, "handler_ms", entry.handler_time.map(milliseconds))?;
    put(map, "fetches", entry.fetches)?;
    put(map, "retries", entry.retries)?;
    put(map, "credentials", Some(&entry.credentials).filter(|names| !names.is_empty()))?;
    put(map, "complete", entry.complete)?;
    put(map, "messages", entry.messages.as_deref())?;
    put(map, "count", entry.count)?;
    put(map, "records", entry.records)?;
    put(map, "torn_bytes", entry.torn_bytes)?;
    put(map, "lost", entry.lost)
}

/// What a handler logged, by itself and of bodies.
fn put_contents<M: SerializeMap>(map: &mut M, entry: &Entry) -> Result<(), M::Error> {
    if let Some(line) = &entry.line {
        put(map, "level", Some(line.level))?;
        put(map, "message", Some(&line.message))?;
        put(map, "fields", line.fields())?;
    }
    put(map, "request_tap", entry.request_tap.as_ref())?;
    put(map, "response_tap", entry.response_tap.as_ref())
}

struct AsText<T>(T);

impl<T: Display> Serialize for AsText<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

fn put<M: SerializeMap>(
    map: &mut M,
    name: &'static str,
    value: Option<impl Serialize>,
) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(name, &value),
        None => Ok(()),
    }
}

/// Exchanges, fetches and flows always say how many bytes went each way; nothing else has any.
fn count_of(entry: &Entry, counter: Option<&Arc<AtomicU64>>) -> Option<u64> {
    let counted = counter.map(|counter| counter.load(Ordering::Relaxed));
    matches!(entry.kind, Kind::Exchange | Kind::Fetch | Kind::Flow | Kind::Inbound)
        .then(|| counted.unwrap_or(0))
}

/// Milliseconds with three digits after the point.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn version_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_policy::LogLevel;

    use super::*;
    use crate::audit::LINE_LIMIT;
    use crate::audit::kind::{Protocol, Verdict};

    fn line_of(entry: &Entry) -> String {
        let line = Line { sequence: 7, previous: "00ff", instance: "box-1", generation: "abc", entry };
        serde_json::to_string(&line).unwrap()
    }

    fn entry(kind: Kind) -> Entry {
        let mut entry = Entry::new(kind);
        entry.began = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        entry
    }

    #[test]
    fn o01_a_full_exchange_has_every_field_in_order() {
        let mut entry = entry(Kind::Exchange);
        entry.generation = Some("def".into());
        entry.request_id = Some("r1".to_owned());
        entry.verdict = Some(Verdict::Allowed);
        entry.rule = Some("rules[1]".to_owned());
        entry.scheme = Some("https");
        entry.method = Some(http::Method::GET);
        entry.host = Some("api.example.test".to_owned());
        entry.port = Some(443);
        entry.set_path("/v1/x?token=hidden");
        entry.sni = Some("api.example.test".to_owned());
        entry.client_version = Some(Version::HTTP_2);
        entry.upstream_version = Some(Version::HTTP_11);
        entry.tls = Some("TLSv1_3");
        entry.client = Some("10.0.0.1:5000".parse().unwrap());
        entry.original_destination = Some("[2001:db8::1]:443".parse().unwrap());
        entry.upstream = Some("192.0.2.1:443".parse().unwrap());
        entry.status = Some(200);
        entry.upstream_status = Some(200);
        entry.request_bytes_counter().fetch_add(12, Ordering::Relaxed);
        entry.response_bytes_counter().fetch_add(345, Ordering::Relaxed);
        entry.duration = Some(Duration::from_nanos(12_345_678));
        entry.connect = Some(Duration::from_micros(1500));
        entry.first_byte = Some(Duration::from_secs(5000));
        entry.retries = Some(1);
        entry.credentials = vec!["API_TOKEN".to_owned()];
        entry.complete = Some(true);
        assert_eq!(
            line_of(&entry),
            concat!(
                r#"{"sequence":7,"previous":"00ff","time":"2023-11-14T22:13:20.123Z","#,
                r#""kind":"exchange","instance":"box-1","generation":"def","request_id":"r1","#,
                r#""verdict":"allowed","rule":"rules[1]","scheme":"https","method":"GET","#,
                r#""host":"api.example.test","port":443,"path":"/v1/x","sni":"api.example.test","#,
                r#""client_version":"HTTP/2","upstream_version":"HTTP/1.1","tls":"TLSv1_3","#,
                r#""client":"10.0.0.1:5000","original_destination":"[2001:db8::1]:443","#,
                r#""upstream":"192.0.2.1:443","status":200,"upstream_status":200,"#,
                r#""request_bytes":12,"response_bytes":345,"duration_ms":12.346,"#,
                r#""connect_ms":1.5,"first_byte_ms":5000000.0,"retries":1,"#,
                r#""credentials":["API_TOKEN"],"complete":true}"#,
            )
        );
    }

    #[test]
    fn what_a_handler_did_has_every_field_in_order() {
        let mut entry = entry(Kind::Fetch);
        entry.verdict = Some(Verdict::Allowed);
        entry.would_refuse = Some("not_named");
        entry.rule = Some("rules[1]".to_owned());
        entry.handler = Some("handlers/a.rhai".into());
        entry.handler_version = Some("0123456789ab".into());
        entry.approval = Some("7".to_owned());
        entry.status = Some(200);
        entry.handler_time = Some(Duration::from_micros(12));
        entry.fetches = Some(2);
        entry.tap_request(9).take(b"sent");
        entry.tap_response(2).take(b"got");
        assert_eq!(
            line_of(&entry),
            concat!(
                r#"{"sequence":7,"previous":"00ff","time":"2023-11-14T22:13:20.123Z","#,
                r#""kind":"fetch","instance":"box-1","generation":"abc","verdict":"allowed","#,
                r#""would_refuse":"not_named","rule":"rules[1]","handler":"handlers/a.rhai","#,
                r#""handler_version":"0123456789ab","approval":"7","status":200,"#,
                r#""request_bytes":0,"response_bytes":0,"handler_ms":0.012,"fetches":2,"#,
                r#""request_tap":{"text":"sent"},"response_tap":{"text":"go","truncated":true}}"#,
            )
        );
    }

    #[test]
    fn a_handler_s_line_and_a_control_action_are_as_they_were_given() {
        let fields = serde_json::json!({"n": 1, "who": {"name": "a"}});
        let serde_json::Value::Object(fields) = fields else { panic!() };
        let mut handler = entry(Kind::Handler);
        handler.handler = Some("a.rhai".into());
        handler.set_handler_line(LogLevel::Warn, "hm", fields);
        let mut control = entry(Kind::Control);
        control.action = Some("policy_published");
        control.actor = Some("uid 0".to_owned());
        control.set_detail("from abc to def");
        let head = r#"{"sequence":7,"previous":"00ff","time":"2023-11-14T22:13:20.123Z","kind":"#;
        for (entry, rest) in [
            (
                handler,
                concat!(
                    r#""handler","instance":"box-1","generation":"abc","handler":"a.rhai","level":"warn","#,
                    r#""message":"hm","fields":{"n":1,"who":{"name":"a"}}}"#,
                ),
            ),
            (
                control,
                concat!(
                    r#""control","instance":"box-1","generation":"abc","action":"policy_published","#,
                    r#""actor":"uid 0","detail":"from abc to def"}"#,
                ),
            ),
        ] {
            assert_eq!(line_of(&entry), format!("{head}{rest}"));
        }
    }

    #[test]
    fn the_longest_line_is_shorter_than_what_is_read_back() {
        let long = "\u{1}".repeat(100_000);
        let mut entry = entry(Kind::Exchange);
        entry.set_path(&long);
        entry.set_detail(&long);
        for name in [&mut entry.host, &mut entry.rule, &mut entry.sni, &mut entry.approval, &mut entry.actor]
        {
            *name = Some(long.clone());
        }
        entry.handler = Some(long.as_str().into());
        entry.credentials = vec![long.clone(); 100];
        for tap in [entry.tap_request(usize::MAX), entry.tap_response(usize::MAX)] {
            tap.take("\"".repeat(1_000_000).as_bytes());
        }
        let fields = serde_json::Map::from_iter([(long.clone(), serde_json::Value::Null)]);
        entry.set_handler_line(LogLevel::Info, &long, fields);
        entry.finish();
        assert!(line_of(&entry).len() < LINE_LIMIT / 2, "{}", line_of(&entry).len());
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut entry = entry(Kind::Flow);
        entry.protocol = Some(Protocol::Udp);
        assert_eq!(
            line_of(&entry),
            concat!(
                r#"{"sequence":7,"previous":"00ff","time":"2023-11-14T22:13:20.123Z","#,
                r#""kind":"flow","instance":"box-1","generation":"abc","protocol":"udp","#,
                r#""request_bytes":0,"response_bytes":0}"#,
            )
        );
    }

    #[test]
    fn hostile_text_stays_in_its_field_and_on_its_line() {
        let hostile = "a\n{\"kind\":\"control\"}\r\u{1b}[2J\0\"\\\u{7}";
        let mut entry = entry(Kind::Exchange);
        entry.host = Some(hostile.to_owned());
        entry.set_path(hostile);
        entry.set_detail([b'x', 0xff, 0xfe, b'\n']);
        let fields = serde_json::Map::from_iter([(hostile.to_owned(), hostile.into())]);
        entry.set_handler_line(LogLevel::Info, hostile, fields);
        entry.tap_request(99).take(hostile.as_bytes());
        entry.tap_response(99).take(b"\n\"}");
        let line = line_of(&entry);
        assert!(!line.bytes().any(|byte| byte < b' '), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["kind"], "exchange");
        assert_eq!(value["host"], hostile);
        assert_eq!(value["path"], hostile);
        assert_eq!(value["detail"], "x\u{fffd}\u{fffd}\n");
        assert_eq!(value["message"], hostile);
        assert_eq!(value["fields"][hostile], hostile);
        assert!(value["request_tap"]["base64"].is_string(), "{value}");
        assert_eq!(value["response_tap"]["text"], "\n\"}");
    }

    #[test]
    fn a_clock_before_1970_does_not_end_the_log() {
        let mut entry = entry(Kind::Control);
        entry.began = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert!(line_of(&entry).contains("1970-01-01T00:00:00.000Z"));
    }
}
