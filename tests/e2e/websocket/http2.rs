//! WebSockets over HTTP/2 (RFC 8441), made into those of HTTP/1.1 upstream.

use std::io::{Read, Write};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use e2e::{Attached, Identity, TcpServer, World};
use serde_json::{Value, json};

use crate::support::{Server, exchange};

const OPEN: &str = "allowed_hosts = [\"echo.test\"]";

#[track_caller]
pub(crate) fn said(world: &World, gate: &Attached<'_>, script: &str) -> Value {
    let script = format!("{}\n{script}", include_str!("h2_client.py"));
    let line = [world.test_dependency("py/bin/python3"), "-c".to_owned(), script];
    let outcome = world.root_job(gate.namespace(), line).env("SSL_CERT_FILE", gate.ca_file()).run();
    outcome.assert_success();
    outcome.json()
}

#[test]
fn an_extended_connect_is_a_websocket_of_the_origin() {
    for (name, handler) in [("ws-h2", ""), ("ws-h2-handler", "outbound = \"pass.rhai\"")] {
        let world = World::new(name);
        world.file("pass.rhai", "fn outbound(request, env, ctx) { fetch(request) }");
        let mut server = Server::start(&world);
        let mut gate = world.gate(&server.policy(&format!("{OPEN}\n{handler}"))).attach();
        let script = r#"
s = Socket("/h2")
said = [s.status, s.headers.get("sec-websocket-protocol"), "sec-websocket-accept" in s.headers, "upgrade" in s.headers]
s.send(1, b"hello")
said.append(s.receive()[1].decode())
large = bytes(range(256)) * 4096
s.send(2, large)
said.append(s.receive() == (2, large))
s.send(8, (4001).to_bytes(2, "big"))
said.append(int.from_bytes(s.receive()[1], "big"))
s.end()
said.append(s.rest())
print(json.dumps(said))
"#;
        let expected = json!([200, "chat.v2", false, false, "hello", true, 4001, ["end", ""]]);
        assert_eq!(said(&world, &gate, script), expected);
        let open = server.event("open", "/h2");
        assert_eq!(
            (&open["subprotocol"], &open["headers"]["host"]),
            (&json!("chat.v2"), &json!("echo.test"))
        );
        assert_eq!(server.event("closed", "/h2")["code"], 4001);
        let line = exchange(&mut gate, "/h2");
        assert_eq!((&line["method"], &line["client_version"]), (&json!("GET"), &json!("HTTP/2")), "{line}");
        assert_eq!(
            (&line["status"], &line["upstream_status"]),
            (&json!(200), if handler.is_empty() { &line["upstream_status"] } else { &Value::Null }),
            "{line}"
        );
        assert_eq!(line["complete"], true, "{line}");
    }
}

#[test]
fn an_extended_connect_is_judged_and_answered_like_the_get_that_it_is() {
    let world = World::new("ws-h2-judged");
    world.file("answers.rhai", "fn outbound(request, env, ctx) { reply(200, \"fine\") }");
    let rules = r#"
[[rules]]
host = "echo.test"
methods = ["GET"]
paths = ["/h2", "/refuse"]
[[rules]]
host = "echo.test"
paths = ["/fixed"]
respond = { status = 200, body = "fine" }
[[rules]]
host = "echo.test"
paths = ["/handled"]
handler = "answers.rhai"
"#;
    let server = Server::start(&world);
    let mut gate = world.gate(&server.policy(rules)).attach();
    let script = r#"
def answer(*arguments): 
    s = Socket(*arguments)
    return [s.status, s.headers.get("x-sluicegate-reason")]
print(json.dumps([answer("/elsewhere"), answer("/refuse"), answer("/fixed"), answer("/handled"),
    answer("/h2", "connect-udp"), answer("/h2", "bytestream"), answer("/h2")]))
"#;
    let expected = json!([
        [403, "no_rule_matches"],
        [403, null],
        // Any 2xx would have opened a WebSocket to nobody.
        [501, "upgrade_not_supported"],
        [501, "upgrade_not_supported"],
        [403, "connect_refused"],
        [403, "connect_refused"],
        [200, null]
    ]);
    assert_eq!(said(&world, &gate, script), expected);
    let line = gate.wait_for_log(|line| line["reason"] == "connect_refused");
    assert_eq!(line["method"], "CONNECT", "{line}");
    assert!(server.events("open", "/elsewhere").is_empty());
}

#[test]
fn an_origin_that_does_not_agree_opens_nothing() {
    let world = World::new("ws-h2-disagrees");
    let authority = std::sync::Arc::clone(world.authority());
    let server = TcpServer::start(&world, move |stream| {
        let mut stream = authority.tls_server(Identity::Trusted, &["http/1.1"], stream);
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => seen.push(byte[0]),
                _ => return,
            }
        }
        let seen = String::from_utf8(seen).unwrap();
        let answer = if seen.starts_with("GET /200 ") {
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
        } else {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"
                .to_owned()
        };
        // It may be gone as soon as it has seen this.
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.read(&mut byte);
    });
    let found = world.upstream(&[("echo.test:443", server.address())]);
    let mut gate = world.gate(&format!("version = 1\n{OPEN}\n{found}")).attach();
    let script = "print(json.dumps([Socket(path).status for path in ['/200', '/wrong-key']]))";
    assert_eq!(said(&world, &gate, script), json!([502, 502]));
    for path in ["/200", "/wrong-key"] {
        assert_eq!(exchange(&mut gate, path)["reason"], "upgrade_not_acceptable");
    }
}

/// The answer to the key of a handshake (RFC 6455 section 4.2.2).
fn accept(head: &str) -> String {
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    let key = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes()))
}

#[test]
fn a_reset_of_the_origin_reaches_a_workload_of_http2() {
    let world = World::new("ws-h2-reset");
    let authority = std::sync::Arc::clone(world.authority());
    let server = TcpServer::start(&world, move |stream| {
        let mut stream = authority.tls_server(Identity::Trusted, &["http/1.1"], stream);
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let agreed = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            accept(&head)
        );
        stream.write_all(agreed.as_bytes()).unwrap();
        // The workload has the answer when this comes.
        stream.read_exact(&mut byte).unwrap();
        socket2::SockRef::from(stream.get_ref()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    });
    let found = world.upstream(&[("echo.test:443", server.address())]);
    let mut gate = world.gate(&format!("version = 1\n{OPEN}\n{found}")).attach();
    let script = r#"
s = Socket("/quit")
s.send(1, b"x")
print(json.dumps([s.status, s.rest()[0]]))
"#;
    assert_eq!(said(&world, &gate, script), json!([200, "reset"]));
    let line = exchange(&mut gate, "/quit");
    assert_eq!((&line["verdict"], &line["complete"]), (&json!("allowed"), &json!(false)), "{line}");
}

/// Answers every extended CONNECT with what it is sent, by HTTP/2 and nothing else.
async fn serve_http2_only(
    stream: std::net::TcpStream,
    config: std::sync::Arc<rustls::ServerConfig>,
    takes: bool,
) {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
    let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await else { return };
    let answer = hyper::service::service_fn(|mut request: http::Request<hyper::body::Incoming>| async move {
        let protocol =
            request.extensions().get::<hyper::ext::Protocol>().map(|protocol| protocol.as_ref().to_vec());
        assert_eq!((request.method().as_str(), protocol.as_deref()), ("CONNECT", Some(&b"websocket"[..])));
        assert!(!request.headers().contains_key("sec-websocket-key"), "{request:?}");
        if request.uri().path() == "/refuse" {
            return Ok(http::Response::builder()
                .status(403)
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .unwrap());
        }
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
        });
        Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Empty::new()))
    });
    let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    if takes {
        server.enable_connect_protocol();
    }
    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
}

#[test]
fn an_upstream_of_http2_alone_is_reached_by_extended_connect() {
    // Bytes that an HTTP/1.1 client and an HTTP/2 client send after the handshake come back.
    let http1 = r#"
import json, socket, ssl
def upgrade(path):
    raw = socket.create_connection(("echo.test", 443), 20)
    raw.settimeout(30)
    s = ssl.create_default_context().wrap_socket(raw, server_hostname="echo.test")
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: echo.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
    seen = b""
    while not seen.endswith(b"\r\n\r\n"): seen += s.recv(1)
    return s, seen.decode()
s, head = upgrade("/echo")
s.sendall(b"hello")
print(json.dumps([head.split(" ")[1], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, s.recv(5).decode(), upgrade("/refuse")[1].split(" ")[1]]))
"#;
    let http2 = r#"
s = Socket("/echo")
s.http.send_data(1, b"hello")
s.tls.sendall(s.http.data_to_send())
print(json.dumps([s.status, s.take(5).decode(), Socket("/refuse").status]))
"#;
    let world = World::new("ws-h2-only");
    let config = world.authority().server_config(Identity::Trusted, "echo.test", &["h2"]);
    let servers = [true, false].map(|takes| {
        let config = config.clone();
        TcpServer::start(&world, move |stream| {
            stream.set_nonblocking(true).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve_http2_only(stream, config.clone(), takes));
        })
    });
    let policy = |server: &TcpServer| {
        format!("version = 1\n{OPEN}\n{}", world.upstream(&[("echo.test:443", server.address())]))
    };
    let gate = world.gate(&policy(&servers[0])).attach();
    assert_eq!(said(&world, &gate, http1), json!(["101", true, "hello", "403"]));
    assert_eq!(said(&world, &gate, http2), json!([200, "hello", 403]));
    drop(gate);

    let mut gate = world.gate(&policy(&servers[1])).attach();
    let script = r#"print(json.dumps([Socket("/none").status]))"#;
    assert_eq!(said(&world, &gate, script), json!([502]));
    let line = exchange(&mut gate, "/none");
    assert_eq!(line["reason"], "upgrade_not_acceptable", "{line}");
    assert!(line["detail"].as_str().unwrap().contains("only HTTP/2"), "{line}");
}
