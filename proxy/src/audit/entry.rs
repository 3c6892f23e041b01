//! `Entry`: what is known of one exchange, fetch, flow, DNS answer, handler's line or control action.
//!
//! **Invariant:** no string in a queued entry is longer than the bound of its field, and no path
//! carries a query: both come from the workload.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value};
use sluicegate_policy::LogLevel;
use tokio::sync::OwnedSemaphorePermit;

use super::handler_line::HandlerLine;
use super::kind::{Kind, Protocol, Verdict};
use super::message_tally::MessageTally;
use super::text::{bound, bounded, mask_bounded};
use crate::scrub::Scrubber;
use crate::tap::Tap;

/// The reason of a refusal that the log itself caused. Such refusals are counted, not queued, while
/// the log is unhealthy: queueing them would fill what room is left for the exchanges under way.
pub const AUDIT_UNAVAILABLE: &str = "audit_unavailable";

/// The reason of a record dropped before a verdict was set: the workload hung up, or the task ended.
pub const ABANDONED: &str = "abandoned";

/// Bytes of a path that are kept. Longer than the URLs that browsers and servers agree on.
pub const PATH_LIMIT: usize = 2048;
/// Bytes of `detail` that are kept: a sentence or three.
pub const DETAIL_LIMIT: usize = 512;
/// Bytes kept of every other text: a host name has at most 253 (RFC 1035 2.3.4).
pub const NAME_LIMIT: usize = 256;
/// Bytes of a method that are kept; the longest registered one (`UPDATEREDIRECTREF`) has 17.
pub const METHOD_LIMIT: usize = 32;
/// Names of credentials that are kept.
pub const CREDENTIALS_LIMIT: usize = 32;

/// What a record says. A field that is `None` or empty is left out of the line.
#[derive(Debug)]
pub struct Entry {
    /// The policy generation that judged this; `None` stands for the one the log was opened with.
    pub generation: Option<Arc<str>>,
    /// The id that the refusal's body shows too.
    pub request_id: Option<String>,
    /// What became of it. A record dropped without one says `failed`, reason [`ABANDONED`].
    pub verdict: Option<Verdict>,
    /// Why, as a code of the closed list of reasons.
    pub reason: Option<&'static str>,
    /// Why it would have been refused, as a code of the same list, were it not for `mode = "audit"`.
    /// The verdict is then what happened.
    pub would_refuse: Option<&'static str>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// The name of the handler that answered, fetched or logged.
    pub handler: Option<Arc<str>>,
    /// The handler's version: the start of its text's hash.
    pub handler_version: Option<Arc<str>>,
    /// The id of the question that a person was asked.
    pub approval: Option<String>,
    /// Who did it, in words such as `uid 0`; control actions only.
    pub actor: Option<String>,
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// The request's method.
    pub method: Option<http::Method>,
    /// The authority's host, or the name a DNS question was about.
    pub host: Option<String>,
    /// The authority's port.
    pub port: Option<u16>,
    /// The name in the workload's `ClientHello`.
    pub sni: Option<String>,
    /// The HTTP version between the workload and the gate.
    pub client_version: Option<http::Version>,
    /// The HTTP version between the gate and the upstream.
    pub upstream_version: Option<http::Version>,
    /// The TLS version between the workload and the gate, such as `TLSv1_3`.
    pub tls: Option<&'static str>,
    /// Where the workload connected from, which it can forge; or who came in.
    pub client: Option<SocketAddr>,
    /// Where the workload meant to connect to, or who came in did.
    pub original_destination: Option<SocketAddr>,
    /// Where the gate connected to.
    pub upstream: Option<SocketAddr>,
    /// The status that was sent to the workload.
    pub status: Option<u16>,
    /// The status that the upstream sent.
    pub upstream_status: Option<u16>,
    /// How long it took to have a connection to the upstream: resolving, connecting, TLS.
    pub connect: Option<Duration>,
    /// From the beginning to the upstream's response head.
    pub first_byte: Option<Duration>,
    /// The processor time that the handler took, over all of its runs.
    pub handler_time: Option<Duration>,
    /// How many requests the handler sent.
    pub fetches: Option<u32>,
    /// How often the request was sent again.
    pub retries: Option<u32>,
    /// The names, never the values, of the secrets that were put on.
    pub credentials: Vec<String>,
    /// `Some(true)` when both bodies came to their end, `Some(false)` when one was cut.
    pub complete: Option<bool>,
    /// The transport of a flow.
    pub protocol: Option<Protocol>,
    /// The type of a DNS question, such as `AAAA`.
    pub question_type: Option<String>,
    /// What became of the messages of a WebSocket, where a handler was asked about them.
    pub messages: Option<Arc<MessageTally>>,
    /// How many alike events this one line stands for.
    pub count: Option<u64>,
    /// Knows the values that must not stand in the line: those that went out with the request, and may
    /// have come back. Applied when the record ends to the texts that a handler or an upstream writes.
    pub mask: Option<Scrubber>,
    pub(super) kind: Kind,
    pub(super) began: SystemTime,
    pub(super) started: Instant,
    /// From the beginning to the drop; exchanges, fetches, flows and what came in only.
    pub(super) duration: Option<Duration>,
    pub(super) path: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) request_bytes: Option<Arc<AtomicU64>>,
    pub(super) response_bytes: Option<Arc<AtomicU64>>,
    pub(super) request_tap: Option<Tap>,
    pub(super) response_tap: Option<Tap>,
    pub(super) line: Option<Box<HandlerLine>>,
    /// Bytes of taps and fields; known from the record's end on.
    pub(super) bulk: usize,
    /// A handler's line has it until it is written; see [`super::Log::room_for_lines`].
    pub room: Option<OwnedSemaphorePermit>,
    pub(super) action: Option<&'static str>,
    /// Lines that this run of the log has written, the one that says so included.
    pub(super) records: Option<u64>,
    /// Bytes of an unfinished last line that were cut off when the log was opened.
    pub(super) torn_bytes: Option<u64>,
    /// Records that found the queue full.
    pub(super) lost: Option<u64>,
}

impl Default for Entry {
    /// An entry of a handler, about nothing yet.
    fn default() -> Self {
        Self::new(Kind::Handler)
    }
}

impl Entry {
    pub(super) fn new(kind: Kind) -> Self {
        Self::begun(kind, SystemTime::now(), Instant::now())
    }

    /// An entry about the same request and handler, which is written nowhere.
    pub fn namesake(&self) -> Self {
        let mut other = Self::begun(self.kind, self.began, self.started);
        other.mask.clone_from(&self.mask);
        other.request_id.clone_from(&self.request_id);
        other.method.clone_from(&self.method);
        other.handler.clone_from(&self.handler);
        other.handler_version.clone_from(&self.handler_version);
        other
    }

    /// Sets the path. What follows a `?` or `#` is left out, since queries carry credentials; the
    /// rest is cut to [`PATH_LIMIT`] bytes, and what is not UTF-8 is replaced.
    pub fn set_path(&mut self, path: impl AsRef<[u8]>) {
        let bytes = path.as_ref();
        let end = bytes.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(bytes.len());
        self.path = Some(bounded(bytes.get(..end).unwrap_or_default(), PATH_LIMIT));
    }

    /// Says what happened in words, cut to [`DETAIL_LIMIT`] bytes; what is not UTF-8 is replaced.
    /// The caller keeps secrets out of it.
    pub fn set_detail(&mut self, detail: impl AsRef<[u8]>) {
        self.detail = Some(bounded(detail.as_ref(), DETAIL_LIMIT));
    }

    /// Says what a handler logged: its message is cut to [`super::MESSAGE_LIMIT`] bytes, and fields
    /// of more than [`super::FIELDS_LIMIT`] bytes are left out.
    pub fn set_handler_line(&mut self, level: LogLevel, message: &str, fields: Map<String, Value>) {
        self.line = Some(Box::new(HandlerLine::new(level, message, &fields)));
    }

    /// The counter of bytes that the workload sent: of a request's body, or of a flow. Whoever
    /// streams them adds to it; it is read when the line is written, after the record's drop.
    pub fn request_bytes_counter(&mut self) -> Arc<AtomicU64> {
        Arc::clone(self.request_bytes.get_or_insert_default())
    }

    /// The counter of bytes that were sent to the workload; see [`Self::request_bytes_counter`].
    pub fn response_bytes_counter(&mut self) -> Arc<AtomicU64> {
        Arc::clone(self.response_bytes.get_or_insert_default())
    }

    /// Counts into another record's counter of bytes from the workload: that of the exchange whose
    /// body a fetch sends on.
    pub(crate) fn share_request_bytes(&mut self, counter: Arc<AtomicU64>) {
        self.request_bytes = Some(counter);
    }

    /// Counts into another record's counter of bytes to the workload: that of the exchange which a
    /// fetch's answer goes to.
    pub(crate) fn share_response_bytes(&mut self, counter: Arc<AtomicU64>) {
        self.response_bytes = Some(counter);
    }

    /// Has the first `limit` bytes of the request's body logged, at most
    /// [`crate::tap::TAP_BYTES_MAX`]. Whoever streams the body gives it to the tap, until the
    /// record's drop.
    pub fn tap_request(&mut self, limit: usize) -> Tap {
        self.request_tap.get_or_insert_with(|| Tap::new(limit)).clone()
    }

    /// Has the start of the response's body logged; see [`Self::tap_request`]. A
    /// [`crate::body::ResponseBody`] that is made with this record afterwards gives it its bytes.
    pub fn tap_response(&mut self, limit: usize) -> Tap {
        self.response_tap.get_or_insert_with(|| Tap::new(limit)).clone()
    }

    /// The tap of the response, if there is one.
    pub(crate) fn response_tap(&self) -> Option<Tap> {
        self.response_tap.clone()
    }

    /// Notes that the upstream's response head is here.
    pub fn mark_first_byte(&mut self) {
        self.first_byte = Some(self.started.elapsed());
    }

    /// When the exchange or flow began, on the clock that only goes forward.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn begun(kind: Kind, began: SystemTime, started: Instant) -> Self {
        Self {
            generation: None,
            request_id: None,
            verdict: None,
            reason: None,
            would_refuse: None,
            rule: None,
            handler: None,
            handler_version: None,
            approval: None,
            actor: None,
            scheme: None,
            method: None,
            host: None,
            port: None,
            sni: None,
            client_version: None,
            upstream_version: None,
            tls: None,
            client: None,
            original_destination: None,
            upstream: None,
            status: None,
            upstream_status: None,
            connect: None,
            first_byte: None,
            handler_time: None,
            fetches: None,
            retries: None,
            credentials: Vec::new(),
            complete: None,
            protocol: None,
            question_type: None,
            messages: None,
            count: None,
            mask: None,
            kind,
            began,
            started,
            duration: None,
            path: None,
            detail: None,
            request_bytes: None,
            response_bytes: None,
            request_tap: None,
            response_tap: None,
            line: None,
            bulk: 0,
            room: None,
            action: None,
            records: None,
            torn_bytes: None,
            lost: None,
        }
    }

    /// Makes the entry fit to be queued: it gets its end, a verdict, and its bounds.
    pub(super) fn finish(&mut self) {
        if matches!(self.kind, Kind::Exchange | Kind::Fetch | Kind::Flow | Kind::Inbound) {
            self.duration = Some(self.started.elapsed());
            if self.verdict.is_none() {
                self.verdict = Some(Verdict::Failed);
                self.reason.get_or_insert(ABANDONED);
            }
        }
        self.credentials.truncate(CREDENTIALS_LIMIT);
        let names = [
            &mut self.request_id,
            &mut self.rule,
            &mut self.approval,
            &mut self.actor,
            &mut self.host,
            &mut self.sni,
            &mut self.question_type,
        ];
        for name in names.into_iter().flatten().chain(&mut self.credentials) {
            bound(name, NAME_LIMIT);
        }
        for name in [&mut self.handler, &mut self.handler_version].into_iter().flatten() {
            if name.len() > NAME_LIMIT {
                *name = bounded(name.as_bytes(), NAME_LIMIT).into();
            }
        }
        if let Some(method) = &self.method
            && let Some(start) = method.as_str().as_bytes().get(..METHOD_LIMIT)
        {
            self.method = http::Method::from_bytes(start).ok();
        }
        self.finish_bulk();
    }

    /// Masks what a handler or an upstream wrote, and ends the taps.
    fn finish_bulk(&mut self) {
        let mask = self.mask.take();
        if let Some(mask) = &mask {
            for text in [&mut self.host, &mut self.path, &mut self.detail].into_iter().flatten() {
                mask_bounded(text, mask);
            }
            if let Some(line) = &mut self.line {
                line.mask(mask);
            }
        }
        let taps = [&self.request_tap, &self.response_tap].into_iter().flatten();
        let tapped: usize = taps.map(|tap| tap.seal(mask.as_ref())).sum();
        self.bulk = tapped + self.line.as_ref().map_or(0, |line| line.bulk());
    }

    /// Gives up what is bulky; the line says that it was there.
    pub(super) fn shed_bulk(&mut self) {
        [&self.request_tap, &self.response_tap].into_iter().flatten().for_each(Tap::shed);
        if let Some(line) = &mut self.line {
            line.shed();
        }
        self.bulk = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_no_query_and_no_fragment() {
        for (path, kept) in [("/a?b=c", "/a"), ("/a#b?c", "/a"), ("?x", ""), ("/a/b", "/a/b")] {
            let mut entry = Entry::new(Kind::Exchange);
            entry.set_path(path);
            assert_eq!(entry.path.as_deref(), Some(kept));
        }
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        let mut entry = Entry::new(Kind::Exchange);
        entry.set_path("/".repeat(1_000_000));
        entry.set_detail("é".repeat(DETAIL_LIMIT));
        let (path, detail) = (entry.path.unwrap(), entry.detail.unwrap());
        assert_eq!(path.len(), PATH_LIMIT);
        assert!(path.ends_with("/…"));
        assert!(detail.len() <= DETAIL_LIMIT && detail.len() > DETAIL_LIMIT - 4);
        assert!(detail.ends_with("é…"));
    }

    #[test]
    fn text_at_its_limit_is_whole() {
        let mut entry = Entry::new(Kind::Exchange);
        let path = "/".repeat(PATH_LIMIT);
        entry.set_path(&path);
        assert_eq!(entry.path, Some(path));
    }

    #[test]
    fn replaced_bytes_count_towards_the_limit() {
        let mut entry = Entry::new(Kind::Exchange);
        entry.set_path([0xff; PATH_LIMIT]);
        assert!(entry.path.unwrap().len() <= PATH_LIMIT);
    }

    #[test]
    fn every_other_text_is_bounded_when_the_record_ends() {
        let mut entry = Entry::new(Kind::Exchange);
        let long = "x".repeat(100_000);
        entry.host = Some(long.clone());
        entry.rule = Some(long.clone());
        entry.approval = Some(long.clone());
        entry.actor = Some(long.clone());
        entry.handler = Some(long.as_str().into());
        entry.handler_version = Some(long.as_str().into());
        entry.method = Some(http::Method::from_bytes(long.as_bytes()).unwrap());
        entry.credentials = vec![long; 1000];
        entry.finish();
        assert_eq!(entry.host.unwrap().len(), NAME_LIMIT);
        assert_eq!(entry.rule.unwrap().len(), NAME_LIMIT);
        assert_eq!(entry.approval.unwrap().len(), NAME_LIMIT);
        assert_eq!(entry.actor.unwrap().len(), NAME_LIMIT);
        assert_eq!(entry.handler.unwrap().len(), NAME_LIMIT);
        assert_eq!(entry.handler_version.unwrap().len(), NAME_LIMIT);
        assert_eq!(entry.method.unwrap().as_str().len(), METHOD_LIMIT);
        assert_eq!(entry.credentials.len(), CREDENTIALS_LIMIT);
        assert!(entry.credentials.iter().all(|name| name.len() == NAME_LIMIT));
    }

    #[test]
    fn an_exchange_without_a_verdict_failed() {
        let mut entry = Entry::new(Kind::Exchange);
        entry.finish();
        assert_eq!((entry.verdict, entry.reason), (Some(Verdict::Failed), Some(ABANDONED)));
        assert!(entry.duration.is_some());
        let mut control = Entry::new(Kind::Control);
        control.finish();
        assert_eq!((control.verdict, control.reason), (None, None));
    }

    #[test]
    fn values_of_secrets_are_masked_when_the_record_ends() {
        let mut entry = Entry::new(Kind::Fetch);
        let secret = "s3cr3t-token";
        entry.mask = Some(Scrubber::new(&[secret.as_bytes()]));
        entry.set_path(format!("/echo/{secret}"));
        // Cut in the middle of the value.
        entry.set_detail(format!("{}{secret}", "x".repeat(DETAIL_LIMIT - 8)));
        let fields = Map::from_iter([("token".to_owned(), secret.into())]);
        entry.set_handler_line(LogLevel::Info, &format!("got {secret}"), fields);
        entry.tap_request(99).take(b"a=s3cr3t%2Dtoken");
        let tap = entry.tap_response(8);
        tap.take(secret.as_bytes());
        entry.finish();
        assert_eq!(entry.path.as_deref(), Some("/echo/************"));
        assert_eq!(entry.detail, Some("x".repeat(DETAIL_LIMIT - 8) + "…"));
        assert_eq!(entry.line.unwrap().message, "got ************");
        let taps = [entry.request_tap.unwrap(), tap].map(|tap| serde_json::to_string(&tap).unwrap());
        assert_eq!(taps, [r#"{"text":"a=**************"}"#, r#"{"text":"","truncated":true}"#]);
    }
}
