//! `AuditRecord`: what is known of one exchange, flow, DNS answer or control action, written when dropped.
//!
//! **Invariant:** every record made is handed to the log exactly once, by its `Drop` and nothing else.
//! **Invariant:** no string in a queued record is longer than the bound of its field, and no path
//! carries a query: both come from the workload.

use std::fmt;
use std::mem;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::Log;

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

/// What became of an exchange, a flow or a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It went to the upstream, and an answer of the upstream's came back.
    Allowed,
    /// The gate refused it.
    Refused,
    /// The gate answered it by itself, as the policy says.
    Answered,
    /// It was allowed and did not work: the upstream was not found, not reached or not verified.
    Failed,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A request and its response.
    Exchange,
    /// An opaque flow: bytes that were passed on, or refused, unread.
    Flow,
    /// A question to the resolver.
    Dns,
    /// Something done to the gate or by it.
    Control,
}

/// The transport of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One line of the log to be. Set the fields of [`Entry`] on it as they become known; dropping it
/// writes it.
pub struct AuditRecord(Box<Unwritten>);

/// Boxed above: a record changes hands several times, and is some hundred bytes.
struct Unwritten {
    log: Log,
    entry: Entry,
}

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
    /// The rule that decided.
    pub rule: Option<String>,
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
    /// Where the workload connected from. The workload can forge it.
    pub client: Option<SocketAddr>,
    /// Where the workload meant to connect to.
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
    /// How many alike events this one line stands for.
    pub count: Option<u64>,
    pub(super) kind: Kind,
    pub(super) began: SystemTime,
    pub(super) started: Instant,
    /// From the beginning to the drop; exchanges and flows only.
    pub(super) duration: Option<Duration>,
    pub(super) path: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) request_bytes: Option<Arc<AtomicU64>>,
    pub(super) response_bytes: Option<Arc<AtomicU64>>,
    pub(super) action: Option<&'static str>,
    /// Lines that this run of the log has written, the one that says so included.
    pub(super) records: Option<u64>,
    /// Bytes of an unfinished last line that were cut off when the log was opened.
    pub(super) torn_bytes: Option<u64>,
    /// Records that found the queue full.
    pub(super) lost: Option<u64>,
}

impl AuditRecord {
    pub(super) fn new(log: Log, entry: Entry) -> Self {
        Self(Box::new(Unwritten { log, entry }))
    }
}

impl Entry {
    pub(super) fn new(kind: Kind) -> Self {
        Self::begun(kind, SystemTime::now(), Instant::now())
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

    /// The counter of bytes that the workload sent: of a request's body, or of a flow. Whoever
    /// streams them adds to it; it is read when the line is written, after the record's drop.
    pub fn request_bytes_counter(&mut self) -> Arc<AtomicU64> {
        Arc::clone(self.request_bytes.get_or_insert_default())
    }

    /// The counter of bytes that were sent to the workload; see [`Self::request_bytes_counter`].
    pub fn response_bytes_counter(&mut self) -> Arc<AtomicU64> {
        Arc::clone(self.response_bytes.get_or_insert_default())
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

    fn begun(kind: Kind, began: SystemTime, started: Instant) -> Self {
        Self {
            generation: None,
            request_id: None,
            verdict: None,
            reason: None,
            rule: None,
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
            retries: None,
            credentials: Vec::new(),
            complete: None,
            protocol: None,
            question_type: None,
            count: None,
            kind,
            began,
            started,
            duration: None,
            path: None,
            detail: None,
            request_bytes: None,
            response_bytes: None,
            action: None,
            records: None,
            torn_bytes: None,
            lost: None,
        }
    }

    /// Makes the entry fit to be queued: it gets its end, a verdict, and its bounds.
    fn finish(&mut self) {
        if matches!(self.kind, Kind::Exchange | Kind::Flow) {
            self.duration = Some(self.started.elapsed());
            if self.verdict.is_none() {
                self.verdict = Some(Verdict::Failed);
                self.reason.get_or_insert(ABANDONED);
            }
        }
        self.credentials.truncate(CREDENTIALS_LIMIT);
        let names =
            [&mut self.request_id, &mut self.rule, &mut self.host, &mut self.sni, &mut self.question_type];
        for name in names.into_iter().flatten().chain(&mut self.credentials) {
            bound(name, NAME_LIMIT);
        }
        if let Some(method) = &self.method
            && let Some(start) = method.as_str().as_bytes().get(..METHOD_LIMIT)
        {
            self.method = http::Method::from_bytes(start).ok();
        }
    }
}

impl Deref for AuditRecord {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.0.entry
    }
}

impl DerefMut for AuditRecord {
    fn deref_mut(&mut self) -> &mut Entry {
        &mut self.0.entry
    }
}

impl fmt::Debug for AuditRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("AuditRecord").field(&self.0.entry).finish()
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.entry.finish();
        let spent = Entry::begun(self.entry.kind, self.entry.began, self.entry.started);
        self.log.push(mem::replace(&mut self.entry, spent));
    }
}

/// The start of `bytes` as text of at most `limit` bytes.
fn bounded(bytes: &[u8], limit: usize) -> String {
    // One byte more than the limit, so that `bound` sees that there was more.
    let start = bytes.get(..=limit).unwrap_or(bytes);
    let mut text = String::from_utf8_lossy(start).into_owned();
    bound(&mut text, limit);
    text
}

/// Cuts `text` to `limit` bytes, the mark of the cut included.
fn bound(text: &mut String, limit: usize) {
    const CUT: &str = "…";
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit.saturating_sub(CUT.len())));
        text.push_str(CUT);
        text.shrink_to_fit();
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
        entry.method = Some(http::Method::from_bytes(long.as_bytes()).unwrap());
        entry.credentials = vec![long; 1000];
        entry.finish();
        assert_eq!(entry.host.unwrap().len(), NAME_LIMIT);
        assert_eq!(entry.rule.unwrap().len(), NAME_LIMIT);
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
}
