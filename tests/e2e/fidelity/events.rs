//! Events of a server (SSE): each arrives when it was sent, for as long as they come.

use std::env;
use std::io::Write;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use e2e::{Identity, TcpServer, World};
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};

use crate::client::Line;
use crate::support::read_head;

/// Between two events.
const PAUSE: Duration = Duration::from_millis(100);
/// What the gate may add to the time that an event takes.
const ADDED_MAX: Duration = Duration::from_millis(50);
/// How long they come, in seconds, if it is not said.
const SECONDS: u64 = 20;

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// How long the events of one stream took through the gate.
fn latencies(line: Line) -> Vec<Duration> {
    let request = Request::get("/").header("accept", "text/event-stream").body(Empty::new().boxed());
    line.ask(request.unwrap(), async |response| {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let (mut body, mut text, mut took) = (response.into_body(), String::new(), Vec::new());
        while let Some(frame) = body.frame().await {
            let arrived = now();
            text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                let sent = event.strip_prefix("data: ").unwrap().parse().unwrap();
                took.push(arrived.saturating_sub(Duration::from_micros(sent)));
                text = rest.to_owned();
            }
        }
        assert!(text.is_empty(), "{text:?}");
        took
    })
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long this test takes is for who runs it")]
fn w05_events_arrive_as_they_are_sent() {
    let seconds = env::var("SLUICEGATE_TEST_EVENT_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let count = usize::try_from(seconds * 10).unwrap();
    let world = World::new("w05");
    let authority = world.authority().clone();
    let server = TcpServer::start(&world, move |stream| {
        let mut io = authority.tls_server(Identity::Trusted, &["http/1.1"], stream);
        read_head(&mut io).expect("a request");
        io.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .unwrap();
        for _ in 0..count {
            let event = format!("data: {}\n\n", now().as_micros());
            io.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).unwrap();
            thread::sleep(PAUSE);
        }
        io.write_all(b"0\r\n\r\n").unwrap();
    });
    let found = world.upstream(&[("api.test:443", server.address())]);
    let gate = world.gate(&format!("version = 1\nallowed_hosts = [\"api.test\"]\n{found}")).attach();
    thread::scope(|scope| {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let line = Line::open(&gate, version);
            scope.spawn(move || {
                let mut took = latencies(line);
                assert_eq!(took.len(), count, "{version:?}");
                took.sort_unstable();
                let (median, most) = (took[count / 2], took[count * 99 / 100]);
                eprintln!("{version:?}: {count} events, median {median:?}, 99 of 100 within {most:?}");
                // From the origin to the workload, all in all.
                assert!(
                    median < ADDED_MAX && most < ADDED_MAX,
                    "{version:?}: median {median:?}, 99th {most:?}"
                );
            });
        }
    });
}
