//! Tests of the head guard.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What hyper would read of `sent` when it comes in pieces of `step` bytes, and the fault.
fn read_through(sent: &[u8], step: usize) -> (Vec<u8>, Vec<Option<HeadFault>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(step);
        let long = Duration::from_secs(60);
        let mut guard = HeadGuard::new(server, Deadlines { head: long, idle: long });
        let activity = guard.activity();
        let sent = sent.to_vec();
        let sending = tokio::spawn(async move {
            // The guard may stop reading; what it does not want cannot be sent.
            drop(client.write_all(&sent).await);
        });
        let mut read = Vec::new();
        guard.read_to_end(&mut read).await.unwrap();
        drop(guard);
        sending.await.unwrap();
        let heads = read.windows(4).filter(|window| window == b"HTTP").count();
        (read, (0..heads).map(|_| activity.begin().1).collect())
    })
}

#[test]
fn good_messages_pass_as_they_are_however_they_are_cut() {
    let sent = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n\
        PUT /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nHTTP!\
        PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
        GET /d HTTP/1.1\r\nHost: a\r\n\r\n";
    for step in 1..sent.len() {
        let (read, faults) = read_through(sent, step);
        assert_eq!(read, sent, "step {step}");
        assert!(faults.iter().all(Option::is_none), "step {step}");
    }
}

#[test]
fn a_bad_head_becomes_a_request_that_says_so_and_nothing_follows() {
    let good = b"PUT /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxy";
    let bad = b"GET /c HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /d HTTP/1.1\r\nHost: a\r\n\r\n";
    let sent = [&good[..], bad].concat();
    for step in 1..sent.len() {
        let (read, faults) = read_through(&sent, step);
        assert_eq!(read, [&good[..], REPLACEMENT].concat(), "step {step}");
        assert_eq!(faults, [None, Some(HeadFault::Host)], "step {step}");
    }
}

#[test]
fn a_broken_chunk_is_the_end_of_what_is_read() {
    let head = b"PUT /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    // hyper would take the last three, and the request behind them.
    for body in ["5\nhello\r\n", "00000000000000000005\r\nhello\r\n0\r\n\r\n", "0\r\nX: y\n\r\n", "0\r\n\n"] {
        let sent = [&head[..], body.as_bytes(), b"GET /d HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        for step in 1..sent.len() {
            let (read, faults) = read_through(&sent, step);
            let (whole, some) = (&sent[..head.len() + body.len()], read.get(head.len()..).unwrap());
            assert!(
                read.starts_with(head) && whole.starts_with(&read) && some.len() < body.len(),
                "{body:?}"
            );
            assert_eq!(faults, [None], "{body:?}, step {step}");
        }
    }
}

#[tokio::test]
async fn what_follows_an_upgrade_waits_for_its_answer() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let long = Duration::from_secs(60);
    for leaves in [true, false] {
        // No head, and one without an end, which is refused where heads are read.
        for rest in [&b"\x81\x00\n\n"[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let (mut client, server) = tokio::io::duplex(1024);
            let mut guard = HeadGuard::new(server, Deadlines { head: long, idle: long });
            let activity = guard.activity();
            client.write_all(&[&head[..], rest].concat()).await.unwrap();
            let mut read = vec![0; head.len()];
            guard.read_exact(&mut read).await.unwrap();
            assert_eq!(read, head);
            let mut reading = one_read(&mut guard);
            assert!(futures_util::poll!(&mut reading).is_pending(), "before it is a request");
            let (active, _) = activity.begin();
            assert!(futures_util::poll!(&mut reading).is_pending(), "before it is answered");
            if leaves {
                activity.leave_http();
            } else {
                drop(active);
            }
            let (read, fault) = (reading.await, activity.begin().1);
            let is_head = rest.starts_with(b"GET");
            assert_eq!(read, if leaves || is_head { rest } else { REPLACEMENT });
            assert_eq!(fault.is_some(), !leaves && !is_head);
        }
    }
}

/// One read of at most a hundred bytes.
fn one_read<'a>(
    guard: &'a mut HeadGuard<tokio::io::DuplexStream>,
) -> Pin<Box<dyn Future<Output = Vec<u8>> + 'a>> {
    Box::pin(async move {
        let mut read = vec![0; 100];
        let length = guard.read(&mut read).await.unwrap();
        read.truncate(length);
        read
    })
}

#[test]
fn a_head_that_is_cut_short_is_refused() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for end in 1..head.len() {
        let (read, faults) = read_through(&head[..end], 1000);
        assert_eq!(read, REPLACEMENT, "{end}");
        assert_eq!(faults, [Some(HeadFault::Incomplete)], "{end}");
    }
}

#[test]
fn a_head_without_end_is_too_large() {
    let sent = [&b"GET / HTTP/1.1\r\nHost: a\r\nX: "[..], &vec![b'x'; 2 * HEAD_BYTES_MAX]].concat();
    let (read, faults) = read_through(&sent, 1000);
    assert_eq!(read, REPLACEMENT);
    assert_eq!(faults, [Some(HeadFault::TooLarge)]);
}

#[test]
fn a_slow_head_is_refused_and_an_idle_connection_closed() {
    let deadlines = Deadlines { head: Duration::from_millis(20), idle: Duration::from_millis(60) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b"GET / HTTP/1.1\r\nHost").await.unwrap();
        let mut guard = HeadGuard::new(server, deadlines);
        let (activity, began, mut read) = (guard.activity(), Instant::now(), Vec::new());
        guard.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, REPLACEMENT);
        assert_eq!(activity.begin().1, Some(HeadFault::Slow));
        assert!(began.elapsed() >= deadlines.head);

        let (_client, server) = tokio::io::duplex(64);
        let mut guard = HeadGuard::new(server, deadlines);
        let (activity, began, mut read) = (guard.activity(), Instant::now(), Vec::new());
        let active = activity.begin();
        let waiting = tokio::time::timeout(3 * deadlines.idle, guard.read_to_end(&mut read));
        assert!(waiting.await.is_err(), "closed under an exchange");
        drop(active);
        guard.read_to_end(&mut read).await.unwrap();
        assert!(read.is_empty() && began.elapsed() >= 3 * deadlines.idle);
    });
}
