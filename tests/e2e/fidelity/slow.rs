//! What takes its time: answers that are long in coming, and clients that send or read slowly.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use bytes::Bytes;
use e2e::{Attached, Identity, Origin, Reply, TcpServer, World, pseudo_random_chunks, pseudo_random_sha256};
use http::{Request, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::mpsc;

use crate::client::{Line, Sender};
use crate::support::{DEADLINE, read_head};

/// How long an answer is waited for: longer than most time-outs that nobody chose.
const POLL: Duration = Duration::from_secs(35);
/// Another request meanwhile is answered as if there was nothing else.
const MEANWHILE_MAX: Duration = Duration::from_secs(5);
const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

fn get(path: &str) -> Request<crate::client::Body> {
    Request::get(path).body(Empty::new().boxed()).unwrap()
}

async fn text(body: Incoming) -> String {
    #[expect(clippy::disallowed_methods, reason = "it is short")]
    let whole = body.collect().await.unwrap().to_bytes();
    String::from_utf8_lossy(&whole).into_owned()
}

/// Asks for this, and says what was answered and how long it took.
async fn ask(sender: &mut Sender, path: &str) -> (String, Duration) {
    let began = Instant::now();
    let answer = text(sender.send(get(path)).await.into_body()).await;
    (answer, began.elapsed())
}

#[test]
fn w05_a_long_poll_is_answered_when_its_origin_answers() {
    let world = World::new("w05-poll");
    let origin = Origin::start(&world, |request| match request.path.as_str() {
        "/poll" => Reply::text("news").after(POLL),
        _ => Reply::text("at once"),
    });
    let found = world.upstream(&[("api.test:443", origin.address())]);
    let mut gate = world.gate(&format!("version = 1\nallowed_hosts = [\"api.test\"]\n{found}")).attach();
    let at_once = |(answer, took): (String, Duration), version: Version| {
        assert!(answer == "at once" && took < MEANWHILE_MAX, "{version:?}: {answer} after {took:?}");
    };
    let took = thread::scope(|scope| {
        let polls = VERSIONS.map(|version| {
            let line = Line::open(&gate, version);
            scope.spawn(move || {
                line.speak(async |mut sender| {
                    // The connection has been used before, and is used again.
                    at_once(ask(&mut sender, "/before").await, version);
                    let mut same = match &sender {
                        Sender::Http2(sender) => Some(Sender::Http2(sender.clone())),
                        Sender::Http1(_) => None,
                    };
                    let besides = async {
                        tokio::time::sleep(POLL / 2).await;
                        if let Some(same) = &mut same {
                            at_once(ask(same, "/meanwhile").await, version);
                        }
                    };
                    let ((answer, took), ()) = tokio::join!(ask(&mut sender, "/poll"), besides);
                    assert_eq!(answer, "news", "{version:?}");
                    at_once(ask(&mut sender, "/after").await, version);
                    took
                })
            })
        });
        // An HTTP/1 client takes another connection for what it wants meanwhile.
        thread::sleep(POLL / 2);
        for version in VERSIONS {
            let other = Line::open(&gate, version);
            at_once(other.speak(async |mut other| ask(&mut other, "/other").await), version);
        }
        polls.map(|poll| poll.join().unwrap())
    });
    for took in took {
        assert!(took >= POLL && took < POLL + MEANWHILE_MAX, "{took:?}");
    }
    for version in ["HTTP/1.1", "HTTP/2"] {
        let line = gate.wait_for_log(|line| line["path"] == "/poll" && line["client_version"] == version);
        assert_eq!((&line["status"], &line["complete"]), (&json!(200), &json!(true)), "{line}");
    }
}

/// Pieces of a slow upload, and the pauses between them: five seconds in all.
const PIECES: usize = 100;
const PIECE_BYTES: usize = 64 * 1024 / PIECES;
const PAUSE: Duration = Duration::from_millis(50);

/// A body whose pieces come from elsewhere.
struct Pieces(mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

type Arrived = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Keeps what has arrived of a body of a known length, by the request's path, from its first byte on.
fn watching(world: &World, arrived: &Arrived) -> TcpServer {
    let (authority, arrived) = (world.authority().clone(), Arc::clone(arrived));
    TcpServer::start(world, move |stream| {
        let mut io = authority.tls_server(Identity::Trusted, &["http/1.1"], stream);
        let Some(head) = read_head(&mut io) else { return };
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let (mut left, mut buffer) = (PIECES * PIECE_BYTES, [0; 4096]);
        while left > 0
            && let Ok(count @ 1..) = io.read(&mut buffer)
        {
            arrived.lock().unwrap().entry(path.clone()).or_default().extend_from_slice(&buffer[..count]);
            left -= count.min(left);
        }
        io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole").unwrap();
    })
}

#[test]
fn w06_a_slow_upload_arrives_as_it_is_sent() {
    let world = World::new("w06-slow-upload");
    let arrived = Arrived::default();
    let server = watching(&world, &arrived);
    let found = world.upstream(&[("api.test:443", server.address())]);
    let gate = world.gate(&format!("version = 1\nallowed_hosts = [\"api.test\"]\n{found}")).attach();
    let whole: Vec<u8> = pseudo_random_chunks((PIECES * PIECE_BYTES) as u64).flatten().collect();
    thread::scope(|scope| {
        for (version, path) in VERSIONS.into_iter().zip(["/http1", "/http2"]) {
            let (line, (sending, pieces)) = (Line::open(&gate, version), mpsc::channel(1));
            let (arrived, whole) = (&arrived, &whole);
            scope.spawn(move || {
                let request = Request::post(path).header("content-length", whole.len());
                let request = request.body(Pieces(pieces).boxed()).unwrap();
                let answer = line.ask(request, async |response| text(response.into_body()).await);
                assert_eq!(answer, "whole", "{version:?}");
                assert!(arrived.lock().unwrap()[path] == *whole, "{version:?}");
            });
            scope.spawn(move || {
                let mut sent = 0;
                for piece in whole.chunks(PIECE_BYTES) {
                    sending.blocking_send(Bytes::copy_from_slice(piece)).unwrap();
                    sent += piece.len();
                    // The next one is sent when this one is there: whoever kept it back would wait for ever.
                    let has_come =
                        || arrived.lock().unwrap().get(path).is_some_and(|bytes| bytes.len() == sent);
                    e2e::wait_until(&format!("{sent} bytes by {version:?}"), DEADLINE, has_come);
                    thread::sleep(PAUSE);
                }
            });
        }
    });
}

/// An answer that is longer than all buffers on its way.
const LONG_BYTES: u64 = 200 << 20;
/// How long nobody reads it.
const UNREAD: Duration = Duration::from_secs(5);
/// What the gate may need more meanwhile: its windows and buffers, and what its allocator keeps.
const GROWTH_MAX_KIB: u64 = 24 * 1024;

fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Reads the beginning of an answer, then nothing for a while, then the rest; says what the gate grew by
/// meanwhile, and the hash of it all.
fn read_late(gate: &mut Attached<'_>, version: Version) -> (u64, digest::Digest) {
    let pid = gate.running().pid();
    Line::open(gate, version).speak(async |mut sender| {
        ask(&mut sender, "/warm").await;
        let before = resident_kib(pid);
        let mut body = sender.send(get("/long")).await.into_body();
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(body.frame().await.unwrap().unwrap().data_ref().unwrap());
        let (began, mut peak) = (Instant::now(), before);
        while began.elapsed() < UNREAD {
            tokio::time::sleep(Duration::from_millis(10)).await;
            peak = peak.max(resident_kib(pid));
        }
        while let Some(frame) = body.frame().await {
            hash.update(frame.unwrap().data_ref().unwrap());
        }
        (peak - before, hash.finish())
    })
}

#[test]
fn w06_an_answer_that_is_read_late_waits_at_its_origin() {
    let world = World::new("w06-late");
    let origin = Origin::start(&world, |request| match request.path.as_str() {
        "/long" => Reply::pseudo_random(LONG_BYTES),
        _ => Reply::text("warm"),
    });
    let found = world.upstream(&[("api.test:443", origin.address())]);
    let mut gate = world.gate(&format!("version = 1\nallowed_hosts = [\"api.test\"]\n{found}")).attach();
    let wanted = pseudo_random_sha256(LONG_BYTES);
    for version in VERSIONS {
        let (grown, hash) = read_late(&mut gate, version);
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, wanted, "{version:?}");
        eprintln!("{version:?}: the gate grew by {grown} KiB");
        assert!(
            grown < GROWTH_MAX_KIB,
            "{version:?}: {} MiB waited, and the gate grew by {grown} KiB",
            LONG_BYTES >> 20
        );
    }
}
