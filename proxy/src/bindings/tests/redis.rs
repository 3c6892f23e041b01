//! Against a server that says what it is told to; `tests/e2e/bindings` has a real one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluicegate_policy::{Answer, BindingKind, KvOperation, NoSources, Policy, SecretName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{bindings_for, declaration, identity};
use crate::bindings::{Bindings, Fault, VALUE_BYTES_MAX};
use crate::secrets::Secrets;
use crate::upstream::{TlsMaterial, Upstream};

/// What is replied to each thing that is read, for each connection.
type Script = &'static [&'static [&'static str]];

/// What each connection was told.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn connections(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A server that follows a script, then keeps silent; who comes after its end is sent away.
async fn server(script: Script) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Heard::default();
    let kept = heard.clone();
    tokio::spawn(async move {
        for (index, replies) in script.iter().enumerate() {
            let (connection, _) = listener.accept().await.unwrap();
            kept.0.lock().unwrap().push(String::new());
            tokio::spawn(serve(connection, index, replies, kept.clone()));
        }
    });
    (address, heard)
}

async fn serve(mut connection: TcpStream, index: usize, replies: &'static [&'static str], heard: Heard) {
    let mut replies = replies.iter();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match connection.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => heard.0.lock().unwrap()[index].push_str(&String::from_utf8_lossy(&buffer[..read])),
        }
        match replies.next() {
            Some(&"close") => return,
            Some(reply) => connection.write_all(reply.as_bytes()).await.unwrap(),
            None => {}
        }
    }
}

fn at(address: SocketAddr) -> Bindings {
    let declarations = [declaration("kv", BindingKind::Kv, &format!("redis://{address}"))];
    bindings_for(&declarations, Path::new("/nonexistent"), "c")
}

fn get() -> KvOperation {
    KvOperation::Get("a".into())
}

/// The same, in the words of the protocol.
const GET: &str = "*1\r\n$5\r\nMULTI\r\n*4\r\n$8\r\nGETRANGE\r\n$3\r\nc/a\r\n$1\r\n0\r\n$7\r\n1048576\r\n\
                   *2\r\n$6\r\nEXISTS\r\n$3\r\nc/a\r\n*1\r\n$4\r\nEXEC\r\n";

/// The reply to it.
const VALUE: &str = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$1\r\n7\r\n:1\r\n";

#[tokio::test]
async fn values_are_asked_for_within_a_bound_and_absent_is_not_empty() {
    let (address, heard) = server(&[&[
        VALUE,
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$0\r\n\r\n:1\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$0\r\n\r\n:0\r\n",
    ]])
    .await;
    let bindings = at(address);
    assert_eq!(bindings.value("a").await.unwrap(), "7");
    assert_eq!(bindings.value("a").await.unwrap(), "");
    assert_eq!(bindings.value("a").await, None);
    assert_eq!(heard.connections(), [GET.repeat(3)]);
}

#[tokio::test]
async fn a_value_of_another_that_is_too_long_is_not_given() {
    let reply = format!(
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n${}\r\n{}\r\n:1\r\n",
        VALUE_BYTES_MAX + 1,
        "a".repeat(VALUE_BYTES_MAX + 1)
    );
    let replies: &'static [&'static str] = Box::leak(Box::new([&*reply.leak(), VALUE]));
    let (address, heard) = server(Box::leak(Box::new([replies]))).await;
    let bindings = at(address);
    assert_eq!(bindings.do_kv(get()).await.unwrap_err(), Fault::ValueTooLong);
    assert_eq!(bindings.value("a").await.unwrap(), "7");
    assert_eq!(heard.connections().len(), 1);
}

#[tokio::test]
async fn errors_are_told_apart_and_leave_the_connection() {
    let (address, heard) = server(&[&[
        "-NOAUTH Authentication required.\r\n",
        "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        "-ERR Client sent AUTH, but no password is set\r\n",
        "-NOPERM this user has no permissions\r\n",
        "+OK\r\n",
    ]])
    .await;
    let bindings = at(address);
    for fault in [Fault::Denied, Fault::NotAValue, Fault::Denied, Fault::Denied, Fault::Denied] {
        assert_eq!(bindings.write("a", "1", None).await, Err(fault));
    }
    assert_eq!(bindings.write("a", "1", None).await, Ok(()));
    assert_eq!(heard.connections().len(), 1);
}

#[tokio::test]
async fn errors_in_a_transaction_are_told_apart_wherever_they_are() {
    let (address, heard) = server(&[&[
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:7\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$-1\r\n-ERR value is not an integer or out of range\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$-1\r\n-ERR increment or decrement would overflow\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$-1\r\n-WRONGTYPE Operation against a key\r\n",
        "+OK\r\n-NOPERM no\r\n+QUEUED\r\n-EXECABORT Transaction discarded\r\n",
        "-NOAUTH Authentication required.\r\n-NOAUTH x\r\n-NOAUTH x\r\n-NOAUTH x\r\n",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*-1\r\n",
    ]])
    .await;
    let bindings = at(address);
    let increment = || bindings.increment("a", 7, Some(Duration::from_secs(1)));
    assert_eq!(increment().await, Ok(7));
    for fault in
        [Fault::NotANumber, Fault::Overflow, Fault::NotAValue, Fault::Denied, Fault::Denied, Fault::Failed]
    {
        assert_eq!(increment().await, Err(fault));
    }
    let heard = heard.connections();
    assert_eq!(heard.len(), 1);
    let begin = "*6\r\n$3\r\nSET\r\n$3\r\nc/a\r\n$1\r\n0\r\n$2\r\nPX\r\n$4\r\n1000\r\n$2\r\nNX\r\n";
    assert!(heard[0].contains(&format!("MULTI\r\n{begin}*3\r\n$6\r\nINCRBY\r\n")), "{heard:?}");
}

#[tokio::test]
async fn a_server_that_fails_or_makes_no_sense_is_asked_again_on_a_new_connection() {
    let deep: &'static str = "*1\r\n".repeat(5000).leak();
    let nonsense: &'static [&'static str] = Box::leak(Box::new([
        "-OOM command not allowed\r\n",
        "-READONLY You can't write against a read only replica.\r\n",
        "+QUEUED\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "$x\r\n",
        ":99999999999999999999\r\n",
        "$1\r\nabc",
        deep,
    ]));
    for reply in nonsense {
        let replies: &'static [&'static str] = std::slice::from_ref(reply);
        let (address, heard) = server(Box::leak(Box::new([replies, &["+OK\r\n"]]))).await;
        let bindings = at(address);
        assert_eq!(bindings.write("a", "1", None).await, Err(Fault::Failed), "{reply:.40}");
        assert_eq!(bindings.write("a", "1", None).await, Ok(()), "{reply:.40}");
        assert_eq!(heard.connections().len(), 2);
    }
}

#[tokio::test]
async fn a_server_that_went_away_is_dialled_again() {
    let (address, heard) = server(&[&["+OK\r\n", "close"], &["+OK\r\n"]]).await;
    let bindings = at(address);
    assert_eq!(bindings.write("a", "1", None).await, Ok(()));
    assert_eq!(bindings.write("a", "1", None).await, Err(Fault::Unreachable));
    assert_eq!(bindings.write("a", "1", None).await, Ok(()));
    assert_eq!(heard.connections().len(), 2);
}

#[tokio::test]
async fn a_reply_without_end_is_cut_off() {
    for (start, endless) in [("$99999999999\r\n", "a"), ("*9223372036854775807\r\n", ":1\r\n"), ("+", "a")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bindings = at(listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.read_u8().await.unwrap();
            connection.write_all(start.as_bytes()).await.unwrap();
            let piece = endless.repeat(16 * 1024);
            let mut written = 0;
            while connection.write_all(piece.as_bytes()).await.is_ok() {
                written += piece.len();
            }
            written
        });
        assert_eq!(bindings.write("a", "1", None).await, Err(Fault::Unreachable), "{start}");
        let written = server.await.unwrap();
        // What the kernel holds on the way comes on top.
        assert!((16 << 20..64 << 20).contains(&written), "{start}: {written}");
    }
}

#[tokio::test]
async fn many_commands_share_a_connection() {
    let (address, heard) = server(&[&["+OK\r\n"]]).await;
    let bindings = Arc::new(at(address));
    assert_eq!(bindings.write("a", "1", None).await, Ok(()));
    let all: Vec<_> = (0..40)
        .map(|_| Arc::clone(&bindings))
        .map(|bindings| tokio::spawn(async move { bindings.do_kv(KvOperation::Delete("a".into())).await }))
        .collect();
    // The server is silent: as many as may wait at once have been sent.
    let sent = || heard.connections()[0].matches("DEL").count();
    while sent() < 16 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((sent(), heard.connections().len()), (16, 1));
    all.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_command_that_is_given_up_takes_the_connection_from_the_next() {
    let (address, heard) = server(&[&["+OK\r\n"], &["+OK\r\n", "+OK\r\n"]]).await;
    let bindings = at(address);
    assert_eq!(bindings.write("a", "1", None).await, Ok(()));
    timeout(Duration::from_millis(50), bindings.write("a", "2", None)).await.unwrap_err();
    assert_eq!(bindings.write("a", "3", None).await, Ok(()));
    assert_eq!(bindings.write("a", "4", None).await, Ok(()));
    assert_eq!(heard.connections().len(), 2);
}

#[tokio::test]
async fn a_list_goes_on_to_the_end_and_shows_its_own_keys() {
    let (address, heard) = server(&[&[
        "*2\r\n$20\r\n18446744073709551615\r\n*3\r\n$3\r\nc/b\r\n$3\r\nd/x\r\n$2\r\nc/\r\n",
        "*2\r\n$1\r\n0\r\n*2\r\n$3\r\nc/a\r\n$3\r\nc/b\r\n",
    ]])
    .await;
    assert_eq!(at(address).keys("").await, ["a", "b"]);
    assert!(heard.connections()[0].contains("18446744073709551615\r\n$5\r\nMATCH\r\n$3\r\nc/*\r\n"));
}

#[tokio::test]
async fn a_changed_password_is_used_at_once() {
    let (address, heard) = server(&[
        &["+OK\r\n", "+OK\r\n", "+OK\r\n", "+OK\r\n"],
        &["+OK\r\n", "+OK\r\n", "+OK\r\n"],
        &["-WRONGPASS invalid\r\n"],
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "first").unwrap();
    let document = format!(
        "version = 1\n[secrets.PASSWORD]\nsource = \"file://password\"\nhosts = [\"{address}\"]\n\
         plaintext = true\n"
    );
    let policy = Arc::new(Policy::compile("test.toml", &document, &NoSources).unwrap().policy);
    let secrets = Arc::new(Secrets::load(&policy, folder.path(), &identity("c")).unwrap());
    let upstream = Arc::new(Upstream::new(policy, TlsMaterial::default(), Arc::clone(&secrets)));
    let mut declaration = declaration("kv", BindingKind::Kv, &format!("redis://{address}/3"));
    declaration.password = SecretName::parse("PASSWORD");
    let bindings = Bindings::new(&[declaration], folder.path(), &identity("c"), (&secrets, &upstream), None);
    let write = async |password: Option<&str>| {
        if let Some(password) = password {
            std::fs::write(&file, password).unwrap();
        }
        bindings.do_kv(KvOperation::Put { key: "a".into(), value: "1".into(), ttl: None }).await
    };
    for password in [None, None, Some("second")] {
        assert!(matches!(write(password).await, Ok(Answer::Done)));
    }
    assert_eq!(write(Some("the third")).await.unwrap_err(), Fault::Denied);
    let log_in = |password: &str| {
        let length = password.len();
        format!("*2\r\n$4\r\nAUTH\r\n${length}\r\n{password}\r\n")
    };
    let [first, second, third] = &heard.connections()[..] else { panic!() };
    let database = "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n";
    assert!(first.starts_with(&(log_in("first") + database)), "{first}");
    assert!(second.starts_with(&(log_in("second") + database)), "{second}");
    assert_eq!(*third, log_in("the third"));
}
