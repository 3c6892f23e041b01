//! Bodies from memory, from stores and from real connections.

use std::collections::VecDeque;
use std::convert::Infallible;

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::activity::Activity;
use crate::audit::{Destination, Log, OpenedLog, Verdict};

const SOON: Duration = Duration::from_secs(20);

/// A body of frames that are there; `stated` is its length, where it is known.
struct Frames {
    frames: VecDeque<Result<Frame<Bytes>, &'static str>>,
    stated: Option<u64>,
    has_ended: bool,
}

impl Frames {
    fn of(pieces: &[&'static str]) -> Self {
        let frames = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from(*piece)))).collect();
        Self { frames, stated: None, has_ended: false }
    }

    fn stated(mut self) -> Self {
        let lengths = self.frames.iter().flatten().filter_map(|frame| frame.data_ref()).map(Bytes::len);
        self.stated = Some(lengths.sum::<usize>() as u64);
        self
    }

    fn then(mut self, frame: Result<Frame<Bytes>, &'static str>) -> Self {
        self.frames.push_back(frame);
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        assert!(!self.has_ended, "asked again after its end");
        if self.stated == Some(0) && self.frames.is_empty() {
            // Its end comes in a frame of its own, and late.
            return Poll::Pending;
        }
        let frame = self.frames.pop_front();
        self.has_ended = frame.is_none();
        let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        self.stated = self.stated.map(|stated| stated - length as u64);
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.stated.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// A body that never moves.
struct Silent;

impl Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

struct Logged {
    log: Log,
    folder: tempfile::TempDir,
}

impl Logged {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let opened = OpenedLog::new(&Destination::File(folder.path().join("gate.jsonl"))).unwrap();
        let log = opened.start("box-1".to_owned(), "abc".to_owned()).unwrap();
        Self { log, folder }
    }

    fn exchange(&self) -> AuditRecord {
        let mut record =
            self.log.exchange("10.0.0.1:5000".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
        record.verdict = Some(Verdict::Allowed);
        record
    }

    fn fetch(&self) -> AuditRecord {
        let mut record = self.log.fetch();
        record.verdict = Some(Verdict::Allowed);
        record
    }

    /// The records but for the first and the last, by kind.
    fn records(self) -> Vec<Value> {
        self.log.close(SOON).unwrap();
        let text = std::fs::read_to_string(self.folder.path().join("gate.jsonl")).unwrap();
        let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
        records.filter(|record: &Value| record["kind"] != "control").collect()
    }
}

fn active() -> Active {
    Arc::new(Activity::default()).begin().0
}

fn handled(logged: &Logged, body: HeldBody) -> ResponseBody {
    ResponseBody::handled(body, SOON, (logged.exchange(), Some(logged.fetch())), active())
}

/// Everything that comes out, piece by piece; trailers as text.
async fn frames(mut body: impl Body<Data = Bytes, Error = BodyError> + Unpin) -> Vec<String> {
    let mut out = Vec::new();
    // As a server asks: not beyond the stated length.
    while !body.is_end_stream()
        && body.size_hint().exact() != Some(0)
        && let Some(frame) = body.frame().await
    {
        out.push(match frame.unwrap().into_data() {
            Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
            Err(frame) => format!("{:?}", frame.into_trailers().unwrap()),
        });
    }
    out
}

fn trailers(value: &'static str) -> Frame<Bytes> {
    Frame::trailers(HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static(value))]))
}

#[tokio::test]
async fn both_records_of_a_handled_body_get_its_bytes_and_its_end_once() {
    let logged = Logged::new();
    drop(frames(handled(&logged, HeldBody::stored(Frames::of(&["one", " two"]))).boxed_unsync()).await);
    let records = logged.records();
    let kinds: Vec<_> = records.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["exchange", "fetch"]);
    for record in &records {
        assert_eq!((&record["response_bytes"], &record["complete"]), (&7.into(), &true.into()), "{record}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_or_given_up_is_not_complete() {
    let logged = Logged::new();
    let mut cut = handled(&logged, HeldBody::stored(Frames::of(&["one"]).then(Err("the disk failed"))));
    assert_eq!(cut.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    assert!(matches!(cut.frame().await.unwrap().unwrap_err(), BodyError::Store(_)));
    drop(cut);
    let mut given_up = handled(&logged, HeldBody::stored(Frames::of(&["one", "two"])));
    given_up.frame().await.unwrap().unwrap();
    drop(given_up);
    let records = logged.records();
    assert_eq!(records.len(), 4);
    for record in &records {
        assert_eq!((&record["response_bytes"], &record["complete"]), (&3.into(), &false.into()), "{record}");
    }
    let details: Vec<_> = records.iter().map(|record| record["detail"].as_str()).collect();
    assert_eq!(details, [Some("the disk failed"), Some("the disk failed"), None, None]);
}

#[tokio::test]
async fn a_body_whose_length_is_stated_ends_with_its_last_byte() {
    let logged = Logged::new();
    let mut body = handled(&logged, HeldBody::stored(Frames::of(&["one"]).stated()));
    assert_eq!(body.size_hint().exact(), Some(3));
    body.frame().await.unwrap().unwrap();
    drop(body);
    drop(handled(&logged, HeldBody::Bytes(Bytes::new())));
    assert!(logged.records().iter().all(|record| record["complete"] == true));
}

#[tokio::test]
async fn c05_a_body_is_scrubbed_while_it_streams_and_no_byte_is_held_back_at_its_end() {
    let scrubber = Scrubber::new(&[b"s3cr3t-token"]);
    let cases = [
        (Frames::of(&["a s3cr3t", "-to", "ken b"]), vec!["a ", "************ b"]),
        (Frames::of(&["a s3cr3t", "-to"]), vec!["a ", "s3cr3t-to"]),
        (Frames::of(&["a s3cr3t", "-to"]).stated(), vec!["a ", "s3cr3t-to"]),
        (Frames::of(&["s3cr3t-token"]).stated(), vec!["************"]),
        (
            Frames::of(&["x s3c"]).then(Ok(trailers("s3cr3t-token"))),
            vec!["x ", "s3c", r#"{"etag": "************"}"#],
        ),
        (Frames::of(&[]).then(Ok(trailers("1"))), vec![r#"{"etag": "1"}"#]),
    ];
    for (body, expected) in cases {
        let logged = Logged::new();
        let stated = body.stated;
        let body = handled(&logged, HeldBody::stored(body)).scrubbed(Some(scrubber.clone()));
        assert_eq!(body.size_hint().exact(), stated);
        assert_eq!(frames(body).await, expected);
        assert!(logged.records().iter().all(|record| record["complete"] == true));
    }
    let own = ResponseBody::own("s3cr3t-token").scrubbed(Some(scrubber));
    assert_eq!(frames(own).await, ["************"]);
}

#[tokio::test]
async fn what_is_held_back_counts_towards_the_stated_length() {
    let logged = Logged::new();
    let body = Frames::of(&["a s3c", "r3"]).stated();
    let mut body = handled(&logged, HeldBody::stored(body)).scrubbed(Some(Scrubber::new(&[b"s3cr3t-token"])));
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a ");
    assert_eq!(body.size_hint().exact(), Some(5));
    assert!(!body.is_end_stream());
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "s3cr3");
    assert_eq!(body.size_hint().exact(), Some(0));
}

#[tokio::test]
async fn taps_keep_the_start_of_both_bodies_as_the_workload_sees_it() {
    let logged = Logged::new();
    let (mut record, mut fetch) = (logged.exchange(), logged.fetch());
    let counter = fetch.request_bytes_counter();
    let (request, progress) = RequestBody::bytes(Bytes::from("question"), counter);
    assert_eq!(frames(request.tapped(Some(fetch.tap_request(5)))).await, ["question"]);
    assert_eq!(progress.bytes(), 8);
    record.tap_response(100);
    let body = HeldBody::stored(Frames::of(&["a s3cr3t", "-token"]));
    let body = ResponseBody::handled(body, SOON, (record, Some(fetch)), active());
    drop(frames(body.scrubbed(Some(Scrubber::new(&[b"s3cr3t-token"]))).boxed_unsync()).await);
    let records = logged.records();
    assert_eq!(records[0]["response_tap"]["text"], "a ************");
    assert_eq!(records[1]["request_tap"], serde_json::json!({"text": "quest", "truncated": true}));
    assert_eq!(records[1]["request_bytes"], 8);
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit() {
    let counter = AtomicU64::new(0);
    for (limit, whole) in [(7, true), (6, false), (3, false), (0, false)] {
        for body in [Frames::of(&["one", " ", "two"]), Frames::of(&["one", " ", "two"]).stated()] {
            match HeldBody::stored(body).read(limit, SOON, &counter).await {
                Ok(bytes) => assert!(whole && bytes == "one two", "{limit}"),
                Err(error) => assert!(!whole && matches!(error, BodyError::TooLong { .. }), "{error}"),
            }
        }
    }
    counter.store(0, Ordering::Relaxed);
    let mixed = Frames::of(&["one"]).then(Ok(trailers("1")));
    assert_eq!(HeldBody::stored(mixed).read(3, SOON, &counter).await.unwrap(), "one");
    assert_eq!(HeldBody::Bytes(Bytes::new()).read(0, SOON, &counter).await.unwrap(), "");
    assert_eq!(counter.load(Ordering::Relaxed), 3);
    let cut = Frames::of(&["one"]).then(Err("the disk failed"));
    assert!(matches!(HeldBody::stored(cut).read(9, SOON, &counter).await, Err(BodyError::Store(_))));
}

#[tokio::test]
async fn a_body_that_does_not_move_is_given_up() {
    let (counter, idle) = (Arc::new(AtomicU64::new(0)), Duration::from_millis(20));
    let read = HeldBody::stored(Silent).read(9, idle, &counter).await;
    assert!(matches!(read, Err(BodyError::Idle(limit)) if limit == idle));
    let (mut body, _) = RequestBody::held(HeldBody::stored(Silent), counter, idle);
    assert!(matches!(body.frame().await, Some(Err(BodyError::Idle(_)))));
}

#[tokio::test]
async fn a_body_in_memory_states_its_length() {
    let counter = Arc::new(AtomicU64::new(0));
    let (body, _) = RequestBody::bytes(Bytes::from("four"), Arc::clone(&counter));
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(4), false));
    assert_eq!(frames(body).await, ["four"]);
    let (body, _) = RequestBody::bytes(Bytes::new(), counter);
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
}

/// Sends a request through a pipe, and returns the response.
async fn asked(pipe: tokio::io::DuplexStream) -> Response<Incoming> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(pipe)).await.unwrap();
    tokio::spawn(connection);
    let (body, _) = RequestBody::bytes(Bytes::new(), Arc::default());
    sender.send_request(Request::new(body)).await.unwrap()
}

/// The body of a response that an HTTP/1.1 upstream sends.
async fn received(response: &'static [u8]) -> Incoming {
    let (client, mut server) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut head = [0; 1024];
        assert!(server.read(&mut head).await.unwrap() > 0);
        server.write_all(response).await.unwrap();
    });
    asked(client).await.into_body()
}

/// The head and the body that arrive when an HTTP/1.1 server answers with this body.
async fn served(body: ResponseBody) -> (HeaderMap, Bytes) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let body = std::sync::Mutex::new(Some(body));
    let service = hyper::service::service_fn(move |_: Request<Incoming>| {
        let body = body.lock().unwrap().take().unwrap();
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service));
    let (head, body) = asked(client).await.into_parts();
    (
        head.headers,
        HeldBody::Workload(WorkloadBody::of(Request::new(Arriving::Http1(body)), None).0.into_body())
            .read(1000, SOON, &AtomicU64::new(0))
            .await
            .unwrap(),
    )
}

#[tokio::test]
async fn c05_an_upstream_s_body_arrives_scrubbed_and_whole() {
    let cases: [(&'static [u8], _, _); 2] = [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\na s3cr3t-token s", "content-length", "16"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\na s3c\r\nb\r\nr3t-token s\r\n0\r\n\r\n",
            "transfer-encoding",
            "chunked",
        ),
    ];
    for (response, name, value) in cases {
        let logged = Logged::new();
        let incoming = Arriving::Http1(received(response).await);
        let body = ResponseBody::upstream(incoming, SOON, logged.exchange(), None, active());
        let (headers, body) = served(body.scrubbed(Some(Scrubber::new(&[b"s3cr3t-token"])))).await;
        assert_eq!(headers[name], value);
        assert_eq!(body, "a ************ s");
        let record = &logged.records()[0];
        assert_eq!((&record["complete"], &record["response_bytes"]), (&true.into(), &16.into()));
    }
}

async fn all_of(body: HeldBody) -> Result<Bytes, BodyError> {
    body.read(usize::MAX, SOON, &AtomicU64::new(0)).await
}

#[tokio::test]
async fn a_body_that_was_looked_at_is_whole_still() {
    for (limit, seen) in [(0, ""), (3, "one"), (5, "one t"), (99, "one two")] {
        let mut body = HeldBody::stored(Frames::of(&["one", " two"]));
        assert_eq!(body.peek(limit, SOON).await.unwrap(), seen);
        assert_eq!(body.peek(2, SOON).await.unwrap(), "on", "a second look sees the same");
        assert_eq!(body.peek(0, SOON).await.unwrap(), "");
        assert_eq!(all_of(body).await.unwrap(), "one two");
    }
    let stated = HeldBody::stored(Frames::of(&["one", " two"]).stated());
    let mut body = stated;
    body.peek(1, SOON).await.unwrap();
    assert_eq!(Body::size_hint(&body).exact(), Some(7));
    let mut silent = HeldBody::stored(Silent);
    assert!(matches!(silent.peek(1, Duration::from_millis(1)).await, Err(BodyError::Idle(_))));
}

#[tokio::test]
async fn trailers_stay_with_a_body_that_was_looked_at() {
    for limit in [2, 3, 99] {
        for stated in [false, true] {
            let body = Frames::of(&["one"]);
            let body = if stated { body.stated() } else { body };
            let mut body = HeldBody::stored(body.then(Ok(trailers("1"))));
            for _ in 0..2 {
                assert_eq!(body.peek(limit, SOON).await.unwrap(), "one".get(..limit).unwrap_or("one"));
            }
            let (mut body, _) = RequestBody::held(body, Arc::default(), SOON);
            // Where a length is stated, HTTP/2 alone has trailers, and asks beyond it.
            assert_eq!(body.size_hint().exact(), stated.then_some(3));
            let (data, last) = (body.frame().await.unwrap(), body.frame().await.unwrap());
            assert_eq!(data.unwrap().into_data().unwrap(), "one");
            assert_eq!(last.unwrap().trailers_ref(), trailers("1").trailers_ref());
        }
    }
}

#[tokio::test]
async fn a_body_that_broke_off_while_it_was_looked_at_does_not_pass_for_a_whole_one() {
    let mut cut = HeldBody::stored(Frames::of(&["one"]).then(Err("cut")));
    assert!(matches!(cut.peek(9, SOON).await, Err(BodyError::Store(_))));
    assert_eq!(cut.peek(3, SOON).await.unwrap(), "one");
    assert!(matches!(cut.peek(4, SOON).await, Err(BodyError::CopyCut)));
    assert!(matches!(all_of(cut).await, Err(BodyError::CopyCut)));
}

#[tokio::test]
async fn a_body_that_paused_while_it_was_looked_at_is_whole_still() {
    let (mut client, pipe) = tokio::io::duplex(1024);
    let asked = tokio::spawn(asked(pipe));
    let mut head = [0; 1024];
    assert!(client.read(&mut head).await.unwrap() > 0);
    client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\none").await.unwrap();
    let mut body = HeldBody::Workload(
        WorkloadBody::of(Request::new(Arriving::Http1(asked.await.unwrap().into_body())), None).0.into_body(),
    );
    assert!(matches!(body.peek(9, Duration::from_millis(20)).await, Err(BodyError::Idle(_))));
    client.write_all(b" two").await.unwrap();
    assert_eq!(body.peek(9, SOON).await.unwrap(), "one two");
    assert_eq!(all_of(body).await.unwrap(), "one two");
}

#[tokio::test]
async fn two_readers_get_the_same_bytes_in_any_order() {
    for first_goes_first in [true, false] {
        let (first, second) = HeldBody::stored(Frames::of(&["one", " two"])).tee();
        let (one, other) = if first_goes_first { (first, second) } else { (second, first) };
        assert_eq!(all_of(one).await.unwrap(), "one two");
        assert_eq!(all_of(other).await.unwrap(), "one two");
    }
    let (first, second) = HeldBody::stored(Frames::of(&["one"]).then(Err("cut"))).tee();
    assert!(all_of(first).await.is_err());
    assert!(matches!(all_of(second).await, Err(BodyError::CopyCut)));
}

#[tokio::test]
async fn the_reader_that_is_ahead_waits_for_the_other_unless_that_is_gone() {
    let piece: &'static str = String::leak("x".repeat(100 * 1024));
    let frames = || HeldBody::stored(Frames::of(&[piece; 10]));
    let (first, second) = frames().tee();
    let ahead = tokio::spawn(all_of(first));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!ahead.is_finished(), "a thousand kilobytes ahead");
    drop(second);
    assert_eq!(ahead.await.unwrap().unwrap().len(), 10 * piece.len());
    let (first, second) = frames().tee();
    let (first, second) = tokio::join!(tokio::spawn(all_of(first)), tokio::spawn(all_of(second)));
    assert_eq!(first.unwrap().unwrap(), second.unwrap().unwrap());
}

#[tokio::test]
async fn pieces_come_one_by_one_and_scrubbed() {
    let body = HeldBody::stored(Frames::of(&["a s3cr3t-", "token", "", " z"]));
    let scrubber = Some(Scrubber::new(&[b"s3cr3t-token"]));
    let counter = Arc::new(AtomicU64::new(0));
    let mut chunks = Chunks::new(body, Arc::clone(&counter), SOON, scrubber);
    let mut all = Vec::new();
    while let Some(chunk) = chunks.next().await.unwrap() {
        assert!(!chunk.is_empty());
        all.extend_from_slice(&chunk);
    }
    assert_eq!(all, b"a ************ z");
    assert_eq!(counter.load(Ordering::Relaxed), all.len() as u64);
}
