//! Against a server that is not a gate: what a client must bear.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// Answers one connection with these bytes, and keeps it open.
async fn answering(socket: &Path, answer: &'static [u8]) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        let mut stream = accept(&listener, answer).await;
        // Until the client has gone.
        drop(stream.read(&mut [0]).await);
    })
}

/// A connection whose request was answered with these bytes.
async fn accept(listener: &UnixListener, answer: &[u8]) -> UnixStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = vec![0; 16 * 1024];
    assert!(stream.read(&mut head).await.unwrap() > 0);
    stream.write_all(answer).await.unwrap();
    stream
}

/// A program in the gate's place.
fn program(folder: &Path, script: &str) -> Attach {
    let program = folder.join("sluicegate");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Attach { program, ..Attach::default() }
}

#[tokio::test]
async fn a_refusal_has_status_type_and_words() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("a.sock");
    let _server = answering(
        &socket,
        b"HTTP/1.1 422 U\r\ncontent-length: 51\r\n\r\n{\"type\":\"sluicegate:policy-refused\",\"title\":\"Why\"} ",
    )
    .await;
    let refused = Sandbox::at(&socket).set_outbound_handler(("one", json!({"a": 1}))).await.unwrap_err();
    let SandboxError::Refused(refused) = refused else { panic!("{refused:?}") };
    assert_eq!(
        (refused.status, &*refused.kind, &*refused.to_string()),
        (422, "sluicegate:policy-refused", "Why")
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("a.sock");
    let missing = Sandbox::at(&socket).status().await.unwrap_err();
    assert!(matches!(missing, SandboxError::Unreachable { .. }), "{missing:?}");
    let listener = UnixListener::bind(&socket).unwrap();
    let breaks_off = async {
        drop(accept(&listener, b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"instance\":").await)
    };
    let sandbox = Sandbox::at(&socket);
    let (status, ()) = tokio::join!(sandbox.status(), breaks_off);
    assert!(matches!(status, Err(SandboxError::Broken(_))), "{status:?}");
}

#[tokio::test]
async fn events_end_with_the_instance() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("a.sock");
    let _server = answering(
        &socket,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n:\n\n\r\n6\r\ndata: \r\n10\r\n{\"event\":\"one\"}\n\r\n0\r\n\r\n",
    )
    .await;
    let mut events = Sandbox::at(&socket).events().await.unwrap();
    assert_eq!(events.next().await.unwrap(), Some(json!({"event": "one"})));
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_gate_that_does_not_serve_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let attach = async |script: &str| {
        Sandbox::attach("pid:1", "box", &program(folder.path(), script)).await.unwrap_err()
    };
    assert!(matches!(attach("exit 77").await, SandboxError::Ended(status) if status.code() == Some(77)));
    assert!(matches!(attach("echo '{}'").await, SandboxError::Unreadable(_)));
    assert!(matches!(attach("echo ready").await, SandboxError::Unreadable(_)));
    let nowhere = Attach { program: folder.path().join("nowhere"), ..Attach::default() };
    let missing = Sandbox::attach("pid:1", "box", &nowhere).await.unwrap_err();
    assert!(matches!(missing, SandboxError::Start { .. }), "{missing:?}");
}

#[tokio::test]
async fn a_gate_that_was_started_ends_with_its_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let ended = folder.path().join("ended");
    let script = format!(
        "trap 'echo ended >{}; exit' TERM\necho '{{\"control\": \"/run/box.sock\"}}'\nwhile :; do sleep 0.01; done",
        ended.display()
    );
    for closed in [true, false] {
        let sandbox = Sandbox::attach("pid:1", "box", &program(folder.path(), &script)).await.unwrap();
        assert_eq!(sandbox.socket(), Path::new("/run/box.sock"));
        if closed {
            sandbox.close().await.unwrap();
            assert!(ended.exists(), "close has not waited");
            std::fs::remove_file(&ended).unwrap();
        } else {
            drop(sandbox);
            let noticed = async {
                while !ended.exists() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(END_DEADLINE, noticed).await.unwrap();
        }
    }
}
