//! Over loopback: what arrives, how ends and resets travel, and when a silent flow is given up.

use std::io::ErrorKind;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::*;

const IDLE: Duration = Duration::from_secs(20);

/// A connection's two ends.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test over loopback")]
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// A workload and an upstream with a splice between them, its counters, and its result when it is done.
async fn spliced(
    seen: &'static [u8],
    idle: Duration,
) -> (TcpStream, TcpStream, Arc<AtomicU64>, tokio::task::JoinHandle<io::Result<()>>) {
    let (workload, mut near) = pair().await;
    let (far, upstream) = pair().await;
    let mut far = Either::Left(far);
    let sent = Arc::<AtomicU64>::default();
    let counters = (Arc::clone(&sent), Arc::default());
    let moved = tokio::spawn(async move {
        let result = splice(&mut near, &mut far, Bytes::from_static(seen), counters, idle).await;
        if result.is_err() {
            near.set_zero_linger().unwrap();
            break_off(far);
        }
        result
    });
    (workload, upstream, sent, moved)
}

#[tokio::test]
async fn bytes_arrive_whole_both_ways_and_half_closes_travel() {
    let (mut workload, mut upstream, sent, moved) = spliced(b"seen ", IDLE).await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[at as usize % 4]).collect();
    let answer = tokio::spawn(async move {
        let mut received = Vec::new();
        upstream.read_to_end(&mut received).await.unwrap();
        // The other half is open still.
        upstream.write_all(&received).await.unwrap();
        received
    });
    let (mut reading, mut writing) = workload.split();
    let mut echoed = Vec::new();
    let (read, ()) = tokio::join!(reading.read_to_end(&mut echoed), async {
        writing.write_all(&body).await.unwrap();
        writing.shutdown().await.unwrap();
    });
    read.unwrap();
    let received = answer.await.unwrap();
    assert_eq!(received, [b"seen ", &body[..]].concat());
    assert_eq!(echoed, received);
    moved.await.unwrap().unwrap();
    assert_eq!(sent.load(Ordering::Relaxed), received.len() as u64);
}

#[tokio::test]
async fn a_reset_travels_even_after_a_half_close() {
    let (mut workload, mut upstream, _, moved) = spliced(b"", IDLE).await;
    workload.shutdown().await.unwrap();
    assert_eq!(upstream.read(&mut [0; 1]).await.unwrap(), 0);
    workload.set_zero_linger().unwrap();
    drop(workload);
    // What a reset is called after an end of data (tcp_reset in the kernel).
    assert_eq!(moved.await.unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    let written = async {
        loop {
            if let Err(error) = upstream.write_all(b"more").await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    };
    let refused = tokio::time::timeout(IDLE, written).await.unwrap();
    assert!(matches!(refused.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{refused}");
}

#[tokio::test]
async fn a_silent_flow_is_given_up() {
    let (workload, _upstream, _, moved) = spliced(b"", Duration::from_millis(50)).await;
    assert_eq!(moved.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    drop(workload);
}
